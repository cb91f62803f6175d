//! Winograd convolution F(4x4, 3x3): 3x3 windows of stride 1, with a quarter of the products. The input is cut into tiles of 6x6
//! places that overlap by 2, each of which gives 4x4 results. A kernel transforms the tiles, 36 matrix products add up the
//! channels, one for each place of a tile, and another kernel transforms the sums into results. The weights are transformed on
//! the host ([`weights`]).
//!
//! The transforms evaluate polynomials at 0, ±√½, ±√2 and infinity. These points have half the error of 0, ±1, ±2 and infinity,
//! as their powers differ less in size, and opposite points share sums. Errors are counted in units of `2^-24 * sum of |x| |w|`
//! over channels and taps, where `|x|` is the largest of the channel's tile. Tests hold them to 24 units at 128 channels, where 2
//! are found for ordinary numbers, 11 for rows that alternate in sign, and 14 for elements of a million among ones. This is
//! measured, not proven. A large element costs the results of its tile digits, also those that do not see it; in a direct sum
//! they would keep them. The standard deviation of the error is 1.8 times that of a direct sum of 128 channels.
//!
//! A NaN or an infinity in a tile, or a large number that a transform makes infinite, would be NaN in all 16 results. A result
//! that is not finite is therefore computed again from the input and the weights, as the convolution is defined.

use std::collections::BTreeSet;
use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Kernel, Slot, SlotElement, Spec, given, template, whole};

/// Invocations per workgroup.
pub(crate) const WORKGROUP: usize = 64;

/// The places of a tile of results along an axis.
pub(crate) const SIDE: usize = 4;

/// The places of a tile of the input.
pub(crate) const PLACES: usize = 36;

/// A transform. Params: [`Winograd::params`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Winograd {
    /// Of the input's tiles, from `first` on, to `[36, tiles, channels]`. Tensors: x, y.
    Input,
    /// Of sums `[36, tiles, filters]` to results of the tiles from `first` on. Tensors: the sums, x and the weights as the
    /// model has them, the epilogue's, y.
    Output {
        epilogue: Fused,
        /// Whether neighbours are stored together.
        runs: bool,
    },
}

impl Spec for Winograd {
    fn label(&self) -> String {
        match self {
            Winograd::Input => "winograd-input".into(),
            Winograd::Output { .. } => "winograd-output".into(),
        }
    }

    fn slots(&self) -> Vec<Slot> {
        match self {
            Winograd::Input => {
                vec![Slot::read("x", SlotElement::Vector(Scalar::F32)), Slot::write("y", Scalar::F32)]
            }
            Winograd::Output { epilogue, runs } => {
                let mut slots = vec![
                    Slot::read("m", SlotElement::Vector(Scalar::F32)),
                    Slot::read("x", Scalar::F32),
                    Slot::read("w", Scalar::F32),
                ];
                slots.extend(epilogue.slots("e"));
                let result = epilogue.output();
                let element = if *runs { SlotElement::Run(result, SIDE) } else { result.into() };
                slots.push(Slot::write("y", element));
                slots
            }
        }
    }

    fn in_runs(&self) -> Option<Kernel> {
        match self {
            Winograd::Input => None,
            Winograd::Output { epilogue, .. } => {
                Some(Winograd::Output { epilogue: epilogue.clone(), runs: true }.into())
            }
        }
    }

    fn params(&self) -> Vec<String> {
        // A call computes `count` items of the tiles from `first` on: tiles of one channel, or of 4 filters. There are `tiles`
        // tiles in all, and `tiles0` by `tiles1` in an image; `strip` tiles are one call's.
        let own = [
            "first", "count", "tiles", "channels", "tiles0", "tiles1", "input0", "input1", "begin0", "begin1",
        ];
        let mut params: Vec<String> = own.map(String::from).into();
        if let Winograd::Output { epilogue, .. } = self {
            params.extend(["strip", "filters", "output0", "output1"].map(String::from));
            params.extend(epilogue.params("e"));
        }
        params
    }

    fn fits(&self, params: &[u32]) -> Result<(), &'static str> {
        match self {
            Winograd::Input => Ok(()),
            Winograd::Output { .. } => given("filters of whole vectors", whole(params, [11])),
        }
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        match self {
            Winograd::Input => template::render("winograd_input", context!(workgroup => WORKGROUP)),
            Winograd::Output { epilogue, runs } => {
                let main =
                    template::render("winograd_output", context!(workgroup => WORKGROUP, runs => runs));
                epilogue.function("epilogue", "e", used) + &main
            }
        }
    }
}

/// The transform of 3x3 windows `[filters, channels, 3, 3]`, as `[36, channels, filters]`: for each place of a tile a matrix.
/// Each element is rounded once.
pub(crate) fn weights([filters, channels]: [usize; 2], tap: impl Fn(usize) -> f32, transformed: &mut [f32]) {
    // What a row of taps is at each point, divided by the point's differences to the others.
    const POINTS: [[f64; 3]; 6] = [
        [1.0, 0.0, 0.0],
        [-2.0 / 3.0, -2.0 / 3.0 * FRAC_1_SQRT_2, -1.0 / 3.0],
        [-2.0 / 3.0, 2.0 / 3.0 * FRAC_1_SQRT_2, -1.0 / 3.0],
        [1.0 / 6.0, SQRT_2 / 6.0, 1.0 / 3.0],
        [1.0 / 6.0, -SQRT_2 / 6.0, 1.0 / 3.0],
        [0.0, 0.0, 1.0],
    ];
    let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    for filter in 0..filters {
        for channel in 0..channels {
            let first = (filter * channels + channel) * 9;
            let window = [0, 1, 2].map(|y| [0, 1, 2].map(|x| f64::from(tap(first + 3 * y + x))));
            for (i, row) in POINTS.into_iter().enumerate() {
                let line = [0, 1, 2].map(|x| dot(row, window.map(|taps| taps[x])));
                for (j, column) in POINTS.into_iter().enumerate() {
                    let place = ((6 * i + j) * channels + channel) * filters + filter;
                    if let Some(to) = transformed.get_mut(place) {
                        *to = dot(column, line) as f32;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One tile of one channel, with the transforms of the shaders in float64, gives the convolution.
    #[test]
    fn the_points_belong_together() {
        let input = |d: [f64; 6]| {
            let (inner_even, inner_odd) = (d[4] - 2.0 * d[2], FRAC_1_SQRT_2 * (d[3] - 2.0 * d[1]));
            let (outer_even, outer_odd) = (d[4] - 0.5 * d[2], SQRT_2 * (d[3] - 0.5 * d[1]));
            [
                (d[0] + d[4]) - 2.5 * d[2],
                inner_even + inner_odd,
                inner_even - inner_odd,
                outer_even + outer_odd,
                outer_even - outer_odd,
                (d[1] + d[5]) - 2.5 * d[3],
            ]
        };
        let output = |m: [f64; 6]| {
            let (inner_even, inner_odd) = (m[1] + m[2], m[1] - m[2]);
            let (outer_even, outer_odd) = (m[3] + m[4], m[3] - m[4]);
            [
                m[0] + inner_even + outer_even,
                FRAC_1_SQRT_2 * (inner_odd + 2.0 * outer_odd),
                0.5 * inner_even + 2.0 * outer_even,
                FRAC_1_SQRT_2 * (0.5 * inner_odd + 4.0 * outer_odd) + m[5],
            ]
        };
        let taps: Vec<f32> = (0..9).map(|i| ((i * 7 + 3) % 11) as f32 - 5.0).collect();
        let mut transformed = [0.0; PLACES];
        weights([1, 1], |i| taps[i], &mut transformed);
        let x: [[f64; 6]; 6] =
            std::array::from_fn(|y| std::array::from_fn(|x| ((x * 5 + y * 3) % 13) as f64 - 6.0));
        let columns = |lines: [[f64; 6]; 6]| -> [[f64; 6]; 6] {
            std::array::from_fn(|x| std::array::from_fn(|y| lines[y][x]))
        };
        let lines = columns(x.map(input)).map(input);
        let sums: [[f64; 6]; 6] =
            std::array::from_fn(|x| std::array::from_fn(|y| lines[x][y] * f64::from(transformed[6 * y + x])));
        let results = sums.map(output);
        for y in 0..4 {
            let line: [f64; 6] = std::array::from_fn(|x| results[x][y]);
            for (column, found) in output(line).into_iter().enumerate() {
                let taps = (0..9).map(|t| f64::from(taps[t]) * x[y + t / 3][column + t % 3]);
                let expected: f64 = taps.sum();
                assert!((found - expected).abs() < 1e-4, "{y}, {column}: {found} for {expected}");
            }
        }
    }
}

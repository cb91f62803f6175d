//! GridSample: samples an image of any number of spatial axes at the coordinates of a grid.
//!
//! History: 16 (two spatial axes; bilinear, bicubic), 20 (any number; linear, cubic), 22.

use super::case::{self, Case, Tolerance};
use super::resample::cubic;
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, onnx, product, refuse, required,
    types,
};
use crate::array::{ravel, unravel};
use crate::facts::Fact;
use crate::kernels::gather::groups;
use crate::kernels::grid_sample as kernel;
use crate::kernels::grid_sample::{Interpolation, Padding};
use crate::kernels::{word, words};
use crate::plan::Lower;

/// GridSample.
#[derive(Clone, Debug)]
pub(crate) struct GridSample {
    mode: Interpolation,
    padding: Padding,
    align_corners: bool,
}

const TYPES: Types = types![T1 T2 -> T1; T1: ALL BF16@22, T2: FLOATS BF16@22];

pub(crate) const ROWS: &[Row] = &[onnx("GridSample", 16, TYPES, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let mode = match def.attributes.string_or("mode", "linear")?.as_str() {
        "linear" | "bilinear" => Interpolation::Linear,
        "nearest" => Interpolation::Nearest,
        "cubic" | "bicubic" => Interpolation::Cubic,
        other => refuse!("mode '{other}' is none of linear, nearest and cubic"),
    };
    let padding = match def.attributes.string_or("padding_mode", "zeros")?.as_str() {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection,
        other => refuse!("padding_mode '{other}' is none of zeros, border and reflection"),
    };
    let align_corners = def.attributes.flag("align_corners", false)?;
    Ok(GridSample { mode, padding, align_corners }.into())
}

fn shape(x: &[usize], grid: &[usize]) -> Result<Vec<usize>, Why> {
    let rank = x.len().saturating_sub(2);
    if !(1..=3).contains(&rank) || grid.len() != x.len() || grid[0] != x[0] || grid[rank + 1] != rank {
        refuse!("a grid of shape {grid:?} does not fit an image of {x:?}");
    }
    if x[2..].contains(&0) && grid[1..=rank].iter().all(|&size| size > 0) {
        refuse!("an image without elements cannot be sampled");
    }
    Ok([&x[..2], &grid[1..=rank]].concat())
}

impl GridSample {
    /// The least and the greatest coordinate on an axis of `size`.
    fn borders(&self, size: f64) -> (f64, f64) {
        if self.align_corners { (0.0, size - 1.0) } else { (-0.5, size - 0.5) }
    }

    /// The coordinate, in elements, of grid value `n` on an axis of `size`; rounded to float32 unless it is `double`.
    fn place(&self, n: f64, size: f64, double: bool) -> f64 {
        let x = match self.align_corners {
            true => (n + 1.0) / 2.0 * (size - 1.0),
            false => ((n + 1.0) * size - 1.0) / 2.0,
        };
        let x = if double { x } else { f64::from(x as f32) };
        let x = if self.mode == Interpolation::Nearest { x.round_ties_even() } else { x };
        let (low, high) = self.borders(size);
        match self.padding {
            // A cubic's taps are at the border one by one, as in PyTorch and onnxruntime; those of a place further out all are.
            Padding::Border if self.mode == Interpolation::Cubic => x.clamp(-3.0, size + 2.0),
            Padding::Border if x < low || x > high => x.clamp(0.0, size - 1.0),
            Padding::Reflection => reflect(x, low, high),
            _ => x,
        }
    }

    /// The element at whole coordinate `i` of an axis; `None` where the padding is zero.
    fn element(&self, i: f64, size: f64) -> Option<usize> {
        let (low, high) = self.borders(size);
        let i = match self.padding {
            Padding::Zeros => return (0.0..size).contains(&i).then_some(i as usize),
            Padding::Border => i,
            Padding::Reflection => reflect(i, low, high),
        };
        Some(i.clamp(0.0, size - 1.0) as usize)
    }

    /// The elements of an axis that make the value at coordinate `x`, with their weights.
    fn taps(&self, x: f64, size: f64) -> Vec<(Option<usize>, f64)> {
        let (first, count, weight): (f64, usize, fn(f64) -> f64) = match self.mode {
            Interpolation::Nearest => return vec![(self.element(x, size), 1.0)],
            Interpolation::Linear => (x.floor(), 2, |d| 1.0 - d.abs()),
            Interpolation::Cubic => (x.floor() - 1.0, 4, |d| cubic(d, -0.75)),
        };
        let tap = |k: usize| {
            let i = first + k as f64;
            (self.element(i, size), weight(i - x))
        };
        (0..count).map(tap).collect()
    }
}

/// `x`, reflected at the borders until it lies between them.
fn reflect(x: f64, low: f64, high: f64) -> f64 {
    let range = high - low;
    let beyond = if x < low { low - x } else { x - high };
    if range <= 0.0 || beyond <= 0.0 || !beyond.is_finite() {
        return if range <= 0.0 { low } else { x };
    }
    let turns = (beyond / range).floor();
    let rest = beyond - turns * range;
    if (x < low) == (turns % 2.0 == 0.0) { low + rest } else { high - rest }
}

impl Operator for GridSample {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, grid) = (required(inputs, 0)?, required(inputs, 1)?);
        if !grid.dtype.is_float() {
            refuse!("the grid is {}, and a float type is needed", grid.dtype);
        }
        Ok(vec![Fact::new(x.dtype, shape(&x.shape, &grid.shape)?)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, grid) = (required(inputs, 0)?, required(inputs, 1)?);
        let shape = shape(&x.shape, &grid.shape)?;
        let (rank, places) = (shape.len() - 2, grid.floats()?);
        let double = [x.dtype, grid.dtype].contains(&DType::F64);
        let (values, spatial) = (x.to_f64()?, &x.shape[2..]);
        let size: usize = product(spatial);
        let sample = |o: usize| {
            let at = unravel(o, &shape);
            let plane = at[0] * shape[1] + at[1];
            let point = ravel(&at[2..], &shape[2..]) + at[0] * product(&shape[2..]);
            let axis = |d: usize| {
                // The grid names the last axis first.
                let size = spatial[d] as f64;
                self.taps(self.place(places[point * rank + rank - 1 - d], size, double), size)
            };
            let taps: Vec<Vec<_>> = (0..rank).map(axis).collect();
            let counts: Vec<usize> = taps.iter().map(Vec::len).collect();
            let mut sum = 0.0;
            for tap in 0..product(&counts) {
                let chosen = unravel(tap, &counts).into_iter().zip(&taps).map(|(k, taps)| taps[k]);
                let (mut weight, mut element) = (1.0, Some(0));
                for ((i, w), &size) in chosen.zip(spatial) {
                    weight *= w;
                    element = element.zip(i).map(|(element, i)| element * size + i);
                }
                sum += element.map_or(0.0, |i| weight * values[plane * size + i]);
            }
            sum
        };
        let result = (0..product(&shape)).map(sample);
        Ok(vec![match x.dtype.is_float() {
            true => Array::float(x.dtype, &shape, result.collect()),
            false => Array::int(x.dtype, &shape, result.map(|v| v as i128).collect()),
        }])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let rank = required(inputs, 0)?.rank().saturating_sub(2);
        let taps = match self.mode {
            Interpolation::Nearest => 1,
            Interpolation::Linear => 2,
            Interpolation::Cubic => 4usize,
        };
        // The coordinates of a tap are found anew for each element.
        Ok(of_elements(inputs, outputs).times(4 + rank + taps.pow(rank as u32) * rank))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (x, out) = (cx.fact(0)?, cx.out(0)?);
        let rank = out.rank() - 2;
        let (input, grid) = (cx.input(0)?, cx.input(1)?);
        let mut params = words([out.count(), x.shape[1]])?;
        params.push(word(product(&out.shape[2..]))?);
        params.extend(words(x.shape[2..].iter().copied())?);
        let epilogue = cx.epilogue(None)?;
        params.extend(epilogue.params);
        let mut tensors = vec![input, grid];
        tensors.extend(epilogue.tensors);
        tensors.push(cx.output(0)?);
        let spec = kernel::GridSample {
            scalar: cx.scalar(input),
            grid: cx.scalar(grid),
            rank,
            mode: self.mode,
            padding: self.padding,
            align_corners: self.align_corners,
            epilogue: epilogue.fused,
        };
        cx.call(spec, tensors, params, groups(out.count()));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let tolerance = Tolerance { relative: 1e-4, absolute: 2e-5 };
    let mut cases = Vec::new();
    for (mode, spread) in [("linear", 1.9), ("nearest", 1.9), ("cubic", 1.9)] {
        for padding in ["zeros", "border", "reflection"] {
            for align in [0, 1] {
                let new = |name: &str, image: &[usize], grid: &[usize]| {
                    let case = Case::new("GridSample", &format!("{mode}/{padding}/{align}/{name}"));
                    let case =
                        case.string("mode", mode).string("padding_mode", padding).int("align_corners", align);
                    case.tolerance(tolerance)
                        .input(case::random(image))
                        .input(case::uniform(grid, -spread, spread))
                };
                cases.push(new("2d", &[2, 3, 4, 5], &[2, 3, 4, 2]));
                cases.push(new("3d", &[1, 2, 3, 2, 4], &[1, 2, 3, 2, 3]));
                cases.push(new("1d", &[1, 2, 7], &[1, 9, 1]));
                cases.push(new("one element", &[1, 1, 1, 1], &[1, 2, 2, 2]));
            }
        }
        let new = |name: &str| Case::new("GridSample", &format!("{mode}/{name}")).string("mode", mode);
        let grid = || case::uniform(&[1, 3, 3, 2], -1.2, 1.2);
        let integers = case::converted(&case::integers(&[1, 1, 3, 4], -100, 100), DType::I32);
        let whole = Tolerance { relative: 0.0, absolute: 1.0 };
        cases.push(new("int32").tolerance(whole).input(integers).input(grid()));
        let half = case::converted(&case::random(&[1, 1, 3, 4]), DType::F16);
        cases.push(
            new("float16").tolerance(Tolerance { relative: 1e-3, absolute: 1e-3 }).input(half).input(grid()),
        );
        cases.push(new("empty").input(case::random(&[0, 1, 3, 3])).input(case::random(&[0, 2, 2, 2])));
        let far = case::values(&[1, 1, 3, 2], &[f32::INFINITY, 0.0, 1e30, -1e30, f32::NEG_INFINITY, 3e9]);
        cases.push(new("far").tolerance(tolerance).input(case::random(&[1, 1, 3, 3])).input(far));
    }
    cases.push(beyond_the_border().tolerance(tolerance));
    cases
}

fn beyond_the_border() -> Case {
    let row = case::values(&[1, 1, 1, 4], &[0.0f32, 1.0, 4.0, 9.0]);
    let at = case::values(&[1, 1, 2, 2], &[4.0f32 / 3.0, 0.0, 100.0, 0.0]);
    let new = Case::new("GridSample", "beyond the border").string("mode", "cubic");
    new.string("padding_mode", "border").int("align_corners", 1).input(row).input(at)
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::evaluated;
    use super::*;

    /// Elements beyond the border are those at it: between 9 and 9 beyond 4, a cubic is `4 * -3/32 + 9 * 35/32`.
    #[test]
    fn taps_of_a_cubic_are_at_the_border_one_by_one() {
        let [near, far] = evaluated(&beyond_the_border())[..] else { panic!("two samples") };
        assert!((near - 9.46875).abs() < 1e-6 && far == 9.0, "{near} and {far}");
    }
}

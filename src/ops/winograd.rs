//! Lowering of convolutions by Winograd's transforms, where they take less time (see `kernels::winograd`).

use super::accumulate::{Finish, Sink, Source};
use super::conv::ConvSizes;
use super::product::{Batch, Matrix, Product};
use super::window::Span;
use super::{DType, Why, product};
use crate::kernels::expr::Scalar;
use crate::kernels::gemm::{LanesLeft, LanesRight, LanesTile};
use crate::kernels::winograd::{PLACES, SIDE, WORKGROUP, Winograd};
use crate::kernels::{Class, Kernel, cost, nested, params};
use crate::plan::{Epilogue, Lower, TensorId, Tiling, Weighed};

/// The least input and output channels: products of fewer waste their tiles.
const LEAST: usize = 16;

/// The products of registers in what software devices compile for a direct convolution, and for the transforms and their products,
/// which are three pipelines.
const DIRECT: usize = 700;
const TRANSFORMED: usize = 1200;

/// What the transforms must gain over the direct convolution, for the memory of their weights and the error of the estimates: 64
/// channels at 56x56 take as long either way.
const GAIN: f64 = 1.25;

/// A convolution of input 0 by windows of input 1, a constant, both float32.
pub(crate) struct WinogradSizes {
    batch: usize,
    channels: usize,
    filters: usize,
    spans: [Span; 2],
}

impl WinogradSizes {
    /// The sizes, if the convolution has the form and Winograd's transforms are chosen.
    pub(crate) fn chosen(cx: &mut Lower, sizes: &ConvSizes) -> Result<Option<WinogradSizes>, Why> {
        let &ConvSizes { batch, group: 1, channels, filters, ref spans } = sizes else { return Ok(None) };
        let &[outer, inner] = &spans[..] else { return Ok(None) };
        let fits = |s: &Span| s.kernel == 3 && s.stride == 1 && s.dilation == 1 && s.output > 0;
        let whole = |n: usize| n >= LEAST && n.is_multiple_of(4);
        let floats = cx.fact(0)?.dtype == DType::F32 && cx.fact(1)?.dtype == DType::F32;
        // Of the devices with register tiles: without a known subgroup, no product packs weights.
        let products = cx.target.class == Class::Cpu && matches!(cx.target.subgroup, 4 | 8);
        // The loops of one invocation: the transform, and all results again.
        let iterations = nested([6]) + nested([SIDE, 4]) + nested([4 * SIDE, 3 * channels]);
        let own = WinogradSizes { batch, channels, filters, spans: [outer, inner] };
        let formed = batch > 0 && fits(&outer) && fits(&inner) && whole(channels) && whole(filters);
        if !(formed && floats && products)
            || iterations > cx.target.max_iterations as usize
            || own.bytes(channels * filters) > cx.target.max_binding
            || cx.model_constant(1).is_none()
        {
            return Ok(None);
        }
        // Two kernels read the input, and neither has a prologue.
        let x = cx.deferred_input(0)?;
        if cx.is_deferred(x) {
            return Ok(None);
        }
        Ok(own.is_faster(cx, sizes).then_some(own))
    }

    fn is_faster(&self, cx: &mut Lower, sizes: &ConvSizes) -> bool {
        let lanes = cx.target.subgroup as usize;
        let [outer, inner] = self.spans;
        let direct = sizes.lanes_tiles(lanes, &[outer], inner).map(|weighed| weighed.cost);
        let direct = direct.into_iter().fold(f64::INFINITY, f64::min);
        let tiles = self.batch * product(self.tiles());
        let size = (tiles, self.filters, self.channels);
        let (left, right) = (LanesLeft::Vectors, LanesRight::Packed);
        let products = LanesTile::candidates(lanes, tiles, true).into_iter().map(|(rows, vectors)| {
            cost::lanes(&LanesTile { lanes, rows, vectors, left, right, tail: false }, size)
        });
        let products = PLACES as f64 * products.fold(f64::INFINITY, f64::min);
        let transformed = GAIN * (products + cost::winograd(tiles, (self.channels, self.filters)));
        let cost = |(chosen, _)| if chosen == 1 { transformed } else { direct };
        let choice = |tile, products| Weighed { tile, cost: cost(tile), products };
        let choices = [choice((0, 0), DIRECT), choice((1, 0), TRANSFORMED)];
        cx.weigh(Tiling::Winograd, &choices);
        let best = cx.cheapest(Tiling::Winograd, choices).unwrap_or_default();
        cx.tile(Tiling::Winograd, best, cost).0 == 1
    }

    fn tiles(&self) -> [usize; 2] {
        self.spans.map(|s| s.output.div_ceil(SIDE))
    }

    /// The bytes of matrices of `size` elements, one for each place.
    fn bytes(&self, size: usize) -> u64 {
        (4 * PLACES).saturating_mul(size) as u64
    }

    /// The tiles that are computed at a time: all, unless their elements take much more memory than the input and the result.
    fn strip(&self, cx: &Lower) -> usize {
        const LITTLE: u64 = 4 << 20;
        let tiles = self.batch * product(self.tiles());
        let plane = |size: fn(&Span) -> usize| product(self.spans.iter().map(size));
        let elements = product([self.batch, self.channels, plane(|s| s.input)]).saturating_add(product([
            self.batch,
            self.filters,
            plane(|s| s.output),
        ]));
        let room = (elements as u64).saturating_mul(4).max(LITTLE);
        let of_room = room / self.bytes(self.channels + self.filters);
        let of_binding = cx.target.max_binding / self.bytes(self.channels.max(self.filters));
        let most = of_room.min(of_binding).min(u64::from(cx.target.max_groups)).max(1) as usize;
        tiles.div_ceil(tiles.div_ceil(most))
    }

    /// Emits the convolution. `finish` makes the operator's value from a sum.
    pub(crate) fn lower<'a>(&self, cx: &mut Lower<'a>, finish: &Finish<'_, 'a>) -> Result<(), Why> {
        let x = Source::Input(0).tensor(cx)?;
        let w = Source::Input(1).tensor(cx)?;
        let strip = self.strip(cx);
        let [outer, inner] = self.spans;
        let [tiles0, tiles1] = self.tiles();
        let tiles = self.batch * tiles0 * tiles1;
        let own = |count: usize| {
            let axes = [tiles0, tiles1, outer.input, inner.input, outer.begin, inner.begin];
            [0, count, tiles, self.channels].into_iter().chain(axes)
        };
        let emitted = |cx: &mut Lower<'a>| {
            let transformed = cx.temporary(Scalar::F32, &[PLACES, strip, self.channels]);
            let count = strip * self.channels;
            let groups = count.div_ceil(WORKGROUP);
            cx.call(Winograd::Input, vec![x, transformed], params(own(count), [])?, groups);
            let sums = cx.temporary(Scalar::F32, &[PLACES, strip, self.filters]);
            self.products(strip, transformed).lower(cx, Scalar::F32, Sink::Tensor(sums))?;
            let matrix = (self.filters, outer.output * inner.output);
            let Epilogue { fused, tensors, params: fused_params } =
                cx.epilogue_after(Some(matrix), Scalar::F32, finish)?;
            let count = strip * self.filters / 4;
            let results = [strip, self.filters, outer.output, inner.output];
            let params = params(own(count).chain(results), fused_params)?;
            let y = cx.output(0)?;
            let tensors = [sums, x, w].into_iter().chain(tensors).chain([y]).collect();
            let kernel = Winograd::Output { epilogue: fused, runs: false };
            cx.call(kernel, tensors, params, count.div_ceil(WORKGROUP));
            Ok(())
        };
        cx.repeated(tiles.div_ceil(strip), emitted, |time, call| {
            if let (Kernel::Winograd(_), Some(first)) = (&call.kernel, call.params.first_mut()) {
                *first = crate::kernels::word(time * strip)?;
            }
            Ok(())
        })
    }

    /// For each place of a tile the product of `tiles` rows, which are tiles, by the weights.
    fn products(&self, tiles: usize, transformed: TensorId) -> Product {
        let matrix = |source, row| Matrix { source, row, column: 1 };
        let (a, b) = (tiles * self.channels, self.channels * self.filters);
        Product {
            m: tiles,
            n: self.filters,
            k: self.channels,
            batch: vec![Batch { size: PLACES, a, b }],
            a: matrix(Source::Tensor(transformed), self.channels),
            b: matrix(Source::Windows(1), self.filters),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::internals::cases::{Sizes, inputs_of, on_device};
    use crate::internals::devices::of_class;
    use crate::ops::case::{self, Case, graph_of_case};
    use crate::plan::tests::planned;

    const CHANNELS: usize = 128;
    const FILTERS: usize = 128;
    /// Two images, whose tiles reach beyond the results at both ends.
    const SHAPE: [usize; 4] = [2, CHANNELS, 18, 21];

    fn case(x: &Tensor, w: &Tensor) -> Case {
        Case::new("Conv", "winograd").input(x.clone()).constant(w.clone()).ints("pads", &[1, 1, 0, 2])
    }

    fn uses_transforms(case: &Case, device: &crate::Device) -> bool {
        let target = &device.gpu().unwrap().target;
        let plan = planned(&graph_of_case(case).unwrap(), &inputs_of(case), target).unwrap();
        plan.program.calls.iter().any(|call| matches!(call.kernel, Kernel::Winograd(_)))
    }

    /// The results of `case` on each device that computes it with transforms.
    fn results(case: &Case) -> Vec<Vec<f32>> {
        let devices: Vec<_> = of_class(Class::Cpu).filter(|device| uses_transforms(case, device)).collect();
        assert!(!devices.is_empty(), "no device uses the transforms");
        let run = |device| on_device(case, device, Sizes::Fixed).unwrap();
        devices.iter().map(|device| run(device)[0].to_vec::<f32>().unwrap()).collect()
    }

    /// For each result the sum in float64, the sum of float32 in order, and `sum of |x| |w|` as `kernels::winograd` defines
    /// it.
    fn defined(x: &[f32], w: &[f32]) -> Vec<(f64, f32, f64)> {
        let [batch, channels, height, width] = SHAPE;
        let (rows, columns) = (height - 1, width + 1);
        let element = |image: usize, channel: usize, y: usize, x_: usize| {
            let inside = (1..=height).contains(&y) && (1..=width).contains(&x_);
            let plane = (image * channels + channel) * height;
            if inside { x[(plane + y - 1) * width + x_ - 1] } else { 0.0 }
        };
        let mut most = std::collections::HashMap::new();
        for image in 0..batch {
            for channel in 0..channels {
                for (ty, tx) in
                    (0..rows.div_ceil(4)).flat_map(|y| (0..columns.div_ceil(4)).map(move |x| (y, x)))
                {
                    let places =
                        (0..36).map(|i| element(image, channel, 4 * ty + i / 6, 4 * tx + i % 6).abs());
                    most.insert((image, channel, ty, tx), places.fold(0.0, f32::max));
                }
            }
        }
        let mut results = Vec::new();
        for image in 0..batch {
            for filter in 0..FILTERS {
                for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                    let (mut sum, mut narrow, mut scale) = (0.0, 0.0, 0.0);
                    for channel in 0..channels {
                        let most = f64::from(most[&(image, channel, y / 4, x / 4)]);
                        for tap in 0..9 {
                            let weight = w[(filter * channels + channel) * 9 + tap];
                            let element = element(image, channel, y + tap / 3, x + tap % 3);
                            sum += f64::from(weight) * f64::from(element);
                            narrow += weight * element;
                            scale += f64::from(weight.abs()) * most;
                        }
                    }
                    results.push((sum, narrow, scale));
                }
            }
        }
        results
    }

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_slice(shape, values).unwrap()
    }

    fn elements(shape: &[usize], low: f32, high: f32) -> Vec<f32> {
        case::uniform(shape, low, high).to_vec::<f32>().unwrap()
    }

    #[test]
    fn errors_stay_within_their_bound() {
        let windows = [FILTERS, CHANNELS, 3, 3];
        let [.., height, width] = SHAPE;
        let sign = |i: usize| if (i / width + i % width).is_multiple_of(2) { 1.0 } else { -1.0 };
        let plain = elements(&SHAPE, -1.0, 1.0);
        let offset = plain.iter().map(|x| x + 1000.0).collect();
        let alternating = elements(&SHAPE, 0.9, 1.0)
            .iter()
            .enumerate()
            .map(|(i, x)| x * sign(i % (height * width)))
            .collect();
        let mut huge = plain.clone();
        huge.iter_mut().step_by(height * width * 3 + 17).for_each(|x| *x = 1e6);
        let tiny = plain.iter().map(|x| x * 1e-30).collect();
        let random = elements(&windows, -1.0, 1.0);
        let turning: Vec<f32> = random.iter().enumerate().map(|(i, w)| w.abs() * sign(i % 9)).collect();
        let inputs: [(&str, Vec<f32>); 5] = [
            ("plain", plain),
            ("offset", offset),
            ("alternating", alternating),
            ("huge", huge),
            ("tiny", tiny),
        ];
        for (name, x) in inputs {
            for (kind, w) in [("random", &random), ("turning", &turning)] {
                let defined = defined(&x, w);
                for found in results(&case(&tensor(&SHAPE, &x), &tensor(&windows, w))) {
                    assert_eq!(found.len(), defined.len());
                    let unit = 0.5 * f64::from(f32::EPSILON);
                    let errors = found
                        .iter()
                        .zip(&defined)
                        .map(|(found, (sum, _, scale))| (f64::from(*found) - sum).abs() / (unit * scale));
                    let most = errors.fold(
                        0.0,
                        |most: f64, error| if error > most || error.is_nan() { error } else { most },
                    );
                    assert!(most <= 24.0, "{name}, {kind}: an error of {most} units");
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_goes_where_the_definition_says() {
        let windows = [FILTERS, CHANNELS, 3, 3];
        let w = elements(&windows, -1.0, 1.0);
        for (name, number) in [
            ("NaN", f32::NAN),
            ("infinity", f32::INFINITY),
            ("-infinity", f32::NEG_INFINITY),
            ("large", 3e38),
        ] {
            let mut x = elements(&SHAPE, -1.0, 1.0);
            // Inside a tile, where four tiles meet, and at the edges.
            for place in [2 * 21 + 2, 8 * 21 + 8, 0, 17 * 21 + 20, 9 * 21 + 1] {
                x[5 * 18 * 21 + place] = number;
            }
            let defined = defined(&x, &w);
            for found in results(&case(&tensor(&SHAPE, &x), &tensor(&windows, &w))) {
                let mut others = 0;
                for (i, (found, (sum, narrow, scale))) in found.iter().zip(&defined).enumerate() {
                    let bound = 24.0 * 0.5 * f64::from(f32::EPSILON) * scale;
                    let right = match narrow.is_finite() {
                        // An order of addition may be infinite where another is not.
                        true if narrow.abs() > 1e38 => !found.is_nan(),
                        true => {
                            !bound.is_finite() && found == narrow
                                || (f64::from(*found) - sum).abs() <= bound.max(1e-4)
                        }
                        false => found == narrow || found.is_nan() && narrow.is_nan(),
                    };
                    others += usize::from(!narrow.is_finite());
                    assert!(right, "{name}, result {i}: {found} for {narrow}");
                }
                assert!(others > 0 || number == 3e38);
            }
        }
    }
}

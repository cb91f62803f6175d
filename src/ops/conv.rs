//! Conv: convolution (cross-correlation) over one or more spatial axes, with groups.
//!
//! History: 1, 11 (defaults spelled out), 22 (bfloat16).

use super::accumulate::{Sink, Source, in_parts, in_slices, sliced, slices};
use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare};
use super::product::{Batch, Matrix, Product, block};
use super::strides::Copy;
use super::window::{Span, Window};
use super::winograd::WinogradSizes;
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, optional, product, refuse,
    required, strides, types,
};
use crate::array::product::{DirectConv, Number};
use crate::facts::Fact;
use crate::kernels::conv::{self, Depthwise, Form, LanesForm};
use crate::kernels::expr::Scalar;
use crate::kernels::shared::{Block, Shared, SharedLeft, SharedRight};
use crate::kernels::{Class, cost, nested, params};
use crate::plan::{
    Always, Code, Epilogue, Lower, Multiple, PackedDim, Packing, Reads, TensorId, Tiling, Weighed,
};

#[derive(Clone, Debug)]
pub(crate) struct Conv {
    window: Window,
    group: usize,
}

pub(crate) const ROWS: &[Row] = &[onnx("Conv", 1, types![T T T -> T; T: FLOATS BF16@22], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Conv { window: Window::parse(def)?, group: group(def)? }.into())
}

impl Conv {
    /// The pads increased by `ends`, before and after each spatial axis; `None` where `auto_pad` decides the pads.
    pub(crate) fn padded(&self, ends: &[(i64, i64)]) -> Option<Vec<i64>> {
        self.window.padded(ends)
    }
}

/// The attribute `group`.
pub(crate) fn group(def: &NodeDef) -> Result<usize, Why> {
    match def.attributes.int_or("group", 1)? {
        group if (1..1 << 30).contains(&group) => Ok(group as usize),
        group => refuse!("group {group} is not a number of groups"),
    }
}

/// Sizes of a convolution.
#[derive(Clone, Debug)]
pub(crate) struct ConvSizes {
    pub(crate) batch: usize,
    pub(crate) group: usize,
    /// Input and output channels of one group.
    pub(crate) channels: usize,
    pub(crate) filters: usize,
    pub(crate) spans: Vec<Span>,
}

impl ConvSizes {
    pub(crate) fn of(window: &Window, group: usize, x: &[usize], w: &[usize]) -> Result<ConvSizes, Why> {
        let (&[batch, x_channels, ref space @ ..], &[filters, channels, ref kernel @ ..]) = (x, w) else {
            refuse!("input and weights need a batch, a channel and a spatial axis");
        };
        if Some(x_channels) != channels.checked_mul(group) || filters % group != 0 {
            refuse!("{group} groups of weights {w:?} do not fit {x_channels} input channels");
        }
        let spans = window.spans(space, kernel)?;
        Ok(ConvSizes { batch, group, channels, filters: filters / group, spans })
    }

    /// The result's shape.
    pub(crate) fn shape(&self) -> Vec<usize> {
        let ends = [self.batch, self.group * self.filters];
        ends.into_iter().chain(self.spans.iter().map(|s| s.output)).collect()
    }

    /// The shape from which a vector over output channels broadcasts to the result.
    pub(crate) fn bias_shape(&self) -> Vec<usize> {
        let ones = std::iter::repeat_n(1, self.spans.len());
        std::iter::once(self.group * self.filters).chain(ones).collect()
    }

    /// The reference's sum, without the bias.
    /// The work of `eval`, beside that of `elements`.
    pub(crate) fn work(&self, elements: Work) -> Work {
        let (taps, output) = (self.size(|s| s.kernel), self.size(|s| s.output));
        let lines = self
            .spans
            .split_last()
            .map_or(1, |(_, outer)| outer.iter().map(|s| s.output).fold(1, usize::saturating_mul));
        let planes = [self.batch, self.group * self.filters, self.channels, taps];
        let elements = elements.temporary(taps, size_of::<[usize; 12]>());
        elements.products(&[&planes[..], &[output]].concat()).steps(&[&planes[..], &[lines]].concat())
    }

    pub(crate) fn eval<T: Number>(&self, x: &[T], w: &[T]) -> Vec<T> {
        let (batch, groups, channels) = (self.batch, self.group, self.channels);
        DirectConv { batch, groups, channels, filters: groups * self.filters, spans: &self.spans }.run(x, w)
    }

    /// The reference's sum of floats. Floats of up to 32 bits are summed in float32, channel by channel and tap by tap, as
    /// ONNX Runtime sums them: where a sum cancels, only its rounding is left, and some models take the logarithm of that.
    pub(crate) fn eval_floats(&self, x: &Array, w: &Array) -> Result<Vec<f64>, Why> {
        let (dtype, x, w) = (x.dtype, x.floats()?, w.floats()?);
        if dtype == DType::F64 {
            return Ok(self.eval(x, w));
        }
        let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        Ok(self.eval(&narrow(x), &narrow(w)).into_iter().map(f64::from).collect())
    }

    /// Emits the convolution.
    pub(crate) fn lower<'a>(
        &self,
        cx: &mut Lower<'a>,
        x: Source,
        w: Source,
        scalar: Scalar,
        sink: Sink<'_, 'a>,
    ) -> Result<(), Why> {
        if self.spans.len() > 3 {
            refuse!(
                "a convolution over {} axes is not supported on the device; at most 3 are",
                self.spans.len()
            );
        }
        if let Some(product) = self.product(cx, x, w)? {
            return product.lower(cx, scalar, sink);
        }
        let ChosenForm { form, w, own, spans, grid, terms, limit, slices } = self.choose(cx, w, scalar)?;
        let times = self.size(|s| s.kernel) * self.filters.div_ceil(32);
        let reads = Reads::Lines { line: self.size(|s| s.input), times };
        let (x, before) = x.loaded(cx, "x", reads)?;
        let (planes, output) = (self.batch * self.group, self.size(|s| s.output));
        let matrix = (self.group * self.filters, output);
        let dispatch = |cx: &mut Lower<'a>, (first, last), epilogue: Epilogue, y| {
            let mut sizes = vec![planes, self.group, self.filters, self.channels];
            if let Form::Any { .. } | Form::Shared(_) = form {
                sizes.extend([first, last]);
            }
            sizes.extend(&own);
            sizes.extend(
                spans.iter().flat_map(|s| [s.input, s.output, s.kernel, s.stride, s.dilation, s.begin]),
            );
            let fused = before.params.iter().copied().chain(epilogue.params);
            let params = params(sizes, fused)?;
            let others = before.tensors.iter().copied().chain(epilogue.tensors);
            let tensors = [x, w].into_iter().chain(others).chain([y]).collect();
            let (prologue, epilogue) = (before.prologue.clone(), epilogue.fused);
            let kernel = conv::Conv { scalar, form, prologue, epilogue, runs: false };
            cx.call_grid(kernel, tensors, params, grid);
            Ok(())
        };
        match slices {
            Some(slices) => in_slices(
                cx,
                (slices, planes * self.filters * output),
                scalar,
                sink,
                |cx, epilogue, partial| dispatch(cx, (0, terms), epilogue, partial),
            ),
            None => in_parts(cx, (terms, limit), matrix, scalar, sink, dispatch),
        }
    }

    /// The products that each element of the result adds up.
    pub(crate) fn terms(&self) -> usize {
        self.channels.saturating_mul(self.size(|s| s.kernel))
    }

    fn size(&self, size: impl Fn(&Span) -> usize) -> usize {
        product(self.spans.iter().map(size))
    }

    /// The matrix product that computes this convolution, if one does: where a window has one tap, or the only window is the
    /// whole input.
    fn product(&self, cx: &mut Lower, x: Source, w: Source) -> Result<Option<Product>, Why> {
        let inside =
            self.spans.iter().all(|s| s.begin == 0 && s.output > 0 && (s.output - 1) * s.stride < s.input);
        let one_tap = inside && self.size(|s| s.kernel) == 1 && self.size(|s| s.output) > 0;
        let whole = self
            .spans
            .iter()
            .all(|s| s.begin == 0 && s.output == 1 && s.kernel == s.input && s.dilation == 1);
        if !cx.always(Always::IsProduct, one_tap || whole) {
            return Ok(None);
        }
        let (n, taps) = (self.size(|s| s.output), self.size(|s| s.kernel));
        let k = self.channels * taps;
        let x = if one_tap && self.spans.iter().any(|s| s.stride > 1 || s.output != s.input) {
            Source::Tensor(self.gathered(cx, x)?)
        } else {
            x
        };
        Ok(Some(Product {
            m: self.filters,
            n,
            k,
            batch: vec![
                Batch { size: self.batch, a: 0, b: self.group * k * n },
                Batch { size: self.group, a: self.filters * k, b: k * n },
            ],
            a: Matrix { source: w, row: k, column: 1 },
            b: Matrix { source: x, row: n, column: 1 },
        }))
    }

    /// The elements of the input that windows of one tap read, as a tensor.
    fn gathered(&self, cx: &mut Lower, x: Source) -> Result<TensorId, Why> {
        let from = x.tensor(cx)?;
        let planes = self.batch * self.group * self.channels;
        let mut dims = vec![(planes, self.size(|s| s.input) as i64)];
        let inputs: Vec<usize> = self.spans.iter().map(|s| s.input).collect();
        let strides = strides::of(&inputs);
        dims.extend(self.spans.iter().zip(strides).map(|(s, stride)| (s.output, stride * s.stride as i64)));
        let shape: Vec<usize> = dims.iter().map(|dim| dim.0).collect();
        let to = cx.temporary_like(from, &shape);
        strides::copy(cx, Copy { number: 0, from, to, base: 0, dims: &dims });
        Ok(to)
    }

    fn choose(&self, cx: &mut Lower, w: Source, scalar: Scalar) -> Result<ChosenForm, Why> {
        let constant = w.input().filter(|&i| cx.is_constant(i));
        let computed = self.size(|s| s.output) > 0 && scalar != Scalar::F64;
        let chosen = match self.spans[..] {
            _ if !computed => None,
            [inner] => self.over_two(cx, (w, constant), [Span::whole(1), inner])?,
            [outer, inner] => self.over_two(cx, (w, constant), [outer, inner])?,
            _ => constant.and_then(|i| self.lanes(cx, i, &self.spans)),
        };
        if let Some(chosen) = chosen {
            return Ok(chosen);
        }
        let (taps, output) = (self.size(|s| s.kernel), self.size(|s| s.output));
        let filters = if self.filters < 8 { 1 } else { 8 };
        let groups =
            self.batch * self.group * self.filters.div_ceil(filters) * output.div_ceil(conv::WORKGROUP);
        Ok(ChosenForm {
            form: Form::Any { rank: self.spans.len(), filters },
            w: w.tensor(cx)?,
            own: vec![self.size(|s| s.input), output, taps],
            spans: self.spans.clone(),
            grid: cx.target.grid(groups),
            terms: self.channels * taps,
            limit: cx.target.max_iterations as usize,
            slices: None,
        })
    }

    /// The kernel for two axes, if one fits.
    fn over_two(
        &self,
        cx: &mut Lower,
        (w, constant): (Source, Option<usize>),
        spans: [Span; 2],
    ) -> Result<Option<ChosenForm>, Why> {
        Ok(match (constant, cx.target.class) {
            (Some(i), _) if self.channels == 1 && self.filters < 8 => self.depthwise(cx, i, spans),
            (Some(i), Class::Cpu) => self.lanes(cx, i, &spans),
            (None, Class::Cpu) => None,
            (_, Class::Gpu) => self.shared(cx, w, constant, spans)?,
        })
    }

    /// The kernel for GPUs: the matrix product of weights and windows, for each group.
    fn shared(
        &self,
        cx: &mut Lower,
        w: Source,
        constant: Option<usize>,
        spans: [Span; 2],
    ) -> Result<Option<ChosenForm>, Why> {
        let taps = self.size(|s| s.kernel);
        // A tile has at least 16 rows of filters and takes 16 terms at a time, so smaller convolutions would waste it.
        if self.filters < 8 || self.channels * taps < 16 {
            return Ok(None);
        }
        let (output, row) = (self.size(|s| s.output), self.channels * taps);
        let n = self.batch * output;
        let block = block(cx, (self.filters, n), self.group);
        let padded = self.channels.next_multiple_of(block.bk);
        // Where each block of terms has whole blocks of channels, its terms share a tap. Too much padding costs more than that
        // saves.
        let right = match constant {
            Some(_) if 4 * padded <= 5 * self.channels => SharedRight::Image,
            _ => SharedRight::FlatImage,
        };
        let terms = if right == SharedRight::Image { padded * taps } else { row };
        let (left, w) = match constant.and_then(|i| cx.packed(i, self.shared_packing(block, right, spans))) {
            Some(packed) => (SharedLeft::Packed, packed),
            None if cx.multiple(Multiple::Weights, [row]) => (SharedLeft::Vectors, w.tensor(cx)?),
            None => (SharedLeft::Terms, w.tensor(cx)?),
        };
        let (tiles, blocks) = (n.div_ceil(block.bn), terms.div_ceil(block.bk));
        let (groups, results) = (block.groups(self.filters, n) * self.group, self.group * self.filters * n);
        let limit = block.limit(cx.target.max_iterations);
        let slices = if terms <= limit { slices(cx, block, groups, (terms, results)) } else { None };
        let own = [self.size(|s| s.input), output, taps, n, tiles, blocks, row];
        Ok(Some(ChosenForm {
            form: Form::Shared(Shared { block, left, right }),
            w,
            own: own.into_iter().chain(sliced(slices, (terms, block.bk), results)).collect(),
            spans: spans.to_vec(),
            grid: cx.target.grid(groups * slices.unwrap_or(1)),
            terms,
            limit,
            slices,
        }))
    }

    /// The order of the weights: `[group][filter tile][block of terms][filter][term]`, padded.
    fn shared_packing(&self, block: Block, right: SharedRight, [outer, inner]: [Span; 2]) -> Packing {
        let Block { bm, bk, .. } = block;
        let dim = |axis, size, step| PackedDim { axis, size, step };
        let tiles = [dim(0, self.group, 1), dim(1, self.filters.div_ceil(bm), bm)];
        let taps = outer.kernel * inner.kernel;
        let (source, blocks) = match right {
            SharedRight::Image => (
                vec![self.group, self.filters, self.channels, taps],
                vec![dim(3, taps, 1), dim(2, self.channels.div_ceil(bk), bk)],
            ),
            _ => {
                let row = self.channels * taps;
                (vec![self.group, self.filters, row], vec![dim(2, row.div_ceil(bk), bk)])
            }
        };
        let within = [dim(1, bm, 1), dim(2, bk, 1)];
        Packing {
            source,
            dims: tiles.into_iter().chain(blocks).chain(within).collect(),
            ..Packing::default()
        }
    }

    fn depthwise(&self, cx: &mut Lower, i: usize, spans: [Span; 2]) -> Option<ChosenForm> {
        let taps = self.size(|s| s.kernel);
        let filters = self.group * self.filters;
        let [height, width] = spans.map(|s| s.output);
        let padded = !cx.always(Always::Inside, !spans.iter().any(overhangs));
        let of = |places| Depthwise {
            places,
            kernel: spans.map(|s| s.kernel),
            stride: spans.map(|s| s.stride),
            dilation: spans.map(|s| s.dilation),
            padded,
        };
        let mut places = match cx.target.class {
            Class::Gpu => 4,
            Class::Cpu if width.is_multiple_of(8) && !width.is_multiple_of(7) => 8,
            Class::Cpu => width.min(7),
        };
        // The code has a line for each tap of each place, and registers hold the sums of `depth` rows.
        while places > 1 && (taps * places > 512 || of(places).depth() * places > 64) {
            places = places.div_ceil(2);
        }
        if taps * places > 512 || of(places).depth() > 64 {
            return None;
        }
        let (_, places) = cx.only_tile(Tiling::Depthwise, (0, places));
        let form = of(places);
        let dim = |axis, size| PackedDim { axis, size, step: 1 };
        let dims = vec![dim(0, filters), dim(1, taps.next_multiple_of(4))];
        let w = cx.packed(i, Packing { source: vec![filters, taps], dims, ..Packing::default() })?;
        let columns = self.batch * filters * width.div_ceil(places);
        let rows = cost::depthwise_rows(cx.target.class, columns, height);
        let grid = cx.target.grid((columns * height.div_ceil(rows)).div_ceil(conv::WORKGROUP));
        Some(ChosenForm {
            form: Form::Depthwise(form),
            w,
            own: vec![rows],
            spans: spans.to_vec(),
            grid,
            terms: 1,
            limit: 1,
            slices: None,
        })
    }

    /// The kernel for software devices over two axes or three, if it fits.
    fn lanes(&self, cx: &mut Lower, i: usize, spans: &[Span]) -> Option<ChosenForm> {
        let (inner, outer) = spans.split_last()?;
        let lanes = cx.target.subgroup as usize;
        let [kernel_rows, lines] =
            [|span: &Span| span.kernel, |span: &Span| span.output].map(|of| product(outer.iter().map(of)));
        if cx.target.class != Class::Cpu || !matches!(lanes, 4 | 8) || inner.kernel > 16 {
            return None;
        }
        let padded = !cx.always(Always::Inside, !spans.iter().any(overhangs));
        let tiles = self.lanes_tiles(lanes, outer, *inner);
        cx.weigh(Tiling::ConvLanes, &tiles);
        // With fewer rows a vector holds several taps of a filter, and three taps are padded to four.
        let dense = |weighed: &Weighed| weighed.tile.0 >= (4 * lanes).min(self.filters);
        let best = cx.cheapest(Tiling::ConvLanes, tiles.into_iter().filter(dense))?;
        let tile = cx.only_tile(Tiling::ConvLanes, best);
        let form = lanes_form(lanes, outer, *inner, tile, padded);
        let segments = lines * inner.output.div_ceil(form.places);
        let groups = [segments.div_ceil(lanes), self.filters.div_ceil(form.rows), self.batch * self.group];
        let walked = nested(outer.iter().map(|span| span.kernel));
        let iterations = self.channels * (walked + 1) + form.rows;
        if groups.iter().any(|&n| n > cx.target.max_groups as usize)
            || iterations > cx.target.max_iterations as usize
        {
            return None;
        }
        let w = cx.packed(i, self.lanes_packing(&form, kernel_rows))?;
        Some(ChosenForm {
            form: Form::Lanes(form),
            w,
            own: vec![form.rows],
            spans: spans.to_vec(),
            grid: groups.map(|n| n as u32),
            terms: 1,
            limit: 1,
            slices: None,
        })
    }

    /// The tiles of registers to choose from, for two axes or three.
    pub(crate) fn lanes_tiles(&self, lanes: usize, outer: &[Span], inner: Span) -> [Weighed; 12] {
        let [kernel_rows, lines] =
            [|span: &Span| span.kernel, |span: &Span| span.output].map(|of| product(outer.iter().map(of)));
        let size = (self.filters, self.channels * kernel_rows, lines, inner.output);
        let weighed = |(vectors, places)| {
            let tile = (vectors * lanes, places);
            let form = lanes_form(lanes, outer, inner, tile, true);
            let cost = cost::conv_lanes(&form, size) * (self.batch * self.group) as f64;
            Weighed { tile, cost, products: form.products() }
        };
        LANES_TILES.map(weighed)
    }

    fn lanes_packing(&self, form: &LanesForm, kernel_rows: usize) -> Packing {
        let dim = |axis, size, step| PackedDim { axis, size, step };
        let (own, high) = (form.low_rows(), form.rows / form.lanes / form.low_rows());
        let taps = 4 / own;
        Packing {
            source: vec![self.group, self.filters, self.channels, kernel_rows, form.kernel],
            dims: vec![
                dim(0, self.group, 1),
                dim(1, self.filters.div_ceil(form.rows), form.rows),
                dim(2, self.channels, 1),
                dim(3, kernel_rows, 1),
                dim(4, form.kernel.div_ceil(taps), taps),
                dim(1, high, own * form.lanes),
                dim(1, form.lanes, 1),
                dim(4, taps, 1),
                dim(1, own, form.lanes),
            ],
            ..Packing::default()
        }
    }
}

/// The vectors of rows, and the places, of the tiles for software devices.
const LANES_TILES: [(usize, usize); 12] =
    [(4, 7), (4, 8), (4, 4), (1, 7), (1, 8), (1, 4), (2, 7), (2, 8), (2, 4), (8, 7), (8, 8), (8, 4)];

/// The tile of `rows` and `places`.
fn lanes_form(
    lanes: usize,
    outer: &[Span],
    inner: Span,
    (rows, places): (usize, usize),
    padded: bool,
) -> LanesForm {
    let Span { kernel, stride, dilation, .. } = inner;
    LanesForm { lanes, deep: outer.len() == 2, rows, places, kernel, stride, dilation, padded }
}

/// Whether some window reaches beyond the input.
fn overhangs(span: &Span) -> bool {
    span.begin > 0 || (span.output.max(1) - 1) * span.stride + (span.kernel - 1) * span.dilation >= span.input
}

/// The form that was chosen for a convolution, with the arguments of its calls.
struct ChosenForm {
    form: Form,
    w: TensorId,
    /// The params that only this form has.
    own: Vec<usize>,
    spans: Vec<Span>,
    grid: [u32; 3],
    /// The terms of the sum, and the number of terms that one dispatch may add up; both are 1 where a dispatch always adds up
    /// all.
    terms: usize,
    limit: usize,
    /// The number of slices into which the sum is cut; `None` if it is not cut.
    slices: Option<usize>,
}

/// Adds `bias[c]` to each element of channel `c` (axis 1).
pub(crate) fn add_bias<T: Number>(y: &mut [T], shape: &[usize], bias: &[T]) {
    let plane: usize = product(&shape[2..]);
    for (i, y) in y.iter_mut().enumerate() {
        *y += bias[i / plane % bias.len()];
    }
}

impl Operator for Conv {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, w, bias) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        let sizes = ConvSizes::of(&self.window, self.group, &x.shape, &w.shape)?;
        if x.dtype != w.dtype || bias.is_some_and(|b| b.dtype != x.dtype) || !x.dtype.is_float() {
            refuse!("the inputs are not floats of one dtype");
        }
        if bias.is_some_and(|b| b.shape != [sizes.group * sizes.filters]) {
            refuse!("the bias has not one value for each of {} output channels", sizes.group * sizes.filters);
        }
        Ok(vec![Fact::new(x.dtype, sizes.shape())])
    }

    fn packs(&self, i: usize) -> bool {
        i == 1
    }

    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let filters = *outputs.first()?.shape.get(1)?;
        match (axis, self.group) {
            (0, _) => Division::of_first(0, inputs, outputs.first()?, |_| true),
            (1, 1) => Some(Division::of(
                filters,
                vec![InputShare::Whole, InputShare::along(0), InputShare::along(0)],
            )),
            (1, groups) => {
                let (of_x, of_output) = (*inputs.get(1)?.as_ref()?.shape.get(1)?, filters / groups);
                let (x, w) = (
                    InputShare::Along { axis: 1, step: of_x },
                    InputShare::Along { axis: 0, step: of_output },
                );
                let division = Division::of(groups, vec![x, w, w]);
                Some(Division { of_output, counted_by: Some("group"), ..division })
            }
            _ => None,
        }
    }

    fn summands(&self, inputs: &[Option<&Fact>], _: &[Fact]) -> Option<Division> {
        let channels = *inputs.first()?.as_ref()?.shape.get(1)?;
        let shares = vec![InputShare::along(1), InputShare::along(1), InputShare::First];
        (self.group == 1).then_some(Division::of(channels, shares))
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?);
        let sizes = ConvSizes::of(&self.window, self.group, &x.shape, &w.shape)?;
        let mut y = sizes.eval_floats(x, w)?;
        if let Some(bias) = optional(inputs, 2) {
            add_bias(&mut y, &sizes.shape(), bias.floats()?);
        }
        Ok(vec![Array::float(x.dtype, &sizes.shape(), y)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?);
        let sizes = ConvSizes::of(&self.window, self.group, &x.shape, &w.shape)?;
        Ok(sizes.work(of_elements(inputs, outputs)))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn takes_prologue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (x, w, bias) = (cx.fact(0)?, cx.fact(1)?, cx.optional_fact(2));
        let sizes = ConvSizes::of(&self.window, self.group, &x.shape, &w.shape)?;
        let shape = sizes.bias_shape();
        let finish = |code: &mut Code, value| {
            if bias.is_none() { Ok(value) } else { code.add_input(value, 2, &shape) }
        };
        if let Some(winograd) = WinogradSizes::chosen(cx, &sizes)? {
            return winograd.lower(cx, &finish);
        }
        let Some(scalar) = cx.register(x.dtype) else { refuse!("the device has no {}", x.dtype) };
        sizes.lower(cx, Source::Input(0), Source::Input(1), scalar, Sink::Finished(&finish))
    }
}

fn cases() -> Vec<Case> {
    let conv = |name: &str, x: &[usize], w: &[usize]| {
        Case::new("Conv", name)
            .tolerance(Tolerance::ACCUMULATION)
            .input(case::random(x))
            .constant(case::random(w))
    };
    let bias = |case: Case, n: usize| case.constant(case::random(&[n]));
    let same = |case: Case, rank: usize| case.ints("pads", &vec![1; 2 * rank]);
    vec![
        conv("3x3", &[1, 3, 9, 11], &[8, 3, 3, 3]),
        bias(same(conv("3x3_padded", &[2, 5, 14, 13], &[20, 5, 3, 3]), 2), 20),
        bias(same(conv("3x3_stride2", &[1, 16, 15, 17], &[33, 16, 3, 3]), 2), 33).ints("strides", &[2, 2]),
        bias(conv("7x7_stride2", &[1, 3, 32, 32], &[16, 3, 7, 7]), 16)
            .ints("strides", &[2, 2])
            .ints("pads", &[3, 3, 3, 3]),
        conv("dilated", &[1, 4, 12, 12], &[8, 4, 3, 3])
            .ints("dilations", &[2, 3])
            .ints("pads", &[2, 3, 2, 3]),
        conv("asymmetric", &[1, 2, 7, 5], &[3, 2, 3, 2]).ints("pads", &[1, 0, 2, 3]).ints("strides", &[2, 1]),
        conv("beyond", &[1, 1, 3, 3], &[1, 1, 3, 3]).ints("pads", &[4, 4, 4, 4]),
        conv("too_small", &[1, 2, 3, 3], &[4, 2, 4, 4]),
        bias(conv("1x1", &[1, 24, 14, 14], &[40, 24, 1, 1]), 40),
        bias(conv("1x1_odd", &[2, 23, 7, 7], &[70, 23, 1, 1]), 70),
        conv("1x1_stride2", &[1, 8, 9, 9], &[12, 8, 1, 1]).ints("strides", &[2, 2]),
        conv("1x1_padded", &[1, 8, 5, 5], &[12, 8, 1, 1]).ints("pads", &[1, 1, 1, 1]),
        bias(same(conv("depthwise", &[1, 12, 15, 14], &[12, 1, 3, 3]), 2), 12).int("group", 12),
        bias(same(conv("depthwise_stride2", &[2, 12, 15, 15], &[12, 1, 3, 3]), 2), 12)
            .int("group", 12)
            .ints("strides", &[2, 2]),
        same(conv("depthwise_multiplier", &[1, 6, 9, 9], &[12, 1, 3, 3]), 2).int("group", 6),
        // Rows of windows that overlap, that leave rows out, and that are far apart; and planes of several tiles.
        bias(conv("depthwise_dilated", &[1, 12, 21, 20], &[12, 1, 3, 3]), 12)
            .int("group", 12)
            .ints("dilations", &[3, 2])
            .ints("pads", &[3, 2, 3, 2]),
        conv("depthwise_apart", &[2, 5, 14, 15], &[5, 1, 2, 2]).int("group", 5).ints("strides", &[3, 3]),
        bias(conv("depthwise_5x5", &[1, 9, 23, 24], &[9, 1, 5, 5]), 9)
            .int("group", 9)
            .ints("strides", &[2, 1])
            .ints("dilations", &[3, 1])
            .ints("pads", &[2, 2, 1, 2]),
        bias(conv("depthwise_tall", &[1, 3, 70, 9], &[3, 1, 7, 7]), 3)
            .int("group", 3)
            .ints("pads", &[3, 3, 3, 3]),
        bias(same(conv("groups", &[2, 8, 9, 10], &[24, 4, 3, 3]), 2), 24).int("group", 2),
        conv("same_upper", &[1, 2, 6, 7], &[4, 2, 4, 3])
            .string("auto_pad", "SAME_UPPER")
            .ints("strides", &[2, 2]),
        conv("same_lower", &[1, 2, 6, 7], &[4, 2, 4, 3]).string("auto_pad", "SAME_LOWER"),
        conv("valid", &[1, 2, 6, 7], &[4, 2, 4, 3]).string("auto_pad", "VALID"),
        bias(same(conv("1d", &[2, 6, 33], &[9, 6, 3]), 1), 9),
        conv("1d_long", &[1, 1, 400], &[8, 1, 64]).ints("strides", &[4]),
        bias(same(conv("3d", &[1, 3, 5, 6, 7], &[8, 3, 3, 3, 3]), 3), 8).ints("strides", &[1, 2, 1]),
        bias(same(conv("3d_blocks", &[2, 17, 6, 9, 15], &[36, 17, 3, 3, 3]), 3), 36),
        conv("3d_groups", &[1, 24, 5, 8, 13], &[66, 12, 2, 3, 5])
            .int("group", 2)
            .ints("strides", &[2, 1, 2])
            .ints("dilations", &[1, 2, 1])
            .ints("pads", &[1, 0, 3, 0, 2, 1]),
        conv("3d_1x1", &[2, 16, 3, 5, 7], &[40, 16, 1, 1, 1]),
        conv("many_channels", &[1, 130, 6, 6], &[66, 130, 3, 3]),
        // The tiles of GPUs, with whole and odd blocks of channels, several images, groups, and tiles that reach beyond the
        // edges.
        bias(same(conv("blocks", &[2, 32, 9, 9], &[40, 32, 3, 3]), 2), 40),
        bias(same(conv("blocks_odd", &[3, 29, 5, 7], &[67, 29, 3, 3]), 2), 67).ints("strides", &[2, 1]),
        conv("blocks_dilated", &[1, 16, 12, 13], &[9, 16, 3, 2])
            .ints("dilations", &[2, 3])
            .ints("pads", &[2, 3, 1, 0]),
        conv("blocks_groups", &[2, 48, 8, 9], &[60, 16, 3, 3]).int("group", 3),
        conv("many_places", &[1, 16, 70, 70], &[24, 16, 3, 3]),
        conv("many_filters", &[1, 18, 40, 40], &[260, 18, 3, 3]),
        conv("stem", &[2, 3, 60, 61], &[64, 3, 7, 7]).ints("strides", &[2, 2]).ints("pads", &[3, 3, 3, 3]),
        conv("1d_blocks", &[2, 33, 70], &[20, 33, 5]).ints("pads", &[2, 2]),
        conv("whole", &[1, 20, 7, 7], &[30, 20, 7, 7]),
        // Winograd's transforms: tiles beyond the edges, several images, and strips of tiles.
        bias(same(conv("winograd", &[1, 128, 20, 20], &[128, 128, 3, 3]), 2), 128),
        conv("winograd_edges", &[2, 96, 18, 21], &[100, 96, 3, 3]).ints("pads", &[0, 3, 1, 0]),
        same(conv("winograd_strips", &[1, 128, 44, 44], &[128, 128, 3, 3]), 2),
        same(conv("empty_batch", &[0, 3, 5, 5], &[8, 3, 3, 3]), 2),
        Case::new("Conv", "dynamic_weights")
            .tolerance(Tolerance::ACCUMULATION)
            .input(case::random(&[1, 3, 8, 8]))
            .input(case::random(&[4, 3, 3, 3]))
            .input(case::random(&[4])),
        // Sums in slices: few results of many terms.
        bias(same(conv("slices", &[2, 120, 6, 5], &[40, 120, 3, 3]), 2), 40),
        bias(conv("slices_groups", &[1, 420, 5, 5], &[34, 210, 2, 3]), 34).int("group", 2),
        Case::new("Conv", "dynamic_weights_groups")
            .tolerance(Tolerance::ACCUMULATION)
            .int("group", 2)
            .input(case::random(&[2, 10, 9, 8]))
            .input(case::random(&[34, 5, 3, 3])),
        Case::new("Conv", "dynamic_weights_vectors")
            .tolerance(Tolerance::ACCUMULATION)
            .input(case::random(&[1, 8, 9, 8]))
            .input(case::random(&[20, 8, 3, 3])),
        Case::new("Conv", "long_sum")
            .tolerance(Tolerance { relative: 1e-3, absolute: 5e-2 })
            .input(case::random(&[1, 8000, 4, 4]))
            .constant(case::random(&[8, 8000, 3, 3])),
        Case::new("Conv", "float16")
            .opset(11)
            .tolerance(Tolerance { relative: 1e-3, absolute: 1e-3 })
            .input(case::converted(&case::random(&[1, 3, 8, 8]), DType::F16))
            .constant(case::converted(&case::random(&[4, 3, 3, 3]), DType::F16)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_every_tap_once() {
        let ones = |shape: &[usize]| Array::float(DType::F32, shape, vec![1.0; shape.iter().product()]);
        let attributes = [("pads", crate::ops::Attr::Ints(vec![1, 1, 1, 1]))].into_iter().collect();
        let def = NodeDef {
            op_type: "Conv",
            opset: 11,
            attributes: &attributes,
            inputs: &[true, true],
            listed: &[true],
            outputs: &[true],
        };
        let op = parse(&def).unwrap();
        let y = op.operator().eval(&[Some(&ones(&[1, 2, 3, 3])), Some(&ones(&[1, 2, 3, 3]))]).unwrap();
        assert_eq!(y[0].floats().unwrap(), [8.0, 12.0, 8.0, 12.0, 18.0, 12.0, 8.0, 12.0, 8.0]);
    }
}

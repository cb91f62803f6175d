//! Reductions on the device: the calls of the reduce kernel by which an operator folds rows. Rows that are too long for one
//! invocation, or too few for the device, are cut into parts and folded in two stages.

use super::{DType, Why, product, refuse};
use crate::array::strides;
use crate::kernels::Access;
use crate::kernels::cost::{self, Microseconds};
use crate::kernels::expr::{Builder, Expr, Reg, Scalar, Wide};
use crate::kernels::fused::{Fused, Index, Operand};
use crate::kernels::reduce::{
    Combine, ELEMENT, Each, FIRST_SIDE, POSITION, Reduce, RowPass, Share, Side, VALUES,
};
use crate::kernels::strided::{Dims, merge};
use crate::kernels::{Class, Target};
use crate::plan::{Always, Epilogue, IndexOf, Lower, Multiple, NO_WIDE, Rank, Reads, TensorId, Tiling};

/// A tensor seen as rows: (size, stride) of the kept and of the reduced dimensions. `[2, 3, 4]` reduced over axis 1 keeps (2,
/// stride 12) and (4, stride 1), and has 8 rows of 3 elements with stride 4.
#[derive(Clone, Debug)]
struct RowsView {
    kept: Dims,
    reduced: Dims,
    rows: usize,
    length: usize,
    /// Whether the elements of a row are neighbours in memory.
    contiguous: bool,
    /// Whether every row begins at a vector and consists of whole vectors.
    vectors: bool,
    /// Whether the tensor is a row-major matrix of these rows.
    matrix: bool,
    /// Whether the invocations of a subgroup may share a row: no kernel shuffles float64.
    shuffles: bool,
}

impl RowsView {
    fn new(cx: &mut Lower, scalar: Scalar, shape: &[usize], axes: &[usize]) -> RowsView {
        let dims: Vec<(usize, i64)> =
            shape.iter().zip(strides(shape)).map(|(&size, s)| (size, s as i64)).collect();
        let part = |reduced: bool| {
            let dims = dims.iter().enumerate().filter(|(axis, _)| axes.contains(axis) == reduced);
            dims.map(|(_, &dim)| dim).collect::<Vec<_>>()
        };
        let (kept, reduced) = (part(false), part(true));
        let count = |dims: &[(usize, i64)]| product(dims.iter().map(|dim| dim.0));
        let (rows, length) = (count(&kept), count(&reduced));
        let (kept, reduced) = (merge(&kept), merge(&reduced));
        let contiguous = cx.always(Always::Contiguous, reduced.last().is_none_or(|dim| dim.1 == 1));
        let simple = cx.always(Always::OneReduced, reduced.len() <= 1);
        let whole = cx.multiple(Multiple::Rows, kept.iter().map(|dim| dim.1 as usize).chain([length]));
        let matrix = cx.always(Always::OneKept, kept.len() <= 1);
        RowsView {
            rows,
            length,
            contiguous,
            vectors: whole && simple && contiguous && !scalar.is_wide_integer(),
            matrix: matrix && simple && contiguous,
            shuffles: !scalar.is_wide(),
            kept: cx.with_rank(Rank::Kept, kept, (1, 0)),
            reduced: cx.with_rank(Rank::Reduced, reduced, (1, 0)),
        }
    }
}

/// An expression, with the words of its constants.
type BoundExpr = (Expr, Vec<u32>);

#[derive(Clone, Debug)]
enum RowStep {
    Given(TensorId, Scalar),
    Fold { combine: Combine, map: BoundExpr, finish: BoundExpr },
}

impl RowStep {
    fn grows(&self) -> bool {
        matches!(self, RowStep::Fold { combine, map, .. } if combine.grows(scalar_of(map)))
    }

    /// The register type of the row's value.
    fn scalar(&self) -> Scalar {
        match self {
            RowStep::Given(_, scalar) => *scalar,
            RowStep::Fold { finish, .. } => scalar_of(finish),
        }
    }

    fn pass(&self) -> RowPass {
        match self {
            RowStep::Given(_, scalar) => RowPass::Given(*scalar),
            RowStep::Fold { combine, map, finish } => {
                RowPass::Fold { combine: *combine, map: map.0.clone(), finish: finish.0.clone() }
            }
        }
    }
}

/// A reduction under construction.
#[derive(Clone)]
pub(crate) struct Rows {
    input: TensorId,
    scalar: Scalar,
    /// The expression by which a prologue computes the input's elements.
    prologue: Option<BoundExpr>,
    /// `Some` if the elements are 64-bit integers.
    wide: Option<Wide>,
    shape: Vec<usize>,
    kept_shape: Vec<usize>,
    view: RowsView,
    sides: Vec<(Side, TensorId, Vec<u32>)>,
    steps: Vec<RowStep>,
    results: Vec<(Each, BoundExpr, TensorId)>,
}

/// The element, or the folded number.
pub(crate) fn element(e: &mut Builder, scalar: Scalar) -> Reg {
    e.load(ELEMENT, scalar)
}

/// The value of pass `k`.
pub(crate) fn value(e: &mut Builder, k: usize, scalar: Scalar) -> Reg {
    e.load(VALUES[k], scalar)
}

/// The element's position in its row.
pub(crate) fn position(e: &mut Builder) -> Reg {
    e.load(POSITION, Scalar::I32)
}

fn code(build: impl FnOnce(&mut Builder) -> Reg) -> BoundExpr {
    code_of(None, build)
}

/// An expression that reports results that do not fit 32 bits, if it is one of 64-bit integers.
fn code_of(wide: Option<Wide>, build: impl FnOnce(&mut Builder) -> Reg) -> BoundExpr {
    let mut builder = Builder::default();
    builder.wide = wide;
    let result = build(&mut builder);
    builder.finish(vec![result])
}

fn scalar_of(code: &BoundExpr) -> Scalar {
    code.0.output_scalars().first().copied().unwrap_or(Scalar::F32)
}

/// How a row is cut, and which invocations share a part. 4 rows of 100,000 elements on a software device may be cut into 16
/// parts each; then the share is `Alone`, and a second call folds the 16 values of each row.
#[derive(Clone, Copy)]
struct Cut {
    share: Share,
    parts: usize,
    vectors: bool,
}

impl Cut {
    fn of(view: &RowsView, cx: &mut Lower) -> Cut {
        let (length, target) = (view.length.max(1), cx.target);
        let shares = [Share::Alone, Share::Workgroup, Share::Subgroup(target.subgroup as usize)];
        let best = Cut::best(view, target);
        // As a tile: the number of the share with a flag for parts, and the elements that are loaded at a time. A tile that
        // was chosen for other sizes may load more at a time than the rows at hand allow.
        let number = shares.iter().position(|share| *share == best.share).unwrap_or(0);
        let tile = (2 * number + usize::from(best.parts > 1), if best.vectors { 4 } else { 1 });
        let cut = |(number, width): (usize, usize)| {
            let share = shares[number / 2];
            let parts = if number % 2 == 1 { Cut::parts(view, target, share).max(2) } else { 1 };
            Cut { share, parts, vectors: width == 4 && view.vectors }
        };
        let chosen = cut(cx.tile(Tiling::Cut, tile, |tile| cut(tile).cost(view, target)));
        // The loops of all passes together stay below the limit, even where little is unrolled.
        let longest = chosen.share.lanes() * (target.max_iterations as usize / 2);
        Cut { parts: chosen.parts.max(length.div_ceil(longest)), ..chosen }
    }

    fn best(view: &RowsView, target: &Target) -> Cut {
        let (rows, length, subgroup) = (view.rows.max(1), view.length.max(1), target.subgroup as usize);
        // Two shuffles for each element would be too many.
        let subgroups = subgroup >= 4 && view.shuffles && view.contiguous && length >= 2 * subgroup;
        let share = match target.class {
            Class::Cpu if subgroups && subgroup == 8 => Share::Subgroup(subgroup),
            Class::Cpu => Share::Alone,
            // A subgroup needs no barriers. It pays if there are enough rows for a busy device, or few elements for each
            // invocation.
            Class::Gpu if subgroups && (rows >= 512 || length <= 32 * subgroup) => Share::Subgroup(subgroup),
            Class::Gpu if view.contiguous && length >= 32 => Share::Workgroup,
            Class::Gpu if length >= 8 * rows && length >= 128 => Share::Workgroup,
            Class::Gpu => Share::Alone,
        };
        let parts = Cut::parts(view, target, share).max(1);
        Cut { share, parts, vectors: view.vectors && length >= 4 * share.lanes() * parts }
    }

    /// The number of parts that keeps the device busy, without parts so small that another dispatch costs more than it saves.
    fn parts(view: &RowsView, target: &Target, share: Share) -> usize {
        let (wanted, least) = match (target.class, share) {
            (Class::Cpu, _) => (64, 2048),
            (Class::Gpu, Share::Alone) => (16384, 128),
            (Class::Gpu, _) => (256, 2048),
        };
        (wanted / view.rows.max(1)).min(view.length / least)
    }

    /// The estimated time. A step of sharing takes about as long as an element.
    fn cost(self, view: &RowsView, target: &Target) -> Microseconds {
        let Cut { share, parts, vectors } = self;
        let lanes = share.lanes().max(1);
        let each = view.length.max(1).div_ceil(lanes * parts * if vectors { 4 } else { 1 });
        let sharing = lanes.ilog2() as usize * if share == Share::Workgroup { 6 } else { 2 };
        cost::fold(target.class, (view.rows.max(1), parts, lanes), (each, sharing))
    }
}

impl Rows {
    /// Rows along `axes` of input `i`, read under `shape`.
    pub(crate) fn new(cx: &mut Lower, i: usize, shape: &[usize], axes: &[usize]) -> Result<Rows, Why> {
        let input = cx.deferred_input(i)?;
        match cx.loaded("x", input, Reads::Elements) {
            (input, Some(prologue)) => Ok(Rows::after_prologue(cx, input, prologue, shape, axes)),
            (input, None) => Ok(Rows::of(cx, input, shape, axes)),
        }
    }

    /// Rows whose elements a prologue computes from `input`; its other operands become sides.
    fn after_prologue(
        cx: &mut Lower,
        input: TensorId,
        prologue: Epilogue,
        shape: &[usize],
        axes: &[usize],
    ) -> Rows {
        let Epilogue { fused, tensors, params } = prologue;
        let mut rows = Rows::of(cx, input, shape, axes);
        let (mut params, mut tensors) = (params.into_iter(), tensors.into_iter());
        let mut numbers = Vec::new();
        for operand in &fused.operands {
            let other = if operand.index == Index::Anchor { None } else { tensors.next() };
            let Some(tensor) = other else {
                numbers.push(ELEMENT);
                continue;
            };
            let words = params.by_ref().take(operand.index.params("").len()).collect();
            let number = FIRST_SIDE + rows.sides.len();
            let side =
                Side { operand: number, scalar: operand.scalar, index: operand.index, each: Each::Element };
            rows.sides.push((side, tensor, words));
            numbers.push(number);
        }
        rows.prologue = Some((fused.expr.renamed(|i| numbers[i]), params.collect()));
        rows
    }

    /// An expression of the input's elements, from an expression of the elements that the prologue computes.
    fn through_prologue(&self, (expr, constants): BoundExpr) -> BoundExpr {
        match &self.prologue {
            Some((inner, own)) => expr.of(ELEMENT, inner).kept([&own[..], &constants[..]].concat()),
            None => (expr, constants),
        }
    }

    /// Rows along `axes` of a tensor, read under `shape`.
    pub(crate) fn of(cx: &mut Lower, input: TensorId, shape: &[usize], axes: &[usize]) -> Rows {
        let kept = shape.iter().enumerate().map(|(axis, &size)| if axes.contains(&axis) { 1 } else { size });
        Rows {
            input,
            scalar: cx.scalar(input),
            prologue: None,
            wide: None,
            shape: shape.to_vec(),
            kept_shape: kept.collect(),
            view: RowsView::new(cx, cx.scalar(input), shape, axes),
            sides: vec![],
            steps: vec![],
            results: vec![],
        }
    }

    /// From here on, results that do not fit 32 bits are reported, if `dtype` is a 64-bit integer type.
    pub(crate) fn checked(self, dtype: DType) -> Rows {
        let wide = Wide::of(dtype, 0).filter(|_| !self.scalar().is_wide());
        Rows { wide, ..self }
    }

    /// The rows, where folds are of 64 bits: no device passes these from lane to lane.
    pub(crate) fn of_wide_folds(mut self) -> Rows {
        self.view.shuffles = false;
        self
    }

    /// The number of elements in a row.
    pub(crate) fn length(&self) -> usize {
        self.view.length
    }

    /// The register type of the elements.
    pub(crate) fn scalar(&self) -> Scalar {
        self.prologue.as_ref().map_or(self.scalar, scalar_of)
    }

    /// The operand number of input `i`, which broadcasts from `shape` to the elements, or to the rows' values (the input's
    /// shape with 1 on the reduced axes). Folded values and results for each row must not read an operand with one element for
    /// each element.
    pub(crate) fn side(
        &mut self,
        cx: &mut Lower,
        i: usize,
        shape: &[usize],
        each: Each,
    ) -> Result<usize, Why> {
        let tensor = cx.input(i)?;
        Ok(self.side_of(cx, tensor, shape, each))
    }

    /// The same for `tensor`, which is no input.
    pub(crate) fn side_of(&mut self, cx: &mut Lower, tensor: TensorId, shape: &[usize], each: Each) -> usize {
        let whole = if each == Each::Row { &self.kept_shape } else { &self.shape };
        let side = IndexOf::Side(self.sides.len());
        let (mut index, mut params) = cx.index(side, &Access::broadcast(shape, whole));
        let vector = index == Index::Axis && params == [1, self.view.length as u32];
        if vector && each == Each::Element && self.view.matrix {
            (index, params) = (Index::Column, vec![]);
        }
        let operand = FIRST_SIDE + self.sides.len();
        self.sides.push((Side { operand, scalar: cx.scalar(tensor), index, each }, tensor, params));
        operand
    }

    /// Adds a value for each row: `map` of each element, combined, and `finish` of the combination.
    pub(crate) fn fold(
        &mut self,
        combine: Combine,
        map: impl FnOnce(&mut Builder) -> Reg,
        finish: impl FnOnce(&mut Builder, Reg) -> Reg,
    ) {
        let map = self.through_prologue(code_of(self.wide, map));
        let scalar = scalar_of(&map);
        let finish = code_of(self.wide, |e| {
            let folded = e.load(ELEMENT, scalar);
            finish(e, folded)
        });
        self.steps.push(RowStep::Fold { combine, map, finish });
    }

    /// Adds a result with an element for each row, written to `output`.
    pub(crate) fn row_result(&mut self, output: TensorId, build: impl FnOnce(&mut Builder) -> Reg) {
        self.results.push((Each::Row, code_of(self.wide, build), output));
    }

    /// Adds a result with an element for each element of the input, written to `output`.
    pub(crate) fn element_result(&mut self, output: TensorId, build: impl FnOnce(&mut Builder) -> Reg) {
        let built = self.through_prologue(code(build));
        self.results.push((Each::Element, built, output));
    }

    /// Emits the calls. Result 0 is output 0 of the node, and goes through the unit's epilogue.
    pub(crate) fn emit(self, cx: &mut Lower) -> Result<(), Why> {
        let elements = self.results.first().is_some_and(|result| result.0 == Each::Element);
        let matrix = (elements && self.view.matrix).then_some((self.view.rows, self.view.length));
        let epilogue = cx.epilogue(matrix)?;
        self.emit_with(cx, &epilogue)
    }

    /// Emits the calls, with `epilogue` on result 0.
    pub(crate) fn emit_with(self, cx: &mut Lower, epilogue: &Epilogue) -> Result<(), Why> {
        if self.steps.len() > VALUES.len() {
            refuse!("a reduction has at most {} passes", VALUES.len());
        }
        self.check_widths(cx)?;
        let cut = Cut::of(&self.view, cx);
        let folds = self.steps.iter().any(|step| matches!(step, RowStep::Fold { .. }));
        if cut.parts == 1 || !folds {
            self.call(cx, &cut, epilogue);
            return Ok(());
        }
        let by_element = self.results.iter().any(|result| result.0 == Each::Element);
        let mut given: Vec<RowStep> = Vec::new();
        let (first, mut rest) =
            (self.results.first().cloned(), self.results.get(1..).unwrap_or_default().to_vec());
        for (k, step) in self.steps.iter().enumerate() {
            let RowStep::Fold { combine, map, finish } = step else {
                given.push(step.clone());
                continue;
            };
            let partial = self.partial(cx, &cut, &given, *combine, map);
            let identity = code(|e| e.load(ELEMENT, scalar_of(map)));
            let mut whole = Rows { steps: given.clone(), results: vec![], ..partial };
            whole.steps.push(RowStep::Fold { combine: *combine, map: identity, finish: finish.clone() });
            if k + 1 == self.steps.len() && !by_element {
                whole.results = self.results.clone();
                return whole.emit_with(cx, epilogue);
            }
            let scalar = scalar_of(finish);
            let value = cx.temporary(scalar, &[self.view.rows]);
            whole.row_result(value, |e| e.load(VALUES[k], scalar));
            // Further results for each row come with the last value, as the kernel over the elements has no bindings to spare.
            if k + 1 == self.steps.len() {
                let (by_row, others) = rest.into_iter().partition(|result| result.0 == Each::Row);
                whole.results.extend::<Vec<_>>(by_row);
                rest = others;
            }
            whole.emit_with(cx, &plain(scalar))?;
            given.push(RowStep::Given(value, scalar));
        }
        Rows { steps: given, results: first.into_iter().chain(rest).collect(), ..self }
            .call(cx, &cut, epilogue);
        Ok(())
    }

    /// Refuses code that takes 64 bits for 32.
    fn check_widths(&self, cx: &Lower) -> Result<(), Why> {
        let wide = |scalar: Scalar| if scalar.is_wide() { Some(scalar) } else { None };
        let own = |operand: usize| match VALUES.iter().position(|&value| value == operand) {
            Some(k) => self.steps.get(k).map(RowStep::scalar),
            None if operand == ELEMENT => Some(self.scalar),
            None => self.sides.iter().find(|side| side.0.operand == operand).map(|side| side.0.scalar),
        };
        let steps = self.steps.iter().filter_map(|step| match step {
            RowStep::Fold { map, .. } => Some(&map.0),
            RowStep::Given(..) => None,
        });
        let mut all = steps.chain(self.results.iter().map(|(_, code, _)| &code.0));
        let fits = |expr: &Expr| {
            !expr.mixes()
                && (cx.target.computes_f64 || !expr.has_f64())
                && expr
                    .loads()
                    .all(|(operand, scalar)| own(operand).is_none_or(|own| wide(own) == wide(scalar)))
        };
        if all.all(fits) { Ok(()) } else { refuse!("{NO_WIDE}") }
    }

    /// Folds the parts of each row, and returns the folded values as rows.
    fn partial(
        &self,
        cx: &mut Lower,
        cut: &Cut,
        given: &[RowStep],
        combine: Combine,
        map: &BoundExpr,
    ) -> Rows {
        let (scalar, k) = (scalar_of(map), given.len());
        let across = self.across(cut);
        let (shape, axis) = match across {
            true => ([cut.parts, self.view.rows], 0),
            false => ([self.view.rows, cut.parts], 1),
        };
        let output = cx.temporary(scalar, &shape);
        let mut parts = Rows { steps: given.to_vec(), results: vec![], ..self.clone() };
        let identity = code(|e| e.load(ELEMENT, scalar));
        parts.steps.push(RowStep::Fold { combine, map: map.clone(), finish: identity });
        parts.row_result(output, |e| e.load(VALUES[k], scalar));
        parts.call(cx, cut, &plain(scalar));
        let sides = self.sides.iter().filter(|side| side.0.each == Each::Row).cloned().collect();
        // The number of parts may change with every size, and it is too small for vectors to matter.
        let view = RowsView { vectors: false, ..RowsView::new(cx, scalar, &shape, &[axis]) };
        Rows { input: output, scalar, view, sides, ..self.clone() }
    }

    fn across(&self, cut: &Cut) -> bool {
        cut.share == Share::Alone && cut.parts > 1 && !self.view.contiguous
    }

    fn call(mut self, cx: &mut Lower, cut: &Cut, epilogue: &Epilogue) {
        let steps = self.steps.iter().filter_map(|step| match step {
            RowStep::Fold { map, finish, .. } => Some([map, finish]),
            RowStep::Given(..) => None,
        });
        let codes: Vec<&BoundExpr> =
            steps.flatten().chain(self.results.iter().map(|result| &result.1)).collect();
        self.sides.retain(|side| codes.iter().any(|code| code.0.reads(side.0.operand)));
        let count = self.view.rows * cut.parts;
        let mut params = vec![count as u32, self.view.length as u32, cut.parts as u32, self.view.rows as u32];
        for &(size, stride) in self.view.kept.iter().chain(&self.view.reduced) {
            params.extend([size as u32, stride as u32]);
        }
        params.extend(self.sides.iter().flat_map(|side| &side.2));
        params.extend(codes.iter().flat_map(|code| &code.1));
        params.extend(&epilogue.params);
        let mut tensors = vec![self.input];
        tensors.extend(self.sides.iter().map(|side| side.1));
        tensors.extend(self.steps.iter().filter_map(|step| match step {
            RowStep::Given(tensor, _) => Some(*tensor),
            RowStep::Fold { .. } => None,
        }));
        tensors.extend(&epilogue.tensors);
        tensors.extend(self.results.iter().map(|result| result.2));
        let kernel = Reduce {
            share: cut.share,
            vector: cut.vectors,
            across: self.across(cut),
            scalar: self.scalar,
            kept: self.view.kept.len(),
            reduced: self.view.reduced.len(),
            sides: self.sides.iter().map(|side| side.0).collect(),
            passes: self.steps.iter().map(RowStep::pass).collect(),
            results: self.results.iter().map(|(each, code, _)| (*each, code.0.clone())).collect(),
            epilogue: epilogue.fused.clone(),
            wide: self.wide.is_some() && self.steps.iter().any(RowStep::grows),
            in_place: false,
        };
        cx.call(kernel, tensors, params, count.div_ceil(cut.share.rows()));
    }
}

/// The epilogue that leaves a value unchanged.
pub(crate) fn plain(scalar: Scalar) -> Epilogue {
    let (expr, params) = code(|e| e.load(0, scalar));
    let operands = vec![Operand { scalar, index: Index::Anchor }];
    Epilogue { fused: Fused { expr, operands }, tensors: vec![], params }
}

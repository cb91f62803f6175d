//! Einsum: sums of products over labelled axes (`bij,bjk->bik`), with diagonals, broadcasting and an ellipsis.
//!
//! History: 12, 28 (bfloat16).

use super::accumulate::{Sink, Source, in_parts};
use super::case::{self, Case, Tolerance};
use super::product::{Batch, Matrix, Product};
use super::strides::Copy;
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, product, refuse, strides, types,
};
use crate::array::product::{Number, for_chunks};
use crate::array::{Numbers, strides as dense, unravel};
use crate::facts::{Fact, is_too_large};
use crate::kernels::contract::{Contract, groups};
use crate::kernels::expr::Scalar;
use crate::kernels::params;
use crate::plan::Lower;

/// The equation. A label is a letter, or [`ELLIPSIS`] for the axes that an ellipsis stands for.
#[derive(Clone, Debug)]
pub(crate) struct Einsum {
    terms: Vec<Vec<char>>,
    /// `None`: the ellipsis, and then the labels that occur once, in ASCII order.
    output: Option<Vec<char>>,
}

const ELLIPSIS: char = '.';

pub(crate) const ROWS: &[Row] = &[onnx("Einsum", 12, types![[T] -> T; T: NUMBERS BF16@28], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let Some(equation) = def.attributes.string("equation")? else {
        refuse!("attribute 'equation' is required")
    };
    let (inputs, output) = match equation.split_once("->") {
        Some((inputs, output)) => (inputs, Some(term(output)?)),
        None => (equation.as_str(), None),
    };
    let terms = inputs.split(',').map(term).collect::<Result<Vec<_>, Why>>()?;
    if terms.len() != def.inputs.len() {
        refuse!("equation '{equation}' has {} terms for {} inputs", terms.len(), def.inputs.len());
    }
    Ok(Einsum { terms, output }.into())
}

fn term(text: &str) -> Result<Vec<char>, Why> {
    let text: String = text.chars().filter(|c| *c != ' ').collect();
    let labels: Vec<char> = text.replacen("...", ".", 1).chars().collect();
    let dots = labels.iter().filter(|&&c| c == ELLIPSIS).count();
    if dots > 1 || labels.iter().any(|c| *c != ELLIPSIS && !c.is_ascii_alphabetic()) || text.contains("....")
    {
        refuse!("the term '{text}' has more than letters and one ellipsis");
    }
    if dots == 1 && !text.contains("...") {
        refuse!("the term '{text}' has dots that are no ellipsis");
    }
    Ok(labels)
}

/// An axis of the whole computation: a letter, or an axis of the ellipsis, counted from the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Letter(char),
    Ellipsis(usize),
}

/// The labels of a term, for a tensor of rank `rank`.
fn spelled(term: &[char], rank: usize) -> Result<Vec<Label>, Why> {
    let letters = term.iter().filter(|&&c| c != ELLIPSIS).count();
    let Some(hidden) = rank.checked_sub(letters) else { refuse!("{letters} labels stand for {rank} axes") };
    let has_dots = letters < term.len();
    if hidden > 0 && !has_dots {
        refuse!("{letters} labels stand for {rank} axes");
    }
    let mut labels = Vec::new();
    for &c in term {
        match c {
            ELLIPSIS => labels.extend((0..hidden).rev().map(Label::Ellipsis)),
            letter => labels.push(Label::Letter(letter)),
        }
    }
    Ok(labels)
}

/// The loops of an einsum. `bij,bjk->bik` has the outer axes `b`, `i`, `k` and the inner axis `j`.
#[derive(Clone, Debug)]
struct Loops {
    /// The axes of the result, outermost first.
    outer: Vec<LoopAxis>,
    /// The axes over which products are summed.
    inner: Vec<LoopAxis>,
}

/// One axis, with the step that it makes in each operand: `j` of `ij,jk->ik` makes a step of 1 in the first operand, and of
/// the number of columns in the second.
#[derive(Clone, Debug, PartialEq)]
struct LoopAxis {
    label: Label,
    size: usize,
    steps: Vec<usize>,
}

impl Loops {
    fn shape(&self) -> Vec<usize> {
        self.outer.iter().map(|axis| axis.size).collect()
    }
}

impl Einsum {
    fn loops(&self, shapes: &[&[usize]]) -> Result<Loops, Why> {
        let mut axes: Vec<LoopAxis> = Vec::new();
        let mut uses: Vec<usize> = Vec::new();
        for (operand, (term, shape)) in self.terms.iter().zip(shapes).enumerate() {
            for ((label, &size), stride) in
                spelled(term, shape.len())?.into_iter().zip(*shape).zip(dense(shape))
            {
                let at = axes.iter().position(|axis| axis.label == label).unwrap_or_else(|| {
                    axes.push(LoopAxis { label, size: 1, steps: vec![0; shapes.len()] });
                    uses.push(0);
                    axes.len() - 1
                });
                uses[at] += 1;
                let axis = &mut axes[at];
                if size != 1 && axis.size != 1 && axis.size != size {
                    refuse!("a label stands for axes of {} and of {size}", axis.size);
                }
                if size != 1 {
                    axis.size = size;
                    axis.steps[operand] += stride;
                }
            }
        }
        let order = self.order(&axes, &uses)?;
        let mut outer = Vec::new();
        for label in order {
            match axes.iter().position(|axis| axis.label == label) {
                Some(at) => outer.push(axes.remove(at)),
                None => refuse!("the result has a label twice, or one that no input has"),
            }
        }
        Ok(Loops { outer, inner: axes })
    }

    /// The result's labels.
    fn order(&self, axes: &[LoopAxis], uses: &[usize]) -> Result<Vec<Label>, Why> {
        let mut hidden: Vec<Label> =
            axes.iter().map(|axis| axis.label).filter(|label| matches!(label, Label::Ellipsis(_))).collect();
        hidden.sort();
        hidden.reverse();
        match &self.output {
            Some(term) => {
                let letters = term.iter().filter(|&&c| c != ELLIPSIS).count();
                let dots = if letters < term.len() { hidden.len() } else { 0 };
                spelled(term, letters + dots)
            }
            None => {
                let once = axes.iter().zip(uses).filter(|(_, uses)| **uses == 1).map(|(axis, _)| axis.label);
                let mut letters: Vec<Label> =
                    once.filter(|label| matches!(label, Label::Letter(_))).collect();
                letters.sort();
                Ok([hidden, letters].concat())
            }
        }
    }
}

/// The offset in each operand of the element with number `index` in the loops of `axes`.
fn offsets(axes: &[LoopAxis], index: usize, operands: usize) -> Vec<usize> {
    let sizes: Vec<usize> = axes.iter().map(|axis| axis.size).collect();
    let at = unravel(index, &sizes);
    let along = |operand: usize| axes.iter().zip(&at).map(|(axis, at)| axis.steps[operand] * at).sum();
    (0..operands).map(along).collect()
}

fn eval<T: Number>(loops: &Loops, operands: &[&[T]], one: T) -> Vec<T> {
    let size = |axes: &[LoopAxis]| product(axes.iter().map(|axis| axis.size));
    let terms = size(&loops.inner);
    let mut y = vec![T::default(); size(&loops.outer)];
    for_chunks(&mut y, 1, |i, y| {
        let mut places = offsets(&loops.outer, i, operands.len());
        let mut at = vec![0; loops.inner.len()];
        for _ in 0..terms {
            let values = operands.iter().zip(&places).map(|(x, place)| x[*place]);
            y[0] += values.fold(one, |product, value| product * value);
            advance(&loops.inner, &mut at, &mut places);
        }
    });
    y
}

/// Goes to the next coordinates `at` of the loops, and moves the places in the operands with them; from the last coordinates to
/// the first.
fn advance(axes: &[LoopAxis], at: &mut [usize], places: &mut [usize]) {
    for (axis, at) in axes.iter().zip(at).rev() {
        *at += 1;
        let last = *at == axis.size;
        for (place, step) in places.iter_mut().zip(&axis.steps) {
            *place = if last { *place - (axis.size - 1) * step } else { *place + step };
        }
        if !last {
            return;
        }
        *at = 0;
    }
}

impl Operator for Einsum {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let facts: Vec<&Fact> = inputs.iter().flatten().copied().collect();
        let Some(first) = facts.first() else { refuse!("input 0 is required") };
        if facts.len() != self.terms.len() || facts.iter().any(|fact| fact.dtype != first.dtype) {
            refuse!("the inputs are missing or have different dtypes");
        }
        let shapes: Vec<&[usize]> = facts.iter().map(|fact| fact.shape.as_slice()).collect();
        Ok(vec![Fact::new(first.dtype, self.loops(&shapes)?.shape())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let arrays: Vec<&Array> = inputs.iter().flatten().copied().collect();
        let shapes: Vec<&[usize]> = arrays.iter().map(|array| array.shape.as_slice()).collect();
        let loops = self.loops(&shapes)?;
        let Some(first) = arrays.first() else { refuse!("input 0 is required") };
        Ok(vec![match &first.data {
            Numbers::Int(_) => {
                let operands = arrays.iter().map(|array| array.ints()).collect::<Result<Vec<_>, Why>>()?;
                Array::int(first.dtype, &loops.shape(), eval(&loops, &operands, 1))
            }
            _ => {
                let operands = arrays.iter().map(|array| array.floats()).collect::<Result<Vec<_>, Why>>()?;
                Array::float(first.dtype, &loops.shape(), eval(&loops, &operands, 1.0))
            }
        }])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let shapes: Vec<&[usize]> = inputs.iter().flatten().map(|fact| fact.shape.as_slice()).collect();
        let sizes: Vec<usize> = self.loops(&shapes)?.axes().map(|axis| axis.size).collect();
        Ok(of_elements(inputs, outputs).steps(&[&sizes[..], &[shapes.len()]].concat()))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let shapes: Vec<&[usize]> = cx.facts().iter().flatten().map(|fact| fact.shape.as_slice()).collect();
        let Some(scalar) = cx.register(cx.out(0)?.dtype) else {
            refuse!("the device does not multiply {}", cx.out(0)?.dtype)
        };
        let mut loops = self.loops(&shapes)?;
        let mut sources: Vec<Source> = (0..shapes.len()).map(Source::Input).collect();
        // Operands are multiplied two at a time, and the product takes the place of the two.
        while sources.len() > 2 {
            let pair = loops.first_two();
            if is_too_large(&pair.shape()) {
                refuse!("the product of two operands, {:?}, has too many elements", pair.shape());
            }
            let product = cx.temporary(scalar, &pair.shape());
            pair.lower(cx, scalar, &sources[..2], Sink::Tensor(product))?;
            loops.replace_two(&pair);
            sources.splice(..2, [Source::Tensor(product)]);
        }
        loops.lower(cx, scalar, &sources, Sink::Sum)
    }
}

impl Loops {
    fn axes(&self) -> impl Iterator<Item = &LoopAxis> {
        self.outer.iter().chain(&self.inner)
    }

    /// The loops of the product of the first two operands, summed over the axes that nothing else needs.
    fn first_two(&self) -> Loops {
        let two = |axis: &LoopAxis| LoopAxis { steps: axis.steps[..2].to_vec(), ..axis.clone() };
        let used = |axis: &&LoopAxis| axis.steps[..2].iter().any(|&step| step != 0);
        let elsewhere = |axis: &&LoopAxis| axis.steps[2..].iter().any(|&step| step != 0);
        let kept = self.inner.iter().filter(used).filter(elsewhere);
        Loops {
            outer: self.outer.iter().filter(used).chain(kept).map(two).collect(),
            inner: self.inner.iter().filter(used).filter(|axis| !elsewhere(axis)).map(two).collect(),
        }
    }

    /// Replaces the first two operands by one, the result of `pair`.
    fn replace_two(&mut self, pair: &Loops) {
        self.inner.retain(|axis| !pair.inner.iter().any(|summed| summed.label == axis.label));
        let strides = dense(&pair.shape());
        for axis in self.outer.iter_mut().chain(&mut self.inner) {
            let at = pair.outer.iter().position(|own| own.label == axis.label);
            axis.steps.splice(..2, [at.map_or(0, |at| strides[at])]);
        }
    }

    fn lower<'a>(
        &self,
        cx: &mut Lower<'a>,
        scalar: Scalar,
        sources: &[Source],
        sink: Sink<'_, 'a>,
    ) -> Result<(), Why> {
        let &[left, right] = sources else { return self.contract(cx, scalar, sources, sink) };
        if self.axes().any(|axis| axis.size == 0) {
            return self.contract(cx, scalar, sources, sink);
        }
        let mut loops = self.clone();
        let mut sources = [left, right];
        for (operand, source) in sources.iter_mut().enumerate() {
            loops.sum_alone(cx, scalar, operand, source)?;
        }
        loops.product(cx, scalar, sources, sink)
    }

    /// Sums `operand` over the axes that no other operand has, before it is multiplied.
    fn sum_alone(
        &mut self,
        cx: &mut Lower,
        scalar: Scalar,
        operand: usize,
        source: &mut Source,
    ) -> Result<(), Why> {
        let own = |axis: &LoopAxis| LoopAxis { steps: vec![axis.steps[operand]], ..axis.clone() };
        let alone = |axis: &LoopAxis| axis.steps[1 - operand] == 0 && axis.steps[operand] != 0;
        if !self.inner.iter().any(alone) {
            return Ok(());
        }
        let kept = self.axes().filter(|axis| axis.steps[operand] != 0);
        let inner: Vec<LoopAxis> = self.inner.iter().filter(|axis| alone(axis)).map(own).collect();
        let outer = kept.map(own).filter(|axis| !inner.contains(axis)).collect();
        let sum = Loops { outer, inner };
        let to = cx.temporary(scalar, &sum.shape());
        sum.contract(cx, scalar, &[*source], Sink::Tensor(to))?;
        *source = Source::Tensor(to);
        self.inner.retain(|axis| !alone(axis));
        let strides = dense(&sum.shape());
        for axis in self.outer.iter_mut().chain(&mut self.inner) {
            if let Some(at) = sum.outer.iter().position(|own| own.label == axis.label) {
                axis.steps[operand] = strides[at];
            }
        }
        Ok(())
    }

    /// The product of two operands that both have every axis that is summed over, as a batch of matrix products.
    fn product<'a>(
        &self,
        cx: &mut Lower<'a>,
        scalar: Scalar,
        mut sources: [Source; 2],
        sink: Sink<'_, 'a>,
    ) -> Result<(), Why> {
        let has = |a: bool, b: bool| {
            let fits = move |axis: &&LoopAxis| (axis.steps[0] != 0, axis.steps[1] != 0) == (a, b);
            self.outer.iter().filter(fits).cloned().collect::<Vec<LoopAxis>>()
        };
        let (mut batch, mut rows, mut columns) = (has(true, true), has(true, false), has(false, true));
        let mut inner: Vec<LoopAxis> = self.inner.iter().filter(|axis| axis.size != 1).cloned().collect();
        // The axes that only the right operand has may come first in the result.
        let order: Vec<Label> =
            self.outer.iter().filter(|axis| axis.size != 1).map(|axis| axis.label).collect();
        let swapped: Vec<Label> =
            [&batch, &columns, &rows].into_iter().flatten().map(|axis| axis.label).collect();
        if order == swapped && !rows.is_empty() {
            sources.reverse();
            (rows, columns) = (columns, rows);
            for axis in [&mut batch, &mut rows, &mut columns, &mut inner].into_iter().flatten() {
                axis.steps.reverse();
            }
        }
        let straight: Vec<Label> =
            [&batch, &rows, &columns].into_iter().flatten().map(|axis| axis.label).collect();
        inner.sort_by_key(|axis| std::cmp::Reverse(axis.steps[0]));
        for (operand, own) in [(0, &mut rows), (1, &mut columns)] {
            let parts = [own.as_slice(), &inner];
            if parts.iter().any(|axes| step(axes, operand).is_none()) {
                sources[operand] = lay_out(cx, operand, sources[operand], [&mut batch, own, &mut inner])?;
            }
        }
        let size = |axes: &[LoopAxis]| product(axes.iter().map(|axis| axis.size));
        let matrix = |operand: usize, rows: &[LoopAxis], columns: &[LoopAxis]| Matrix {
            source: sources[operand],
            row: step(rows, operand).unwrap_or(1),
            column: step(columns, operand).unwrap_or(1),
        };
        let product = Product {
            m: size(&rows),
            n: size(&columns),
            k: size(&inner),
            batch: batch
                .iter()
                .map(|axis| Batch { size: axis.size, a: axis.steps[0], b: axis.steps[1] })
                .collect(),
            a: matrix(0, &rows, &inner),
            b: matrix(1, &inner, &columns),
        };
        if straight == order {
            return product.lower(cx, scalar, sink);
        }
        // The product in its own order, which a copy then brings into the order of the result.
        let natural: Vec<LoopAxis> = [batch, rows, columns].concat();
        let shape: Vec<usize> = natural.iter().map(|axis| axis.size).collect();
        let to = cx.temporary(scalar, &shape);
        product.lower(cx, scalar, Sink::Tensor(to))?;
        let strides = dense(&shape);
        let placed = |axis: &LoopAxis| {
            let at = natural.iter().position(|own| own.label == axis.label);
            LoopAxis { steps: vec![at.map_or(0, |at| strides[at])], ..axis.clone() }
        };
        let copy = Loops { outer: self.outer.iter().map(placed).collect(), inner: vec![] };
        copy.contract(cx, scalar, &[Source::Tensor(to)], sink)
    }

    /// The kernel that walks through any loops.
    fn contract<'a>(
        &self,
        cx: &mut Lower<'a>,
        scalar: Scalar,
        sources: &[Source],
        sink: Sink<'_, 'a>,
    ) -> Result<(), Why> {
        let (outer, inner) = (merged(&self.outer), merged(&self.inner));
        let size = |axes: &[LoopAxis]| product(axes.iter().map(|axis| axis.size));
        let (count, terms) = (size(&self.outer), size(&self.inner));
        let mut tensors = Vec::new();
        for source in sources {
            tensors.push(source.tensor(cx)?);
        }
        let axes: Vec<usize> = outer
            .iter()
            .chain(&inner)
            .flat_map(|axis| [axis.size].into_iter().chain(axis.steps.clone()))
            .collect();
        let limit = cx.target.max_iterations as usize;
        in_parts(cx, (terms, limit), (1, count), scalar, sink, |cx, (first, last), epilogue, output| {
            let fixed = [count, first, last].into_iter().chain(axes.iter().copied());
            let params = params(fixed, epilogue.params)?;
            let tensors = tensors.iter().copied().chain(epilogue.tensors).chain([output]).collect();
            let kernel = Contract {
                scalar,
                operands: sources.len(),
                outer: outer.len(),
                inner: inner.len(),
                wide: cx.is_wide(0),
                epilogue: epilogue.fused,
            };
            cx.call(kernel, tensors, params, groups(count));
            Ok(())
        })
    }
}

/// The step with which `operand` walks through all of `axes`, if one step is enough.
fn step(axes: &[LoopAxis], operand: usize) -> Option<usize> {
    let merged: Vec<&LoopAxis> = axes.iter().filter(|axis| axis.size != 1).collect();
    let follows = |pair: &[&LoopAxis]| pair[0].steps[operand] == pair[1].steps[operand] * pair[1].size;
    merged.windows(2).all(follows).then(|| merged.last().map_or(1, |axis| axis.steps[operand]))
}

/// The axes without those of size 1, with neighbours merged where all operands allow it.
fn merged(axes: &[LoopAxis]) -> Vec<LoopAxis> {
    let mut merged: Vec<LoopAxis> = Vec::new();
    for axis in axes.iter().filter(|axis| axis.size != 1) {
        let follows =
            |outer: &LoopAxis| outer.steps.iter().zip(&axis.steps).all(|(a, b)| *a == b * axis.size);
        match merged.last_mut() {
            Some(outer) if follows(outer) => {
                *outer = LoopAxis { size: outer.size * axis.size, ..axis.clone() }
            }
            _ => merged.push(axis.clone()),
        }
    }
    merged
}

/// Copies an operand into the order of `groups` of axes, whose steps become those in the copy.
fn lay_out(
    cx: &mut Lower,
    operand: usize,
    source: Source,
    groups: [&mut Vec<LoopAxis>; 3],
) -> Result<Source, Why> {
    let mut axes: Vec<&mut LoopAxis> =
        groups.into_iter().flatten().filter(|axis| axis.steps[operand] != 0).collect();
    let shape: Vec<usize> = axes.iter().map(|axis| axis.size).collect();
    let dims: Vec<(usize, i64)> = axes.iter().map(|axis| (axis.size, axis.steps[operand] as i64)).collect();
    let from = source.tensor(cx)?;
    let to = cx.temporary_like(from, &shape);
    strides::copy(cx, Copy { number: operand, from, to, base: 0, dims: &dims });
    for (axis, stride) in axes.iter_mut().zip(dense(&shape)) {
        axis.steps[operand] = stride;
    }
    Ok(Source::Tensor(to))
}

fn cases() -> Vec<Case> {
    let new = |equation: &str, shapes: &[&[usize]]| {
        let case = Case::new("Einsum", &equation.replace(' ', "")).tolerance(Tolerance::ACCUMULATION);
        shapes.iter().fold(case.string("equation", equation), |case, shape| case.input(case::random(shape)))
    };
    let ints = |equation: &str, shapes: &[&[usize]], dtype: DType| {
        let case = Case::new("Einsum", &format!("{equation}/{dtype}")).tolerance(Tolerance::EXACT);
        let whole = |shape: &[usize]| case::converted(&case::integers(shape, 0, 5), dtype);
        shapes.iter().fold(case.string("equation", equation), |case, shape| case.input(whole(shape)))
    };
    vec![
        new("ij->ji", &[&[3, 5]]),
        new("ij->i", &[&[3, 5]]),
        new("ij->", &[&[3, 5]]),
        new("->", &[&[]]),
        new("ii->i", &[&[4, 4]]),
        new("ii", &[&[4, 4]]),
        new("...ii->...i", &[&[2, 3, 4, 4]]),
        new("i,i", &[&[70], &[70]]),
        new("i,j->ij", &[&[9], &[40]]),
        new("ij,jk", &[&[9, 12], &[12, 40]]),
        new("ij,jk->ki", &[&[9, 12], &[12, 40]]),
        new("bij, bjk -> bik", &[&[2, 9, 12], &[2, 12, 20]]),
        new("bhqd,bhkd->bhqk", &[&[2, 3, 9, 8], &[2, 3, 10, 8]]),
        new("bqhd,bkhd->bhqk", &[&[2, 9, 3, 8], &[2, 10, 3, 8]]),
        new("bhqk,bkhd->bqhd", &[&[2, 3, 9, 10], &[2, 10, 3, 8]]),
        new("bij,k->bk", &[&[2, 3, 4], &[5]]),
        new("ijk,kl,lm->ijm", &[&[2, 3, 4], &[4, 5], &[5, 6]]),
        new("a,b,c,d->dcba", &[&[2], &[3], &[4], &[5]]),
        new("ab,ab,ab->a", &[&[3, 4], &[3, 4], &[3, 4]]),
        new("...ij,...jk->...ik", &[&[2, 1, 3, 4], &[5, 4, 6]]),
        new("...i,i", &[&[2, 3, 4], &[4]]),
        new("iij,jk->ik", &[&[3, 3, 4], &[4, 5]]),
        new("ijkl,jmln->imkn", &[&[2, 3, 4, 5], &[3, 6, 5, 2]]),
        new("ij,j->i", &[&[30, 1], &[40]]),
        new("ij,jk->ik", &[&[0, 3], &[3, 2]]),
        new("ijk,jk->i", &[&[3, 0, 2], &[0, 2]]),
        new("i->", &[&[70_001]]).tolerance(Tolerance { relative: 1e-3, absolute: 2e-2 }),
        ints("ij,jk->ik", &[&[3, 4], &[4, 5]], DType::I32),
        ints("ij,jk->ik", &[&[3, 4], &[4, 5]], DType::I64),
        ints("ij,jk->ik", &[&[3, 4], &[4, 5]], DType::U8),
        ints("ij,jk->ik", &[&[3, 4], &[4, 5]], DType::F16),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_checked() {
        assert!(term("i...j").is_ok());
        for bad in ["i.j", "i..", "....", "......", "i1", "...i..."] {
            assert!(term(bad).is_err(), "{bad}");
        }
        let einsum = |terms: &[&str], output: Option<&str>| Einsum {
            terms: terms.iter().map(|text| term(text).unwrap()).collect(),
            output: output.map(|text| term(text).unwrap()),
        };
        let shape = |e: Einsum, shapes: &[&[usize]]| e.loops(shapes).map(|loops| loops.shape());
        assert_eq!(shape(einsum(&["ba", "...a"], None), &[&[2, 3], &[5, 3]]), Ok(vec![5, 2]));
        assert!(shape(einsum(&["ij"], Some("k")), &[&[2, 3]]).is_err());
        assert!(shape(einsum(&["ij"], Some("ii")), &[&[2, 3]]).is_err());
        assert!(shape(einsum(&["ij"], Some("i")), &[&[2, 3, 4]]).is_err());
        assert!(shape(einsum(&["ij", "jk"], Some("ik")), &[&[2, 3], &[4, 5]]).is_err());
    }
}

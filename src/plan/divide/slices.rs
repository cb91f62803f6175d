//! Ranges of values, and values made up of ranges.

use super::{Divided, Divider, Undivided, ValueParts, ValueRange};
use crate::facts::Fact;
use crate::graph::ValueId;
use crate::ops::axes::axis;
use crate::ops::division::{inner, is_outermost};
use crate::ops::{Attr, Attributes, NEWEST_OPSET, Node, Op};
use crate::{DType, Result, Tensor, heap};

impl Divider<'_> {
    /// Makes sure that a node makes the value.
    pub(super) fn whole(&mut self, id: ValueId) -> Divided<()> {
        let Some(parts) = self.parts.get_mut(&id).filter(|parts| !parts.joined) else { return Ok(()) };
        parts.joined = true;
        let (axis, ids): (usize, Vec<ValueId>) =
            (parts.axis, parts.parts.iter().map(|part| part.1).collect());
        ids.iter().try_for_each(|id| self.whole(*id))?;
        let name = self.graph.value(id).name.clone();
        let join = concat(name, axis, ids, id)?;
        self.nodes.push((join, self.origin));
        Ok(())
    }

    /// The value that is this range of another, for an operator that packs it: of a constant, no elements are copied.
    pub(super) fn view(&mut self, node: &Node, range: ValueRange) -> Divided<ValueId> {
        let constant = self.graph.value(range.of).constant.as_ref();
        let whole = constant.is_none_or(|constant| constant.shape().get(range.axis) == Some(&range.end));
        if constant.is_none() || whole && range.begin == 0 || self.slices.contains_key(&range) {
            return self.slice(node, range);
        }
        self.ranged(node, range, false)
    }

    /// The value that is this range of another.
    pub(super) fn slice(&mut self, node: &Node, range: ValueRange) -> Divided<ValueId> {
        let ValueRange { of, axis, begin, end } = range;
        let Some(shape) = self.fact(of).map(|fact| fact.shape.clone()) else {
            return Err(Undivided::Node("an input is never computed".into()));
        };
        if (begin, end) == (0, shape[axis]) {
            return Ok(of);
        }
        if let Some(known) = self.slices.get(&range) {
            return Ok(*known);
        }
        let computed = self.graph.value(of).constant.is_none();
        if computed && !self.parts.contains_key(&of) && self.is_large(of) && !is_outermost(&shape, axis) {
            self.cut(node, of)?;
        }
        let slice = match self.parts.get(&of) {
            Some(parts) if parts.axis == axis => {
                let mut start = 0;
                let mut pieces = Vec::new();
                for &(stop, part) in &parts.parts {
                    if start < end && begin < stop {
                        pieces.push(ValueRange {
                            of: part,
                            axis,
                            begin: begin.max(start) - start,
                            end: end.min(stop) - start,
                        });
                    }
                    start = stop;
                }
                self.pieces(node, range, axis, pieces)?
            }
            Some(parts) if self.is_large(of) => {
                let (along, ids) = (parts.axis, parts.parts.iter().map(|part| part.1));
                let pieces = ids.map(|part| ValueRange { of: part, ..range }).collect();
                self.pieces(node, range, along, pieces)?
            }
            _ => self.ranged(node, range, true)?,
        };
        self.slices.insert(range, slice);
        Ok(slice)
    }

    /// The value that these ranges make up, one after the other.
    fn pieces(
        &mut self,
        node: &Node,
        range: ValueRange,
        axis: usize,
        pieces: Vec<ValueRange>,
    ) -> Divided<ValueId> {
        let mut ids = Vec::with_capacity(pieces.len());
        for piece in pieces {
            ids.push(self.slice(node, piece)?);
        }
        if let [only] = ids[..] {
            return Ok(only);
        }
        ids.iter().try_for_each(|id| self.whole(*id))?;
        let whole = self.value_like(range.of, range.axis, (range.begin, range.end));
        self.nodes.push((concat(node.name.clone(), axis, ids, whole)?, self.origin));
        Ok(whole)
    }

    /// A range of a value that lies in one piece. `copies`: whether ranges of constants that lie apart are copied.
    fn ranged(&mut self, node: &Node, range: ValueRange, copies: bool) -> Divided<ValueId> {
        let ValueRange { of, axis, begin, end } = range;
        let slice = self.value_like(of, axis, (begin, end));
        let constant = self.graph.value(of).constant.as_ref();
        if let Some(part) = constant.and_then(|constant| part_of(constant, range, copies)) {
            self.graph.set_constant(slice, part?);
            return Ok(slice);
        }
        self.whole(of)?;
        let lists = [[begin], [end], [axis]].map(|list| self.list(&[list[0] as i64]));
        let [starts, ends, axes] = lists;
        let inputs = vec![of, starts?, ends?, axes?];
        let node = self.made(node, "Slice", inputs, Attributes::default(), slice)?;
        self.nodes.push((node, self.origin));
        Ok(slice)
    }

    /// Cuts a large value into ranges of its outermost axis, so that others can be taken of these.
    fn cut(&mut self, node: &Node, id: ValueId) -> Divided<()> {
        let Some(fact) = self.fact(id) else { return Ok(()) };
        let Some(axis) = fact.shape.iter().position(|&size| size > 1) else { return Ok(()) };
        let (size, inner) = (fact.shape[axis], inner(&fact.shape, axis) as u64 * self.bits(id));
        let fit = usize::try_from(self.target.max_binding * 8 / inner.max(1)).unwrap_or(usize::MAX);
        let granule = self.granule(inner).unwrap_or(usize::MAX);
        let most = fit - fit % granule;
        if most == 0 {
            return Ok(());
        }
        let mut parts = Vec::new();
        for begin in (0..size).step_by(most) {
            let end = (begin + most).min(size);
            parts.push((end, self.slice(node, ValueRange { of: id, axis, begin, end })?));
        }
        // The value itself is made by what made it before.
        self.parts.insert(id, ValueParts { axis, parts, joined: true });
        Ok(())
    }

    /// The value `id` is another one.
    pub(super) fn is_other(&mut self, id: ValueId, other: ValueId) {
        let end = self.fact(id).and_then(|fact| fact.shape.first().copied()).unwrap_or(0);
        self.parts.insert(id, ValueParts { axis: 0, parts: vec![(end, other)], joined: false });
    }

    /// A Concat makes no value: its inputs are the parts.
    pub(super) fn joined(&mut self, node: Node) -> Divided<bool> {
        let (inputs, &[Some(output)]) =
            (node.inputs.iter().flatten().copied().collect::<Vec<_>>(), &node.outputs[..])
        else {
            self.add_whole(node)?;
            return Ok(false);
        };
        let Op::Concat(concat) = &*node.op else { return Ok(false) };
        let Some(rank) = self.fact(output).map(Fact::rank) else { return Ok(false) };
        let axis = axis(concat.axis(), rank)?;
        let mut end = 0;
        let parts = inputs.iter().map(|id| {
            end += self.fact(*id).map_or(0, |fact| fact.shape[axis]);
            (end, *id)
        });
        let parts = ValueParts { axis, parts: parts.collect(), joined: false };
        self.parts.insert(output, parts);
        Ok(true)
    }

    /// Whether the outputs of a Concat are its inputs, one after the other in memory.
    pub(super) fn is_joined_in_order(&self, node: &Node) -> bool {
        let output = node.outputs.first().copied().flatten().and_then(|id| self.fact(id));
        output.is_some_and(|fact| {
            let Op::Concat(concat) = &*node.op else { return false };
            axis(concat.axis(), fact.rank()).is_ok_and(|axis| is_outermost(&fact.shape, axis))
        })
    }

    /// A Slice without steps: ranges along some axes.
    pub(super) fn sliced(&mut self, node: &Node, ranges: &[(usize, usize)]) -> Divided<bool> {
        let (Some(&Some(x)), &[Some(output)]) = (node.inputs.first(), &node.outputs[..]) else {
            return Err(Undivided::Node("input 0 is required".into()));
        };
        let mut slice = x;
        for (axis, &(begin, end)) in ranges.iter().enumerate() {
            slice = self.slice(node, ValueRange { of: slice, axis, begin, end })?;
        }
        self.is_other(output, slice);
        Ok(true)
    }

    pub(super) fn split(&mut self, node: &Node) -> Divided<bool> {
        let Some(&Some(x)) = node.inputs.first() else {
            return Err(Undivided::Node("input 0 is required".into()));
        };
        let Some(shape) = self.fact(x).map(|fact| fact.shape.clone()) else { return Ok(false) };
        let inputs: Vec<Option<&Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| self.fact(id))).collect();
        let pieces = node.op.operator().infer(&inputs)?;
        // Of an axis with one piece, the piece is all.
        let axis = (0..shape.len()).find(|&axis| pieces.iter().any(|piece| piece.shape[axis] != shape[axis]));
        let axis = axis.unwrap_or(0);
        let mut begin = 0;
        for (output, piece) in node.outputs.iter().zip(&pieces) {
            let end = begin + piece.shape[axis];
            if let Some(output) = output {
                let slice = self.slice(node, ValueRange { of: x, axis, begin, end })?;
                self.is_other(*output, slice);
            }
            begin = end;
        }
        Ok(true)
    }
}

/// A range of a constant: in the same memory, or as a copy if `copies` allows that. `None` where elements are no whole bytes.
fn part_of(
    constant: &Tensor,
    ValueRange { axis, begin, end, .. }: ValueRange,
    copies: bool,
) -> Option<Result<Tensor>> {
    let bits = inner(constant.shape(), axis).checked_mul(constant.dtype().bits())?;
    if constant.dtype() == DType::String || bits % 8 != 0 {
        return None;
    }
    let mut shape = constant.shape().to_vec();
    let step = bits / 8;
    let line = shape[axis] * step;
    shape[axis] = end - begin;
    let range = begin * step..end * step;
    if is_outermost(constant.shape(), axis) {
        return Some(constant.part(range, &shape));
    }
    copies.then(|| {
        constant.check_file()?;
        let lines = constant.bytes().chunks_exact(line.max(1));
        let mut bytes = heap::reserved("a part of a constant", lines.len() * range.len())?;
        lines.for_each(|line| bytes.extend_from_slice(&line[range.clone()]));
        Tensor::from_raw(constant.dtype(), &shape, bytes)
    })
}

fn concat(name: String, axis: usize, inputs: Vec<ValueId>, output: ValueId) -> Divided<Node> {
    let names = (name, "Concat".to_string(), NEWEST_OPSET);
    let attributes = [("axis", Attr::Int(axis as i64))].into_iter().collect();
    let inputs = inputs.into_iter().map(Some).collect();
    Ok(Node::parse(names, attributes, inputs, (vec![Some(output)], &[true]))?)
}

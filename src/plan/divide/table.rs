//! Gather from a table that is larger than a binding.

use super::{Divided, Divider, Undivided, ValueRange};
use crate::error::Why;
use crate::graph::ValueId;
use crate::ops::axes::axis;
use crate::ops::division::{inner, is_outermost};
use crate::ops::{Attr, Attributes, Node, Op};
use crate::{DType, Tensor, heap};

impl Divider<'_> {
    pub(super) fn reads_large_table(&self, node: &Node) -> bool {
        node.inputs.first().copied().flatten().is_some_and(|id| self.is_large(id))
    }

    /// A Gather looks into one range of its table after the other.
    pub(super) fn looked_up(&mut self, node: &Node) -> Divided<bool> {
        let (&[Some(table), Some(indices)], &[Some(output)], Op::Gather(gather)) =
            (&node.inputs[..], &node.outputs[..], &*node.op)
        else {
            return Err(Undivided::Node("an input is missing".into()));
        };
        let (Some(of_table), Some(of_indices)) = (self.fact(table).cloned(), self.fact(indices).cloned())
        else {
            return Err(Undivided::Node("an input is never computed".into()));
        };
        let axis = axis(gather.axis(), of_table.rank())?;
        let (size, unit) = (of_table.shape[axis], inner(&of_table.shape, axis) as u64 * self.bits(table));
        let fit = usize::try_from(self.target.max_binding * 8 / unit.max(1)).unwrap_or(usize::MAX);
        let granule = self.granule(unit).unwrap_or(usize::MAX);
        let most = fit - fit % granule;
        let numbered = (size as u64) * size_of::<i32>() as u64 <= self.target.max_binding;
        if most == 0 || !numbered || !is_outermost(&of_table.shape, axis) {
            self.add_whole(node.clone())?;
            return Ok(false);
        }
        // The places as a table of their own make indices outside of the axis known, and count negative ones from the end.
        let mut numbers = heap::reserved("the numbers of a table's rows", size).map_err(Why::from)?;
        numbers.extend(0..size as i32);
        let numbers = self.constant(Tensor::from_vec(&[size], numbers)?);
        let places = self.typed(node, DType::I32, &of_indices.shape);
        let look = self.made(node, "Gather", vec![numbers, indices], Attributes::default(), places)?;
        self.node(look)?;
        let after = of_table.rank() - axis - 1;
        let columns: Vec<usize> = of_indices.shape.iter().copied().chain(vec![1; after]).collect();
        let mut result: Option<ValueId> = None;
        for begin in (0..size).step_by(most) {
            let end = (begin + most).min(size);
            let part = self.slice(node, ValueRange { of: table, axis, begin, end })?;
            let [first, last] = [begin, end - 1].map(|place| self.scalar(place as i32));
            let (first, last) = (first?, last?);
            let (low, high) = (
                self.typed(node, DType::I32, &of_indices.shape),
                self.typed(node, DType::I32, &of_indices.shape),
            );
            let local = self.typed(node, DType::I32, &of_indices.shape);
            let rows = self.another(output);
            let plain = Attributes::default;
            let mut steps = vec![
                self.made(node, "Max", vec![places, first], plain(), low)?,
                self.made(node, "Min", vec![low, last], plain(), high)?,
                self.made(node, "Sub", vec![high, first], plain(), local)?,
            ];
            let axis_of = [("axis", Attr::Int(axis as i64))].into_iter().collect();
            steps.push(self.made(node, "Gather", vec![part, local], axis_of, rows)?);
            result = Some(match result {
                None => rows,
                Some(before) => {
                    let is_here = self.typed(node, DType::Bool, &of_indices.shape);
                    let column = self.typed(node, DType::Bool, &columns);
                    let sizes = self.sizes_of(column)?;
                    steps.push(self.made(node, "GreaterOrEqual", vec![places, first], plain(), is_here)?);
                    steps.push(self.made(node, "Reshape", vec![is_here, sizes], plain(), column)?);
                    let chosen = if end == size { output } else { self.another(output) };
                    steps.push(self.made(node, "Where", vec![column, rows, before], plain(), chosen)?);
                    chosen
                }
            });
            for step in steps {
                self.node(step)?;
            }
        }
        Ok(true)
    }
}

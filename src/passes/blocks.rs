//! A product with weights that share scales in blocks along the sum becomes a MatMulNBits: `MatMul(x, DequantizeLinear(w))`, where
//! each column of `w` has a scale for every 32 rows. Its kernel takes the weights out of their bits as it reads them.
//!
//! Of a table in blocks, whose rows a Gather picks, only these rows become floats: `Gather(DequantizeLinear(w, scale), rows)` is
//! `DequantizeLinear(Gather(w, rows), Gather(scale, rows))`.
//!
//! Folded, the DequantizeLinear would make float32 of all numbers.

use super::fold::FEW;
use super::pattern::Pattern;
use super::scales::is_narrow;
use super::spelled::{Spelled, replace};
use crate::array::Array;
use crate::budget::{Budget, Work};
use crate::error::{Why, refuse};
use crate::facts::node_error;
use crate::graph::ValueId;
use crate::ops::{Attr, Attributes, Graph, Node, Op, axes};
use crate::{DType, Result, Tensor, heap};

pub(super) fn run(graph: &mut Graph, budget: &Budget) -> Result<bool> {
    let pattern = Pattern::of(graph);
    let mut found = Vec::new();
    for (n, node) in graph.nodes.iter().enumerate() {
        if let Some(rows) = BlockedRows::of(&pattern, node) {
            found.push((n, BlockedReader::Rows(rows)));
        }
        let Some(weights) = BlockedWeights::of(&pattern, node) else { continue };
        match budget.charge(weights.work(), weights.numbers.bytes().len() as u64) {
            Ok(()) => found.push((n, BlockedReader::Product(weights))),
            Err(Why::Refused(_)) => {}
            Err(none) => return Err(node_error(node, &[], none)),
        }
    }
    replace(graph, found, |reader, graph, node| match reader {
        BlockedReader::Product(weights) => weights.nodes(graph, node).map(Some),
        BlockedReader::Rows(rows) => rows.nodes(graph, node).map(Some),
    })
}

/// What reads numbers that share scales in blocks.
enum BlockedReader {
    Product(BlockedWeights),
    Rows(BlockedRows),
}

/// A Gather along `along` of a table in blocks along another axis.
struct BlockedRows {
    /// The axis of the blocks in the Gather's result, from its end where the rank of the indices moves it.
    axis: i64,
    block: usize,
    result: DType,
    along: usize,
    /// The constants: the numbers, and an element of each block.
    table: Vec<ValueId>,
    rows: ValueId,
}

impl BlockedRows {
    /// The Gather that `node` is.
    fn of(pattern: &Pattern, node: &Node) -> Option<BlockedRows> {
        let Op::Gather(gather) = &*node.op else { return None };
        let constant = |id: ValueId| pattern.graph.value(id).constant.as_ref();
        // Indices that are constants would make a constant.
        let rows = node.inputs.get(1).copied().flatten().filter(|&rows| constant(rows).is_none())?;
        let (_, maker) = pattern.maker(node.inputs.first().copied().flatten()?)?;
        let Op::Dequantize(op) = &*maker.op else { return None };
        let block = op.granularity().block()?;
        let table: Vec<ValueId> = maker.inputs.iter().flatten().copied().collect();
        let tensors = table.iter().map(|&id| constant(id)).collect::<Option<Vec<_>>>()?;
        let (numbers, scales) = (*tensors.first()?, *tensors.get(1)?);
        let rank = numbers.shape().len();
        let floats = matches!(scales.dtype(), DType::F32 | DType::F16 | DType::BF16);
        let shaped = tensors.iter().all(|tensor| tensor.shape().len() == rank);
        if numbers.len() <= FEW || !is_narrow(numbers) || !floats || !shaped {
            return None;
        }
        let along = axes::axis(gather.axis(), rank).ok()?;
        let blocked = axes::axis(op.granularity().vector_axis(), rank).ok().filter(|&axis| axis != along)?;
        let axis = if blocked < along { blocked as i64 } else { blocked as i64 - rank as i64 };
        let result = op.result(scales.dtype());
        Some(BlockedRows { axis, block, result, along, table, rows })
    }

    /// The nodes that take the place of `node`.
    fn nodes(&self, graph: &mut Graph, node: &Node) -> Result<Vec<Node>, Why> {
        let [Some(output)] = node.outputs[..] else { refuse!("it has several results") };
        let mut spelled = Spelled::new(graph, output);
        let mut picked = Vec::new();
        for &id in &self.table {
            let along = [("axis", Attr::Int(self.along as i64))].into_iter().collect();
            picked.push(Some(spelled.node("sardonyx.Gather", along, vec![Some(id), Some(self.rows)])?));
        }
        let sizes = [
            ("axis", self.axis),
            ("block_size", self.block as i64),
            ("output_dtype", self.result.onnx().into()),
        ];
        let attributes = sizes.into_iter().map(|(name, size)| (name, Attr::Int(size))).collect();
        spelled.node("DequantizeLinear", attributes, picked)?;
        Ok(spelled.nodes_for(node, output))
    }
}

/// The right operand of a product: `[terms, columns]`, or `[columns, terms]` if it is transposed.
struct BlockedWeights {
    /// float32 or float16.
    result: DType,
    numbers: Tensor,
    /// One for each block of each column, in the order of the numbers.
    scales: Tensor,
    zeros: Option<Tensor>,
    transposed: bool,
    columns: usize,
    terms: usize,
    /// The terms that share a scale.
    block: usize,
}

impl BlockedWeights {
    /// The weights of the product that `node` is.
    fn of(pattern: &Pattern, node: &Node) -> Option<BlockedWeights> {
        let mut transposed = match &*node.op {
            Op::MatMul(_) => false,
            Op::Gemm(op) => op.plain_product()?,
            _ => return None,
        };
        let constant = |id: ValueId| pattern.graph.value(id).constant.clone();
        if node.inputs.first().copied().flatten().is_none_or(|x| constant(x).is_some()) {
            return None;
        }
        let (_, mut maker) = pattern.maker(node.inputs.get(1).copied().flatten()?)?;
        if let Op::Transpose(op) = &*maker.op {
            transposed ^= op.fixed_perm()? == [1, 0];
            (_, maker) = pattern.maker(maker.inputs.first().copied().flatten()?)?;
        }
        let Op::Dequantize(op) = &*maker.op else { return None };
        let input = |i: usize| maker.inputs.get(i).copied().flatten();
        let numbers = constant(input(0)?).filter(|numbers| numbers.len() > FEW)?;
        let scales = constant(input(1)?)?;
        let zeros = match input(2) {
            Some(id) => Some(constant(id)?),
            None => None,
        };
        let &[rows, width] = numbers.shape() else { return None };
        let (terms, columns) = if transposed { (width, rows) } else { (rows, width) };
        let (axis, block) = (op.granularity().vector_axis(), op.granularity().block()?);
        let blocks = terms.div_ceil(block);
        let shape = if transposed { [columns, blocks] } else { [blocks, columns] };
        let fits = |tensor: &Tensor| tensor.shape() == shape && tensor.check_file().is_ok();
        let all = std::iter::once(&scales).chain(&zeros).all(fits) && numbers.check_file().is_ok();
        let narrow = match numbers.dtype() {
            DType::I8 | DType::U8 | DType::I4 | DType::U4 | DType::I2 | DType::U2 => {
                zeros.as_ref().is_none_or(|zeros| zeros.dtype() == numbers.dtype())
            }
            DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ | DType::F4E2M1 => {
                zeros.is_none()
            }
            _ => false,
        };
        let result = op.result(scales.dtype());
        let single = matches!(result, DType::F32 | DType::F16);
        let along = axis == i64::from(transposed) || axis == i64::from(transposed) - 2;
        // MatMulNBits takes blocks of at least 16.
        (single && all && narrow && along && block >= 16).then_some(BlockedWeights {
            result,
            numbers,
            scales,
            zeros,
            transposed,
            columns,
            terms,
            block,
        })
    }

    fn blocks(&self) -> usize {
        self.terms.div_ceil(self.block)
    }

    fn bits(&self) -> usize {
        self.numbers.dtype().bits()
    }

    fn work(&self) -> Work {
        Work::default().steps(&[self.columns, self.blocks() * self.block])
    }

    /// For each column its numbers, `count` of them, in bytes of their own. Signed numbers are moved by half their range.
    fn columns(&self, tensor: &Tensor, count: usize) -> Result<Vec<u8>, Why> {
        let (bits, bytes) = (self.bits(), tensor.bytes());
        let (in_byte, mask) = (8 / bits, u8::MAX >> (8 - bits));
        let moved = if tensor.dtype().is_signed_int() { 1 << (bits - 1) } else { 0 };
        let row = count.div_ceil(in_byte);
        let mut columns = heap::reserved("weights of few bits", self.columns * row)?;
        for column in 0..self.columns {
            for first in (0..row).map(|byte| byte * in_byte) {
                let number = |i: usize| {
                    let at = if self.transposed { column * count + i } else { i * self.columns + column };
                    (bytes[at / in_byte] >> (at % in_byte * bits) & mask) ^ moved
                };
                let within = (first..count.min(first + in_byte)).enumerate();
                columns.push(within.fold(0, |byte, (place, i)| byte | number(i) << (place * bits)));
            }
        }
        Ok(columns)
    }

    /// The nodes that take the place of `node`.
    fn nodes(&self, graph: &mut Graph, node: &Node) -> Result<Vec<Node>, Why> {
        let [Some(output)] = node.outputs[..] else { refuse!("it has several results") };
        let (columns, blocks, bits) = (self.columns, self.blocks(), self.bits());
        let mut numbers = self.columns(&self.numbers, self.terms)?;
        let (full, row) = (blocks * self.block * bits / 8, (self.terms * bits).div_ceil(8));
        if full > row {
            // The last block of a column is filled up.
            let mut filled = heap::reserved("weights of few bits", columns * full)?;
            for column in numbers.chunks(row) {
                filled.extend_from_slice(column);
                filled.resize(filled.len() + full - row, 0);
            }
            numbers = filled;
        }
        let mut scales = heap::reserved("scales", columns * blocks)?;
        let given = Array::from_tensor(&self.scales)?.to_f64()?;
        scales.extend((0..columns * blocks).map(|i| match self.transposed {
            true => given[i],
            false => given[i % blocks * columns + i / blocks],
        }));
        let zeros = match &self.zeros {
            Some(zeros) => Some(self.columns(zeros, blocks)?),
            None if self.numbers.dtype().is_signed_int() || self.numbers.dtype().is_float() => None,
            None => Some(vec![0; columns * (blocks * bits).div_ceil(8)]),
        };
        let mut spelled = Spelled::new(graph, output);
        let dtype = self.numbers.dtype();
        let numbers = match dtype.is_float() {
            true => Tensor::from_raw(dtype, &[columns, blocks, self.block], numbers)?,
            false => Tensor::from_vec(&[columns, blocks, self.block * bits / 8], numbers)?,
        };
        let mut inputs = vec![node.inputs[0], Some(spelled.constant("weights", numbers))];
        let scales = Array::float(self.result, &[columns, blocks], scales).to_tensor()?;
        inputs.push(Some(spelled.constant("scales", scales)));
        if let Some(zeros) = zeros {
            let zeros = Tensor::from_vec(&[columns, zeros.len() / columns], zeros)?;
            inputs.push(Some(spelled.constant("zeros", zeros)));
        }
        let mut sizes = vec![("K", self.terms), ("N", columns), ("block_size", self.block)];
        sizes.push(if dtype.is_float() { ("dtype", dtype.onnx() as usize) } else { ("bits", bits) });
        let attributes: Attributes =
            sizes.into_iter().map(|(name, size)| (name, Attr::Int(size as i64))).collect();
        let domain = if dtype.is_float() { "sardonyx" } else { "com.microsoft" };
        let value = spelled.node(&format!("{domain}.MatMulNBits"), attributes, inputs)?;
        if let Some(&Some(bias)) = node.inputs.get(2) {
            spelled.binary("Add", [value, bias])?;
        }
        Ok(spelled.nodes_for(node, output))
    }
}

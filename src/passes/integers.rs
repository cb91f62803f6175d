//! A convolution, or a product, of dequantised numbers and dequantised weights adds up integers, and scales the sums:
//! `Conv(DequantizeLinear(x), DequantizeLinear(w))` becomes `Mul(Cast(ConvInteger(x, w)), scale of x * scale of w)`.
//!
//! Integer sums are the same in every order, so all devices agree with the reference, and the weights stay in 8 bits. Sums that
//! float32 does not hold exactly stay as they are: kernels of integers are slower.

use super::pattern::Pattern;
use super::spelled::{Spelled, replace};
use super::zeros::small_numbers;
use crate::budget::{Budget, Work};
use crate::error::{Why, refuse};
use crate::facts::node_error;
use crate::graph::ValueId;
use crate::ops::quantized::FLOAT_SUMS;
use crate::ops::{Attributes, Graph, Node, Op};
use crate::shape::product;
use crate::{DType, Result, Tensor, heap};

pub(super) fn run(graph: &mut Graph, budget: &Budget) -> Result<bool> {
    let pattern = Pattern::of(graph);
    let bytes = pattern.bytes();
    let mut found = Vec::new();
    for (n, node) in graph.nodes.iter().enumerate() {
        let Some(sums) = IntegerSums::of(&pattern, &bytes, node) else { continue };
        // Several nodes may share weights, of which each makes a copy.
        let weights = &sums.weights;
        match budget.charge(Work::array(DType::I8, weights.shape()), weights.len() as u64) {
            Ok(()) if sums.are_exact() => found.push((n, sums)),
            Ok(()) | Err(Why::Refused(_) | Why::TooWide(_)) => {}
            Err(none @ Why::NoMemory(_)) => return Err(node_error(node, &[], none)),
        }
    }
    replace(graph, found, |sums, graph, node| sums.nodes(graph, node).map(Some))
}

/// What a DequantizeLinear to float32 reads, with a scale for all numbers or for each index of an axis.
struct Dequantized {
    numbers: ValueId,
    scale: Tensor,
    zero: Option<Tensor>,
    zero_id: Option<ValueId>,
    /// Counted from the end if it is negative.
    axis: i64,
}

impl Dequantized {
    fn of(pattern: &Pattern, id: ValueId) -> Option<Dequantized> {
        let (_, node) = pattern.maker(id)?;
        let Op::Dequantize(op) = &*node.op else { return None };
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        let constant = |id: ValueId| pattern.graph.value(id).constant.clone();
        let scale = constant(input(1)?).filter(|scale| scale.dtype() == DType::F32)?;
        let zero_id = input(2);
        let zero = match zero_id {
            Some(id) => Some(constant(id)?),
            None => None,
        };
        let plain = op.result(DType::F32) == DType::F32 && op.granularity().one_scale();
        plain.then_some(Dequantized {
            numbers: input(0)?,
            scale,
            zero,
            zero_id,
            axis: op.granularity().vector_axis(),
        })
    }

    fn scales(&self) -> Option<Vec<f32>> {
        self.scale.to_vec::<f32>().ok()
    }
}

/// The operator of a product.
#[derive(Clone, Copy, PartialEq)]
enum ProductKind {
    Convolution,
    /// The weights are `[terms, columns]`, or transposed.
    Product {
        transposed: bool,
    },
}

/// A sum of products of integers, and what becomes of it.
struct IntegerSums {
    kind: ProductKind,
    x: Dequantized,
    w: Dequantized,
    weights: Tensor,
    /// The scale of the sums: one, or one for each filter or column.
    scales: Vec<f32>,
    bias: Option<SumBias>,
    /// The greatest magnitude of a number of `x` less its zero point.
    most: u64,
}

enum SumBias {
    /// Integers in the scale of the sums.
    Integers(Tensor),
    Floats(ValueId),
}

impl IntegerSums {
    fn of(pattern: &Pattern, bytes: &[Option<DType>], node: &Node) -> Option<IntegerSums> {
        let kind = match &*node.op {
            Op::Conv(_) => ProductKind::Convolution,
            Op::MatMul(_) => ProductKind::Product { transposed: false },
            Op::Gemm(op) => ProductKind::Product { transposed: op.plain_product()? },
            _ => return None,
        };
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        let x = Dequantized::of(pattern, input(0)?)?;
        let w = Dequantized::of(pattern, input(1)?)?;
        let weights = pattern.graph.value(w.numbers).constant.clone()?;
        let given = bytes[x.numbers.index()]?;
        let zero = match &x.zero {
            Some(zero) if zero.len() == 1 && zero.dtype() == given => {
                small_numbers(zero)?.first().copied()?
            }
            Some(_) => return None,
            None => 0,
        };
        if x.scale.len() != 1 || !matches!(weights.dtype(), DType::I8 | DType::U8) {
            return None;
        }
        let scale = x.scales()?.first().copied()?;
        let scales: Vec<f32> = w.scales()?.into_iter().map(|own| scale * own).collect();
        let bias = input(2).map(|id| SumBias::of(pattern, id, &scales));
        let ((low, high), zero) = (given.int_range()?, i128::from(zero));
        let most = (zero - low).max(high - zero) as u64;
        Some(IntegerSums { kind, x, w, weights, scales, bias, most })
    }

    /// The axis of the weights that filters or columns are on.
    fn own_axis(&self) -> usize {
        usize::from(self.kind == ProductKind::Product { transposed: false })
    }

    /// The distance between two neighbours along that axis, and its size.
    fn steps(&self) -> Option<(usize, usize)> {
        let (shape, axis) = (self.weights.shape(), self.own_axis());
        let rank_fits =
            if self.kind == ProductKind::Convolution { shape.len() > 2 } else { shape.len() == 2 };
        rank_fits.then(|| (product(&shape[axis + 1..]), shape[axis]))
    }

    /// The zero points of the weights: one, or one for each filter or column. `None` if they, or the scales, are on another axis.
    fn zeros(&self) -> Option<Vec<i16>> {
        let (_, count) = self.steps()?;
        let rank = self.weights.shape().len() as i64;
        let axis = if self.w.axis < 0 { self.w.axis + rank } else { self.w.axis };
        let along = |tensor: &Tensor| {
            let one = tensor.len() == 1 && tensor.shape().len() <= 1;
            one || tensor.shape() == [count] && axis == self.own_axis() as i64
        };
        let zeros = self.w.zero.as_ref().map_or(Some(vec![0]), small_numbers)?;
        (along(&self.w.scale) && self.w.zero.as_ref().is_none_or(along)).then_some(zeros)
    }

    /// Calls `with` for each weight less its zero point, with the number of its filter or column; `None` if there are no such
    /// zero points.
    fn centred(&self, mut with: impl FnMut(usize, i16)) -> Option<()> {
        let ((step, count), zeros) = (self.steps()?, self.zeros()?);
        let signed = self.weights.dtype() == DType::I8;
        for (line, numbers) in self.weights.bytes().chunks(step.max(1)).enumerate() {
            let own = line % count.max(1);
            let zero = zeros.get(own).or(zeros.first()).copied().unwrap_or(0);
            for &bits in numbers {
                with(own, if signed { i16::from(bits as i8) } else { i16::from(bits) } - zero);
            }
        }
        Some(())
    }

    /// Whether float32 holds each sum, whatever numbers a run has.
    fn are_exact(&self) -> bool {
        let Some((_, count)) = self.steps().filter(|_| self.weights.check_file().is_ok()) else {
            return false;
        };
        let (mut sums, mut fit) = (vec![0u64; count], true);
        let known = self.centred(|own, weight| {
            sums[own] += u64::from(weight.unsigned_abs());
            fit &= i8::try_from(weight).is_ok();
        });
        // The pass `zeros` knows the range of the numbers by their zero point alone.
        let most = if fit || self.x.zero.is_some() { self.most } else { 255 };
        known.is_some() && sums.iter().all(|sum| sum.saturating_mul(most) <= FLOAT_SUMS)
    }

    /// The shape under which `count` numbers, for each filter or column, broadcast to the result.
    fn spread<T: Copy>(&self, count: T, one: T) -> Vec<T> {
        let ones = match self.kind {
            ProductKind::Convolution => self.weights.shape().len().saturating_sub(2),
            ProductKind::Product { .. } => 0,
        };
        std::iter::once(count).chain(std::iter::repeat_n(one, ones)).collect()
    }

    /// The nodes that take the place of `node`.
    fn nodes(&self, graph: &mut Graph, node: &Node) -> Result<Vec<Node>, Why> {
        let [Some(output)] = node.outputs[..] else { refuse!("it has several results") };
        let mut spelled = Spelled::new(graph, output);
        let (weights, weights_zero) = self.packed(&mut spelled)?;
        let (op, attributes) = match self.kind {
            ProductKind::Convolution => ("ConvInteger", node.attributes.clone()),
            ProductKind::Product { .. } => ("MatMulInteger", Attributes::default()),
        };
        let mut inputs = vec![Some(self.x.numbers), Some(weights), self.x.zero_id];
        inputs.extend(weights_zero.map(Some));
        let mut value = spelled.node(op, attributes, inputs)?;
        if let Some(SumBias::Integers(bias)) = &self.bias {
            let bias = self.under(bias)?;
            let bias = spelled.constant("bias", bias);
            value = spelled.binary("Add", [value, bias])?;
        }
        value = spelled.float32(value)?;
        let scales = self.under(&Tensor::from_slice(&[self.scales.len()], &self.scales)?)?;
        let scales = spelled.constant("scale", scales);
        value = spelled.binary("Mul", [value, scales])?;
        if let Some(&SumBias::Floats(mut bias)) = self.bias.as_ref() {
            if self.kind == ProductKind::Convolution {
                let shape = self.spread(-1, 1);
                let shape = spelled.constant("bias.shape", Tensor::from_slice(&[shape.len()], &shape)?);
                bias = spelled.binary("Reshape", [bias, shape])?;
            }
            spelled.binary("Add", [value, bias])?;
        }
        Ok(spelled.nodes_for(node, output))
    }

    /// A constant of one element, or of one for each filter or column, under the shape that broadcasts to the result.
    fn under(&self, vector: &Tensor) -> Result<Tensor, Why> {
        let shape = if vector.len() == 1 { vec![] } else { self.spread(vector.len(), 1) };
        Ok(vector.reshaped(&shape)?)
    }

    /// The weights that the integer operator takes, `[terms, columns]` for a product, and their zero points where a weight takes
    /// 9 bits without them: the pass `zeros` knows what to do then.
    fn packed(&self, spelled: &mut Spelled) -> Result<(ValueId, Option<ValueId>), Why> {
        let mut fit = true;
        self.centred(|_, weight| fit &= i8::try_from(weight).is_ok());
        let zeros = self.zeros().unwrap_or_default();
        let plain = self.weights.dtype() == DType::I8 && zeros.iter().all(|&zero| zero == 0);
        let zero = self.w.zero_id.filter(|_| !fit);
        let transposed = self.kind == ProductKind::Product { transposed: true };
        if (plain || !fit) && !transposed {
            return Ok((self.w.numbers, zero));
        }
        let mut numbers: Vec<u8> = heap::reserved("weights of 8 bits", self.weights.len())?;
        match fit {
            true => _ = self.centred(|_, weight| numbers.push(weight as u8)),
            false => numbers.extend_from_slice(self.weights.bytes()),
        }
        let (mut shape, dtype) =
            (self.weights.shape().to_vec(), if fit { DType::I8 } else { self.weights.dtype() });
        if let (&[columns, terms], true) = (&shape[..], transposed) {
            let mut turned = heap::reserved("weights of 8 bits", numbers.len())?;
            turned.extend((0..numbers.len()).map(|i| numbers[i % columns * terms + i / columns]));
            (numbers, shape) = (turned, vec![terms, columns]);
        }
        Ok((spelled.constant("weights", Tensor::from_raw(dtype, &shape, numbers)?), zero))
    }
}

impl SumBias {
    /// The bias `id` of sums with these scales.
    fn of(pattern: &Pattern, id: ValueId, scales: &[f32]) -> SumBias {
        let integers = || {
            let bias = Dequantized::of(pattern, id)?;
            let own = bias.scales()?;
            let same = own.len() == scales.len() || own.len() == 1 || scales.len() == 1;
            let count = own.len().max(scales.len());
            let at = |scales: &[f32], i: usize| scales.get(i).or(scales.first()).copied();
            let alike = same && (0..count).all(|i| at(&own, i) == at(scales, i));
            let no_zero = bias.zero.as_ref().is_none_or(|zero| zero.bytes().iter().all(|&byte| byte == 0));
            let tensor = pattern.graph.value(bias.numbers).constant.clone()?;
            let vector = tensor.dtype() == DType::I32 && tensor.shape().len() == 1;
            (alike && no_zero && vector).then_some(tensor)
        };
        integers().map_or(SumBias::Floats(id), SumBias::Integers)
    }
}

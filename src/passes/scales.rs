//! Moves the scale of packed weights out of them: `MatMul(x, Mul(Cast(w), scale))` becomes `Mul(MatMul(x, Cast(w)), scale)` where
//! each column has one scale, and `MatMul(Mul(x, scale), Cast(w))` where each row has. A Gather of rows picks packed numbers and
//! scales.
//!
//! The weights then stay as the file has them: kernels convert them as they load, and nothing widens them.

use super::fold::FEW;
use super::pattern::{Pattern, normalized};
use super::spelled::{Spelled, replace};
use crate::array::Array;
use crate::error::{Why, refuse};
use crate::facts::Fact;
use crate::graph::ValueId;
use crate::ops::broadcast::broadcast;
use crate::ops::{Attr, Graph, Node, Op};
use crate::shape::{Shape, product};
use crate::{DType, Result, Tensor, heap};

pub(super) fn run(graph: &mut Graph) -> Result<bool> {
    let (pattern, normalized) = (Pattern::of(graph), normalized(graph));
    let reader = |(n, node)| Some((n, ScaledReader::of(&pattern, &normalized, node)?));
    let found: Vec<(usize, ScaledReader)> = graph.nodes.iter().enumerate().filter_map(reader).collect();
    replace(graph, found, |reader, graph, node| reader.nodes(graph, node))
}

/// The most nodes between packed numbers and what a reader gets: Cast, Sub, Mul and Transpose.
const DEEPEST: usize = 4;

/// A large constant of few bits, whose numbers become floats: `(numbers - zero) * scale`.
#[derive(Clone)]
struct PackedNumbers {
    /// Of the constant.
    numbers: ValueId,
    shape: Shape,
    /// What they become: float32 or float16.
    result: DType,
    /// The numbers as float32, where the graph has them already.
    wide: Option<ValueId>,
    /// The tensors that broadcast to the numbers' shape.
    zero: Option<Tensor>,
    scale: Option<Tensor>,
    /// The axes of the value in those of the numbers.
    perm: Option<Vec<usize>>,
}

impl PackedNumbers {
    /// The numbers from which at most `depth` nodes make the value.
    fn of(pattern: &Pattern, id: ValueId, depth: usize) -> Option<PackedNumbers> {
        let depth = depth.checked_sub(1)?;
        let (_, node) = pattern.maker(id)?;
        let graph = pattern.graph;
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        let constant = |id: ValueId| graph.value(id).constant.as_ref();
        match &*node.op {
            Op::Transpose(op) => {
                let perm = op.fixed_perm()?;
                let packed = PackedNumbers::of(pattern, input(0)?, depth)?;
                (packed.perm.is_none() && perm.len() == packed.shape.len())
                    .then_some(PackedNumbers { perm: Some(perm), ..packed })
            }
            Op::Cast(_) => {
                let numbers = constant(input(0)?).filter(|tensor| tensor.len() > FEW)?;
                let fact = Fact::new(numbers.dtype(), numbers.shape());
                let to_float32 = node.attributes.int_or("to", 0).ok()? == i64::from(DType::F32.onnx());
                (to_float32 && node.widens_constant(graph, &[Some(&fact)])).then(|| PackedNumbers {
                    numbers: node.inputs[0].unwrap_or(id),
                    shape: fact.shape,
                    result: DType::F32,
                    wide: Some(id),
                    zero: None,
                    scale: None,
                    perm: None,
                })
            }
            Op::Dequantize(op) if op.granularity().one_scale() => {
                let numbers = constant(input(0)?).filter(|tensor| tensor.len() > FEW && is_narrow(tensor))?;
                let rank = numbers.shape().len();
                let axis = op.granularity().vector_axis();
                let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok()?;
                let under = |tensor: &Tensor| match tensor.shape() {
                    [] | [1] => tensor.reshaped(&[]).ok(),
                    &[count] if numbers.shape().get(axis) == Some(&count) => {
                        let ones = std::iter::repeat_n(1, rank - axis - 1);
                        tensor.reshaped(&std::iter::once(count).chain(ones).collect::<Vec<_>>()).ok()
                    }
                    _ => None,
                };
                let scale = constant(input(1)?)?;
                let result = op.result(scale.dtype());
                let scale = under(scale).filter(|_| matches!(result, DType::F32 | DType::F16))?;
                let zero = match input(2) {
                    Some(id) => Some(under(constant(id)?)?),
                    None => None,
                };
                let (numbers, shape) = (input(0)?, numbers.shape().into());
                Some(PackedNumbers {
                    numbers,
                    shape,
                    result,
                    wide: None,
                    zero,
                    scale: Some(scale),
                    perm: None,
                })
            }
            _ if matches!(&*node.op_type, "Mul" | "Sub") => {
                let (a, b) = (input(0)?, input(1)?);
                let is_scale = node.op_type == "Mul";
                let (id, by) = if is_scale && constant(a).is_some() { (b, a) } else { (a, b) };
                let by = constant(by).filter(|by| by.dtype() == DType::F32)?.clone();
                let packed = PackedNumbers::of(pattern, id, depth)?;
                let fits = broadcast([by.shape(), &packed.shape[..]]).ok()? == packed.shape;
                if !fits || packed.perm.is_some() || packed.scale.is_some() || packed.result != DType::F32 {
                    return None;
                }
                match is_scale {
                    true => Some(PackedNumbers { scale: Some(by), ..packed }),
                    false => packed.zero.is_none().then_some(PackedNumbers { zero: Some(by), ..packed }),
                }
            }
            _ => None,
        }
    }

    /// The size of `operand`, which broadcasts to the numbers, along each axis of the value.
    fn spread(&self, operand: &Tensor) -> Vec<usize> {
        let rank = self.shape.len();
        let skip = rank.saturating_sub(operand.shape().len());
        let full = [&vec![1; skip], operand.shape()].concat();
        match &self.perm {
            Some(perm) => perm.iter().map(|&axis| full[axis]).collect(),
            None => full,
        }
    }

    /// Whether each index of `axis`, of the value, has one scale and one zero point.
    fn is_along(&self, axis: usize) -> bool {
        [&self.scale, &self.zero].into_iter().flatten().all(|operand| {
            self.spread(operand).iter().enumerate().all(|(other, &size)| other == axis || size == 1)
        })
    }

    /// The zero points as whole numbers; `None` if some are none.
    fn zeros(&self) -> Result<Option<Vec<i64>>, Why> {
        let Some(zero) = &self.zero else { return Ok(Some(vec![0])) };
        let whole = |value: f64| (value.fract() == 0.0 && value.abs() < 256.0).then_some(value as i64);
        Ok(Array::from_tensor(zero)?.to_f64()?.into_iter().map(whole).collect())
    }

    /// The numbers less their zero points, if those fit 8 bits; `None` inside where all zero points are 0.
    fn centred(&self, graph: &Graph) -> Result<Option<Option<Tensor>>, Why> {
        let Some(zeros) = self.zeros()? else { return Ok(None) };
        if zeros.iter().all(|&zero| zero == 0) {
            return Ok(Some(None));
        }
        let (Some(tensor), Some(zero)) = (&graph.value(self.numbers).constant, &self.zero) else {
            return Ok(None);
        };
        let signed = match tensor.dtype() {
            DType::I8 => true,
            DType::U8 => false,
            _ => return Ok(None),
        };
        if tensor.check_file().is_err() {
            // The upload says so.
            return Ok(None);
        }
        // Zero points lie along one axis at most.
        let full = PackedNumbers { perm: None, ..self.clone() }.spread(zero);
        let step = full
            .iter()
            .position(|&size| size > 1)
            .map_or(tensor.len(), |axis| product(&self.shape[axis + 1..]));
        let mut centred = heap::reserved("weights of 8 bits", tensor.len())?;
        for (line, numbers) in tensor.bytes().chunks(step.max(1)).enumerate() {
            let zero = zeros[line % zeros.len()];
            for &bits in numbers {
                let number = if signed { i64::from(bits as i8) } else { i64::from(bits) };
                let Ok(number) = i8::try_from(number - zero) else { return Ok(None) };
                centred.push(number);
            }
        }
        Ok(Some(Some(Tensor::from_vec(tensor.shape(), centred)?)))
    }
}

pub(super) fn is_narrow(tensor: &Tensor) -> bool {
    use DType::*;
    matches!(
        tensor.dtype(),
        I8 | U8 | I4 | U4 | I2 | U2 | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F4E2M1
    )
}

/// What a node reads, which is to read packed numbers.
enum ScaledReader {
    /// A product or a convolution, each of whose columns or filters has one scale. These are on an axis before `ones` others.
    Product { packed: PackedNumbers, axis: usize, ones: usize },
    /// A product, each of whose terms has one scale.
    Terms { packed: PackedNumbers },
    /// A Gather along this axis.
    Rows { packed: PackedNumbers, axis: usize },
}

impl ScaledReader {
    fn of(pattern: &Pattern, normalized: &[bool], node: &Node) -> Option<ScaledReader> {
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        if let Op::Gather(op) = &*node.op {
            let packed =
                PackedNumbers::of(pattern, input(0)?, DEEPEST).filter(|packed| packed.perm.is_none())?;
            let rank = packed.shape.len();
            let axis = if op.axis() < 0 { op.axis() + rank as i64 } else { op.axis() };
            let axis = usize::try_from(axis).ok().filter(|&axis| axis < rank)?;
            // Indices that are constants would make a constant.
            let runs = pattern.graph.value(input(1)?).constant.is_none();
            let follows = |operand: &Tensor| {
                let spread = packed.spread(operand);
                spread[axis] > 1 || spread[..axis].iter().all(|&size| size == 1)
            };
            let all = [&packed.scale, &packed.zero].into_iter().flatten().all(follows);
            return (runs && all).then_some(ScaledReader::Rows { packed, axis });
        }
        if !matches!(&*node.op, Op::MatMul(_) | Op::Gemm(_) | Op::Conv(_) | Op::ConvTranspose(_)) {
            return None;
        }
        let packed = PackedNumbers::of(pattern, input(1)?, DEEPEST)?;
        packed.scale.as_ref()?;
        let rank = packed.shape.len();
        let (axis, ones) = match &*node.op {
            Op::MatMul(_) => (rank.checked_sub(1).filter(|_| rank >= 2)?, 0),
            Op::Gemm(op) => (usize::from(!op.weights_transposed()?), 0),
            Op::ConvTranspose(op) if op.group() == 1 => (1, rank.checked_sub(2)?),
            Op::ConvTranspose(_) => return None,
            _ => (0, rank.checked_sub(2)?),
        };
        let output = node.outputs.first().copied().flatten()?;
        let constant = input(0).is_some_and(|x| pattern.graph.value(x).constant.is_some());
        if normalized[output.index()] || constant {
            return None;
        }
        match (packed.is_along(axis), &*node.op) {
            (true, _) => Some(ScaledReader::Product { packed, axis, ones }),
            (false, Op::MatMul(_)) if packed.is_along(axis - 1) => Some(ScaledReader::Terms { packed }),
            _ => None,
        }
    }

    /// The nodes that take the place of `node`; `None` if the zero points are no whole numbers, or leave 8 bits.
    fn nodes(self, graph: &mut Graph, node: &Node) -> Result<Option<Vec<Node>>, Why> {
        let [Some(output)] = node.outputs[..] else { refuse!("it has several results") };
        let spelled = match self {
            ScaledReader::Rows { packed, axis } => {
                let Some(zeros) = packed.zeros()? else { return Ok(None) };
                let mut spelled = Spelled::new(graph, output);
                spelled.rows(node, &packed, &zeros, axis)?;
                spelled
            }
            ScaledReader::Product { packed, axis, ones } => {
                let Some(centred) = packed.centred(graph)? else { return Ok(None) };
                let mut spelled = Spelled::new(graph, output);
                let scaled = (PerScale::Results, packed.shape_of(axis), ones);
                spelled.product(node, &packed, centred, scaled)?;
                spelled
            }
            ScaledReader::Terms { packed } => {
                let Some(centred) = packed.centred(graph)? else { return Ok(None) };
                let terms = packed.shape_of(packed.shape.len() - 2);
                let mut spelled = Spelled::new(graph, output);
                spelled.product(node, &packed, centred, (PerScale::Terms, terms, 0))?;
                spelled
            }
        };
        Ok(Some(spelled.nodes_for(node, output)))
    }
}

impl PackedNumbers {
    /// The size of an axis of the value.
    fn shape_of(&self, axis: usize) -> usize {
        self.shape[self.perm.as_ref().map_or(axis, |perm| perm[axis])]
    }
}

/// What has a scale each.
#[derive(PartialEq)]
enum PerScale {
    /// The columns of a product, or the filters of a convolution.
    Results,
    /// The terms of a product's sums.
    Terms,
}

impl Spelled<'_> {
    /// The rows that a Gather picks, of numbers, zero points and scales.
    fn rows(
        &mut self,
        node: &Node,
        packed: &PackedNumbers,
        zeros: &[i64],
        axis: usize,
    ) -> Result<ValueId, Why> {
        let Some(&Some(indices)) = node.inputs.get(1) else { refuse!("input 1 is required") };
        let along = || [("axis", Attr::Int(axis as i64))].into_iter().collect();
        // ONNX's Gather takes no smaller integers, and no floats of 8 bits.
        let picked = self.node("sardonyx.Gather", along(), vec![Some(packed.numbers), Some(indices)])?;
        let mut value = self.float32(picked)?;
        let zero = packed.zero.as_ref().filter(|_| zeros.iter().any(|&zero| zero != 0));
        for (op, what, operand) in [("Sub", "zero", zero), ("Mul", "scale", packed.scale.as_ref())] {
            let Some(operand) = operand else { continue };
            let spread = packed.spread(operand);
            let operand = floats(operand)?;
            let operand = if spread[axis] > 1 {
                let all = self.constant(what, operand.reshaped(&spread)?);
                self.node("Gather", along(), vec![Some(all), Some(indices)])?
            } else {
                self.constant(what, operand.reshaped(&spread[axis + 1..])?)
            };
            value = self.binary(op, [value, operand])?;
        }
        self.as_float16(packed, value)
    }

    /// The value in float16, if that is what the numbers become.
    fn as_float16(&mut self, packed: &PackedNumbers, value: ValueId) -> Result<ValueId, Why> {
        match packed.result {
            DType::F16 => self.cast(value, DType::F16),
            _ => Ok(value),
        }
    }

    /// The product with the numbers alone, its scales, and its bias. There are `count` scales, or one; those of results are on
    /// an axis before `ones` others. Sums of numbers without their scales may leave float16, so they are float32.
    fn product(
        &mut self,
        node: &Node,
        packed: &PackedNumbers,
        centred: Option<Tensor>,
        (scaled, count, ones): (PerScale, usize, usize),
    ) -> Result<ValueId, Why> {
        let mut weights = match (centred, packed.wide) {
            (None, Some(wide)) => wide,
            (None, None) => self.float32(packed.numbers)?,
            (Some(centred), _) => {
                let centred = self.constant("weights", centred);
                self.float32(centred)?
            }
        };
        if let Some(perm) = &packed.perm {
            let perm = perm.iter().map(|&axis| axis as i64).collect();
            weights = self.node(
                "Transpose",
                [("perm", Attr::Ints(perm))].into_iter().collect(),
                vec![Some(weights)],
            )?;
        }
        let scale = match &packed.scale {
            Some(scale) => {
                let shape = match scale.len() {
                    1 => vec![],
                    _ => std::iter::once(count).chain(std::iter::repeat_n(1, ones)).collect(),
                };
                Some(self.constant("scale", floats(scale)?.reshaped(&shape)?))
            }
            None => None,
        };
        let half = packed.result == DType::F16;
        let Some(&Some(mut x)) = node.inputs.first() else { refuse!("input 0 is required") };
        if half {
            x = self.float32(x)?;
        }
        if let Some(scale) = scale.filter(|_| scaled == PerScale::Terms) {
            x = self.binary("Mul", [x, scale])?;
        }
        let mut value = self.copy(node, vec![Some(x), Some(weights)]);
        if let Some(scale) = scale.filter(|_| scaled == PerScale::Results) {
            value = self.binary("Mul", [value, scale])?;
        }
        let Some(&Some(mut bias)) = node.inputs.get(2) else { return self.as_float16(packed, value) };
        if half {
            bias = self.float32(bias)?;
        }
        if ones > 0 {
            let shape: Vec<i64> = std::iter::once(-1).chain(std::iter::repeat_n(1, ones)).collect();
            let shape = self.constant("bias.shape", Tensor::from_slice(&[shape.len()], &shape)?);
            bias = self.binary("Reshape", [bias, shape])?;
        }
        value = self.binary("Add", [value, bias])?;
        self.as_float16(packed, value)
    }
}

/// A scale or zero points as float32.
fn floats(tensor: &Tensor) -> Result<Tensor, Why> {
    if tensor.dtype() == DType::F32 {
        return Ok(tensor.clone());
    }
    Array::float(DType::F32, tensor.shape(), Array::from_tensor(tensor)?.to_f64()?).to_tensor()
}

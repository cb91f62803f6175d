//! Integer products of constant weights lose the zero points of the weights, which kernels would subtract in each run.
//!
//! Weights that fit 8 bits without them stay integers. Others take 9 bits, as 255 - 113 does: they become float16, which holds them,
//! and the product one of float32, which holds the sums. `ConvInteger(x, w, , 113)` becomes `Cast(Conv(Cast(x), Cast(w - 113)))`.

use super::pattern::Pattern;
use super::spelled::{Spelled, replace};
use crate::budget::{Budget, Work};
use crate::error::{Why, refuse};
use crate::facts::node_error;
use crate::graph::ValueId;
use crate::ops::quantized::{FLOAT_SUMS, sum_scale};
use crate::ops::{Attr, Attributes, Graph, Node, Op};
use crate::shape::product;
use crate::{DType, Result, Tensor, heap};

pub(super) fn run(graph: &mut Graph, budget: &Budget) -> Result<bool> {
    let pattern = Pattern::of(graph);
    let mut found = Vec::new();
    for (n, node) in graph.nodes.iter().enumerate() {
        let Some(weights) = ZeroedWeights::of(&pattern, node) else { continue };
        let work = Work::array(DType::F16, weights.numbers.shape());
        match budget.charge(work, 2 * weights.numbers.len() as u64) {
            Ok(()) => {}
            Err(Why::Refused(_)) => continue,
            Err(none) => return Err(node_error(node, &[], none)),
        }
        if let Some(product) = weights.centred().map_err(|why| node_error(node, &[], why))? {
            found.push((n, product));
        }
    }
    replace(graph, found, |product, graph, node| product.nodes(graph, node).map(Some))
}

/// The places of a product's operands among its inputs.
struct Places {
    x_zero: usize,
    weights: usize,
    weights_zero: usize,
}

impl Places {
    fn of(node: &Node) -> Option<Places> {
        match &*node.op {
            Op::ConvInteger(_) | Op::MatMulInteger(_) => {
                Some(Places { x_zero: 2, weights: 1, weights_zero: 3 })
            }
            Op::QLinearConv(_) => Some(Places { x_zero: 2, weights: 3, weights_zero: 5 }),
            _ => None,
        }
    }
}

/// The constant weights of an integer product, some of whose zero points are not 0.
struct ZeroedWeights {
    numbers: Tensor,
    /// One, or one for each filter or column.
    zeros: Vec<i16>,
    /// The distance between two neighbours along the axis of the filters or columns, and its size.
    steps: (usize, usize),
    /// The greatest magnitude of a number of the other operand less its zero point.
    most: u64,
    ending: Option<Ending>,
}

/// What makes an operator's result of the sums.
#[derive(Clone)]
enum Ending {
    Integers,
    /// The bias, the scale and the zero point of 8-bit numbers. The first two have one element for each filter, under a shape that
    /// broadcasts to the result.
    Quantized {
        bias: Option<Tensor>,
        scale: Tensor,
        zero: ValueId,
    },
}

/// A product whose weights have no zero points.
struct CentredProduct {
    weights: Tensor,
    ending: Option<Ending>,
}

impl ZeroedWeights {
    fn of(pattern: &Pattern, node: &Node) -> Option<ZeroedWeights> {
        let places = Places::of(node)?;
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        let constant = |i: usize| pattern.graph.value(input(i)?).constant.as_ref();
        let numbers = constant(places.weights).filter(|tensor| tensor.check_file().is_ok())?.clone();
        let zero = constant(places.weights_zero)?;
        let zeros = small_numbers(zero).filter(|zeros| zeros.iter().any(|&zero| zero != 0))?;
        let (shape, convolves) = (numbers.shape(), !matches!(&*node.op, Op::MatMulInteger(_)));
        let axis = if convolves { 0 } else { shape.len().checked_sub(1)? };
        let fits = shape.len() >= 2 && zero.dtype() == numbers.dtype();
        let steps = (product(&shape[axis + 1..]), *shape.get(axis)?);
        if !fits || zero.len() != 1 && (zero.shape() != [steps.1] || !convolves && shape.len() != 2) {
            return None;
        }
        let known = constant(places.x_zero);
        let most = match known.and_then(|zero| Some((small_numbers(zero)?, zero.dtype().int_range()?))) {
            Some((zeros, (low, high))) => {
                let most = |&zero: &i16| (i128::from(zero) - low).max(high - i128::from(zero)) as u64;
                zeros.iter().map(most).max()?
            }
            None => 255,
        };
        let one = input(places.x_zero).is_none_or(|id| {
            let dynamic =
                pattern.maker(id).is_some_and(|(_, maker)| matches!(&*maker.op, Op::DynamicQuantize(_)));
            dynamic || known.is_some_and(|zero| zero.len() == 1 && zero.shape().len() <= 1)
        });
        let ending = match &*node.op {
            Op::QLinearConv(_) => Ending::quantized(pattern, node, shape),
            _ => Some(Ending::Integers),
        };
        Some(ZeroedWeights { zeros, steps, most, ending: ending.filter(|_| one), numbers })
    }

    /// The weights less their zero points; `None` where they take 9 bits and float32 does not hold each sum.
    fn centred(self) -> Result<Option<CentredProduct>, Why> {
        let (signed, (step, count)) = (self.numbers.dtype() == DType::I8, self.steps);
        let mut centred: Vec<i16> = heap::reserved("weights of 16 bits", self.numbers.len())?;
        let mut sums = vec![0u64; count];
        for (line, numbers) in self.numbers.bytes().chunks(step.max(1)).enumerate() {
            let own = line % count.max(1);
            let zero = self.zeros[if self.zeros.len() == 1 { 0 } else { own }];
            for &bits in numbers {
                let number = if signed { i16::from(bits as i8) } else { i16::from(bits) } - zero;
                sums[own] += u64::from(number.unsigned_abs());
                centred.push(number);
            }
        }
        let shape = self.numbers.shape();
        if centred.iter().all(|&number| i8::try_from(number).is_ok()) {
            let bytes: Vec<i8> = centred.into_iter().map(|number| number as i8).collect();
            return Ok(Some(CentredProduct { weights: Tensor::from_vec(shape, bytes)?, ending: None }));
        }
        if self.ending.is_none() || sums.iter().any(|sum| sum.saturating_mul(self.most) > FLOAT_SUMS) {
            return Ok(None);
        }
        let halves: Vec<half::f16> =
            centred.into_iter().map(|number| half::f16::from_f32(number.into())).collect();
        Ok(Some(CentredProduct { weights: Tensor::from_vec(shape, halves)?, ending: self.ending }))
    }
}

impl Ending {
    fn quantized(pattern: &Pattern, node: &Node, weights: &[usize]) -> Option<Ending> {
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        let constant = |i: usize| pattern.graph.value(input(i)?).constant.as_ref();
        let (&filters, ones) = (weights.first()?, weights.len() - 2);
        let under: Vec<usize> = std::iter::once(filters).chain(std::iter::repeat_n(1, ones)).collect();
        let floats = |i: usize| {
            let values = constant(i)?.to_vec::<f32>().ok()?;
            (values.len() == 1 || values.len() == filters).then_some(values)
        };
        let scales = [floats(1)?, floats(4)?, floats(6)?];
        let scale = |i: usize| {
            let [x, w, y] = scales.each_ref().map(|values| values[if values.len() == 1 { 0 } else { i }]);
            sum_scale(x.into(), w.into(), y.into())
        };
        let zero = input(7)
            .filter(|_| constant(7).is_some_and(|zero| zero.len() == 1 && zero.shape().len() <= 1))?;
        let bias = match input(8) {
            None => None,
            Some(_) => Some(constant(8)?.reshaped(&under).ok()?),
        };
        let scale = Tensor::from_vec(&under, (0..filters).map(scale).collect()).ok()?;
        Some(Ending::Quantized { bias, scale, zero })
    }
}

impl CentredProduct {
    /// The nodes that take the place of `node`.
    fn nodes(self, graph: &mut Graph, node: &Node) -> Result<Vec<Node>, Why> {
        let ([Some(output)], Some(places)) = (&node.outputs[..], Places::of(node)) else {
            refuse!("it has several results")
        };
        let mut spelled = Spelled::new(graph, *output);
        let weights = spelled.constant("weights", self.weights);
        let Some(ending) = self.ending else {
            let mut inputs = node.inputs.clone();
            inputs[places.weights] = Some(weights);
            inputs[places.weights_zero] = None;
            if matches!(&*node.op, Op::QLinearConv(_)) {
                inputs[places.weights_zero] =
                    Some(spelled.constant("zero", Tensor::from_slice(&[], &[0i8])?));
            }
            spelled.copy(node, inputs);
            return Ok(spelled.nodes_for(node, *output));
        };
        let one = spelled.constant("one", Tensor::from_slice(&[], &[1.0f32])?);
        let x_zero = node.inputs.get(places.x_zero).copied().flatten();
        let x = spelled.node(
            "DequantizeLinear",
            Attributes::default(),
            vec![node.inputs[0], Some(one), x_zero],
        )?;
        let weights = spelled.float32(weights)?;
        let op = if matches!(&*node.op, Op::MatMulInteger(_)) { "MatMul" } else { "Conv" };
        let sums = spelled.node(op, node.attributes.clone(), vec![Some(x), Some(weights)])?;
        let to = [("to", Attr::Int(DType::I32.onnx().into()))].into_iter().collect();
        let mut value = spelled.node("Cast", to, vec![Some(sums)])?;
        if let Ending::Quantized { bias, scale, zero } = ending {
            if let Some(bias) = bias {
                let bias = spelled.constant("bias", bias);
                value = spelled.binary("Add", [value, bias])?;
            }
            value = spelled.float32(value)?;
            let scale = spelled.constant("scale", scale);
            value = spelled.binary("Mul", [value, scale])?;
            spelled.node(
                "QuantizeLinear",
                Attributes::default(),
                vec![Some(value), Some(one), Some(zero)],
            )?;
        }
        Ok(spelled.nodes_for(node, *output))
    }
}

/// The numbers of a constant of 8-bit integers.
pub(super) fn small_numbers(tensor: &Tensor) -> Option<Vec<i16>> {
    match tensor.dtype() {
        DType::I8 => Some(tensor.to_vec::<i8>().ok()?.into_iter().map(i16::from).collect()),
        DType::U8 => Some(tensor.to_vec::<u8>().ok()?.into_iter().map(i16::from).collect()),
        _ => None,
    }
}

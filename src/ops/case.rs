//! Cases: a node with its inputs, on which the GPU is compared with the reference. An operator's file lists the cases that
//! matter; the tests on every device, shader validation and hostile variants take them from there.

use super::{DType, Op, Tensor};
pub(crate) use crate::Tolerance;
use crate::graph::Value;
use crate::ops::{Attr, Graph, Node};
use crate::{Dim, Error, Result, UnsupportedNode};

/// How far a device's result may be from the reference's.
impl Tolerance {
    /// One to a few correctly rounded f32 operations.
    pub(crate) const ARITHMETIC: Tolerance = Tolerance { relative: 1e-6, absolute: 1e-7 };
    /// Built-in functions of software devices: lavapipe's exp and tanh are off by up to 1.7e-5, SwiftShader's sin by 1.9e-4.
    pub(crate) const TRANSCENDENTAL: Tolerance = Tolerance { relative: 1e-4, absolute: 2e-4 };
    /// Sums of at most a few thousand float32 products of order one, added in another order than the reference adds them.
    pub(crate) const ACCUMULATION: Tolerance = Tolerance { relative: 1e-4, absolute: 1e-4 };
}

/// A node with its inputs.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) op_type: String,
    pub(crate) opset: i64,
    pub(crate) attributes: Vec<(String, Attr)>,
    /// `None` for an optional input that is left out.
    pub(crate) inputs: Vec<Option<Tensor>>,
    /// The numbers of the inputs that the model holds as initializers.
    pub(crate) constants: Vec<usize>,
    pub(crate) outputs: usize,
    pub(crate) tolerance: Tolerance,
}

impl Case {
    /// A case of an ONNX operator at the newest opset, with one output and the tolerance of arithmetic.
    pub(crate) fn new(op_type: &str, name: &str) -> Case {
        Case {
            name: format!("{op_type}/{name}"),
            domain: String::new(),
            op_type: op_type.into(),
            opset: super::NEWEST_OPSET,
            attributes: Vec::new(),
            inputs: Vec::new(),
            constants: Vec::new(),
            outputs: 1,
            tolerance: Tolerance::ARITHMETIC,
        }
    }

    pub(crate) fn opset(mut self, opset: i64) -> Case {
        self.opset = opset;
        self
    }

    pub(crate) fn domain(mut self, domain: &str) -> Case {
        self.domain = domain.into();
        self
    }

    /// The same of com.microsoft's operator of this name.
    pub(crate) fn of_microsoft(self) -> Case {
        self.domain("com.microsoft").opset(1)
    }

    pub(crate) fn attr(mut self, name: &str, attr: Attr) -> Case {
        self.attributes.push((name.into(), attr));
        self
    }

    pub(crate) fn int(self, name: &str, value: i64) -> Case {
        self.attr(name, Attr::Int(value))
    }

    pub(crate) fn ints(self, name: &str, values: &[i64]) -> Case {
        self.attr(name, Attr::Ints(values.to_vec()))
    }

    pub(crate) fn float(self, name: &str, value: f32) -> Case {
        self.attr(name, Attr::Float(value))
    }

    pub(crate) fn string(self, name: &str, value: &str) -> Case {
        self.attr(name, Attr::String(value.into()))
    }

    pub(crate) fn input(mut self, tensor: Tensor) -> Case {
        self.inputs.push(Some(tensor));
        self
    }

    /// An input that the model holds as an initializer.
    pub(crate) fn constant(mut self, tensor: Tensor) -> Case {
        self.constants.push(self.inputs.len());
        self.input(tensor)
    }

    /// The same, where the model holds all inputs as initializers.
    pub(crate) fn known(mut self) -> Case {
        self.constants = (0..self.inputs.len()).filter(|&i| self.inputs[i].is_some()).collect();
        self
    }

    pub(crate) fn absent(mut self) -> Case {
        self.inputs.push(None);
        self
    }

    pub(crate) fn outputs(mut self, outputs: usize) -> Case {
        self.outputs = outputs;
        self
    }

    pub(crate) fn tolerance(mut self, tolerance: Tolerance) -> Case {
        self.tolerance = tolerance;
        self
    }
}

/// The graph of the case's only node. Inputs are called `input_0`, `input_1`, ..., outputs `output_0`, `output_1`, ...
pub(crate) fn graph_of_case(case: &Case) -> Result<Graph> {
    graph_wanting(case, &vec![true; case.outputs])
}

/// The graph of the case, where only the `wanted` outputs are outputs of the graph.
pub(crate) fn graph_wanting(case: &Case, wanted: &[bool]) -> Result<Graph> {
    let mut graph = Graph { name: case.name.clone(), ..Graph::default() };
    let mut inputs = Vec::with_capacity(case.inputs.len());
    for (i, tensor) in case.inputs.iter().enumerate() {
        inputs.push(tensor.as_ref().map(|tensor| {
            let id = graph.add_constant(format!("input_{i}"), tensor.clone());
            if !case.constants.contains(&i) {
                graph.values[id.index()].constant = None;
                graph.inputs.push(id);
            }
            id
        }));
    }
    let output = |i| Value { name: format!("output_{i}"), ..Value::default() };
    graph.outputs = (0..case.outputs).map(|i| graph.add_value(output(i))).collect();
    let (name, opset) = (case.name.clone(), case.opset);
    let op_type = if case.domain.is_empty() {
        case.op_type.clone()
    } else {
        format!("{}.{}", case.domain, case.op_type)
    };
    let outputs: Vec<_> =
        graph.outputs.iter().zip(wanted).map(|(id, wanted)| wanted.then_some(*id)).collect();
    graph.outputs = outputs.iter().copied().flatten().collect();
    let attributes = case.attributes.iter().cloned().collect();
    let (names, listed) = ((name.clone(), op_type.clone(), opset), vec![true; case.outputs]);
    let mut node = match Node::parse(names, attributes, inputs, (outputs, &listed)) {
        Ok(node) => node,
        Err(why) => {
            return Err(Error::Node {
                node: name,
                op: op_type,
                opset,
                inputs: types(&graph),
                reason: why.to_string(),
            });
        }
    };
    if let Op::Unsupported(reason) = &*node.op {
        return Err(Error::Unsupported(vec![UnsupportedNode {
            node: name,
            op: op_type,
            opset,
            reason: reason.clone(),
        }]));
    }
    graph.complete(&mut node);
    graph.nodes.push(node);
    graph.verify()?;
    Ok(graph)
}

fn types(graph: &Graph) -> String {
    let text = |value: &Value| {
        let shape = value.shape.iter().flatten().map(Dim::to_string).collect::<Vec<_>>().join(", ");
        format!("{}[{shape}]", value.dtype.map_or("?", DType::name))
    };
    let inputs = graph.values.iter().filter(|value| value.name.starts_with("input_"));
    inputs.map(text).collect::<Vec<_>>().join(", ")
}

/// float32 values spread over `low..high` by a fixed generator (SplitMix64), different for each shape.
pub(crate) fn uniform(shape: &[usize], low: f32, high: f32) -> Tensor {
    let count: usize = shape.iter().product();
    let mut state = shape.iter().fold(0x5a4d0u64, |s, &d| s.wrapping_mul(31).wrapping_add(d as u64));
    let values: Vec<f32> = (0..count)
        .map(|_| low + (high - low) * (splitmix(&mut state) >> 40) as f32 / (1u32 << 24) as f32)
        .collect();
    raw(DType::F32, shape, bytemuck::cast_slice(&values))
}

/// Values in -1..1.
pub(crate) fn random(shape: &[usize]) -> Tensor {
    uniform(shape, -1.0, 1.0)
}

/// i64 values spread over `low..high`.
pub(crate) fn integers(shape: &[usize], low: i64, high: i64) -> Tensor {
    let count: usize = shape.iter().product();
    let mut state = 0x1e37_79b9u64 ^ count as u64;
    let span = (high - low).max(1) as u64;
    let values: Vec<i64> = (0..count).map(|_| low + (splitmix(&mut state) % span) as i64).collect();
    raw(DType::I64, shape, bytemuck::cast_slice(&values))
}

/// A tensor of given values.
pub(crate) fn values<T: crate::Element>(shape: &[usize], values: &[T]) -> Tensor {
    raw(T::DTYPE, shape, bytemuck::cast_slice(values))
}

/// A bool tensor.
pub(crate) fn bools(shape: &[usize], values: &[bool]) -> Tensor {
    raw(DType::Bool, shape, &values.iter().map(|&b| u8::from(b)).collect::<Vec<_>>())
}

/// A string tensor.
pub(crate) fn texts(shape: &[usize], values: &[&str]) -> Tensor {
    let texts = values.iter().map(|text| text.to_string()).collect();
    Tensor::from_strings(shape, texts).unwrap_or_else(|e| unreachable!("case: {e}"))
}

/// A one-dimensional i64 tensor, as shape operands are.
pub(crate) fn list(list: &[i64]) -> Tensor {
    values(&[list.len()], list)
}

/// The tensor converted to another dtype by the reference.
pub(crate) fn converted(tensor: &Tensor, dtype: DType) -> Tensor {
    let source = super::Array::from_tensor(tensor);
    let target = source.and_then(|a| crate::array::number::cast(&a, dtype, true)).and_then(|a| a.to_tensor());
    target.unwrap_or_else(|_| tensor.clone())
}

pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn raw(dtype: DType, shape: &[usize], bytes: &[u8]) -> Tensor {
    // A case whose shape and values disagree is a mistake in this crate's source, which a test finds.
    Tensor::from_raw(dtype, shape, bytes.to_vec()).unwrap_or_else(|e| unreachable!("case: {e}"))
}

/// The outputs of the case's node on the reference, or why it is refused.
#[cfg(test)]
pub(crate) fn evaluated(case: &Case) -> std::result::Result<Vec<super::Array>, String> {
    let graph = graph_of_case(case).map_err(|error| error.to_string())?;
    let arrays: Vec<super::Array> =
        case.inputs.iter().flatten().map(|tensor| super::Array::from_tensor(tensor).unwrap()).collect();
    let facts: Vec<_> = arrays.iter().map(|array| crate::facts::Fact::of_array(array.clone())).collect();
    let op = &graph.nodes[0].op;
    op.infer(&facts.iter().map(Some).collect::<Vec<_>>()).map_err(|why| why.to_string())?;
    op.operator().eval(&arrays.iter().map(Some).collect::<Vec<_>>()).map_err(|why| why.to_string())
}

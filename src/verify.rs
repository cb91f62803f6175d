//! Verification: every node's result on a device against the CPU reference's.

use std::sync::Arc;

use crate::graph::{Graph, Node, ValueId};
use crate::reference::array::Numbers;
use crate::reference::{self, Array, Values};
use crate::{DType, Device, Error, Model, Result, Session, SessionOptions, Tensor};

/// How far one value of a model is from the reference's.
///
/// ```no_run
/// # fn f(found: &sardonyx::Verification) {
/// for value in &found.values {
///     println!("{} {}: {:.1e}", value.op, value.name, value.relative_error);
/// }
/// # }
/// ```
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct ValueError {
    /// The node that makes the value; for an output as a run gives it, empty.
    pub node: String,
    /// The node's operator.
    pub op: String,
    /// The value's name.
    pub name: String,
    /// The reference's element type.
    pub dtype: DType,
    /// The reference's shape.
    pub shape: Vec<usize>,
    /// The greatest difference of two elements; infinite where one is NaN or infinite and the other is not, or where
    /// dtype or shape differ. The reference computes a node's values from the inputs that the device gave that node, so
    /// that a node answers for its own error alone; and an output as a run gives it, from the model's inputs.
    pub absolute_error: f64,
    /// `absolute_error` as a part of the reference's greatest magnitude (of at least 1e-6).
    pub relative_error: f64,
    /// The relative error of the value where the device runs node by node and the reference runs on its own, from the
    /// model's inputs on: what all nodes up to here add up to, and what the model makes of it.
    pub accumulated_error: f64,
}

/// What [`verify`] found.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// The greatest relative error that is no divergence.
    pub tolerance: f64,
    /// Every value that a node makes, each node run by kernels of its own, in the order of the nodes.
    pub values: Vec<ValueError>,
    /// The model's outputs as a run gives them: optimized and fused.
    pub outputs: Vec<ValueError>,
}

impl Verification {
    /// The first value that a node gets wrong by more than the tolerance; else the first output that is further off than
    /// the tolerance, and further than twice what the nodes' right results add up to: some models make much of small
    /// errors, and fused kernels round in other places.
    pub fn first_divergence(&self) -> Option<&ValueError> {
        // NaN is no match for any tolerance.
        let within = |value: &ValueError| value.relative_error <= self.tolerance;
        let likely =
            |value: &ValueError| value.relative_error <= self.tolerance.max(2.0 * value.accumulated_error);
        self.values
            .iter()
            .find(|value| !within(value))
            .or_else(|| self.outputs.iter().find(|value| !likely(value)))
    }
}

/// Runs `model` on `device` node by node and as it is run normally, and compares every value with the CPU reference's.
///
/// # Errors
/// As [`Session::run`]; [`Error::Gpu`] if `device` is the reference itself.
///
/// ```no_run
/// use sardonyx::{Device, Model, Tensor};
/// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x16\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
/// let model = Model::from_bytes(bytes)?;
/// let device = Device::new(Default::default())?;
/// # if device.is_reference() { return Ok(()) }
/// let x = Tensor::from_slice(&[2], &[-1.0f32, 1.0])?;
/// let found = sardonyx::verify(&device, &model, &[("x", &x)], 1e-3)?;
/// assert!(found.first_divergence().is_none());
/// # Ok::<(), sardonyx::Error>(())
/// ```
pub fn verify(
    device: &Device,
    model: &Model,
    inputs: &[(&str, &Tensor)],
    tolerance: f64,
) -> Result<Verification> {
    if device.is_reference() {
        return Err(Error::Gpu("a device other than the CPU reference is needed to compare with it".into()));
    }
    let graph = model.graph().clone();
    let keep: Vec<ValueId> =
        made_values(&graph).map(|made| made.1).filter(|id| !graph.outputs.contains(id)).collect();
    let order: Vec<ValueId> = graph.outputs.iter().chain(&keep).copied().collect();
    let options = SessionOptions { fusion: false, ..SessionOptions::default() };
    let session = Session::of_graph(device, graph.clone(), options, keep)?;
    let ordered = session.ordered(inputs)?;
    let expected = reference::run(&graph, &ordered, true)?;
    let mut actual = vec![None; graph.values.len()];
    for (id, tensor) in order.iter().zip(session.executable(&ordered)?.run(&graph, &ordered)?) {
        actual[id.index()] = Some(tensor);
    }
    let values = judge(&graph, &expected, &actual);
    let fused = Session::new(device, model, SessionOptions::default())?.run(inputs)?;
    let outputs = graph.outputs.iter().zip(&fused).filter_map(|(id, (name, fused))| {
        let expected = expected.get(*id)?;
        let accumulated_error = actual[id.index()].as_ref().map_or(0.0, |actual| error(expected, actual).1);
        Some(ValueError { accumulated_error, ..compare(None, name, expected, fused) })
    });
    Ok(Verification { tolerance, values, outputs: outputs.collect() })
}

/// Every value that a node makes, with the node.
fn made_values(graph: &Graph) -> impl Iterator<Item = (&Node, ValueId)> {
    graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten().map(move |&id| (node, id)))
}

/// Compares each node's values in `actual`, by [`ValueId`], with what the reference makes of the node's inputs there; and
/// with `expected`, the reference's own run.
fn judge(graph: &Graph, expected: &Values, actual: &[Option<Tensor>]) -> Vec<ValueError> {
    let given = |id: ValueId| match actual.get(id.index()).and_then(Option::as_ref) {
        Some(tensor) => Array::from_tensor(tensor).ok().map(Arc::new),
        None => expected.shared(id),
    };
    let mut values = Vec::new();
    for node in &graph.nodes {
        let inputs: Vec<Option<Arc<Array>>> = node.inputs.iter().map(|id| id.and_then(given)).collect();
        let own = reference::node(node, &inputs).unwrap_or_default();
        for (i, id) in node.outputs.iter().enumerate() {
            let Some((id, tensor)) = id.and_then(|id| Some((id, actual[id.index()].as_ref()?))) else {
                continue;
            };
            let Some(expected) = expected.get(id) else { continue };
            // Inputs on which the reference refuses a node are wrong themselves.
            let own = own.get(i).unwrap_or(expected);
            let accumulated_error = error(expected, tensor).1;
            let name = &graph.value(id).name;
            values.push(ValueError { accumulated_error, ..compare(Some(node), name, own, tensor) });
        }
    }
    values
}

fn compare(node: Option<&Node>, name: &str, expected: &Array, actual: &Tensor) -> ValueError {
    let (absolute_error, relative_error) = error(expected, actual);
    ValueError {
        node: node.map_or(String::new(), |node| node.name.clone()),
        op: node.map_or(String::new(), |node| node.op_type.clone()),
        name: name.into(),
        dtype: expected.dtype,
        shape: expected.shape.clone(),
        absolute_error,
        relative_error,
        accumulated_error: relative_error,
    }
}

/// The greatest difference, and that as a part of the greatest magnitude.
fn error(expected: &Array, actual: &Tensor) -> (f64, f64) {
    let largest = match &expected.data {
        Numbers::Float(values) => {
            values.iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()))
        }
        Numbers::Int(values) => values.iter().fold(0.0, |m: f64, v| m.max(v.unsigned_abs() as f64)),
        Numbers::Text(_) => 0.0,
    };
    let difference = difference(expected, actual);
    (difference, difference / largest.max(1e-6))
}

fn difference(expected: &Array, actual: &Tensor) -> f64 {
    if (expected.dtype, expected.shape.as_slice()) != (actual.dtype(), actual.shape()) {
        return f64::INFINITY;
    }
    let apart = |e: f64, a: f64| match (e == a, e.is_nan() && a.is_nan()) {
        (false, false) if e.is_finite() && a.is_finite() => (e - a).abs(),
        (false, false) => f64::INFINITY,
        _ => 0.0,
    };
    let Ok(actual) = Array::from_tensor(actual) else { return f64::INFINITY };
    match (&expected.data, &actual.data) {
        (Numbers::Float(e), Numbers::Float(a)) => {
            e.iter().zip(a).map(|(e, a)| apart(*e, *a)).fold(0.0, f64::max)
        }
        (Numbers::Int(e), Numbers::Int(a)) => {
            e.iter().zip(a).map(|(e, a)| (e - a).unsigned_abs() as f64).fold(0.0, f64::max)
        }
        (e, a) if e == a => 0.0,
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::random::RandomGraph;

    fn error(expected: &[f64], actual: &[f32]) -> (f64, f64) {
        let expected = Array::float(DType::F32, &[expected.len()], expected.to_vec());
        super::error(&expected, &Tensor::from_slice(&[actual.len()], actual).unwrap())
    }

    #[test]
    fn errors_are_parts_of_the_largest_value() {
        assert_eq!(error(&[4.0, 0.5], &[4.0, 1.0]), (0.5, 0.125));
        assert_eq!(error(&[f64::NAN, f64::INFINITY], &[f32::NAN, f32::INFINITY]), (0.0, 0.0));
        assert_eq!(error(&[], &[]), (0.0, 0.0));
    }

    #[test]
    fn a_number_where_none_belongs_is_no_small_error() {
        assert_eq!(error(&[f64::NAN], &[0.0]).1, f64::INFINITY);
        assert_eq!(error(&[1.0], &[f32::INFINITY]).1, f64::INFINITY);
        assert_eq!(error(&[1.0], &[1.0, 1.0]).1, f64::INFINITY);
    }

    /// A chain Relu, Sub, Tanh, Mul, and what a device gave for it: the reference's values, but for the node numbered
    /// `wrong`, one of whose elements is off by 0.25, and for what the nodes behind it make of that.
    fn judged(wrong: usize) -> Verification {
        let graph = RandomGraph::new(&[0, 5, 1, 4]);
        let (graph, inputs) = (&graph.graph, graph.inputs());
        let expected = reference::run(graph, &inputs, true).unwrap();
        let mut actual: Vec<Option<Tensor>> = vec![None; graph.values.len()];
        for (n, node) in graph.nodes.iter().enumerate() {
            let given = |id: ValueId| match &actual[id.index()] {
                Some(tensor) => Array::from_tensor(tensor).ok().map(Arc::new),
                None => expected.shared(id),
            };
            let inputs: Vec<_> = node.inputs.iter().map(|id| id.and_then(given)).collect();
            let mut values =
                reference::node(node, &inputs).unwrap()[0].to_tensor().unwrap().to_vec::<f32>().unwrap();
            values[1] += if n == wrong { 0.25 } else { 0.0 };
            let id = node.outputs[0].unwrap();
            let shape = &expected.get(id).unwrap().shape;
            actual[id.index()] = Some(Tensor::from_slice(shape, &values).unwrap());
        }
        Verification { tolerance: 1e-3, values: judge(graph, &expected, &actual), outputs: vec![] }
    }

    #[test]
    fn a_wrong_result_is_blamed_on_the_node_that_made_it() {
        for wrong in 0..4 {
            let found = judged(wrong);
            let first = found.first_divergence().unwrap();
            assert_eq!(first.name, found.values[wrong].name);
            let diverging = found.values.iter().filter(|value| value.relative_error > 1e-3);
            assert_eq!(diverging.count(), 1, "the nodes behind it computed rightly what they were given");
            assert!(first.accumulated_error > 1e-3);
        }
        assert!(judged(9).first_divergence().is_none());
    }

    #[test]
    fn an_output_may_be_as_far_off_as_right_nodes_add_up_to() {
        let output = |relative_error, accumulated_error| {
            let expected = Array::float(DType::F32, &[1], vec![1.0]);
            let equal = compare(None, "y", &expected, &Tensor::from_slice(&[1], &[1.0f32]).unwrap());
            let outputs = vec![ValueError { relative_error, accumulated_error, ..equal }];
            Verification { tolerance: 1e-3, values: vec![], outputs }.first_divergence().is_none()
        };
        assert!(output(9e-4, 0.0) && output(3e-3, 2e-3));
        assert!(!output(3e-3, 1e-3) && !output(2e-3, 0.0) && !output(f64::NAN, 1.0));
    }
}

//! Verification: every node's result on a device against the CPU reference's.

use std::sync::Arc;

use crate::graph::{Graph, Node, ValueId};
use crate::reference::array::Numbers;
use crate::reference::{self, Array};
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
    /// dtype or shape differ.
    pub absolute_error: f64,
    /// `absolute_error` as a part of the reference's greatest magnitude (of at least 1e-6).
    pub relative_error: f64,
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
    /// The first value that is off by more than the tolerance.
    pub fn first_divergence(&self) -> Option<&ValueError> {
        // NaN is no match for any tolerance.
        let within = |value: &ValueError| value.relative_error <= self.tolerance;
        self.values.iter().chain(&self.outputs).find(|value| !within(value))
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
    let made = made_values(&graph);
    let keep = made.iter().map(|&(_, id)| id).filter(|id| !graph.outputs.contains(id)).collect::<Vec<_>>();
    let order: Vec<ValueId> = graph.outputs.iter().chain(&keep).copied().collect();
    let options = SessionOptions { fusion: false, ..SessionOptions::default() };
    let session = Session::of_graph(device, graph.clone(), options, keep)?;
    let ordered = session.ordered(inputs)?;
    let expected = reference::run(&graph, &ordered, true)?;
    let actual = session.executable(&ordered)?.run(&graph, &ordered)?;
    let values = made.iter().filter_map(|(node, id)| {
        let at = order.iter().position(|other| other == id)?;
        Some(compare(node, &graph.value(*id).name, expected.get(*id)?, actual.get(at)?))
    });
    let values = values.collect();
    let fused = Session::new(device, model, SessionOptions::default())?.run(inputs)?;
    let outputs = graph.outputs.iter().zip(&fused).filter_map(|(id, (name, actual))| {
        Some(compare_named(String::new(), String::new(), name, expected.get(*id)?, actual))
    });
    Ok(Verification { tolerance, values, outputs: outputs.collect() })
}

/// Every value that a node makes, with the node.
fn made_values(graph: &Arc<Graph>) -> Vec<(&Node, ValueId)> {
    let of_node = |node| -> Vec<(&Node, ValueId)> {
        let node: &Node = node;
        node.outputs.iter().flatten().map(|&id| (node, id)).collect()
    };
    graph.nodes.iter().flat_map(of_node).collect()
}

fn compare(node: &Node, name: &str, expected: &Array, actual: &Tensor) -> ValueError {
    compare_named(node.name.clone(), node.op_type.clone(), name, expected, actual)
}

fn compare_named(node: String, op: String, name: &str, expected: &Array, actual: &Tensor) -> ValueError {
    let absolute_error = difference(expected, actual);
    let largest = match &expected.data {
        Numbers::Float(values) => {
            values.iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()))
        }
        Numbers::Int(values) => values.iter().fold(0.0, |m: f64, v| m.max(v.unsigned_abs() as f64)),
        Numbers::Text(_) => 0.0,
    };
    ValueError {
        node,
        op,
        name: name.into(),
        dtype: expected.dtype,
        shape: expected.shape.clone(),
        absolute_error,
        relative_error: absolute_error / largest.max(1e-6),
    }
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

    fn error(expected: &[f64], actual: &[f32]) -> (f64, f64) {
        let expected = Array::float(DType::F32, &[expected.len()], expected.to_vec());
        let actual = Tensor::from_slice(&[actual.len()], actual).unwrap();
        let found = compare_named(String::new(), String::new(), "y", &expected, &actual);
        (found.absolute_error, found.relative_error)
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
}

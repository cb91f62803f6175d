//! Whom verification blames.

use super::errors::compare;
use super::*;
use crate::DType;
use crate::array::Array;
use crate::internals::random::{RandomGraph, Sketch};

fn error(expected: &[f64], actual: &[f32]) -> (f64, f64) {
    let expected = Array::float(DType::F32, &[expected.len()], expected.to_vec());
    let off =
        compare(&[&expected], &Tensor::from_slice(&[actual.len()], actual).unwrap(), 1e-3, 0.0).unwrap();
    (off.absolute, off.relative)
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
    assert_eq!(error(&[0.0], &[f32::NAN]).1, f64::INFINITY);
    assert_eq!(error(&[1.0], &[f32::INFINITY]).1, f64::INFINITY);
    assert_eq!(error(&[1.0], &[1.0, 1.0]).1, f64::INFINITY);
}

const TOLERANCES: Tolerances = Tolerances { node: 1e-3, output: 1e-3 };

/// A device that computes as the reference does, node by node, except that `bend` changes its values. It passes on the
/// values for which `keeps` is true.
fn followed(
    graph: &Arc<Graph>,
    inputs: &[Tensor],
    keeps: impl Fn(usize) -> bool,
    bend: impl Fn(usize, &mut [f64]),
) -> Followed {
    let expected = reference::run(graph, inputs, true, &crate::Interrupt::new()).unwrap();
    let mut computed: Vec<Option<Arc<Array>>> =
        (0..graph.values.len()).map(|id| expected.shared(ValueId(id as u32))).collect();
    let mut actual = vec![None; graph.values.len()];
    for (n, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<_> =
            node.inputs.iter().map(|id| id.and_then(|id| computed[id.index()].clone())).collect();
        for (id, array) in node.outputs.iter().zip(reference::node(node, &inputs).unwrap()) {
            let Some(id) = *id else { continue };
            let mut bent = array.to_f64().unwrap();
            bend(n, &mut bent);
            let array = match array.dtype.is_float() {
                true => Array::float(array.dtype, &array.shape, bent),
                false => Array::int(array.dtype, &array.shape, bent.iter().map(|v| *v as i128).collect()),
            };
            if keeps(n) || graph.outputs.contains(&id) {
                actual[id.index()] = Some(array.to_tensor().unwrap());
            }
            computed[id.index()] = Some(Arc::new(array));
        }
    }
    Followed { graph: graph.clone(), expected, actual, interrupt: crate::Interrupt::new() }
}

/// The outputs of a run, of the reference or of the device.
fn outputs(run: &Followed) -> Vec<Option<Tensor>> {
    run.graph.outputs.iter().map(|id| run.actual[id.index()].clone()).collect()
}

fn never() -> Result<Followed> {
    panic!("the normal run need not be followed")
}

/// The verification of a chain Relu, Sub, Tanh, Mul, where one element of node `wrong` is off by 0.25.
fn judged(wrong: usize) -> Verification {
    let graph = RandomGraph::new(&[0, 5, 1, 4]);
    let (graph, inputs) = (Arc::new(graph.graph.clone()), graph.inputs());
    let run =
        followed(&graph, &inputs, |_| true, |n, values| values[1] += if n == wrong { 0.25 } else { 0.0 });
    conclude(&run, &outputs(&run), TOLERANCES, never).unwrap()
}

#[test]
fn a_wrong_result_is_blamed_on_the_node_that_made_it() {
    for wrong in 0..4 {
        let found = judged(wrong);
        let divergence = found.divergence.as_ref().unwrap();
        assert_eq!((divergence.cause, &divergence.value.name), (Cause::Wrong, &found.values[wrong].name));
        let diverging = found.values.iter().filter(|value| value.relative_error > 1e-3);
        assert_eq!(diverging.count(), 1, "the nodes behind it computed rightly what they were given");
        assert!(divergence.value.accumulated_error > 1e-3 && divergence.value.inherited_error == 0.0);
        assert!(divergence.to_string().contains(&format!("look at node '{}'", divergence.value.node)));
    }
    assert!(judged(9).divergence.is_none());
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

fn finished(mut sketch: Sketch, output: ValueId) -> Arc<Graph> {
    sketch.graph.outputs = vec![output];
    Arc::new(sketch.graph)
}

/// The verification of a device that bends values both node by node and in a normal run.
fn found(graph: &Arc<Graph>, x: &Tensor, bend: impl Fn(usize, &mut [f64])) -> Verification {
    let run = |keeps| followed(graph, std::slice::from_ref(x), move |_| keeps, &bend);
    let alone = run(true);
    conclude(&alone, &outputs(&alone), TOLERANCES, || Ok(run(false))).unwrap()
}

#[test]
fn errors_that_add_up_are_named_where_they_leave_the_tolerance() {
    let mut sketch = Sketch::default();
    let mut value = sketch.input("x");
    for _ in 0..8 {
        value = sketch.node("Neg", &[], &[value]);
    }
    let graph = finished(sketch, value);
    // 4, 8 and 12 parts of 10,000: every node is within the tolerance, which is 10 parts.
    let found =
        found(&graph, &vector(&[1.0, -2.0]), |_, values| values.iter_mut().for_each(|v| *v *= 1.0004));
    let divergence = found.divergence.as_ref().unwrap();
    assert_eq!((divergence.cause, &divergence.value.name), (Cause::Accumulated, &found.values[2].name));
    let near = |a: f64, b: f64| (a - b).abs() < 1e-5;
    assert!(near(divergence.value.inherited_error, 8e-4) && near(divergence.value.accumulated_error, 12e-4));
    assert!(near(divergence.output.as_ref().unwrap().relative_error, 32e-4));
    assert!(divergence.to_string().contains("look at node"), "{divergence}");
}

/// `-(tanh(x) - c)`.
fn cancelling() -> Arc<Graph> {
    let mut sketch = Sketch::default();
    let (x, c) = (sketch.input("x"), sketch.constant(vector(&[0.46211, 0.7615])));
    let tanh = sketch.node("Tanh", &[], &[x]);
    let difference = sketch.node("Sub", &[], &[tanh, c]);
    let y = sketch.node("Neg", &[], &[difference]);
    finished(sketch, y)
}

#[test]
fn a_difference_that_cancels_makes_much_of_a_small_error() {
    let graph = cancelling();
    let bend = |n, values: &mut [f64]| values.iter_mut().for_each(|v| *v += if n == 0 { 2e-6 } else { 0.0 });
    let found = found(&graph, &vector(&[0.5, 1.0]), bend);
    let divergence = found.divergence.as_ref().unwrap();
    assert_eq!((divergence.cause, divergence.value.op.as_str()), (Cause::Accumulated, "Sub"));
    // tanh(0.5) is 0.4621172 and tanh(1) is 0.7615942: after the subtraction, 2e-6 is a fiftieth of the result.
    assert!(divergence.value.inherited_error < 1e-5 && divergence.value.accumulated_error > 1e-2);
}

/// `x`, negated twice, quantised in steps of 0.5 and back.
fn quantised() -> Arc<Graph> {
    let mut sketch = Sketch::default();
    let (x, scale) = (sketch.input("x"), sketch.scalar(0.5));
    let zero = sketch.constant(Tensor::from_slice(&[], &[0i8]).unwrap());
    let a = sketch.node("Neg", &[], &[x]);
    let b = sketch.node("Neg", &[], &[a]);
    let q = sketch.node("QuantizeLinear", &[], &[b, scale, zero]);
    let y = sketch.node("DequantizeLinear", &[], &[q, scale, zero]);
    finished(sketch, y)
}

/// The first is halfway between two steps, the second a tenth of a step away from there.
const NEAR_A_TIE: [f32; 3] = [0.25, 0.3, -2.0];

#[test]
fn a_flip_at_a_tie_is_no_fault() {
    let (graph, x) = (quantised(), vector(&NEAR_A_TIE));
    // A rounding of float32 before the tie: node by node, the quantisation is right for the input that it gets.
    let before = found(&graph, &x, |n, values| values[0] += if n == 1 { 6e-8 } else { 0.0 });
    // Or the division is off by as much.
    let within = found(&graph, &x, |n, values| values[0] += if n == 2 { 1.0 } else { 0.0 });
    for (found, flips) in [(&before, 0), (&within, 1)] {
        let divergence = found.divergence.as_ref().unwrap();
        assert_eq!((divergence.cause, divergence.value.op.as_str()), (Cause::Flip, "QuantizeLinear"));
        assert_eq!((divergence.value.elements_off, divergence.value.flips), (1, flips));
        assert_eq!(divergence.output.as_ref().unwrap().relative_error, 0.25, "a step of 0.5 as a part of 2");
        assert!(
            divergence.to_string().contains("took the other side of a tie for 1 of 3 elements"),
            "{divergence}"
        );
    }
}

#[test]
fn a_step_that_no_tie_explains_is_a_fault() {
    let (graph, x) = (quantised(), vector(&NEAR_A_TIE));
    let found = found(&graph, &x, |n, values| values[1] += if n == 2 { -1.0 } else { 0.0 });
    let divergence = found.divergence.unwrap();
    assert_eq!((divergence.cause, divergence.value.op.as_str()), (Cause::Wrong, "QuantizeLinear"));
}

/// The verification of a device that is right node by node, and bends values in a normal run.
fn found_fused(x: &Tensor, keeps: impl Fn(usize) -> bool, bend: impl Fn(usize, &mut [f64])) -> Verification {
    let graph = quantised();
    let x = std::slice::from_ref(x);
    let fused = followed(&graph, x, keeps, bend);
    conclude(&followed(&graph, x, |_| true, |_, _| ()), &outputs(&fused), TOLERANCES, || Ok(fused)).unwrap()
}

#[test]
fn a_kernel_of_several_nodes_answers_for_itself() {
    let x = vector(&NEAR_A_TIE);
    let found = found_fused(&x, |n| n == 0, |n, values| values[1] += if n == 1 { 0.5 } else { 0.0 });
    let divergence = found.divergence.unwrap();
    assert_eq!((divergence.cause, divergence.value.op.as_str()), (Cause::Fused, "DequantizeLinear"));
    assert_eq!(found.fused.len(), 2);
    // The kernel before it is the wrong one.
    let found = found_fused(&x, |n| n == 0, |n, values| values[1] += if n == 0 { 0.5 } else { 0.0 });
    let divergence = found.divergence.unwrap();
    assert_eq!((divergence.cause, divergence.value.op.as_str()), (Cause::Fused, "Neg"));
}

#[test]
fn a_flip_inside_of_a_kernel_is_no_fault() {
    let x = vector(&NEAR_A_TIE);
    let found = found_fused(&x, |n| n == 0, |n, values| values[0] += if n == 1 { 1e-6 } else { 0.0 });
    let divergence = found.divergence.unwrap();
    assert_eq!((divergence.cause, divergence.value.flips), (Cause::Flip, 1));
    // A value a tenth of a step away from a tie reaches no other step by a rounding of float32.
    let found = found_fused(&x, |n| n == 0, |n, values| values[1] -= if n == 1 { 0.1 } else { 0.0 });
    assert_eq!(found.divergence.unwrap().cause, Cause::Fused);
}

#[test]
fn what_a_kernel_makes_of_a_rounding_is_no_fault() {
    let (graph, x) = (cancelling(), [vector(&[0.5, 1.0])]);
    let fused = |by: f64| {
        let bend = move |n, values: &mut [f64]| values[0] += if n == 0 { by } else { 0.0 };
        let fused = followed(&graph, &x, |_| false, bend);
        let alone = followed(&graph, &x, |_| true, |_, _| ());
        conclude(&alone, &outputs(&fused), TOLERANCES, || Ok(fused)).unwrap().divergence.unwrap()
    };
    let rounding = fused(2e-6);
    assert_eq!((rounding.cause, rounding.value.op.as_str()), (Cause::Accumulated, "Neg"));
    assert!(rounding.value.accumulated_error > 1e-2 && rounding.value.relative_error <= 1e-3);
    assert_eq!(fused(1e-3).cause, Cause::Fused);
}

#[test]
fn an_output_that_only_a_normal_run_gets_wrong() {
    let (graph, x) = (quantised(), vector(&NEAR_A_TIE));
    let right = || followed(&graph, std::slice::from_ref(&x), |_| true, |_, _| ());
    let wrong = [Some(vector(&[0.0, 0.5, -1.0]))];
    let found = conclude(&right(), &wrong, TOLERANCES, || Ok(right())).unwrap();
    let divergence = found.divergence.unwrap();
    assert_eq!((divergence.cause, divergence.value.relative_error), (Cause::Unfollowed, 0.5));
    assert!(conclude(&right(), &outputs(&right()), TOLERANCES, never).unwrap().divergence.is_none());
}

#[test]
fn a_graph_that_was_rewritten_is_held_against_the_models_own() {
    let negated = |times: usize| {
        let mut sketch = Sketch::default();
        let x = sketch.input("x");
        let y = (0..times).fold(x, |value, _| sketch.node("Neg", &[], &[value]));
        followed(&finished(sketch, y), &[vector(&[1.0, -2.0])], |_| true, |_, _| ())
    };
    let rewritten = negated(2);
    let found = conclude(&negated(1), &outputs(&rewritten), TOLERANCES, || Ok(rewritten)).unwrap();
    assert_eq!(found.divergence.unwrap().cause, Cause::Rewritten);
}

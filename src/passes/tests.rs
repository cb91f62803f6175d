//! A pass never changes what the reference computes.

use proptest::prelude::*;

use crate::graph::random::RandomGraph;
use crate::graph::{Attributes, Node, Value, ValueId};
use crate::ops::{self, NodeDef, case};
use crate::{DType, reference};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn passes_preserve_the_reference(choices in prop::collection::vec(any::<u32>(), 1..24)) {
        let random = RandomGraph::new(&choices);
        random.graph.verify().unwrap();
        let inputs = random.inputs();
        let before = reference::run(&random.graph, &inputs, false).unwrap();
        let before = reference::outputs(&random.graph, &before).unwrap();
        let passed = super::run(random.graph.clone()).unwrap();
        let after = reference::run(&passed, &inputs, false).unwrap();
        let after = reference::outputs(&passed, &after).unwrap();
        prop_assert_eq!(before, after);
    }
}

#[test]
fn batch_norm_becomes_part_of_the_convolution() {
    let mut graph = crate::graph::Graph::default();
    let random = |graph: &mut crate::graph::Graph, shape: &[usize], low: f32| {
        graph.add_constant(format!("{shape:?}{low}"), case::uniform(shape, low, low + 1.0))
    };
    let x = graph.add_value(Value { name: "x".into(), dtype: Some(DType::F32), ..Value::default() });
    graph.inputs.push(x);
    let weights = random(&mut graph, &[4, 3, 3, 3], -0.5);
    let bias = random(&mut graph, &[4], -0.25);
    let statistics: Vec<_> = [0.5, -0.75, -0.125, 0.1].map(|low| Some(random(&mut graph, &[4], low))).into();
    let mut node = |op_type: &str, inputs: Vec<Option<ValueId>>| {
        let output = graph.add_value(Value { name: op_type.into(), ..Value::default() });
        let given = vec![true; inputs.len()];
        let attributes = Attributes::default();
        let def = NodeDef { op_type, opset: 15, attributes: &attributes, inputs: &given, outputs: &[true] };
        let op = ops::parse("", &def).unwrap();
        let name = op_type.to_string();
        graph.nodes.push(Node {
            op_type: name.clone(),
            name,
            opset: 15,
            op,
            inputs,
            outputs: vec![Some(output)],
        });
        output
    };
    let conv = node("Conv", vec![Some(x), Some(weights), Some(bias)]);
    let norm = node("BatchNormalization", std::iter::once(Some(conv)).chain(statistics).collect());
    graph.outputs.push(norm);

    let input = vec![case::random(&[1, 3, 5, 5])];
    let run = |graph: &crate::graph::Graph| {
        let values = reference::run(graph, &input, false).unwrap();
        reference::outputs(graph, &values).unwrap()[0].to_vec::<f32>().unwrap()
    };
    let before = run(&graph);
    let passed = super::run(graph).unwrap();
    assert_eq!(passed.nodes.len(), 1);
    for (b, a) in before.iter().zip(run(&passed)) {
        // The scaled weights are rounded to f32 once more.
        assert!((b - a).abs() <= 1e-5 * b.abs().max(1.0), "{b} {a}");
    }
}

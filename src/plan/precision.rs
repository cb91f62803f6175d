//! Which values of 16 bits are held in 32 bits: those that Softmax reads and computes, where that takes little memory.
//!
//! Softmax turns an absolute error into a relative one. An example: float16 has steps of 2^-6 at 20, so a score of 20 is off
//! by up to 2^-7 after it is rounded, and the results of its row are off by up to 0.8 %. The 27 scores that a product computes
//! from each row of 96 elements are therefore held in 32 bits, and rounded after Softmax. Attention's scores of 1024 rows of
//! 64 elements are not: there are more scores than elements of the operands, and they would be most of the arena.

use super::Options;
use super::fusion::{Liveness, liveness, may_fuse};
use super::question::Always;
use super::refusal::Refusal;
use super::specialisation::{Site, Specialisation};
use crate::facts::Facts;
use crate::graph::{NodeId, ValueId};
use crate::kernels::Storage;
use crate::kernels::expr::Integers;
use crate::ops::{Graph, Node};

/// The most bytes in 32 bits that count as little, whatever else the graph holds.
const FEW_BYTES: u64 = 4 << 10;
/// A value counts as little, too, if some input of its node has this many times its elements: it then adds at most a quarter
/// to the bytes that are alive while the node's kernel runs.
const INPUTS_TIMES: usize = 3;

/// For each value, whether its elements are held in 32 bits although its dtype has fewer.
pub(super) fn precise(
    graph: &Graph,
    facts: &Facts,
    options: &Options,
    specialisation: &mut Specialisation,
) -> Vec<bool> {
    let none = vec![false; graph.values.len()];
    let is_half =
        |id: ValueId| facts.get(id).and_then(|fact| Storage::of(fact.dtype)).is_some_and(Storage::rounds);
    let softmax =
        |node: &Node| node.op.operator().exponentiates() && node.data_inputs().flatten().any(is_half);
    if !graph.nodes.iter().any(softmax) {
        return none;
    }
    let mut halves = Halves {
        graph,
        facts,
        integers: options.integers,
        live: liveness(graph, facts, options),
        scores: none.clone(),
        kept: none,
    };
    let stored = |&n: &NodeId| match graph.nodes[n.index()].outputs[..] {
        [Some(value)] if is_half(value) => Some((n, value)),
        _ => None,
    };
    let nodes: Vec<(NodeId, ValueId)> = halves.live.nodes.iter().filter_map(stored).collect();
    for &(_, value) in nodes.iter().rev() {
        halves.scores[value.index()] = halves.is_scores(value);
    }
    for (node, value) in nodes {
        let little = |halves: &Halves| {
            let question = (Site::Unit(node), Always::Precise(value), 0);
            specialisation.always(question, halves.takes_little(node, value))
        };
        halves.kept[value.index()] = halves.is_kept(node, value, little);
    }
    halves.kept
}

struct Halves<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    integers: Integers,
    live: Liveness,
    /// For each value, whether every path from it leads to a Softmax that reads it, through nodes that pass elements on.
    scores: Vec<bool>,
    kept: Vec<bool>,
}

impl<'a> Halves<'a> {
    fn may_fuse(&self, node: NodeId) -> Result<bool, Refusal> {
        may_fuse(self.graph, self.facts, self.integers, node)
    }

    fn node(&self, node: NodeId) -> &'a Node {
        &self.graph.nodes[node.index()]
    }

    /// Whether the node computes each element from single elements of its inputs, or moves elements.
    fn passes_on(&self, node: NodeId) -> bool {
        self.node(node).op.operator().moves_elements() || self.may_fuse(node).is_ok()
    }

    fn is_read_by(&self, value: ValueId, reads: impl Fn(NodeId) -> bool) -> bool {
        let readers = &self.live.readers[value.index()];
        !self.live.wanted[value.index()] && !readers.is_empty() && readers.iter().all(|&reader| reads(reader))
    }

    fn is_scores(&self, value: ValueId) -> bool {
        self.is_read_by(value, |reader| {
            let scores = |id: &Option<ValueId>| id.is_some_and(|id| self.scores[id.index()]);
            let node = self.node(reader);
            node.op.operator().exponentiates() || node.outputs.iter().all(scores) && self.passes_on(reader)
        })
    }

    /// Whether all readers compute with the value: a kernel that moves bits needs elements of 16 bits on both sides.
    fn is_computed_with(&self, value: ValueId) -> bool {
        self.is_read_by(value, |reader| {
            let node = self.node(reader);
            let operand = node.inputs.first() == Some(&Some(value))
                && node.inputs.iter().filter(|&&input| input == Some(value)).count() == 1;
            operand && node.op.operator().takes_prologue() || self.may_fuse(reader).is_ok()
        })
    }

    fn takes_little(&self, node: NodeId, value: ValueId) -> bool {
        let (count, inputs) = (self.count(value), self.node(node).data_inputs().flatten());
        let part = |input: ValueId| count.saturating_mul(INPUTS_TIMES) <= self.count(input);
        Storage::Word.filled(count) <= FEW_BYTES || inputs.into_iter().any(part)
    }

    fn count(&self, value: ValueId) -> usize {
        self.facts.get(value).map_or(0, |fact| fact.count())
    }

    fn is_kept(&self, node: NodeId, value: ValueId, takes_little: impl FnOnce(&Self) -> bool) -> bool {
        let of = |input: ValueId| self.kept[input.index()] && self.count(value) <= self.count(input);
        let inputs = || self.node(node).data_inputs().flatten();
        if self.scores[value.index()] {
            return if self.passes_on(node) { inputs().any(of) } else { takes_little(self) };
        }
        // The results of Softmax, also masked or scaled, but not sums with values of the same size.
        let alone = inputs().all(|input| of(input) || self.count(input) < self.count(value));
        let made = self.node(node).op.operator().exponentiates() || alone && self.passes_on(node);
        made && inputs().any(of) && self.is_computed_with(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::internals::devices;
    use crate::internals::random::Sketch;
    use crate::kernels::Target;
    use crate::ops::{Attr, case};
    use crate::plan::tests::planned;
    use crate::{Dim, Session, SessionOptions, Tensor};

    fn input(sketch: &mut Sketch, name: &str) -> ValueId {
        let id = sketch.input(name);
        sketch.graph.values[id.index()].dtype = Some(DType::F16);
        id
    }

    fn halves(shape: &[usize]) -> Tensor {
        case::converted(&case::random(shape), DType::F16)
    }

    /// For each of the values, whether it lies in memory in 32 bits.
    fn kept(sketch: &Sketch, shapes: &[&[usize]], of: &[ValueId]) -> Vec<bool> {
        let inputs: Vec<Tensor> = shapes.iter().map(|shape| halves(shape)).collect();
        let program = planned(&sketch.graph, &inputs, &Target::FLOOR).unwrap().program;
        let tensor = |&id: &ValueId| {
            let name = &sketch.graph.value(id).name;
            let tensor = program.tensors.iter().find(|tensor| tensor.name == *name);
            tensor.unwrap_or_else(|| panic!("{name} has no tensor")).storage == Storage::Word
        };
        of.iter().map(tensor).collect()
    }

    fn attention(sketch: &mut Sketch) -> [ValueId; 3] {
        let [q, k, v] = ["q", "k", "v"].map(|name| input(sketch, name));
        let scores = sketch.node("MatMul", &[], &[q, k]);
        let probabilities = sketch.node("Softmax", &[], &[scores]);
        let mixed = sketch.node("MatMul", &[], &[probabilities, v]);
        sketch.graph.outputs.push(mixed);
        [scores, probabilities, mixed]
    }

    #[test]
    fn few_scores_are_kept() {
        let mut sketch = Sketch::default();
        let values = attention(&mut sketch);
        let shapes = |rows: usize| [[2, rows, 8], [2, 8, rows], [2, rows, 8]];
        let of = |rows: usize| kept(&sketch, &shapes(rows).each_ref().map(|shape| &shape[..]), &values);
        // 4 KiB are 2 * 22.6 * 22.6 words.
        assert_eq!(of(22), [true, true, false]);
        assert_eq!(of(23), [false; 3]);
    }

    #[test]
    fn scores_that_are_few_beside_an_input_are_kept() {
        for (columns, expected) in [(30, true), (31, false)] {
            let mut sketch = Sketch::default();
            let x = input(&mut sketch, "x");
            let weights = sketch.constant(halves(&[90, columns]));
            let scores = sketch.node("MatMul", &[], &[x, weights]);
            let result = sketch.node("Softmax", &[], &[scores]);
            sketch.graph.outputs.push(result);
            assert_eq!(kept(&sketch, &[&[200, 90]], &[scores, result]), [expected, false]);
        }
    }

    #[test]
    fn scores_that_others_read_are_not_kept() {
        let mut sketch = Sketch::default();
        let [scores, probabilities, mixed] = attention(&mut sketch);
        let shapes: [&[usize]; 3] = [&[2, 8, 8]; 3];
        // Elements that a concatenation moves must have the storage of the elements beside them.
        let moved = sketch.node("Concat", &[("axis", Attr::Int(0))], &[probabilities, probabilities]);
        sketch.graph.outputs.push(moved);
        assert_eq!(kept(&sketch, &shapes, &[scores, probabilities]), [true, false]);
        let sum = sketch.node("Add", &[], &[scores, mixed]);
        sketch.graph.outputs.push(sum);
        assert_eq!(kept(&sketch, &shapes, &[scores]), [false]);
    }

    #[test]
    fn scores_are_kept_under_another_shape() {
        let mut sketch = Sketch::default();
        let x = input(&mut sketch, "x");
        let weights = sketch.constant(halves(&[8, 6]));
        let bias = sketch.constant(halves(&[3, 2]));
        let scores = sketch.node("MatMul", &[], &[x, weights]);
        let split = sketch.reshape(scores, &[5, 3, 2]);
        let sum = sketch.node("Add", &[], &[split, bias]);
        let result = sketch.node("Softmax", &[], &[sum]);
        sketch.graph.outputs.push(result);
        assert_eq!(kept(&sketch, &[&[5, 8]], &[scores, split, result]), [true, true, false]);
    }

    /// Scores around 20 would be off by 2^-7 if they were rounded, and the results by 0.8 %.
    #[test]
    fn a_result_of_softmax_is_rounded_once() {
        let mut sketch = Sketch::default();
        let (x, y) = (input(&mut sketch, "x"), input(&mut sketch, "y"));
        for (id, shape) in [(x, [4, 8]), (y, [8, 4])] {
            sketch.graph.values[id.index()].shape = Some(shape.map(Dim::Known).to_vec());
        }
        let scores = sketch.node("MatMul", &[], &[x, y]);
        let result = sketch.node("Softmax", &[], &[scores]);
        sketch.graph.outputs.push(result);
        let (x, y) = (case::converted(&case::uniform(&[4, 8], 8.0, 16.0), DType::F16), halves(&[8, 4]));
        let values = |tensor: &Tensor| case::converted(tensor, DType::F64).to_vec::<f64>().unwrap();
        let (a, b) = (values(&x), values(&y));
        for device in devices::each() {
            let graph = std::sync::Arc::new(sketch.graph.clone());
            let session = Session::of_graph(&device, graph, SessionOptions::default(), vec![]).unwrap();
            let actual = values(&session.run(&[("x", &x), ("y", &y)]).unwrap()[0]);
            for (row, actual) in a.chunks(8).zip(actual.chunks(4)) {
                let score = |j: usize| (0..8).map(|k| row[k] * b[4 * k + j]).sum::<f64>();
                let sum: f64 = (0..4).map(|j| score(j).exp()).sum();
                for (j, actual) in actual.iter().enumerate() {
                    let expected = score(j).exp() / sum;
                    // Half a step of float16, and the error of sums in 32 bits.
                    let limit = expected * (0.5f64.powi(11) + 1e-5) + 0.5f64.powi(25);
                    assert!(
                        (actual - expected).abs() <= limit,
                        "{actual}, not {expected}, on {}",
                        device.name()
                    );
                }
            }
        }
    }
}

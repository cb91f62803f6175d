//! Dimensions that a model leaves open, bound to other sizes than a run's: what differs then is what may differ.

use super::{FactBase, Facts};
use crate::graph::{Dim, Graph};
use crate::{DType, Tensor};

/// A graph's inputs: dtype, shape, and value where it decides shapes.
pub(crate) type Inputs = Vec<(DType, Vec<usize>, Option<Tensor>)>;

/// Beyond, not every pair of dimensions is tried.
const MOST: usize = 6;

/// Places (input, axis) of one open dimension; those of one name are one.
type Open = Vec<(usize, usize)>;

fn open(graph: &Graph, base: &FactBase, inputs: &Inputs) -> Vec<Open> {
    let mut named: Vec<(&str, Open)> = Vec::new();
    let mut all = Vec::new();
    for (i, (id, input)) in graph.inputs.iter().zip(inputs).enumerate() {
        if base.shape_inputs(graph).any(|fixed| fixed == i) {
            continue;
        }
        for axis in 0..input.1.len() {
            let dim = graph.value(*id).shape.as_ref().and_then(|dims| dims.get(axis));
            match dim {
                Some(Dim::Known(_)) => {}
                Some(Dim::Symbol(name)) => match named.iter_mut().find(|(other, _)| other == name) {
                    Some((_, places)) => places.push((i, axis)),
                    None => named.push((name, vec![(i, axis)])),
                },
                _ => all.push(vec![(i, axis)]),
            }
        }
    }
    all.extend(named.into_iter().map(|(_, places)| places));
    all
}

/// How far each open dimension of a graph can move, with the others where they are: by multiples of the least power of 2
/// that the model takes.
pub(crate) struct Moves<'a> {
    graph: &'a Graph,
    base: &'a FactBase,
    inputs: &'a Inputs,
    open: Vec<Open>,
    /// (number in `open`, least move)
    least: Vec<(usize, usize)>,
}

impl<'a> Moves<'a> {
    pub(crate) fn new(graph: &'a Graph, base: &'a FactBase, inputs: &'a Inputs) -> Moves<'a> {
        let open = open(graph, base, inputs);
        let mut moves = Moves { graph, base, inputs, open, least: Vec::new() };
        let mut bound = Vec::new();
        for at in 0..moves.open.len().min(MOST) {
            match moves.least(&[at]) {
                Some(alone) => moves.least.extend(alone),
                None => bound.push(at),
            }
        }
        // A dimension that is the sum of two others only changes with one of them.
        for (i, &a) in bound.iter().enumerate() {
            for &b in &bound[i + 1..] {
                let both = moves.least(&[a, b]).unwrap_or_default();
                moves.least.extend(both);
            }
        }
        moves
    }

    fn least(&self, dims: &[usize]) -> Option<Vec<(usize, usize)>> {
        let moves = |by: usize| dims.iter().map(|&at| (at, by)).collect::<Vec<_>>();
        (0..7).map(|n| moves(1 << n)).find(|moves| self.bind(moves).is_some())
    }

    fn bind(&self, moves: &[(usize, usize)]) -> Option<Facts> {
        let mut inputs = self.inputs.clone();
        for &(at, by) in moves {
            self.open[at].iter().for_each(|&(i, axis)| inputs[i].1[axis] += by);
        }
        self.base.bind(self.graph, &inputs).ok()
    }

    /// Facts where every dimension has moved by so many times its least move; one of size 1, which is most often a batch,
    /// not as far. `None` if none can, or the model does not take them all at once.
    pub(crate) fn times(&self, n: usize) -> Option<Facts> {
        let single = |at: usize| self.open[at].iter().any(|&(i, axis)| self.inputs[i].1[axis] == 1);
        let by = |&(at, by): &(usize, usize)| (at, by * if single(at) { n.min(9) } else { n });
        let moves: Vec<_> = self.least.iter().map(by).collect();
        if moves.is_empty() { None } else { self.bind(&moves) }
    }

    /// Facts for a batch of one: what is an input's first dimension everywhere is 1. `None` if it is already.
    pub(crate) fn alone(&self) -> Option<Facts> {
        let mut inputs = self.inputs.clone();
        for open in self.open.iter().filter(|open| open.iter().all(|place| place.1 == 0)) {
            open.iter().for_each(|&(i, axis)| inputs[i].1[axis] = inputs[i].1[axis].min(1));
        }
        let changed = inputs.iter().zip(self.inputs).any(|(a, b)| a.1 != b.1);
        changed.then(|| self.base.bind(self.graph, &inputs).ok()).flatten()
    }
}

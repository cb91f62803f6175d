//! Dimensions that a model leaves open, bound to other sizes than a run's: what differs then is what may differ.

use crate::Dim;
use crate::facts::{FactBase, Facts, Input};
use crate::graph::ValueId;
use crate::ops::Graph;

/// Beyond, not every pair of dimensions is tried.
const MOST: usize = 6;
/// The largest least move that is looked for: images are often multiples of 32.
const MOST_MOVED: i64 = 64;

/// Places (input, axis) of one open dimension; those of one name are one.
type Open = Vec<(usize, usize)>;

fn open(graph: &Graph, base: &FactBase, inputs: &[Input]) -> Vec<Open> {
    let mut named: Vec<(&str, Open)> = Vec::new();
    let mut all = Vec::new();
    for (i, (id, input)) in graph.inputs.iter().zip(inputs).enumerate() {
        if base.shape_inputs(graph).any(|fixed| fixed == i) {
            continue;
        }
        for axis in 0..input.shape.len() {
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
/// that the model takes, up or else down.
pub(crate) struct Moves<'a> {
    graph: &'a Graph,
    base: &'a FactBase,
    inputs: &'a [Input],
    open: Vec<Open>,
    /// Dimensions that move together.
    groups: Vec<Group>,
}

/// Numbers in `Moves::open`, and the least move of each: up, or down where the model takes nothing larger.
type Group = Vec<(usize, i64)>;

impl<'a> Moves<'a> {
    pub(crate) fn new(graph: &'a Graph, base: &'a FactBase, inputs: &'a [Input]) -> Moves<'a> {
        let open = open(graph, base, inputs);
        let mut moves = Moves { graph, base, inputs, open, groups: Vec::new() };
        let mut bound = Vec::new();
        let mut guess = 1;
        for at in 0..moves.open.len().min(MOST) {
            match moves.group(&[at], guess) {
                Some(alone) => {
                    guess = alone.iter().map(|(_, by)| by.abs()).max().unwrap_or(guess);
                    moves.groups.push(alone);
                }
                None => bound.push(at),
            }
        }
        // A dimension that is the sum of two others only changes with one of them.
        for (i, &a) in bound.iter().enumerate() {
            for &b in &bound[i + 1..] {
                let both = moves.group(&[a, b], 1);
                moves.groups.extend(both);
            }
        }
        moves
    }

    /// The group of these dimensions; `guess` is what its least move may be. A model that takes a move takes two of them.
    fn group(&self, dims: &[usize], guess: i64) -> Option<Group> {
        let group = |by: i64| dims.iter().map(|&at| (at, by)).collect::<Group>();
        let takes =
            |by: i64| self.moved(&group(by)).is_some_and(|inputs| self.base.takes(self.graph, &inputs));
        for sign in [1, -1] {
            let mut by = guess;
            while by <= MOST_MOVED && !takes(sign * by) {
                by *= 2;
            }
            if by == guess {
                while by > 1 && takes(sign * by / 2) {
                    by /= 2;
                }
            }
            if by <= MOST_MOVED {
                return Some(group(sign * by));
            }
        }
        None
    }

    /// The inputs, moved. `None` if nothing were left of one.
    fn moved(&self, moves: &[(usize, i64)]) -> Option<Vec<Input>> {
        let mut inputs = self.inputs.to_vec();
        for &(at, by) in moves {
            for &(i, axis) in &self.open[at] {
                let size = &mut inputs[i].shape[axis];
                *size = usize::try_from(*size as i64 + by).ok().filter(|&size| size > 0)?;
            }
        }
        Some(inputs)
    }

    fn bind(&self, inputs: &[Input]) -> Option<Facts> {
        self.base.bind(self.graph, inputs).ok()
    }

    /// Whether a dimension is the first wherever it is, as a batch is.
    fn is_first(&self, at: usize) -> bool {
        self.open[at].iter().all(|place| place.1 == 0)
    }

    fn size(&self, at: usize, inputs: &[Input]) -> usize {
        self.open[at].iter().map(|&(i, axis)| inputs[i].shape[axis]).min().unwrap_or(0)
    }

    /// Facts where every dimension has moved to where it is so many times its least move, `last[0]` and `last[1]` in turn, with
    /// multiples of `every`, and has grown by `least` times that at the least; one of size 1, by at most `single` times.
    pub(crate) fn to(&self, last: [usize; 2], every: usize, least: usize, single: usize) -> Option<Facts> {
        self.all(|i, size| {
            let n = (last[i % 2] + every - (size + least) % every) % every + least;
            if size == 1 { n.min(single) } else { n.max(1) }
        })
    }

    /// Facts where dimensions have moved by `n` times their least move, which is given a group's number, and how many times
    /// the least move its first dimension is.
    fn all(&self, n: impl Fn(usize, usize) -> usize) -> Option<Facts> {
        let by = |(i, group): (usize, &Group)| {
            let size = |&(at, by): &(usize, i64)| self.size(at, self.inputs) / by.unsigned_abs() as usize;
            let alone = group.iter().any(|&(at, _)| self.size(at, self.inputs) == 1);
            let n = n(i, if alone { 1 } else { group.first().map_or(0, size) });
            let down = group.iter().filter(|(_, by)| *by < 0);
            let room = down
                .map(|&(at, by)| self.size(at, self.inputs).saturating_sub(1) / by.unsigned_abs() as usize);
            let n = room.min().map_or(n, |room| n.min(room)) as i64;
            group.iter().map(|&(at, by)| (at, by * n)).collect::<Group>()
        };
        let moves: Group = self.groups.iter().enumerate().flat_map(by).collect();
        if moves.is_empty() { None } else { self.bind(&self.moved(&moves)?) }
    }

    /// Facts where every dimension is as small as its moves and the model allow: of those that move together, one is. `None` if
    /// all are already.
    pub(crate) fn least(&self) -> Option<Facts> {
        let mut least = None;
        for group in &self.groups {
            let mut smaller = least.clone().unwrap_or_else(|| self.inputs.to_vec());
            if self.shrink(group, 1, &mut smaller) && self.base.takes(self.graph, &smaller) {
                least = Some(smaller);
            }
        }
        self.bind(&least?)
    }

    /// Facts where a dimension is 0, as that of a cache is before its first entry, and all others have moved; for each that
    /// can be but a batch, and leaves something of some input and of every output.
    pub(crate) fn emptied(&self) -> impl Iterator<Item = Facts> {
        let first = |group: &&Group| group.iter().all(|&(at, _)| self.is_first(at));
        let moves: Group = self.groups.iter().flatten().copied().collect();
        self.groups.iter().filter(move |group| !first(group)).filter_map(move |group| {
            let mut inputs = self.moved(&moves)?;
            self.shrink(group, 0, &mut inputs);
            let something = inputs.iter().any(|input| !input.shape.contains(&0));
            let facts = if something { self.bind(&inputs)? } else { return None };
            let empty = |id: &ValueId| facts.get(*id).is_some_and(|fact| fact.count() == 0);
            (!self.graph.outputs.iter().any(empty)).then_some(facts)
        })
    }

    /// Makes the dimensions of a group smaller, until one is as small as `least` or almost; whether any moved.
    fn shrink(&self, group: &Group, least: usize, inputs: &mut [Input]) -> bool {
        let by = |by: i64| by.unsigned_abs() as usize;
        let room =
            |&(at, least_move): &(usize, i64)| self.size(at, inputs).saturating_sub(least) / by(least_move);
        let times = group.iter().map(room).min().unwrap_or(0);
        for &(at, least_move) in group {
            self.open[at].iter().for_each(|&(i, axis)| inputs[i].shape[axis] -= by(least_move) * times);
        }
        times > 0
    }
}

#[cfg(test)]
impl Moves<'_> {
    /// Facts where every dimension has moved by so many times its least move, `n[0]` and `n[1]` in turn; one of size 1, by at
    /// most `single` times. `None` if none can, or the model does not take them all at once.
    pub(crate) fn times(&self, n: [usize; 2], single: usize) -> Option<Facts> {
        self.all(|i, size| if size == 1 { n[i % 2].min(single) } else { n[i % 2] })
    }
}

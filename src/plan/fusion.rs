//! Fusion: pointwise operators of one shape become one kernel, or the epilogue of the matrix product, convolution or reduction
//! before them.
//!
//! A unit is a set of nodes that one lowering computes; it becomes one kernel call, or several calls. An example: `MatMul`,
//! `Add` of a bias and `Relu` are one unit. Its *anchor* is the MatMul. `Add` and `Relu` are its epilogue: the kernel computes
//! them for each element before it stores the element. A `Mul` before the MatMul may be its prologue: the kernel computes it
//! for each element that it loads.
//!
//! Units stay convex: no node outside a unit both depends on a node of the unit and feeds another. Otherwise neither of the
//! two could run first.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use super::attention::{self, SpelledAttention};
use super::refusal::Refusal;
use super::why::{Note, Notes};
use super::{Options, Pairing};
use crate::facts::Facts;
use crate::graph::{NodeId, ValueId};
use crate::kernels::expr::{Builder, Integers};
use crate::kernels::{MAX_BINDINGS, Target, fused_tensors};
use crate::ops::{Graph, Node};

/// The most operands of an epilogue; the anchor needs the other bindings.
const MAX_EPILOGUE_OPERANDS: usize = 3;
/// The most operands of a prologue and its anchor's epilogue together, without the prologue's first operand, which takes the
/// place of the anchor's input: a normalisation whose rows are cut into parts has six bindings of its own.
const MAX_PROLOGUE_OPERANDS: usize = 2;
/// The most nodes of a prologue. They must be cheap, as a kernel may compute them again for each pass over a row.
const MAX_PROLOGUE: usize = 4;
/// The most nodes of a unit: with more, code grows and nothing is gained.
const MAX_NODES: usize = 48;

/// The most readers that are followed to find out whether a path leads from one unit to another. Units that are further apart
/// stay apart: a graph in which each node reads a far one would take time that grows as its square.
const MAX_FOLLOWED: usize = 4096;

/// Nodes that are lowered together: the MatMul, Add and Relu of the example above.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    /// The names of the nodes.
    pub(crate) label: Arc<str>,
    /// The node into whose kernel the others are fused.
    pub(crate) anchor: Option<NodeId>,
    /// Pointwise nodes that compute input 0 of the anchor, in topological order.
    pub(crate) prologue: Vec<NodeId>,
    /// Pointwise nodes, in topological order. If there is an anchor, they are its epilogue.
    pub(crate) pointwise: Vec<NodeId>,
    /// The unit's values that other units, or the caller, need.
    pub(crate) outputs: Vec<ValueId>,
    /// The attention that the unit is. The anchor is the last of its nodes.
    pub(crate) attention: Option<Arc<SpelledAttention>>,
}

impl Unit {
    /// All nodes, the anchor first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        let inner = self.attention.iter().flat_map(|spelled| spelled.inner());
        self.anchor.iter().chain(&self.prologue).chain(&self.pointwise).chain(inner)
    }
}

/// What planning knows of a value. A known value may need no binding. An example: in `x * 0.5`, `x` is `Nothing`, and `0.5` is
/// `Single`, which becomes a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Knowledge {
    /// A run computes the value.
    Nothing,
    /// Planning knows the value's elements.
    Elements,
    /// Planning knows the value, and it has one element.
    Single,
}

fn known(facts: &Facts, value: usize) -> Knowledge {
    match facts.get(ValueId(value as u32)).filter(|fact| fact.constant().is_some()) {
        None => Knowledge::Nothing,
        Some(fact) if fact.count() == 1 => Knowledge::Single,
        Some(_) => Knowledge::Elements,
    }
}

/// Each attention that is spelled out, and whether it is a unit.
type AttentionUnits = Vec<(Arc<SpelledAttention>, bool)>;

/// All units of a graph, in the order in which they run.
#[derive(Debug)]
pub(crate) struct Units {
    pub(crate) all: Vec<Unit>,
    /// What planning knew of each value when nodes were fused.
    known: Vec<Knowledge>,
    attention: AttentionUnits,
    /// What was decided, if that is wanted.
    pub(super) notes: Notes,
}

impl Units {
    /// `attention`: whether attention that is spelled out has kernels of its own.
    pub(crate) fn of(
        graph: &Graph,
        facts: &Facts,
        target: &Target,
        options: &Options,
        attention: bool,
    ) -> Units {
        let known = (0..graph.values.len()).map(|value| known(facts, value)).collect();
        let live = liveness(graph, facts, options);
        let spelled = if attention { attention::all(graph, facts, &live) } else { Vec::new() };
        let is_unit = |spelled: SpelledAttention| {
            let is_unit = spelled.sizes(facts, target).is_some();
            (Arc::new(spelled), is_unit)
        };
        let attention = spelled.into_iter().map(is_unit).collect();
        let (all, notes) = units(graph, facts, options, live, &attention);
        Units { all, known, attention, notes }
    }

    /// Whether the units fit other sizes too: planning knows the same values, and the nodes of each unit still have one shape.
    pub(crate) fn fit(&self, graph: &Graph, facts: &Facts, target: &Target) -> bool {
        let same = |(value, &before): (usize, &Knowledge)| {
            let now = known(facts, value);
            (before == Knowledge::Nothing) == (now == Knowledge::Nothing) && now >= before
        };
        let shape = |node: &NodeId| {
            let output = graph.nodes[node.index()].outputs.first().copied().flatten();
            output.and_then(|id| facts.get(id)).map(|fact| &fact.shape)
        };
        let alike = |nodes: &[NodeId]| nodes.windows(2).all(|pair| shape(&pair[0]) == shape(&pair[1]));
        let fits = |unit: &Unit| {
            let epilogue = unit.anchor.zip(unit.pointwise.first());
            let alike_anchor = epilogue.is_none_or(|(anchor, first)| shape(&anchor) == shape(first));
            alike_anchor && alike(&unit.pointwise) && alike(&unit.prologue)
        };
        let attends = |(spelled, is_unit): &(Arc<SpelledAttention>, bool)| {
            spelled.sizes(facts, target).is_some() == *is_unit
        };
        self.known.iter().enumerate().all(same)
            && self.all.iter().all(fits)
            && self.attention.iter().all(attends)
    }
}

/// Whether fused code may hold the node: its operator is a scalar expression of its inputs, and a kernel has bindings for
/// them. The flag tells whether only an elementwise kernel may hold the expression: it reports results that do not fit 32 bits, or
/// computes with 64 bits.
pub(super) fn may_fuse(
    graph: &Graph,
    facts: &Facts,
    integers: Integers,
    node: NodeId,
) -> Result<bool, Refusal> {
    let node = &graph.nodes[node.index()];
    let [Some(output)] = node.outputs[..] else { return Err(Refusal::HasOutputs) };
    let Some(output) = facts.get(output) else { return Err(Refusal::NoRegister) };
    if node.widens_constant(graph, &facts.of_inputs(node)) {
        return Err(Refusal::ConvertedByReaders);
    }
    let mut builder = Builder::of_shape(&output.shape, integers);
    builder.results_of(output.dtype, 0);
    let mut inputs: SmallVec<[_; 4]> = SmallVec::new();
    if node.inputs.len() > MAX_NODES {
        return Err(Refusal::ReadsMany { tensors: node.inputs.len(), limit: fused_tensors(false) - 1 });
    }
    for (i, input) in node.data_inputs().enumerate() {
        match input.and_then(|id| facts.get(id)).map(|fact| builder.register(fact.dtype)) {
            None => inputs.push(None),
            Some(None) => return Err(Refusal::NoRegister),
            Some(Some(scalar)) if node.op.operator().table() == Some(i) => {
                inputs.push(Some(builder.table(i, scalar)));
            }
            Some(Some(scalar)) => inputs.push(Some(builder.load(i, scalar))),
        }
    }
    let Some(result) = builder.register(output.dtype) else { return Err(Refusal::NoRegister) };
    // What no device computes is refused by itself, and not with the nodes around it.
    if node.op.operator().pointwise(&mut builder, &inputs, output.dtype).is_none() || builder.mixes() {
        return Err(Refusal::ComputesWhole);
    }
    let (tensors, limit) = (operands(facts, node, |_| false).len(), fused_tensors(builder.reports()) - 1);
    let wide = builder.reads_wide() || result.is_wide();
    if tensors > limit { Err(Refusal::ReadsMany { tensors, limit }) } else { Ok(builder.reports() || wide) }
}

/// The values that the node reads through bindings, with their pairings. Values from `inside`, and scalars that planning
/// knows, need no binding.
fn operands(
    facts: &Facts,
    node: &Node,
    inside: impl Fn(ValueId) -> bool,
) -> SmallVec<[(ValueId, Option<Pairing>); 4]> {
    let of_inputs = facts.of_inputs(node);
    let mut operands = SmallVec::new();
    for (i, id) in node.data_inputs().enumerate().filter_map(|(i, id)| Some((i, id?))) {
        let scalar = facts.get(id).is_some_and(|fact| fact.constant().is_some() && fact.count() == 1);
        let pairing = match node.op.operator().table() {
            Some(table) if table == i => Some(Pairing::table()),
            _ => node.op.operator().pairing(i, &of_inputs).ok().flatten(),
        };
        let operand = (id, pairing);
        if !inside(id) && !scalar && !operands.contains(&operand) {
            operands.push(operand);
        }
    }
    operands
}

/// Which values the device must have, and which nodes compute them.
pub(super) struct Liveness {
    /// For each value, the nodes that read its elements on the device, each once.
    pub(super) readers: Vec<SmallVec<[NodeId; 2]>>,
    pub(super) nodes: Vec<NodeId>,
    /// Whether each value is a graph output, or is kept for the caller.
    pub(super) wanted: Vec<bool>,
}

pub(super) fn liveness(graph: &Graph, facts: &Facts, options: &Options) -> Liveness {
    let mut wanted = vec![false; graph.values.len()];
    graph.outputs.iter().chain(&options.keep).for_each(|id| wanted[id.index()] = true);
    let mut readers = vec![SmallVec::new(); graph.values.len()];
    let mut nodes = Vec::new();
    let static_value = |id: ValueId| facts.get(id).is_some_and(|fact| fact.constant().is_some());
    for (n, node) in graph.nodes.iter().enumerate().rev() {
        let used =
            |id: &ValueId| !static_value(*id) && (wanted[id.index()] || !readers[id.index()].is_empty());
        if !node.outputs.iter().flatten().any(used) {
            continue;
        }
        let id = NodeId(n as u32);
        nodes.push(id);
        for input in node.data_inputs().flatten() {
            let readers: &mut SmallVec<[NodeId; 2]> = &mut readers[input.index()];
            if readers.last() != Some(&id) {
                readers.push(id);
            }
        }
    }
    nodes.reverse();
    Liveness { readers, nodes, wanted }
}

struct Fuser<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    live: Liveness,
    producer: Vec<Option<NodeId>>,
    /// For each node, whether only elementwise kernels may hold its expression. Other kernels have neither fault words nor float64.
    elementwise: Vec<bool>,
    /// The unit of each node.
    unit_of: Vec<usize>,
    units: Vec<Option<Unit>>,
    /// The place of each unit in an order in which each comes after the units that it depends on. Places that merged units had
    /// stay empty.
    place: Vec<usize>,
    /// For each unit, the number of the last walk that came to it, and that number.
    walked: Vec<usize>,
    walk: usize,
    notes: Notes,
}

/// The units between two in the order: those that the second depends on, and those that depend on the first.
#[derive(Default)]
struct Between {
    before: Vec<usize>,
    after: Vec<usize>,
}

impl Fuser<'_> {
    /// The units that compute data inputs of `node`, each with the value.
    fn inputs(&self, node: NodeId) -> SmallVec<[(usize, ValueId); 4]> {
        let data = self.graph.nodes[node.index()].data_inputs().flatten();
        data.filter_map(|id| {
            let made = self.producer[id.index()].filter(|_| self.needs_kernel(id))?;
            Some((self.unit_of[made.index()], id))
        })
        .collect()
    }

    fn needs_kernel(&self, id: ValueId) -> bool {
        self.facts.get(id).is_some_and(|fact| fact.constant().is_none())
    }

    fn add_unit(&mut self, node: NodeId, anchor: bool) {
        let number = self.units.len();
        let (anchor, pointwise) = if anchor { (Some(node), vec![]) } else { (None, vec![node]) };
        self.units.push(Some(Unit { anchor, pointwise, ..Unit::default() }));
        self.unit_of[node.index()] = number;
        self.place.push(number);
        self.walked.push(0);
    }

    fn add_attention(&mut self, node: NodeId, spelled: Arc<SpelledAttention>) {
        let number = self.units.len();
        self.add_unit(node, true);
        spelled.inner().for_each(|inner| self.unit_of[inner.index()] = number);
        self.units[number].iter_mut().for_each(|unit| unit.attention = Some(spelled.clone()));
        for &reader in &spelled.nodes {
            for (unit, value) in self.inputs(reader) {
                let apart = if unit == number { Ok(()) } else { Err(Refusal::TakesNoPrologue) };
                self.notes.apart(value, reader, apart);
            }
        }
    }

    /// The units that read values of unit `number`.
    fn followers(&self, number: usize) -> impl Iterator<Item = usize> {
        let nodes = self.units[number].iter().flat_map(|unit| unit.nodes());
        let values = nodes.flat_map(|n| self.graph.nodes[n.index()].outputs.iter().flatten());
        let readers = values.flat_map(|id| &self.live.readers[id.index()]);
        readers.map(|n| self.unit_of[n.index()]).filter(move |&unit| unit != number && unit != usize::MAX)
    }

    /// The units that compute values which unit `number` reads.
    fn sources(&self, number: usize) -> impl Iterator<Item = usize> {
        let nodes = self.units[number].iter().flat_map(|unit| unit.nodes());
        nodes.flat_map(|n| self.inputs(*n)).map(|(unit, _)| unit).filter(move |&unit| unit != number)
    }

    /// The units between `first` and `last` that depend on `first`, if `last` is not one of them; and those that `last`
    /// depends on.
    fn between(&mut self, first: usize, last: usize) -> Result<Between, Refusal> {
        if self.place[last] == self.place[first] + 1 {
            return Ok(Between::default());
        }
        let after = self.reached(first, |fuser, from, reached| {
            for unit in fuser.followers(from) {
                if unit == last && from != first {
                    return Err(Refusal::Between);
                }
                reached(unit, fuser.place[unit] < fuser.place[last])?;
            }
            Ok(())
        })?;
        let before = self.reached(last, |fuser, from, reached| {
            fuser.sources(from).try_for_each(|unit| reached(unit, fuser.place[unit] > fuser.place[first]))
        })?;
        Ok(Between { before, after })
    }

    /// The units to which steps lead from `start`. `step` tells the units that one leads to, each with whether it counts.
    fn reached(
        &mut self,
        start: usize,
        step: impl Fn(&Self, usize, &mut dyn FnMut(usize, bool) -> Result<(), Refusal>) -> Result<(), Refusal>,
    ) -> Result<Vec<usize>, Refusal> {
        self.walk += 1;
        let mut walked = std::mem::take(&mut self.walked);
        let (mut found, mut followed, mut from) = (Vec::new(), 0, Some(start));
        let mut next = 0;
        let mut outcome = Ok(());
        while let (Some(unit), Ok(())) = (from, outcome) {
            outcome = step(self, unit, &mut |unit, counts| {
                followed += 1;
                if followed > MAX_FOLLOWED {
                    return Err(Refusal::FarApart { limit: MAX_FOLLOWED });
                }
                if counts && walked[unit] != self.walk {
                    walked[unit] = self.walk;
                    found.push(unit);
                }
                Ok(())
            });
            from = found.get(next).copied();
            next += 1;
        }
        self.walked = walked;
        outcome.map(|()| found)
    }

    /// Merges unit `b` into unit `a`, unless a path leads from one to the other through a third unit: that path would become a
    /// cycle.
    fn merge(&mut self, a: usize, b: usize) -> Result<(), Refusal> {
        let (first, last) = if self.place[a] < self.place[b] { (a, b) } else { (b, a) };
        let Between { mut before, mut after } = self.between(first, last)?;
        let Some(moved) = self.units[b].take() else { return Ok(()) };
        for node in moved.nodes() {
            self.unit_of[node.index()] = a;
        }
        if let Some(unit) = &mut self.units[a] {
            unit.anchor = unit.anchor.or(moved.anchor);
            unit.pointwise.extend(moved.pointwise);
            unit.pointwise.sort();
        }
        if before.is_empty() && after.is_empty() {
            self.place[a] = self.place[last];
            return Ok(());
        }
        // The places of all these units but the first go to what the second depends on, to the two as one, and to what depends
        // on the first.
        let mut places = vec![self.place[first], self.place[last]];
        places.extend(before.iter().chain(&after).map(|&unit| self.place[unit]));
        places.sort_unstable();
        before.sort_unstable_by_key(|&unit| self.place[unit]);
        after.sort_unstable_by_key(|&unit| self.place[unit]);
        for (unit, place) in before.into_iter().chain([a]).chain(after).zip(places.into_iter().skip(1)) {
            self.place[unit] = place;
        }
        Ok(())
    }

    /// Values that the unit computes and that are needed outside of it.
    fn outputs<'n>(&self, nodes: impl Iterator<Item = &'n NodeId>, number: usize) -> Vec<ValueId> {
        let values = nodes.flat_map(|n| self.graph.nodes[n.index()].outputs.iter().flatten().copied());
        let outside = |id: &ValueId| {
            self.live.wanted[id.index()]
                || self.live.readers[id.index()].iter().any(|n| self.unit_of[n.index()] != number)
        };
        values.filter(|id| self.needs_kernel(*id) && outside(id)).collect()
    }

    /// The number of bindings that the unit's pointwise nodes read; scalars that planning knows need none.
    fn operands<'n>(&self, pointwise: impl Iterator<Item = &'n NodeId>, number: usize) -> usize {
        let inside =
            |id: ValueId| self.producer[id.index()].is_some_and(|n| self.unit_of[n.index()] == number);
        let mut all: SmallVec<[_; 8]> = SmallVec::new();
        let mut reports = false;
        for node in pointwise {
            reports |= self.elementwise[node.index()];
            for operand in operands(self.facts, &self.graph.nodes[node.index()], inside) {
                if !all.contains(&operand) {
                    all.push(operand);
                }
            }
        }
        all.len() + usize::from(reports)
    }

    fn shape(&self, id: ValueId) -> Option<&[usize]> {
        self.facts.get(id).map(|fact| fact.shape.as_slice())
    }

    /// Joins the pointwise units at both ends of the edge `value` from unit `from`, if the result still fits one kernel.
    fn join_pointwise(&mut self, from: usize, node: NodeId, value: ValueId) {
        let to = self.unit_of[node.index()];
        let output = self.graph.nodes[node.index()].outputs[0];
        let alike = output.and_then(|id| self.shape(id)) == self.shape(value);
        let joined = if alike { self.join(from, to) } else { Err(Refusal::OtherShape) };
        self.notes.apart(value, node, joined);
    }

    /// Joins pointwise units that have one shape, read `value`, and do not depend on each other.
    fn join_siblings(&mut self, value: ValueId) {
        let mut units: Vec<usize> =
            self.live.readers[value.index()].iter().map(|node| self.unit_of[node.index()]).collect();
        units.sort();
        units.dedup();
        for i in 1..units.len() {
            let first = |unit: usize| self.units[unit].as_ref()?.pointwise.first().copied();
            let (one, other) = (units[i - 1], units[i]);
            let (Some(first_of_one), Some(first_of_other)) = (first(one), first(other)) else { continue };
            let shape = |node: NodeId| self.shape(self.graph.nodes[node.index()].outputs[0]?);
            let alike = shape(first_of_one) == shape(first_of_other);
            let joined = if alike { self.join(one, other) } else { Err(Refusal::OtherShape) };
            if self.units[other].is_none() {
                units[i] = one;
            }
            if let Err(why) = joined {
                self.notes.add(|| Note::Siblings { value, nodes: [first_of_one, first_of_other], why });
            }
        }
    }

    /// Joins two pointwise units of one shape, if the result still fits one kernel.
    fn join(&mut self, from: usize, to: usize) -> Result<(), Refusal> {
        let (Some(a), Some(b)) = (&self.units[from], &self.units[to]) else { return Ok(()) };
        if from == to {
            return Ok(());
        }
        if a.anchor.is_some() || b.anchor.is_some() {
            return Err(Refusal::OwnKernel);
        }
        let nodes = a.pointwise.len() + b.pointwise.len();
        if nodes > MAX_NODES {
            return Err(Refusal::ManyNodes { nodes, limit: MAX_NODES });
        }
        // For the count of bindings the two are one unit already.
        b.pointwise.iter().for_each(|n| self.unit_of[n.index()] = from);
        let both = || a.pointwise.iter().chain(&b.pointwise);
        let bindings = self.operands(both(), from) + self.outputs(both(), from).len();
        b.pointwise.iter().for_each(|n| self.unit_of[n.index()] = to);
        if bindings > MAX_BINDINGS {
            return Err(Refusal::ManyBindings { bindings, limit: MAX_BINDINGS });
        }
        self.merge(from, to)
    }

    /// Whether the unit's pointwise nodes have kernels before or after them: one result, and code that other kernels
    /// may hold.
    fn single_result(&self, unit: &Unit, number: usize) -> Result<ValueId, Refusal> {
        if unit.pointwise.iter().any(|node| self.elementwise[node.index()]) {
            return Err(Refusal::Reports);
        }
        match self.outputs(unit.nodes(), number)[..] {
            [output] => Ok(output),
            _ => Err(Refusal::SeveralResults),
        }
    }

    /// Makes pointwise unit `number` the epilogue of one of the units before it, if one of them accepts it.
    fn join_anchor(&mut self, number: usize) {
        let Some(unit) = self.units[number].clone().filter(|unit| unit.anchor.is_none()) else { return };
        let result = self.may_follow(&unit, number);
        if result.is_err() && !self.notes.wanted() {
            return;
        }
        let has_kernel =
            |number: usize| self.units[number].as_ref().is_some_and(|unit| unit.anchor.is_some());
        let inputs = unit.pointwise.iter().flat_map(|n| self.inputs(*n));
        let mut candidates: Vec<(usize, ValueId)> =
            inputs.filter(|(before, _)| has_kernel(*before)).collect();
        candidates.sort_by(|a, b| b.cmp(a));
        candidates.dedup();
        let mut follows = false;
        for (before, value) in candidates {
            let joined = match follows {
                true => Err(Refusal::FollowsAnother),
                false => result.and_then(|result| self.may_be_followed(before, number, (value, result))),
            };
            let joined = joined.and_then(|()| self.merge(before, number));
            self.notes.apart_in(&unit.pointwise, &self.live.readers[value.index()], value, joined);
            if joined.is_ok() && !self.notes.wanted() {
                return;
            }
            follows |= joined.is_ok();
        }
    }

    /// Whether a kernel may compute pointwise unit `number` after its own value. The unit's result.
    fn may_follow(&self, unit: &Unit, number: usize) -> Result<ValueId, Refusal> {
        let result = self.single_result(unit, number)?;
        let operands = self.operands(unit.pointwise.iter(), number).saturating_sub(1);
        match operands > MAX_EPILOGUE_OPERANDS {
            true => Err(Refusal::ManyOperands { operands, limit: MAX_EPILOGUE_OPERANDS }),
            false => Ok(result),
        }
    }

    /// Whether unit `before`, which makes `value`, takes pointwise unit `number` as its epilogue, which makes `result`.
    fn may_be_followed(
        &self,
        before: usize,
        number: usize,
        (value, result): (ValueId, ValueId),
    ) -> Result<(), Refusal> {
        let Some(Unit { anchor: Some(anchor), pointwise, attention, .. }) = &self.units[before] else {
            return Err(Refusal::OwnKernel);
        };
        let node = &self.graph.nodes[anchor.index()];
        let only_here = !self.live.wanted[value.index()]
            && self.live.readers[value.index()].iter().all(|n| self.unit_of[n.index()] == number);
        if attention.is_some() {
            Err(Refusal::TakesNoEpilogue)
        } else if !pointwise.is_empty() {
            Err(Refusal::HasEpilogue)
        } else if node.outputs.iter().flatten().count() != 1 {
            Err(Refusal::SeveralOutputs)
        } else if !node.op.operator().takes_epilogue() {
            Err(Refusal::TakesNoEpilogue)
        } else if self.shape(value) != self.shape(result) {
            Err(Refusal::OtherShape)
        } else if !only_here {
            Err(Refusal::NeededElsewhere)
        } else {
            Ok(())
        }
    }

    /// Makes pointwise unit `number` the prologue of the only unit that reads it, if that unit accepts it.
    fn join_prologue(&mut self, number: usize) {
        let Some(unit) = &self.units[number] else { return };
        let reader = self.may_precede(unit, number);
        if reader.is_err() && !self.notes.wanted() {
            return;
        }
        let unit = unit.clone();
        let joined = reader.and_then(|to| {
            self.merge(to, number)?;
            if let Some(merged) = &mut self.units[to] {
                merged.pointwise.retain(|node| !unit.pointwise.contains(node));
                merged.prologue.clone_from(&unit.pointwise);
            }
            Ok(())
        });
        if self.notes.wanted() {
            self.note_prologue(&unit, number, joined);
        }
    }

    /// Whether a kernel may compute pointwise unit `number` while it loads. The number of the kernel's unit.
    fn may_precede(&self, unit: &Unit, number: usize) -> Result<usize, Refusal> {
        let nodes = unit.pointwise.len();
        if unit.anchor.is_some() {
            return Err(Refusal::TwoKernels);
        }
        if nodes > MAX_PROLOGUE {
            return Err(Refusal::ManyNodes { nodes, limit: MAX_PROLOGUE });
        }
        let value = self.single_result(unit, number)?;
        let (&[reader], false) = (&self.live.readers[value.index()][..], self.live.wanted[value.index()])
        else {
            return Err(Refusal::NeededElsewhere);
        };
        if !unit.pointwise.iter().all(|n| self.graph.nodes[n.index()].op.operator().is_cheap()) {
            return Err(Refusal::NotCheap);
        }
        let to = self.unit_of[reader.index()];
        let after = self.units[to].as_ref().filter(|after| after.anchor == Some(reader));
        let after = after.ok_or(Refusal::OwnKernel)?;
        let node = &self.graph.nodes[reader.index()];
        let is_first = node.inputs.first().copied().flatten() == Some(value);
        let reads = || node.data_inputs().flatten().filter(|id| *id == value).count();
        if !is_first || !after.prologue.is_empty() || reads() != 1 {
            return Err(Refusal::NotFirstInput);
        }
        if node.outputs.iter().flatten().count() != 1 {
            return Err(Refusal::SeveralOutputs);
        }
        if !node.op.operator().takes_prologue() {
            return Err(Refusal::TakesNoPrologue);
        }
        // One operand takes the place of the anchor's own input; the others are bindings besides those of the epilogue.
        let operands = self.operands(unit.pointwise.iter(), number).saturating_sub(1)
            + self.operands(after.pointwise.iter(), to);
        match operands > MAX_PROLOGUE_OPERANDS {
            true => Err(Refusal::ManyOperands { operands, limit: MAX_PROLOGUE_OPERANDS }),
            false => Ok(to),
        }
    }

    /// Notes what became of the unit before each kernel that reads it.
    fn note_prologue(&mut self, unit: &Unit, number: usize, joined: Result<(), Refusal>) {
        for value in self.outputs(unit.nodes(), number) {
            for &reader in &self.live.readers[value.index()] {
                let has_kernel = |unit: &Unit| unit.anchor == Some(reader);
                if self.units[self.unit_of[reader.index()]].as_ref().is_some_and(has_kernel) {
                    self.notes.apart(value, reader, joined);
                }
            }
        }
    }

    fn label(&self, unit: &Unit) -> Arc<str> {
        let name = |node: &NodeId| self.graph.nodes[node.index()].name.as_str();
        let mut nodes: Vec<&NodeId> = unit.nodes().collect();
        match nodes[..] {
            [node] => name(node).into(),
            _ => {
                nodes.sort();
                nodes.into_iter().map(name).collect::<Vec<_>>().join("+").into()
            }
        }
    }

    /// The units in an order in which each comes after the units that it depends on, and which stays as near to the model's as
    /// possible.
    fn ordered(self) -> Vec<Unit> {
        let alive: Vec<usize> = (0..self.units.len()).filter(|&u| self.units[u].is_some()).collect();
        let last = |u: usize| {
            let unit = self.units[u].as_ref();
            unit.and_then(|unit| unit.nodes().max().copied())
        };
        let mut waiting: Vec<usize> = vec![0; self.units.len()];
        let mut followers: Vec<SmallVec<[usize; 2]>> = vec![SmallVec::new(); self.units.len()];
        for &u in &alive {
            let unit = self.units[u].as_ref();
            let mut direct: SmallVec<[usize; 4]> = unit
                .into_iter()
                .flat_map(|unit| unit.nodes())
                .flat_map(|n| self.inputs(*n))
                .map(|(before, _)| before)
                .filter(|&before| before != u)
                .collect();
            direct.sort();
            direct.dedup();
            waiting[u] = direct.len();
            direct.iter().for_each(|&before| followers[before].push(u));
        }
        let key = |u: usize| std::cmp::Reverse((last(u), u));
        let mut ready: BinaryHeap<_> = alive.iter().filter(|&&u| waiting[u] == 0).map(|&u| key(u)).collect();
        let mut order = Vec::with_capacity(alive.len());
        while let Some(std::cmp::Reverse((_, u))) = ready.pop() {
            order.push(u);
            for &next in &followers[u] {
                waiting[next] -= 1;
                if waiting[next] == 0 {
                    ready.push(key(next));
                }
            }
        }
        order
            .into_iter()
            .filter_map(|u| {
                let unit = self.units[u].as_ref()?.clone();
                Some(Unit { label: self.label(&unit), outputs: self.outputs(unit.nodes(), u), ..unit })
            })
            .collect()
    }
}

/// Groups the nodes that the device computes into units, in the order in which they run.
fn units(
    graph: &Graph,
    facts: &Facts,
    options: &Options,
    live: Liveness,
    attention: &AttentionUnits,
) -> (Vec<Unit>, Notes) {
    let nodes = live.nodes.clone();
    // Nothing outside reads what the inner nodes compute, so the unit runs where its last node does.
    let mut inner = vec![false; graph.nodes.len()];
    let mut lasts: HashMap<NodeId, Arc<SpelledAttention>> = HashMap::new();
    for (spelled, _) in attention.iter().filter(|(_, is_unit)| *is_unit) {
        spelled.inner().for_each(|node| inner[node.index()] = true);
        lasts.extend(spelled.nodes.last().map(|&last| (last, spelled.clone())));
    }
    let mut fuser = Fuser {
        graph,
        facts,
        live,
        producer: graph.producers(),
        elementwise: vec![false; graph.nodes.len()],
        unit_of: vec![usize::MAX; graph.nodes.len()],
        units: Vec::new(),
        place: Vec::new(),
        walked: Vec::new(),
        walk: 0,
        notes: Notes::new(options.notes),
    };
    for &node in &nodes {
        if inner[node.index()] {
            continue;
        }
        if let Some(spelled) = lasts.remove(&node) {
            fuser.add_attention(node, spelled);
            continue;
        }
        let reports = may_fuse(graph, facts, options.integers, node);
        fuser.elementwise[node.index()] = reports == Ok(true);
        fuser.add_unit(node, reports.is_err());
        match reports {
            Ok(_) if !options.no_fusion => {
                for (from, value) in fuser.inputs(node) {
                    fuser.join_pointwise(from, node, value);
                }
            }
            Ok(_) => {}
            Err(why) => fuser.notes.add(|| Note::Alone { node, why }),
        }
    }
    if !options.no_fusion {
        for number in (0..fuser.units.len()).rev() {
            fuser.join_anchor(number);
        }
        for number in 0..fuser.units.len() {
            fuser.join_prologue(number);
        }
        for value in 0..graph.values.len() {
            let value = ValueId(value as u32);
            let large = fuser.needs_kernel(value) && facts.get(value).is_some_and(|fact| fact.count() > 1);
            if large && fuser.live.readers[value.index()].len() > 1 {
                fuser.join_siblings(value);
            }
        }
    }
    let notes = std::mem::take(&mut fuser.notes);
    (fuser.ordered(), notes)
}

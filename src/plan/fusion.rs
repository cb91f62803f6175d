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

use std::collections::BinaryHeap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Options, Pairing};
use crate::facts::Facts;
use crate::graph::{NodeId, ValueId};
use crate::kernels::expr::{Builder, Scalar, Wide};
use crate::kernels::{MAX_BINDINGS, fused_tensors};
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
}

impl Unit {
    /// All nodes, the anchor first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.anchor.iter().chain(&self.prologue).chain(&self.pointwise)
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

/// All units of a graph, in the order in which they run.
#[derive(Debug)]
pub(crate) struct Units {
    pub(crate) all: Vec<Unit>,
    /// What planning knew of each value when nodes were fused.
    known: Vec<Knowledge>,
}

impl Units {
    pub(crate) fn of(graph: &Graph, facts: &Facts, options: &Options) -> Units {
        let known = (0..graph.values.len()).map(|value| known(facts, value)).collect();
        Units { all: units(graph, facts, options), known }
    }

    /// Whether the units fit other sizes too: planning knows the same values, and the nodes of each unit still have one shape.
    pub(crate) fn fit(&self, graph: &Graph, facts: &Facts) -> bool {
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
        self.known.iter().enumerate().all(same) && self.all.iter().all(fits)
    }
}

/// Whether fused code may hold the node: its operator is a scalar expression of its inputs, and a kernel has bindings for
/// them. The second flag tells whether that expression reports results that do not fit 32 bits.
pub(super) fn is_pointwise(graph: &Graph, facts: &Facts, node: NodeId) -> (bool, bool) {
    let node = &graph.nodes[node.index()];
    let [Some(output)] = node.outputs[..] else { return (false, false) };
    let Some(output) = facts.get(output) else { return (false, false) };
    let mut builder = Builder::of_shape(&output.shape);
    builder.wide = Wide::of(output.dtype, 0);
    let mut inputs: SmallVec<[_; 4]> = SmallVec::new();
    if node.inputs.len() > MAX_NODES {
        return (false, false);
    }
    for (i, input) in node.data_inputs().enumerate() {
        match input.and_then(|id| facts.get(id)).map(|fact| Scalar::of(fact.dtype)) {
            None => inputs.push(None),
            Some(None) => return (false, false),
            Some(Some(scalar)) => inputs.push(Some(builder.load(i, scalar))),
        }
    }
    let pointwise = Scalar::of(output.dtype).is_some()
        && node.op.operator().pointwise(&mut builder, &inputs, output.dtype).is_some();
    let reports = pointwise && builder.reports();
    let readable = operands(facts, node, |_| false).len() < fused_tensors(reports);
    (pointwise && readable, reports && readable)
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
        let operand = (id, node.op.operator().pairing(i, &of_inputs).ok().flatten());
        if !inside(id) && !scalar && !operands.contains(&operand) {
            operands.push(operand);
        }
    }
    operands
}

/// Which values the device must have, and which nodes compute them.
pub(super) struct Liveness {
    /// For each value, the nodes that read its elements on the device.
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
            readers[input.index()].push(id);
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
    /// For each node, whether its expression reports results that do not fit. Only kernels over elements have the fault words.
    reports: Vec<bool>,
    /// The unit of each node.
    unit_of: Vec<usize>,
    units: Vec<Option<Unit>>,
    /// Unit numbers in an order in which each unit comes after the units that it depends on, and the place of each unit in
    /// that order. A unit that was merged into another keeps its place.
    order: Vec<usize>,
    place: Vec<usize>,
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
        self.place.push(self.order.len());
        self.order.push(number);
    }

    /// The units that read values of unit `number`.
    fn followers(&self, number: usize) -> impl Iterator<Item = usize> {
        let nodes = self.units[number].iter().flat_map(|unit| unit.nodes());
        let values = nodes.flat_map(|n| self.graph.nodes[n.index()].outputs.iter().flatten());
        let readers = values.flat_map(|id| &self.live.readers[id.index()]);
        readers.map(|n| self.unit_of[n.index()]).filter(move |&unit| unit != number && unit != usize::MAX)
    }

    /// For each unit from the place of `first` to the place of `last`: whether it depends on `first`. `None` if `last` depends
    /// on `first` through a third unit.
    fn dependents(&self, first: usize, last: usize) -> Option<Vec<bool>> {
        let start = self.place[first];
        let mut depends = vec![false; self.place[last] - start + 1];
        let mut waiting = vec![first];
        while let Some(from) = waiting.pop() {
            for unit in self.followers(from) {
                if unit == last && from != first {
                    return None;
                }
                if self.place[unit] < self.place[last] && !depends[self.place[unit] - start] {
                    depends[self.place[unit] - start] = true;
                    waiting.push(unit);
                }
            }
        }
        Some(depends)
    }

    /// Merges unit `b` into unit `a`, unless a path leads from one to the other through a third unit: that path would become a
    /// cycle.
    fn merge(&mut self, a: usize, b: usize) -> bool {
        let (first, last) = if self.place[a] < self.place[b] { (a, b) } else { (b, a) };
        let Some(depends) = self.dependents(first, last) else { return false };
        let Some(moved) = self.units[b].take() else { return false };
        for node in moved.nodes() {
            self.unit_of[node.index()] = a;
        }
        if let Some(unit) = &mut self.units[a] {
            unit.anchor = unit.anchor.or(moved.anchor);
            unit.pointwise.extend(moved.pointwise);
            unit.pointwise.sort();
        }
        // The units between the two that depend on the first of them move after both.
        let places = self.place[first]..=self.place[last];
        let (mut order, mut after) = (Vec::new(), vec![a]);
        for (&unit, depends) in self.order[places.clone()].iter().zip(depends) {
            if depends {
                after.push(unit);
            } else if unit != a {
                order.push(unit);
            }
        }
        order.extend(after);
        for (place, unit) in places.zip(order) {
            self.order[place] = unit;
            self.place[unit] = place;
        }
        true
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
            reports |= self.reports[node.index()];
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
        if output.and_then(|id| self.shape(id)) == self.shape(value) {
            self.join(from, to);
        }
    }

    /// Joins pointwise units that have one shape, read `value`, and do not depend on each other.
    fn join_siblings(&mut self, value: ValueId) {
        let mut units: Vec<usize> =
            self.live.readers[value.index()].iter().map(|node| self.unit_of[node.index()]).collect();
        units.sort();
        units.dedup();
        for i in 1..units.len() {
            let shape = |unit: usize| {
                let node = self.units[unit].as_ref()?.pointwise.first()?;
                self.shape(self.graph.nodes[node.index()].outputs[0]?)
            };
            if shape(units[i - 1]).is_some() && shape(units[i - 1]) == shape(units[i]) {
                self.join(units[i - 1], units[i]);
                if self.units[units[i]].is_none() {
                    units[i] = units[i - 1];
                }
            }
        }
    }

    /// Joins two pointwise units of one shape, if the result still fits one kernel.
    fn join(&mut self, from: usize, to: usize) {
        let (Some(a), Some(b)) = (&self.units[from], &self.units[to]) else { return };
        if from == to || a.anchor.is_some() || b.anchor.is_some() {
            return;
        }
        if a.pointwise.len() + b.pointwise.len() > MAX_NODES {
            return;
        }
        // For the count of bindings the two are one unit already.
        b.pointwise.iter().for_each(|n| self.unit_of[n.index()] = from);
        let both = || a.pointwise.iter().chain(&b.pointwise);
        let bindings = self.operands(both(), from) + self.outputs(both(), from).len();
        b.pointwise.iter().for_each(|n| self.unit_of[n.index()] = to);
        if bindings <= MAX_BINDINGS {
            self.merge(from, to);
        }
    }

    fn unit_reports(&self, unit: &Unit) -> bool {
        unit.pointwise.iter().any(|node| self.reports[node.index()])
    }

    /// Makes pointwise unit `number` the epilogue of one of the units before it, if one of them accepts it.
    fn join_anchor(&mut self, number: usize) {
        let Some(unit) = self.units[number].clone().filter(|unit| !self.unit_reports(unit)) else { return };
        let [output] = self.outputs(unit.nodes(), number)[..] else { return };
        if unit.anchor.is_some() || self.operands(unit.pointwise.iter(), number) > MAX_EPILOGUE_OPERANDS + 1 {
            return;
        }
        let mut candidates: Vec<(usize, ValueId)> =
            unit.pointwise.iter().flat_map(|n| self.inputs(*n)).filter(|(u, _)| *u != number).collect();
        candidates.sort_by(|a, b| b.cmp(a));
        candidates.dedup();
        for (before, value) in candidates {
            let Some(Unit { anchor: Some(anchor), pointwise, .. }) = &self.units[before] else { continue };
            let node = &self.graph.nodes[anchor.index()];
            let only_here = !self.live.wanted[value.index()]
                && self.live.readers[value.index()].iter().all(|n| self.unit_of[n.index()] == number);
            let fits = pointwise.is_empty()
                && node.outputs.iter().flatten().count() == 1
                && node.op.operator().takes_epilogue()
                && self.shape(value) == self.shape(output)
                && only_here;
            if fits && self.merge(before, number) {
                return;
            }
        }
    }

    /// Makes pointwise unit `number` the prologue of the only unit that reads it, if that unit accepts it.
    fn join_prologue(&mut self, number: usize) {
        let few = |unit: &Unit| {
            unit.anchor.is_none() && unit.pointwise.len() <= MAX_PROLOGUE && !self.unit_reports(unit)
        };
        let Some(unit) = self.units[number].as_ref().filter(|unit| few(unit)).cloned() else { return };
        let [value] = self.outputs(unit.nodes(), number)[..] else { return };
        let cheap = |n: &NodeId| self.graph.nodes[n.index()].op.operator().is_cheap();
        let readers = &self.live.readers[value.index()];
        let (&[reader], false) = (&readers[..], self.live.wanted[value.index()]) else { return };
        let small = unit.pointwise.iter().all(cheap);
        let to = self.unit_of[reader.index()];
        let Some(after) = self.units[to].clone().filter(|_| small && to != number) else { return };
        let node = &self.graph.nodes[reader.index()];
        let reads = node.data_inputs().flatten().filter(|id| *id == value).count();
        let first = node.inputs.first().copied().flatten() == Some(value) && reads == 1;
        // One operand takes the place of the anchor's own input; the others are bindings besides those of the epilogue.
        let besides = self.operands(unit.pointwise.iter(), number).saturating_sub(1)
            + self.operands(after.pointwise.iter(), to);
        if after.anchor == Some(reader)
            && after.prologue.is_empty()
            && first
            && node.outputs.iter().flatten().count() == 1
            && node.op.operator().takes_prologue()
            && besides <= MAX_PROLOGUE_OPERANDS
            && self.merge(to, number)
            && let Some(merged) = &mut self.units[to]
        {
            merged.pointwise.retain(|node| !unit.pointwise.contains(node));
            merged.prologue = unit.pointwise;
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
fn units(graph: &Graph, facts: &Facts, options: &Options) -> Vec<Unit> {
    let live = liveness(graph, facts, options);
    let nodes = live.nodes.clone();
    let mut fuser = Fuser {
        graph,
        facts,
        live,
        producer: graph.producers(),
        reports: vec![false; graph.nodes.len()],
        unit_of: vec![usize::MAX; graph.nodes.len()],
        units: Vec::new(),
        order: Vec::new(),
        place: Vec::new(),
    };
    for &node in &nodes {
        let (pointwise, reports) = is_pointwise(graph, facts, node);
        fuser.reports[node.index()] = reports;
        fuser.add_unit(node, !pointwise);
        if pointwise && !options.no_fusion {
            for (from, value) in fuser.inputs(node) {
                fuser.join_pointwise(from, node, value);
            }
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
    fuser.ordered()
}

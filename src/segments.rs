//! Segments: a graph is cut where the host must look at a value before it can go on. One plan computes everything between two
//! cuts.
//!
//! An example: of `n = ReduceMax(x)`, `i = Range(0, n, 1)` and `y = Mul(i, x)`, the first segment computes `n`; the host reads
//! `n`, and plans the second segment, which computes `i` and `y`, for its value. A node with subgraphs is a segment of its own, and so is
//! a node that the host runs, as it handles strings or containers.

use std::collections::{BTreeSet, HashMap};

use crate::graph::{NodeId, Value, ValueId};
use crate::ops::{Graph, Node, Op};
use crate::{DType, Dim, Kind};

/// A part of a graph. `inputs` and `outputs` are values of the whole graph.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) part: Part,
    /// What it takes from the graph's inputs and from earlier segments; for a single node, all its inputs.
    pub(crate) inputs: Vec<Option<ValueId>>,
    /// What it computes for later segments or for the graph's outputs; for a single node, all its outputs.
    pub(crate) outputs: Vec<Option<ValueId>>,
}

/// What a segment consists of.
#[derive(Debug)]
pub(crate) enum Part {
    /// Nodes that one plan computes, as a graph with numbers of its own. Its inputs and outputs are the segment's.
    Planned(Box<Graph>),
    /// A node with subgraphs.
    Control(NodeId),
    /// A node that the host runs, as it handles strings or containers.
    Host(NodeId),
}

/// A value that the host reads between two segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) value: ValueId,
    /// The node that cannot go on without it.
    pub(crate) node: NodeId,
}

/// The segments of a graph, in the order in which they run.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) all: Vec<Segment>,
    /// The values at which the host looks.
    pub(crate) looks: Vec<Look>,
    /// What each value of the graph is.
    pub(crate) kinds: Vec<Kind>,
}

/// Which nodes that compute with float64 the host runs.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Lent {
    Nothing,
    /// Those for which no kernel computes with float64.
    Missing,
    All,
}

/// Cuts a graph that one plan cannot compute; `None` for any other. Besides the outputs, the values `keep` are wanted.
pub(crate) fn cut(graph: &Graph, keep: &[ValueId], lent: Lent) -> Option<Segments> {
    let kinds = graph.kinds();
    let runners = runners(graph, &kinds, lent);
    let order = Moments::of(graph, &runners);
    let last = order.of_nodes.iter().max().copied().unwrap_or(0);
    let passed_on = || graph.inputs.iter().chain(&graph.outputs).any(|id| kinds[id.index()].is_on_host());
    if last == 0 && runners.iter().all(|runner| *runner == Runner::Device) && !passed_on() {
        return None;
    }
    let mut planned: Vec<Vec<NodeId>> = vec![Vec::new(); last + 1];
    let mut alone = planned.clone();
    for (number, (runner, &at)) in runners.iter().zip(&order.of_nodes).enumerate() {
        let of = if *runner == Runner::Device { &mut planned } else { &mut alone };
        of[at].push(NodeId(number as u32));
    }
    let parts = planned.into_iter().zip(alone).flat_map(|(planned, alone)| {
        let planned = Some(planned).filter(|nodes| !nodes.is_empty());
        planned.into_iter().chain(alone.into_iter().map(|node| vec![node]))
    });
    let all = segments(graph, parts.collect(), &runners, keep);
    Some(Segments { all, looks: order.looks, kinds })
}

/// Branches that planning chooses: their conditions follow from shapes, constants and parameters, and from nothing that a run must
/// compute first.
#[derive(Debug)]
pub(crate) struct Choices {
    /// Each `If` of which the condition is known.
    pub(crate) nodes: Vec<NodeId>,
    /// Computes the conditions, in this order.
    pub(crate) conditions: Box<Graph>,
    /// The numbers of the graph's inputs that `conditions` takes.
    pub(crate) inputs: Vec<usize>,
}

/// The branches of a graph that planning chooses; `None` if there are none.
pub(crate) fn choices(graph: &Graph, lent: Lent) -> Option<Choices> {
    if !graph.nodes.iter().any(|node| matches!(*node.op, Op::If(_))) {
        return None;
    }
    let nodes = Moments::of(graph, &runners(graph, &graph.kinds(), lent)).chosen;
    let conditions: Vec<ValueId> =
        nodes.iter().filter_map(|id| graph.nodes[id.index()].inputs.first().copied().flatten()).collect();
    if conditions.is_empty() {
        return None;
    }
    let mut needed = vec![false; graph.values.len()];
    conditions.iter().for_each(|id| needed[id.index()] = true);
    let mut computing = Vec::new();
    for (number, node) in graph.nodes.iter().enumerate().rev() {
        if node.outputs.iter().flatten().any(|id| needed[id.index()]) {
            node.inputs.iter().flatten().for_each(|id| needed[id.index()] = true);
            computing.push(NodeId(number as u32));
        }
    }
    computing.reverse();
    let inputs: Vec<usize> = (0..graph.inputs.len()).filter(|&i| needed[graph.inputs[i].index()]).collect();
    let taken: Vec<ValueId> = inputs.iter().map(|&i| graph.inputs[i]).collect();
    Some(Choices { conditions: Box::new(extracted(graph, &computing, &taken, &conditions)), nodes, inputs })
}

/// What runs each node.
fn runners(graph: &Graph, kinds: &[Kind], lent: Lent) -> Vec<Runner> {
    let mut runners: Vec<Runner> = graph.nodes.iter().map(|node| Runner::of(node, kinds)).collect();
    if lent != Lent::Nothing && kinds.iter().any(Kind::is_float64) {
        lend_host(graph, kinds, lent, &mut runners);
    }
    runners
}

/// What runs a node.
#[derive(Clone, Copy, PartialEq)]
enum Runner {
    /// The device, in a plan with other nodes.
    Device,
    /// The host, which runs subgraphs for it.
    Control,
    /// The host.
    Host,
}

/// Lets the host run nodes that compute with float64, except where only planning reads it.
fn lend_host(graph: &Graph, kinds: &[Kind], lent: Lent, runners: &mut [Runner]) {
    // A float64 that the caller gives is no size, so planning does not look at it.
    let is_parameter = |value: &Value| is_parameter(value) && value.dtype != Some(DType::F64);
    let planned = graph.planned_values(is_parameter, |n| runners[n] == Runner::Device);
    let sizes = read_as_sizes(graph, planned);
    let beyond = |id: &ValueId| kinds[id.index()].is_float64() && !sizes[id.index()];
    for (node, runner) in graph.nodes.iter().zip(runners) {
        let reads = node.inputs.iter().flatten().any(beyond) && !node.op.operator().reads_shapes_only();
        if *runner == Runner::Device
            && !matches!(*node.op, Op::Unsupported(_))
            && (reads || node.outputs.iter().flatten().any(beyond))
            && !(lent == Lent::Missing && node.computes_f64(kinds))
        {
            *runner = Runner::Host;
        }
    }
}

/// For each value that planning computes if it must, whether nothing but planning reads it.
fn read_as_sizes(graph: &Graph, planned: Vec<bool>) -> Vec<bool> {
    let mut sizes = planned;
    graph.outputs.iter().for_each(|id| sizes[id.index()] = false);
    for node in graph.nodes.iter().rev() {
        let operator = node.op.operator();
        let is_planned = node.outputs.iter().flatten().all(|id| sizes[id.index()]);
        for (i, id) in node.inputs.iter().enumerate().filter_map(|(i, id)| Some((i, (*id)?))) {
            let reads_size = operator.reads_shapes_only() || operator.shape_operands().contains(&i);
            sizes[id.index()] &= is_planned || reads_size;
        }
    }
    sizes
}

impl Runner {
    fn of(node: &Node, kinds: &[Kind]) -> Runner {
        match node.runs_subgraphs() {
            true => Runner::Control,
            false if node.runs_on_host(kinds) => Runner::Host,
            false => Runner::Device,
        }
    }
}

/// The number of cuts before each node: it cannot run earlier.
struct Moments {
    of_nodes: Vec<usize>,
    looks: Vec<Look>,
    /// Each `If` of which planning knows the condition before any cut.
    chosen: Vec<NodeId>,
}

/// When a value is there.
#[derive(Clone, Copy, Default)]
struct Moment {
    /// The number of cuts before a node on the device can take it.
    ready: usize,
    /// The number of cuts before a node that the host runs can take it.
    handed: usize,
    /// The number of cuts before the host can look at it.
    seen: usize,
}

impl Moments {
    fn of(graph: &Graph, runners: &[Runner]) -> Moments {
        let planned = graph.planned_values(is_parameter, |n| runners[n] == Runner::Device);
        let mut moments = vec![Moment::default(); graph.values.len()];
        let of_nodes = Vec::with_capacity(graph.nodes.len());
        let mut order = Moments { of_nodes, looks: Vec::new(), chosen: Vec::new() };
        for (number, (node, runner)) in graph.nodes.iter().zip(runners).enumerate() {
            let (operator, alone) = (node.op.operator(), *runner != Runner::Device);
            let inputs = || node.inputs.iter().enumerate().filter_map(|(i, id)| Some((i, (*id)?)));
            let taken = |id: ValueId| {
                let Moment { ready, handed, .. } = moments[id.index()];
                if alone { handed } else { ready }
            };
            let mut at = inputs().map(|(_, id)| taken(id)).max().unwrap_or(0);
            for (i, id) in inputs() {
                let Moment { ready, seen, .. } = moments[id.index()];
                let looked_at = match runner {
                    Runner::Host => node.is_read_on_host(i),
                    _ => operator.shapes_depend_on_data() || operator.shape_operands().contains(&i),
                };
                if looked_at && !planned[id.index()] && seen > ready {
                    // A node that the host runs is a cut itself.
                    at = at.max(if alone { ready } else { seen });
                    order.looks.push(Look { value: id, node: NodeId(number as u32) });
                }
            }
            if let (Op::If(_), Some(Some(condition))) = (&*node.op, node.inputs.first())
                && planned[condition.index()]
                && moments[condition.index()].ready == 0
            {
                order.chosen.push(NodeId(number as u32));
            }
            order.of_nodes.push(at);
            let ready = if alone { at + 1 } else { at };
            for id in node.outputs.iter().flatten() {
                let seen = if planned[id.index()] { ready } else { at + 1 };
                moments[id.index()] = Moment { ready, handed: at, seen };
            }
        }
        order
    }
}

/// Whether a plan may depend on the value of this input: a number or a short list, as a rule. A plan that depends on the elements of
/// an image would never be used twice.
fn is_parameter(value: &Value) -> bool {
    let is_short = |dims: &Vec<Dim>| {
        dims.is_empty() || dims.len() == 1 && !value.dtype.is_some_and(|dtype| dtype.is_float())
    };
    value.shape.as_ref().is_some_and(is_short)
}

/// The segments of these nodes, with the values that each takes, and gives to others.
fn segments(graph: &Graph, parts: Vec<Vec<NodeId>>, runners: &[Runner], keep: &[ValueId]) -> Vec<Segment> {
    let mut wanted: BTreeSet<ValueId> = graph.outputs.iter().chain(keep).copied().collect();
    let mut segments = Vec::with_capacity(parts.len());
    for part in parts.into_iter().rev() {
        let nodes = || part.iter().map(|id| &graph.nodes[id.index()]);
        let made: BTreeSet<ValueId> =
            nodes().flat_map(|node| node.outputs.iter().flatten()).copied().collect();
        let taken = nodes().flat_map(|node| node.inputs.iter().flatten()).copied();
        let taken: BTreeSet<ValueId> =
            taken.filter(|id| !made.contains(id) && graph.value(*id).constant.is_none()).collect();
        let outputs: Vec<ValueId> = made.intersection(&wanted).copied().collect();
        wanted.extend(&taken);
        segments.push(match &part[..] {
            &[id] if runners[id.index()] != Runner::Device => {
                let Node { inputs, outputs, .. } = &graph.nodes[id.index()];
                let is_host = runners[id.index()] == Runner::Host;
                let part = if is_host { Part::Host(id) } else { Part::Control(id) };
                Segment { part, inputs: inputs.clone(), outputs: outputs.clone() }
            }
            nodes => {
                let inputs: Vec<ValueId> = taken.into_iter().collect();
                let part = extracted(graph, nodes, &inputs, &outputs);
                let some = |ids: Vec<ValueId>| ids.into_iter().map(Some).collect();
                Segment { part: Part::Planned(Box::new(part)), inputs: some(inputs), outputs: some(outputs) }
            }
        });
    }
    segments.reverse();
    segments
}

/// The graph of some nodes, which takes `inputs` and computes `outputs`.
fn extracted(graph: &Graph, nodes: &[NodeId], inputs: &[ValueId], outputs: &[ValueId]) -> Graph {
    let mut part = Graph { name: graph.name.clone(), ..Graph::default() };
    let mut numbers: HashMap<ValueId, ValueId> = HashMap::new();
    let mut own = |part: &mut Graph, id: ValueId| {
        *numbers.entry(id).or_insert_with(|| part.add_value(graph.value(id).clone()))
    };
    part.inputs = inputs.iter().map(|id| own(&mut part, *id)).collect();
    for id in nodes {
        let mut node = graph.nodes[id.index()].clone();
        let values = node.inputs.iter_mut().chain(&mut node.outputs).flatten();
        values.for_each(|id| *id = own(&mut part, *id));
        part.nodes.push(node);
    }
    part.outputs = outputs.iter().map(|id| own(&mut part, *id)).collect();
    part
}

//! Summaries of plans and models: numbers and names, for people and for JSON.

use std::collections::{BTreeMap, HashSet};

use crate::graph::NodeId;
use crate::ops::{Graph, Node};
use crate::plan::{OutputSource, Place, Plan, Program};

/// GPU time of one dispatch.
///
/// ```no_run
/// # fn f(session: &sardonyx::Session, x: &sardonyx::Tensor) -> sardonyx::Result<()> {
/// for time in session.profile(&[("x", x)])? {
///     println!("{:10.1} us  {}  {}", time.nanoseconds / 1e3, time.kernel, time.node);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct KernelTime {
    /// The kernel's name.
    pub kernel: String,
    /// The nodes that it computes.
    pub node: String,
    /// Its time, from the device's timestamps.
    pub nanoseconds: f64,
}

/// Bytes that a [`Session`](crate::Session) holds on its device.
///
/// ```no_run
/// # fn f(session: &sardonyx::Session) {
/// let memory = session.memory();
/// println!("{} MiB, at most {} MiB", memory.total() >> 20, memory.peak >> 20);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Weights that are on the device.
    pub weights: u64,
    /// Memory of runs, in flight or not: the arena of intermediate tensors, inputs, outputs, and the buffers for reading back.
    pub arena: u64,
    /// Parameters and constants of the plans that are kept.
    pub plans: u64,
    /// The most that the session has ever held.
    pub peak: u64,
}

impl std::ops::Add for MemoryUse {
    type Output = MemoryUse;

    fn add(self, other: MemoryUse) -> MemoryUse {
        MemoryUse {
            weights: self.weights + other.weights,
            arena: self.arena + other.arena,
            plans: self.plans + other.plans,
            peak: self.peak + other.peak,
        }
    }
}

impl MemoryUse {
    /// The sum of what the session holds now.
    pub fn total(&self) -> u64 {
        self.weights + self.arena + self.plans
    }
}

/// What a run dispatches, and the memory that its tensors take.
///
/// ```no_run
/// # fn f(session: &sardonyx::Session, x: &sardonyx::Tensor) -> sardonyx::Result<()> {
/// let plan = session.plan(&[("x", x)])?;
/// println!("{} dispatches, arena {} bytes", plan.dispatches, plan.arena_bytes);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, serde::Serialize)]
#[non_exhaustive]
pub struct PlanSummary {
    /// Nodes of the graph after the passes.
    pub nodes: usize,
    /// Nodes that planning computes, because they only feed shapes, or follow from shapes alone. Besides them, only `host_nodes` run on
    /// the host.
    pub planned_nodes: usize,
    /// The names of those nodes.
    pub planned: Vec<String>,
    /// The number of those nodes for each operator.
    pub planned_operators: BTreeMap<String, usize>,
    /// Kernel dispatches of one run, which are all in one pass.
    pub dispatches: usize,
    /// Dispatches by kernel family.
    pub kernels: BTreeMap<String, usize>,
    /// Outputs that the device would compute, but that have no elements for these shapes.
    pub empty_outputs: usize,
    /// Bytes of the arena that all intermediate tensors share.
    pub arena_bytes: u64,
    /// The most bytes that are alive at the same time: no arena can be smaller.
    pub max_live_bytes: u64,
    /// Bytes of all intermediate tensors together.
    pub without_reuse_bytes: u64,
    /// Bytes of the weights that a run reads.
    pub weight_bytes: u64,
    /// The plans of one run: more than one where the host must look at values that the device computes before it can go on. The
    /// other numbers are the sums of all plans that do not depend on such values, except that of the arena and of the live bytes,
    /// which are the greatest.
    pub segments: usize,
    /// Segments that can only be planned during a run.
    pub unplanned_segments: usize,
    /// Where the host looks.
    pub sync_points: Vec<SyncPoint>,
    /// The nodes that the host runs, as they handle strings or containers, or compute with float64. Those of subgraphs that only a run makes are left out.
    pub host_nodes: Vec<HostNode>,
}

/// A node that the host runs, as it handles strings or containers, or computes with numbers that the device does not have.
///
/// ```no_run
/// # fn f(session: &sardonyx::Session) -> sardonyx::Result<()> {
/// let given: [(&str, [usize; 2]); 1] = [("words", [1, 8])];
/// for node in session.plan(&given)?.host_nodes {
///     println!("the host runs {} ({})", node.node, node.operator);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct HostNode {
    /// The node's name.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// Whether it computes with float64, for which the device has no kernel; otherwise it handles strings or containers.
    pub computes: bool,
}

impl HostNode {
    pub(crate) fn new(node: &Node, computes: bool) -> HostNode {
        HostNode { node: node.name.clone(), operator: node.op_type.clone(), computes }
    }
}

/// A value that the device computes and that the host must know before it can go on.
///
/// ```no_run
/// # fn f(session: &sardonyx::Session, x: &sardonyx::Tensor) -> sardonyx::Result<()> {
/// for point in session.plan(&[("x", x)])?.sync_points {
///     println!("the host reads {} for {} ({})", point.value, point.node, point.operator);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SyncPoint {
    /// The value's name.
    pub value: String,
    /// The node that needs it, for the sizes of its results or to choose a subgraph.
    pub node: String,
    /// The node's operator.
    pub operator: String,
}

impl SyncPoint {
    pub(crate) fn new(value: &str, node: &Node) -> SyncPoint {
        SyncPoint { value: value.into(), node: node.name.clone(), operator: node.op_type.clone() }
    }
}

impl PlanSummary {
    pub(crate) fn new(graph: &Graph, plan: &Plan) -> PlanSummary {
        let Program { calls, device_nodes, outputs, .. } = &plan.program;
        let on_device: HashSet<NodeId> = device_nodes.iter().copied().collect();
        let on_device = |n: usize| on_device.contains(&NodeId(n as u32));
        let planned = graph.nodes.iter().enumerate().filter(|(n, _)| !on_device(*n)).map(|(_, node)| node);
        let empty = |source: &OutputSource| matches!(source, OutputSource::Device { shape, .. } if shape.contains(&0));
        PlanSummary {
            nodes: graph.nodes.len(),
            planned_nodes: graph.nodes.len() - device_nodes.len(),
            planned: planned.clone().map(|node| node.name.clone()).collect(),
            planned_operators: counts(planned.map(|node| node.op_type.clone())),
            dispatches: calls.len(),
            kernels: counts(calls.iter().map(|call| call.kernel.spec().label())),
            empty_outputs: outputs.iter().filter(|source| empty(source)).count(),
            arena_bytes: plan.memory.height,
            max_live_bytes: plan.memory.max_live,
            without_reuse_bytes: plan.memory.total,
            weight_bytes: plan.program.bytes(|place| matches!(place, Place::Weight(_))),
            segments: 1,
            unplanned_segments: 0,
            sync_points: Vec::new(),
            host_nodes: Vec::new(),
        }
    }

    /// Adds the plan of another segment of the same run.
    pub(crate) fn add(&mut self, other: PlanSummary) {
        let add = |counts: &mut BTreeMap<String, usize>, more: BTreeMap<String, usize>| {
            more.into_iter().for_each(|(name, count)| *counts.entry(name).or_insert(0) += count);
        };
        self.nodes += other.nodes;
        self.planned_nodes += other.planned_nodes;
        self.planned.extend(other.planned);
        add(&mut self.planned_operators, other.planned_operators);
        self.dispatches += other.dispatches;
        add(&mut self.kernels, other.kernels);
        self.empty_outputs += other.empty_outputs;
        self.arena_bytes = self.arena_bytes.max(other.arena_bytes);
        self.max_live_bytes = self.max_live_bytes.max(other.max_live_bytes);
        self.without_reuse_bytes += other.without_reuse_bytes;
        self.weight_bytes += other.weight_bytes;
        self.segments += other.segments;
        self.unplanned_segments += other.unplanned_segments;
        self.sync_points.extend(other.sync_points);
        self.host_nodes.extend(other.host_nodes);
    }
}

/// The number of occurrences of each name.
fn counts(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_insert(0) += 1);
    counts
}

/// What a model's graph consists of, as it was imported.
///
/// ```
/// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
/// let model = sardonyx::Model::from_bytes(bytes)?;
/// assert_eq!(model.summary().operators["Relu"], 1);
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct ModelSummary {
    /// Nodes, without those that no output needs. A call of a function counts as the function's nodes.
    pub nodes: usize,
    /// Nodes by operator.
    pub operators: BTreeMap<String, usize>,
    /// Constants: initializers and `Constant` nodes.
    pub constants: usize,
    /// Bytes of all constants.
    pub constant_bytes: u64,
}

impl ModelSummary {
    pub(crate) fn new(graph: &Graph) -> ModelSummary {
        let constants = || graph.values.iter().filter_map(|value| value.constant.as_ref());
        ModelSummary {
            nodes: graph.nodes.len(),
            operators: counts(graph.nodes.iter().map(|node| node.op_type.clone())),
            constants: constants().count(),
            constant_bytes: constants().map(|tensor| tensor.bytes().len() as u64).sum(),
        }
    }
}

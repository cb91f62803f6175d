//! What a plan amounts to: numbers and names for people and for JSON.

use std::collections::BTreeMap;

use crate::ops::Graph;
use crate::plan::Plan;

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
    /// From the device's timestamps.
    pub nanoseconds: f64,
}

/// What a run dispatches, and where its tensors lie.
///
/// ```no_run
/// # fn f(session: &sardonyx::Session, x: &sardonyx::Tensor) -> sardonyx::Result<()> {
/// let plan = session.plan(&[("x", x)])?;
/// println!("{} dispatches, arena {} bytes", plan.dispatches, plan.arena_bytes);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct PlanSummary {
    /// Nodes of the graph after the passes.
    pub nodes: usize,
    /// Nodes that only feed shapes, or follow from shapes alone: computed while planning. No other node runs on the host.
    pub planned_nodes: usize,
    /// Kernel dispatches in one run, all in one pass.
    pub dispatches: usize,
    /// Dispatches by kernel family.
    pub kernels: BTreeMap<String, usize>,
    /// Bytes of the arena that all intermediate tensors share.
    pub arena_bytes: u64,
    /// The most bytes alive at once: no arena can be smaller.
    pub max_live_bytes: u64,
    /// Bytes of all intermediate tensors together.
    pub without_reuse_bytes: u64,
    /// Bytes of the weights that this session has on the device.
    pub weight_bytes: u64,
}

impl PlanSummary {
    pub(crate) fn new(graph: &Graph, plan: &Plan, weight_bytes: u64) -> PlanSummary {
        let mut kernels = BTreeMap::new();
        for call in &plan.program.calls {
            *kernels.entry(call.kernel.spec().label()).or_insert(0) += 1;
        }
        PlanSummary {
            nodes: graph.nodes.len(),
            planned_nodes: graph.nodes.len() - plan.program.device_nodes.len(),
            dispatches: plan.program.calls.len(),
            kernels,
            arena_bytes: plan.memory.height,
            max_live_bytes: plan.memory.max_live,
            without_reuse_bytes: plan.memory.total,
            weight_bytes,
        }
    }
}

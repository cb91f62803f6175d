//! `SessionOptions`.

use crate::{Limits, Model};

/// Options of a [`Session`](crate::Session).
///
/// ```
/// use sardonyx::SessionOptions;
/// let options = SessionOptions::new().plan_cache(4).fusion(false);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionOptions {
    pub(super) plan_cache: usize,
    pub(super) fusion: bool,
    /// The limits of the model, which its options set when it was loaded.
    pub(super) limits: Limits,
    pub(super) reference_limits: Option<Limits>,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions { plan_cache: 16, fusion: true, limits: Limits::default(), reference_limits: None }
    }
}

impl SessionOptions {
    /// Options that serve most models.
    pub fn new() -> SessionOptions {
        SessionOptions::default()
    }

    /// The number of signatures of input shapes whose plans are kept (16); the least recently used plan is dropped. A signature
    /// has one plan, or one for each segment of a run. 0 counts as 1.
    pub fn plan_cache(mut self, plans: usize) -> SessionOptions {
        self.plan_cache = plans.max(1);
        self
    }

    /// Whether operators may be fused (yes). Without fusion each node is a kernel of its own, which helps to find out what is
    /// wrong.
    pub fn fusion(mut self, fusion: bool) -> SessionOptions {
        self.fusion = fusion;
        self
    }

    /// What a run on the CPU reference may cost: the steps of all nodes together, and the bytes of each. There is no limit by
    /// default; for models of strangers there should be one. A run that would cost more fails, and the error names the node. In a
    /// run on a device, the limits hold for the nodes that the host runs.
    pub fn reference_limits(mut self, limits: Limits) -> SessionOptions {
        self.reference_limits = Some(limits);
        self
    }

    /// The limits of `model`.
    pub(crate) fn within(mut self, model: &Model) -> SessionOptions {
        self.limits = model.limits().clone();
        self
    }
}

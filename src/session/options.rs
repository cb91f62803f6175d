//! `SessionOptions`.

use crate::kernels::expr::Integers;
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
    pub(super) bits: IntegerBits,
}

/// In how many bits a session's device holds integers of 64 bits (int64, uint64).
///
/// Ids, places and lengths fit 32 bits, which take half the memory, and which every device has. A value that does not fit, such as
/// 1,760,000,000,123 milliseconds, is never cut off: it is [`Error::TooWide`](crate::Error::TooWide), or computed in 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IntegerBits {
    /// In 32 bits until a run meets a value that does not fit; that run, and all after it, hold them in 64. The session then has
    /// second plans, and weights of their own.
    #[default]
    Enough,
    /// In 32 bits. A value that does not fit is an error.
    Only32,
    /// In 64 bits.
    Always64,
}

impl IntegerBits {
    /// In how many bits the session's own plans hold them.
    pub(super) fn held_in(self) -> Integers {
        if self == IntegerBits::Always64 { Integers::Bits64 } else { Integers::Bits32 }
    }
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions {
            plan_cache: 16,
            fusion: true,
            limits: Limits::default(),
            reference_limits: None,
            bits: IntegerBits::Enough,
        }
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

    /// In how many bits the device holds integers of 64 bits ([`IntegerBits::Enough`]). The CPU reference always computes in 64.
    pub fn integers(mut self, bits: IntegerBits) -> SessionOptions {
        self.bits = bits;
        self
    }

    /// The limits of `model`.
    pub(crate) fn within(mut self, model: &Model) -> SessionOptions {
        self.limits = model.limits().clone();
        self
    }
}

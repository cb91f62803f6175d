//! Ends work early, from another thread or from a signal handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// A flag that ends work early. Whoever works on a device that has it ([`Device::interrupted_by`](crate::Device::interrupted_by))
/// looks at it before each node on the CPU reference, and on a GPU before planning, before each pipeline is compiled, before weights
/// are uploaded, and before a run is submitted. A run that has been submitted is waited for: a GPU cannot be told to stop.
///
/// Cloning shares the flag.
///
/// ```
/// use sardonyx::{Device, Error, Interrupt, Model, Session, Tensor};
/// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
/// let interrupt = Interrupt::new();
/// let device = Device::reference().interrupted_by(&interrupt);
/// let session = Session::new(&device, &Model::from_bytes(bytes)?, Default::default())?;
/// let x = Tensor::from_slice(&[1], &[1.0f32])?;
/// interrupt.raise();
/// assert!(matches!(session.run(&[("x", &x)]), Err(Error::Interrupted)));
/// interrupt.lower();
/// assert!(session.run(&[("x", &x)]).is_ok());
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A flag that is not raised.
    pub fn new() -> Interrupt {
        Interrupt::default()
    }

    /// Ends the work that is under way, and all that begins before the flag is lowered.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Lets work begin again.
    pub fn lower(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the flag is raised.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// [`Error::Interrupted`] if the flag is raised.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_raised() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Fails where work is to end early.
pub(crate) type GoOn<'a> = dyn Fn() -> Result<()> + Sync + 'a;

/// A flag that the program has already, such as one that a signal handler sets.
impl From<Arc<AtomicBool>> for Interrupt {
    fn from(flag: Arc<AtomicBool>) -> Interrupt {
        Interrupt(flag)
    }
}

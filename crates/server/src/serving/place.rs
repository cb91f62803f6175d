//! `Place`: a model on a device, with a session for each device that the slot has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use sardonyx::{Error, Model, Session, SessionOptions, Tensor};

use super::devices::{Restores, Slot};
use crate::{Failure, Reason};

#[derive(Debug)]
pub(super) struct Place {
    pub(super) slot: Arc<Slot>,
    model: Model,
    options: SessionOptions,
    /// The session and the generation of its device.
    session: Mutex<Option<(u64, Arc<Session>)>>,
    /// Whether the warm-ups are over.
    warm: AtomicBool,
    /// The inputs of the first warm-up: a run with them puts the weights on a device.
    first: OnceLock<Vec<(String, Tensor)>>,
    /// Whether the model may run. Held for reading during a run.
    is_open: RwLock<bool>,
}

/// Why a run has made nothing.
#[derive(Debug)]
pub(super) struct Unrun {
    pub(super) failure: Failure,
    /// Whether parts of its batch may be run by themselves.
    pub(super) divisible: bool,
}

impl From<Failure> for Unrun {
    fn from(failure: Failure) -> Unrun {
        Unrun { divisible: failure.reason != Reason::Unavailable, failure }
    }
}

impl From<Error> for Unrun {
    fn from(error: Error) -> Unrun {
        let failure = match error {
            Error::MemoryLimit { what, bytes, in_use, limit } => {
                let text = format!(
                    "{what} takes {bytes} bytes of device memory beside {in_use} in use, and the server's limit is {limit}; unload a \
                     model, send fewer rows at once, or raise --device-memory-bytes"
                );
                Failure::new(Reason::Unavailable, text)
            }
            Error::OutOfMemory { .. } => error.into(),
            error => return Failure::from(error).into(),
        };
        Unrun { failure, divisible: true }
    }
}

/// What a thread needs of a model on a device; a trait object for the reason that `HoldsDevice` names.
pub(super) trait Computes: std::fmt::Debug + Send + Sync {
    /// Runs the model. A device that is lost meanwhile is replaced behind the caller's back, but not for this run.
    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, Unrun>;

    /// The bytes that the model takes on the device.
    fn memory(&self) -> u64;

    /// Gives back what the model has on the device, after the runs in flight, whoever still holds the place. There are no runs
    /// afterwards. Blocks.
    fn end(&self);
}

/// How long a run waits for a new device in place of a lost one.
const PATIENCE: Duration = Duration::from_secs(10);

impl Place {
    pub(super) fn new(slot: Arc<Slot>, model: Model, options: SessionOptions) -> Place {
        Place {
            slot,
            model,
            options,
            session: Mutex::new(None),
            warm: AtomicBool::new(false),
            first: OnceLock::new(),
            is_open: RwLock::new(true),
        }
    }

    /// Ends the warm-ups: from now on the model is put on each new device in place of a lost one.
    pub(super) fn warmed(self: &Arc<Place>) {
        self.warm.store(true, Ordering::Relaxed);
        let place: Arc<dyn Restores> = self.clone();
        self.slot.keep(Arc::downgrade(&place));
    }

    fn session(&self) -> Result<(u64, Arc<Session>), Unrun> {
        let (generation, device) = self.slot.device(PATIENCE)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        match &*session {
            Some((of, session)) if *of == generation => Ok((generation, session.clone())),
            _ => {
                let made = Arc::new(Session::new(&device, &self.model, self.options.clone())?);
                *session = Some((generation, made.clone()));
                Ok((generation, made))
            }
        }
    }

    /// Held while something uses the session. Tells whether the place has one.
    fn open(&self) -> RwLockReadGuard<'_, bool> {
        self.is_open.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the model while the place is open.
    fn run_open(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, Unrun> {
        let (generation, session) = self.session()?;
        let given: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let _turn = self.slot.turn();
        // A panic in a run is a defect of the library; it must not end the thread that other requests wait for.
        let run = std::panic::AssertUnwindSafe(|| session.run(&given));
        match std::panic::catch_unwind(run) {
            Ok(Ok(outputs)) => {
                if !self.warm.load(Ordering::Relaxed) {
                    self.first.get_or_init(|| inputs.to_vec());
                }
                Ok(outputs.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect())
            }
            Ok(Err(error)) => {
                if matches!(error, Error::DeviceLost(_)) {
                    self.forget();
                    self.slot.replace(generation);
                }
                Err(error.into())
            }
            Err(_) => {
                self.forget();
                Err(Failure::new(Reason::Internal, "the run ended by a panic; see the server's log").into())
            }
        }
    }

    fn forget(&self) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Restores for Place {
    fn restore(&self) -> Result<(), Failure> {
        let is_open = self.open();
        if !*is_open {
            return Ok(());
        }
        match self.first.get() {
            Some(inputs) => self.run_open(inputs).map(drop),
            // No warm-up had inputs of known sizes: the weights go with the first request.
            None => self.session().map(drop),
        }
        .map_err(|unrun| unrun.failure)
    }

    fn peak(&self) -> u64 {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.as_ref().map_or(0, |(_, session)| session.memory().peak)
    }
}

impl Computes for Place {
    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, Unrun> {
        let is_open = self.open();
        if !*is_open {
            return Err(Failure::new(Reason::Unavailable, "the model was unloaded; load it again").into());
        }
        self.run_open(inputs)
    }

    fn memory(&self) -> u64 {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.as_ref().map_or(0, |(_, session)| session.memory().total())
    }

    fn end(&self) {
        let mut is_open = self.is_open.write().unwrap_or_else(PoisonError::into_inner);
        *is_open = false;
        self.forget();
    }
}

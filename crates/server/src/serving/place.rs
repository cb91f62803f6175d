//! `Place`: a model on a device, with a session for each device that the slot has.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sardonyx::{Model, Session, SessionOptions, Tensor};

use super::devices::Slot;
use crate::{Failure, Reason};

#[derive(Debug)]
pub(super) struct Place {
    pub(super) slot: Arc<Slot>,
    model: Model,
    options: SessionOptions,
    /// The session and the generation of its device.
    session: Mutex<Option<(u64, Arc<Session>)>>,
}

/// What a thread needs of a model on a device; a trait object for the reason that `HoldsDevice` names.
pub(super) trait Computes: std::fmt::Debug + Send + Sync {
    /// Runs the model. A device that is lost meanwhile is replaced behind the caller's back, but not for this run.
    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, Failure>;

    /// The bytes that the model takes on the device.
    fn memory(&self) -> u64;
}

/// How long a run waits for a new device in place of a lost one.
const PATIENCE: Duration = Duration::from_secs(10);

impl Place {
    pub(super) fn new(slot: Arc<Slot>, model: Model, options: SessionOptions) -> Place {
        Place { slot, model, options, session: Mutex::new(None) }
    }

    fn session(&self) -> Result<(u64, Arc<Session>), Failure> {
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

    fn forget(&self) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Computes for Place {
    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, Failure> {
        let (generation, session) = self.session()?;
        let given: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let _turn = self.slot.turn();
        // A panic in a run is a defect of the library; it must not end the thread that other requests wait for.
        let run = std::panic::AssertUnwindSafe(|| session.run(&given));
        match std::panic::catch_unwind(run) {
            Ok(Ok(outputs)) => {
                Ok(outputs.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect())
            }
            Ok(Err(error)) => {
                if matches!(error, sardonyx::Error::DeviceLost(_)) {
                    self.forget();
                    self.slot.replace(generation);
                }
                Err(error.into())
            }
            Err(_) => {
                self.forget();
                Err(Failure::new(Reason::Internal, "the run ended by a panic; see the server's log"))
            }
        }
    }

    fn memory(&self) -> u64 {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.as_ref().map_or(0, |(_, session)| session.memory().total())
    }
}

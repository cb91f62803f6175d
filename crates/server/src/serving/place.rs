//! `Place`: a model on a device, with a session for each device that the slot has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use sardonyx::{DeviceTensor, Error, Input, Model, Session, SessionOptions};

use super::devices::{Restores, Slot};
use super::held::{Held, Value};
use crate::{Failure, Reason};

#[derive(Debug)]
pub(super) struct Place {
    pub(super) slot: Arc<Slot>,
    model: Model,
    options: SessionOptions,
    /// The session and the generation of its device.
    session: Mutex<Option<(u64, Arc<Session>)>>,
    /// The time that devices have spent on sessions before this one.
    spent: Mutex<Duration>,
    /// Whether the warm-ups are over.
    warm: AtomicBool,
    /// The inputs of the first warm-up: a run with them puts the weights on a device.
    first: OnceLock<Vec<(String, Value)>>,
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
    /// Runs the model, and leaves the outputs named `keep` on the device, if it can. A device that is lost meanwhile is replaced
    /// behind the caller's back, but not for this run.
    fn run(&self, inputs: &[(String, Value)], keep: &[String]) -> Result<Vec<(String, Value)>, Unrun>;

    /// The time that the device has spent on the model; `None` where it has no timestamps.
    fn device_time(&self) -> Option<Duration>;

    /// The bytes that the model takes on the device.
    fn memory(&self) -> u64;

    /// Gives back what the model has on the device, after the runs in flight, whoever still holds the place. There are no runs
    /// afterwards. Blocks.
    fn end(&self);
}

/// How long a run waits for a new device in place of a lost one.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

impl Place {
    pub(super) fn new(slot: Arc<Slot>, model: Model, options: SessionOptions) -> Place {
        Place {
            slot,
            model,
            options,
            session: Mutex::new(None),
            spent: Mutex::default(),
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
                self.let_go(&mut session);
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
    fn run_open(&self, inputs: &[(String, Value)], keep: &[String]) -> Result<Vec<(String, Value)>, Unrun> {
        let (generation, session) = self.session()?;
        let mut here = Vec::with_capacity(inputs.len());
        for (name, value) in inputs {
            here.push((name.as_str(), value.near(&self.slot, generation)?));
        }
        let _turn = self.slot.turn();
        // A panic in a run is a defect of the library; it must not end the thread that other requests wait for.
        let run = std::panic::AssertUnwindSafe(|| match self.made((generation, &session), &here, keep) {
            // The host must know the values of inputs that decide shapes.
            Err(Error::Input(_)) if here.iter().any(|(_, value)| matches!(value, Value::Held(_))) => {
                let mut on_host = Vec::with_capacity(here.len());
                for (name, value) in &here {
                    on_host.push((*name, Value::Host(value.read()?)));
                }
                self.made((generation, &session), &on_host, keep)
            }
            made => made,
        });
        match std::panic::catch_unwind(run) {
            Ok(Ok(outputs)) => {
                if !self.warm.load(Ordering::Relaxed) {
                    self.first.get_or_init(|| inputs.to_vec());
                }
                Ok(outputs)
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

    /// The outputs of a run, of which those named `keep` stay on the device.
    fn made(
        &self,
        (generation, session): (u64, &Session),
        inputs: &[(&str, Value)],
        keep: &[String],
    ) -> Result<Vec<(String, Value)>, Error> {
        let given: Vec<(&str, Input<'_>)> =
            inputs.iter().map(|(name, value)| (*name, value.given())).collect();
        if keep.is_empty() || session.device().is_reference() {
            let outputs = session.run(&given)?.into_iter();
            return Ok(outputs.map(|(name, tensor)| (name, Value::Host(tensor))).collect());
        }
        let outputs: Vec<_> = session.run_to_device(&given)?.into_iter().collect();
        let stays = |name: &String, tensor: &DeviceTensor| keep.contains(name) && !tensor.is_on_host();
        let wanted: Vec<_> =
            outputs.iter().filter(|(name, tensor)| !stays(name, tensor)).map(|(_, tensor)| tensor).collect();
        let mut read = DeviceTensor::read_all(&wanted)?.into_iter();
        let mut made = Vec::with_capacity(outputs.len());
        for (name, tensor) in outputs {
            let value = match stays(&name, &tensor) {
                true => Value::Held(Held::new(&self.slot, generation, tensor)),
                false => match read.next() {
                    Some(tensor) => Value::Host(tensor),
                    None => continue,
                },
            };
            made.push((name, value));
        }
        Ok(made)
    }

    /// Lets go of the session, and keeps the time that the device has spent on it.
    fn forget(&self) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        self.let_go(&mut session);
    }

    fn let_go(&self, session: &mut Option<(u64, Arc<Session>)>) {
        if let Some(time) = session.take().and_then(|(_, session)| session.device_time()) {
            *self.spent.lock().unwrap_or_else(PoisonError::into_inner) += time;
        }
    }
}

impl Restores for Place {
    fn restore(&self) -> Result<(), Failure> {
        let is_open = self.open();
        if !*is_open {
            return Ok(());
        }
        match self.first.get() {
            Some(inputs) => self.run_open(inputs, &[]).map(drop),
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
    fn run(&self, inputs: &[(String, Value)], keep: &[String]) -> Result<Vec<(String, Value)>, Unrun> {
        let is_open = self.open();
        if !*is_open {
            return Err(Failure::new(Reason::Unavailable, "the model was unloaded; load it again").into());
        }
        self.run_open(inputs, keep)
    }

    fn device_time(&self) -> Option<Duration> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = *self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let now = session.as_ref().and_then(|(_, session)| session.device_time());
        now.map(|now| spent + now).or((!spent.is_zero()).then_some(spent))
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

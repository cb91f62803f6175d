//! The devices that models run on, and what happens when one is lost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sardonyx::{Device, DeviceOptions};

use crate::{Failure, Reason};

/// The devices of the server.
#[derive(Debug)]
pub struct Devices {
    slots: Vec<Arc<Slot>>,
    reference: Arc<Slot>,
}

/// A place for one device after the other: if the device is lost, a new one is made of the same options.
#[derive(Debug)]
pub struct Slot {
    /// `None` for the CPU reference.
    options: Option<DeviceOptions>,
    name: String,
    state: Mutex<State>,
    made: Condvar,
    turns: Turns,
    lost: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// The number of devices that this slot has had.
    generation: u64,
    /// `None` while a new device is made.
    device: Option<Arc<dyn HoldsDevice>>,
}

/// A device behind a trait object. The types of wgpu refer to one another in circles, so that the compiler finds anew for every future
/// that holds one whether it may move between threads: without this, the crate takes minutes to compile.
trait HoldsDevice: std::fmt::Debug + Send + Sync {
    fn device(&self) -> Device;
}

impl HoldsDevice for Device {
    fn device(&self) -> Device {
        self.clone()
    }
}

/// Pauses between attempts to make a device anew: the driver may need time to reset.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

impl Devices {
    /// Opens a device for each of `options`; at most `frames` runs are in flight on each.
    ///
    /// # Errors
    /// Those of [`Device::new`].
    pub fn open(options: Vec<DeviceOptions>, frames: usize) -> sardonyx::Result<Arc<Devices>> {
        let open =
            |options: DeviceOptions| Ok(Slot::new(Device::new(options.clone())?, Some(options), frames));
        let slots = options.into_iter().map(open).collect::<sardonyx::Result<_>>()?;
        Ok(Arc::new(Devices { slots, reference: Slot::new(Device::reference(), None, frames) }))
    }

    /// The devices, without the CPU reference.
    pub fn slots(&self) -> &[Arc<Slot>] {
        &self.slots
    }

    /// The CPU reference.
    pub fn reference(&self) -> &Arc<Slot> {
        &self.reference
    }

    /// Whether every device can compute now.
    pub fn are_ready(&self) -> bool {
        self.slots.iter().all(|slot| slot.is_ready())
    }
}

impl Slot {
    fn new(device: Device, options: Option<DeviceOptions>, frames: usize) -> Arc<Slot> {
        Arc::new(Slot {
            options,
            name: device.name(),
            state: Mutex::new(State { generation: 1, device: Some(Arc::new(device)) }),
            made: Condvar::new(),
            turns: Turns::new(frames),
            lost: AtomicU64::new(0),
        })
    }

    /// The name of the slot's first device.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the slot has a device now.
    pub fn is_ready(&self) -> bool {
        self.state().device.is_some()
    }

    /// How many devices were lost here.
    pub fn lost_count(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The device and its generation. Blocks while a lost device is made anew, at most for `patience`.
    ///
    /// # Errors
    /// [`Reason::Unavailable`] if there is no device by then.
    pub fn device(&self, patience: Duration) -> Result<(u64, Device), Failure> {
        let waited = self.made.wait_timeout_while(self.state(), patience, |state| state.device.is_none());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match &state.device {
            Some(device) => Ok((state.generation, device.device())),
            None => Err(Failure::new(
                Reason::Unavailable,
                "the device was lost and cannot be made anew yet; try again in a moment",
            )),
        }
    }

    /// The device, if there is one now.
    pub fn device_now(&self) -> Option<Device> {
        self.state().device.as_ref().map(|device| device.device())
    }

    /// Waits for a turn to compute: first come, first served, so that every model that waits gets the device as often.
    pub fn turn(&self) -> Turn<'_> {
        self.turns.wait()
    }

    /// Makes a new device in place of the one of `generation`, on a thread of its own. Of several callers that have met the same
    /// loss, the first does it.
    pub fn replace(self: &Arc<Slot>, generation: u64) {
        let Some(options) = self.options.clone() else { return };
        {
            let mut state = self.state();
            if state.generation != generation || state.device.is_none() {
                return;
            }
            state.device = None;
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        tracing::error!(device = self.name, "the device was lost; a new one is made");
        let slot = self.clone();
        let make = move || {
            for pause in PAUSES.into_iter().chain(std::iter::repeat(PAUSES[PAUSES.len() - 1])) {
                match Device::new(options.clone()) {
                    Ok(device) => return slot.put(device),
                    Err(error) => tracing::error!(device = slot.name, %error, "no new device yet"),
                }
                std::thread::sleep(pause);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("device".into()).spawn(make) {
            tracing::error!(%error, "no thread to make a new device");
        }
    }

    fn put(&self, device: Device) {
        let mut state = self.state();
        state.generation += 1;
        state.device = Some(Arc::new(device));
        drop(state);
        self.made.notify_all();
        tracing::info!(device = self.name, "the new device is ready");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A semaphore that serves those who wait in the order in which they came.
#[derive(Debug)]
struct Turns {
    state: Mutex<TurnState>,
    moved: Condvar,
}

#[derive(Debug)]
struct TurnState {
    free: usize,
    /// The next number to be given out, and the number whose turn it is.
    next: u64,
    served: u64,
}

/// The right to compute on a device, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a>(&'a Turns);

impl Turns {
    fn new(free: usize) -> Turns {
        Turns {
            state: Mutex::new(TurnState { free: free.max(1), next: 0, served: 0 }),
            moved: Condvar::new(),
        }
    }

    fn wait(&self) -> Turn<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let number = state.next;
        state.next += 1;
        let not_yet = |state: &mut TurnState| state.served != number || state.free == 0;
        let mut state = self.moved.wait_while(state, not_yet).unwrap_or_else(PoisonError::into_inner);
        state.served += 1;
        state.free -= 1;
        drop(state);
        self.moved.notify_all();
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).free += 1;
        self.0.moved.notify_all();
    }
}

//! The devices that models run on, and what happens when one is lost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

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
    /// What is put on a new device.
    kept: Mutex<Vec<Weak<dyn Restores>>>,
    /// The bytes that Sardonyx may take on the device.
    memory_limit: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// The number of devices that this slot has had.
    generation: u64,
    /// `None` while a new device is made.
    device: Option<Arc<dyn HoldsDevice>>,
    /// The device of this number has the weights of all models.
    restored: u64,
    /// The threads that make a device.
    making: usize,
    /// Whether the server ends, and no device is made any more.
    closed: bool,
}

/// What a device had before it was lost.
pub(super) trait Restores: std::fmt::Debug + Send + Sync {
    /// Puts it on the device that the slot has now. Blocks.
    ///
    /// # Errors
    /// Why it cannot.
    fn restore(&self) -> Result<(), Failure>;

    /// The most bytes that it has taken on the device up to now.
    fn peak(&self) -> u64 {
        0
    }
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

    /// Bounds the bytes that all models together take on each device. The CPU reference has no bound.
    pub fn limit_memory(&self, bytes: u64) {
        for slot in &self.slots {
            slot.memory_limit.store(bytes, Ordering::Relaxed);
            match slot.device_now() {
                Some(device) if device.adapter().is_none() => {
                    tracing::warn!(
                        device = slot.name,
                        "the CPU reference takes no device memory; the limit does not bound it"
                    );
                }
                Some(device) => device.set_memory_limit(bytes),
                None => {}
            }
        }
    }

    /// Makes no more devices in place of lost ones, and waits at most for `patience` until none is being made. Blocks.
    pub fn close(&self, patience: Duration) {
        self.slots.iter().for_each(|slot| {
            slot.state().closed = true;
            slot.made.notify_all();
        });
        let end = Instant::now() + patience;
        for slot in &self.slots {
            let left = end.saturating_duration_since(Instant::now());
            drop(slot.made.wait_timeout_while(slot.state(), left, |state| state.making > 0));
        }
    }

    /// How long the longest of the runs in flight on a device has taken up to now.
    pub fn longest_run(&self) -> Duration {
        let slots = self.slots.iter().chain([&self.reference]);
        slots.filter_map(|slot| slot.turns.longest()).max().unwrap_or_default()
    }

    /// Whether every device can compute now, and has the weights of its models.
    pub fn are_ready(&self) -> bool {
        self.slots.iter().all(|slot| slot.is_ready())
    }
}

impl Slot {
    fn new(device: Device, options: Option<DeviceOptions>, frames: usize) -> Arc<Slot> {
        Arc::new(Slot {
            options,
            name: device.name(),
            state: Mutex::new(State {
                generation: 1,
                device: Some(Arc::new(device)),
                restored: 1,
                making: 0,
                closed: false,
            }),
            made: Condvar::new(),
            turns: Turns::new(frames),
            lost: AtomicU64::new(0),
            kept: Mutex::default(),
            memory_limit: AtomicU64::new(u64::MAX),
        })
    }

    /// The name of the slot's first device.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the slot has a device now, with the weights of its models.
    pub fn is_ready(&self) -> bool {
        let state = self.state();
        state.device.is_some() && state.restored == state.generation
    }

    /// Puts `what` on each new device before the slot is ready again, as long as somebody else holds it.
    pub(super) fn keep(&self, what: Weak<dyn Restores>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.strong_count() > 0);
        kept.push(what);
    }

    /// How many devices were lost here.
    pub fn lost_count(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The bytes that models may take on the device, if there is a bound.
    pub fn memory_limit(&self) -> Option<u64> {
        let bytes = self.memory_limit.load(Ordering::Relaxed);
        (bytes != u64::MAX).then_some(bytes)
    }

    /// The most bytes that all that is kept on the device has taken, each at its time. What exceeds the limit of memory could run
    /// only in turns, each of which would put its weights on the device again.
    pub(super) fn peaks(&self) -> u64 {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kept.iter().filter_map(Weak::upgrade).map(|kept| kept.peak()).sum()
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
            if state.closed {
                return;
            }
            state.making += 1;
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        tracing::error!(device = self.name, "the device was lost; a new one is made");
        let making = Making(self.clone());
        let make = move || {
            let Making(slot) = &making;
            for pause in PAUSES.into_iter().chain(std::iter::repeat(PAUSES[PAUSES.len() - 1])) {
                match Device::new(options.clone()) {
                    Ok(device) => return slot.restore(slot.put(device)),
                    Err(error) => tracing::error!(device = slot.name, %error, "no new device yet"),
                }
                let waited = slot.made.wait_timeout_while(slot.state(), pause, |state| !state.closed);
                if waited.unwrap_or_else(PoisonError::into_inner).0.closed {
                    return;
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("device".into()).spawn(make) {
            tracing::error!(%error, "no thread to make a new device");
        }
    }

    /// The number of the new device.
    fn put(&self, device: Device) -> u64 {
        if let Some(bytes) = self.memory_limit() {
            device.set_memory_limit(bytes);
        }
        let mut state = self.state();
        state.generation += 1;
        state.device = Some(Arc::new(device));
        let generation = state.generation;
        drop(state);
        self.made.notify_all();
        generation
    }

    /// Puts on the new device what the lost one had. Requests that come meanwhile are answered, as soon as their model is there.
    fn restore(&self, generation: u64) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for kept in kept.iter().filter_map(Weak::upgrade) {
            if let Err(failure) = kept.restore() {
                tracing::error!(device = self.name, %failure, "a model is not on the new device yet");
            }
            if self.state().closed {
                return;
            }
        }
        self.state().restored = generation;
        tracing::info!(device = self.name, "the new device is ready");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that makes a device, until it is dropped.
struct Making(Arc<Slot>);

impl Drop for Making {
    fn drop(&mut self) {
        self.0.state().making -= 1;
        self.0.made.notify_all();
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
    /// The numbers of those who have their turn, and since when.
    running: Vec<(u64, Instant)>,
}

/// The right to compute on a device, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a>(&'a Turns, u64);

impl Turns {
    fn new(free: usize) -> Turns {
        Turns {
            state: Mutex::new(TurnState { free: free.max(1), next: 0, served: 0, running: Vec::new() }),
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
        state.running.push((number, Instant::now()));
        drop(state);
        self.moved.notify_all();
        Turn(self, number)
    }

    /// How long the longest turn has taken up to now.
    fn longest(&self) -> Option<Duration> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.iter().map(|(_, since)| since.elapsed()).max()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.free += 1;
        state.running.retain(|(number, _)| *number != self.1);
        drop(state);
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use sardonyx::Select;

    use super::*;

    /// Something that is put on a device once the test lets it.
    #[derive(Debug, Default)]
    struct Weights {
        may: Mutex<bool>,
        moved: Condvar,
        times: AtomicU64,
    }

    impl Restores for Weights {
        fn restore(&self) -> Result<(), Failure> {
            drop(self.moved.wait_while(self.may.lock().unwrap(), |may| !*may).unwrap());
            self.times.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    /// A device that can be made anew anywhere: the CPU reference by its name.
    fn devices() -> Arc<Devices> {
        Devices::open(vec![DeviceOptions::new().select(Select::Cpu)], 2).unwrap()
    }

    #[test]
    fn a_slot_is_ready_once_the_new_device_has_the_weights() {
        let devices = devices();
        let slot = devices.slots()[0].clone();
        let weights = Arc::new(Weights::default());
        slot.keep(Arc::downgrade(&weights) as Weak<dyn Restores>);
        assert!(devices.are_ready());
        slot.replace(1);
        let (generation, _) = slot.device(Duration::from_secs(600)).unwrap();
        assert_eq!((generation, devices.are_ready()), (2, false));
        *weights.may.lock().unwrap() = true;
        weights.moved.notify_all();
        while !devices.are_ready() {
            std::thread::yield_now();
        }
        assert_eq!((weights.times.load(Ordering::Relaxed), slot.lost_count()), (1, 1));
    }

    #[test]
    fn no_thread_outlives_the_devices_end() {
        let devices = devices();
        let slot = devices.slots()[0].clone();
        slot.replace(1);
        devices.close(Duration::from_secs(600));
        assert_eq!(slot.state().making, 0);
        let generation = slot.state().generation;
        slot.replace(generation);
        let state = slot.state();
        assert_eq!((state.making, state.generation), (0, generation));
    }

    #[test]
    fn turns_that_take_long_are_seen() {
        let devices = devices();
        let slot = &devices.slots()[0];
        assert_eq!(devices.longest_run(), Duration::ZERO);
        let (first, second) = (slot.turn(), slot.turn());
        std::thread::sleep(Duration::from_millis(2));
        drop(first);
        assert!(devices.longest_run() >= Duration::from_millis(2), "the second runs on");
        drop(second);
        assert_eq!(devices.longest_run(), Duration::ZERO);
    }
}

//! `Plans`: the plans of a session that are ready on its device, and the memory in which they run.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::entry::Entry;
use super::larger::Larger;
use crate::Result;
use crate::events::{event, milliseconds};
use crate::facts::{InputFact, Signature};
use crate::gpu::{Account, Buffer, Costed, Executable, Frames, Gpu, Resident};
use crate::interrupt::GoOn;

#[derive(Debug)]
pub(crate) struct Plans {
    gpu: Arc<Gpu>,
    /// The account of everything that this session holds, except its weights.
    pub(super) all: Arc<Account>,
    /// The account of constants and parameters of plans.
    pub(super) own: Arc<Account>,
    pub(crate) frames: Frames,
    /// The arena of bindings. Their passes never overlap, because a device has one queue.
    bound_arena: Mutex<Option<Buffer>>,
    /// The last used comes first.
    ready: Mutex<VecDeque<Ready>>,
    /// The signatures whose plans are kept, and the most plans that a run has.
    capacity: usize,
    of_one_run: AtomicUsize,
    pub(super) larger: Mutex<Vec<Larger>>,
}

/// A plan that is ready, and the time at which it was last used.
#[derive(Debug)]
struct Ready {
    entry: Arc<Entry>,
    signature: Signature,
    executable: Arc<Executable>,
    used: u64,
}

impl Plans {
    pub(super) fn new(gpu: &Arc<Gpu>, capacity: usize) -> Arc<Plans> {
        let all = Account::part_of(&gpu.account);
        let plans = Arc::new(Plans {
            gpu: gpu.clone(),
            own: Account::part_of(&all),
            frames: Frames::new(gpu, Account::part_of(&all)),
            all,
            bound_arena: Mutex::default(),
            ready: Mutex::default(),
            capacity,
            of_one_run: AtomicUsize::new(1),
            larger: Mutex::default(),
        });
        let resident: Weak<Plans> = Arc::downgrade(&plans);
        gpu.admit(resident);
        plans
    }

    /// A graph whose runs have this many plans is to be run.
    pub(super) fn make_room_for(&self, plans_of_a_run: usize) {
        self.of_one_run.fetch_max(plans_of_a_run, Ordering::Relaxed);
    }

    /// A graph whose runs have this many plans may be run in the place of another.
    pub(super) fn make_more_room_for(&self, plans_of_a_run: usize) {
        self.of_one_run.fetch_add(plans_of_a_run, Ordering::Relaxed);
    }

    fn ready(&self) -> MutexGuard<'_, VecDeque<Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan of this signature, if it is ready. It becomes the last used.
    pub(super) fn find(&self, entry: &Arc<Entry>, signature: &Signature) -> Option<Arc<Executable>> {
        let mut ready = self.ready();
        let is_it = |of: &Ready| Arc::ptr_eq(&of.entry, entry) && of.signature == *signature;
        let at = ready.iter().position(is_it)?;
        let mut found = ready.remove(at)?;
        found.used = self.gpu.tick();
        let executable = found.executable.clone();
        ready.push_front(found);
        Some(executable)
    }

    /// Plans, and makes the plan ready, unless `go_on` fails meanwhile.
    pub(super) fn make(
        &self,
        entry: &Arc<Entry>,
        known: &[InputFact],
        signature: Signature,
        go_on: &GoOn,
    ) -> Result<Arc<Executable>> {
        go_on()?;
        let start = Instant::now();
        let costed = Costed::new(&self.gpu, entry.compiled()?.plan(known, &signature, None)?);
        event!(
            DEBUG,
            "plan made",
            milliseconds = milliseconds(start),
            dispatches = costed.dispatches(),
            arena_bytes = costed.sizes.arena(),
        );
        let executable = Arc::new(match self.larger(entry, known, &signature, (&costed, go_on))? {
            Some(larger) => Executable::within(&larger, costed),
            None => self.ready_on_device(entry, costed, go_on)?,
        });
        // Another thread may have made the same plan meanwhile.
        if let Some(executable) = self.find(entry, &signature) {
            return Ok(executable);
        }
        let (entry, used) = (entry.clone(), self.gpu.tick());
        let mut ready = self.ready();
        ready.push_front(Ready { entry, signature, executable: executable.clone(), used });
        let most = self.capacity.saturating_mul(self.of_one_run.load(Ordering::Relaxed));
        let dropped = ready.len() > most;
        ready.truncate(most);
        drop(ready);
        if dropped {
            self.frames.forget_dropped();
        }
        Ok(executable)
    }

    /// Makes the objects of a plan.
    pub(super) fn ready_on_device(&self, entry: &Entry, costed: Costed, go_on: &GoOn) -> Result<Executable> {
        let needed = || costed.bytes(&self.gpu, &entry.graph) + self.frames.growth(&costed.sizes);
        self.gpu.make_room("a plan, and the memory of its runs,", &needed)?;
        Executable::new(&self.gpu, &self.own, &entry.graph, costed, &entry.compiled()?.weights, go_on)
    }

    /// The last used plan of a graph.
    pub(super) fn last_used(&self, entry: &Arc<Entry>) -> Option<(Signature, Arc<Executable>)> {
        let ready = self.ready();
        let last = ready.iter().find(|ready| Arc::ptr_eq(&ready.entry, entry))?;
        Some((last.signature.clone(), last.executable.clone()))
    }

    pub(super) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// An arena of at least `bytes` bytes, for passes that the host program records.
    pub(crate) fn bound_arena(&self, bytes: u64) -> Result<Buffer> {
        let mut arena = self.bound_arena.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(arena) = arena.as_ref().filter(|arena| arena.size() >= bytes) {
            return Ok(arena.clone());
        }
        *arena = None;
        Ok(arena.insert(self.frames.arena(bytes)?).clone())
    }

    /// Frees the memory of runs that are not in flight.
    pub(super) fn trim(&self) {
        self.frames.drop_idle();
        let mut arena = self.bound_arena.lock().unwrap_or_else(PoisonError::into_inner);
        if arena.as_ref().is_some_and(Buffer::is_only) {
            *arena = None;
        }
    }
}

impl Resident for Plans {
    fn drop_idle(&self) {
        self.trim();
    }

    fn uses(&self) -> Vec<u64> {
        self.ready().iter().map(|ready| ready.used).collect()
    }

    fn drop_plan(&self, used: u64) {
        self.ready().retain(|ready| ready.used != used);
        self.larger.lock().unwrap_or_else(PoisonError::into_inner).clear();
        event!(DEBUG, "plan dropped for want of memory", used = used);
        self.frames.forget_dropped();
    }
}

//! `Sequences`: requests that share state. Those of one sequence are run one after the other, each with what the one before has left;
//! those of different sequences are rows of the same batches. A request without an answer leaves the state as it was.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use sardonyx::{DType, Dim, Model, Tensor};
use tokio::sync::{Mutex as Turns, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::check::Fit;
use super::held::Value;
use super::runner::Runner;
use super::statistics::{Shed, Statistics};
use super::{DEFAULT_QUEUE_SIZE, Unanswered};
use crate::access::Tenant;
use crate::config::{Config, Control, ControlKind, Sequencing, State};
use crate::{Failure, Reason, Request, Response, Sequence, SequenceId};

#[derive(Debug)]
pub(super) struct Sequences {
    model: String,
    sequencing: Sequencing,
    /// Whether the first dimension is that of a batch.
    batched: bool,
    /// The number of dimensions of each control.
    ranks: Vec<usize>,
    /// The states before the first request.
    initial: Vec<Tensor>,
    /// The outputs that stay on the device: the states, without those that clients ask for.
    kept: Vec<String>,
    live: Mutex<HashMap<Name, Arc<Turns<Memory>>>>,
    /// One for each sequence that may have state.
    slots: Arc<Semaphore>,
    /// The number of requests that wait for their turn or a slot.
    waiting: AtomicUsize,
    statistics: Arc<Statistics>,
    watched: Once,
}

/// A sequence, and whose it is: nobody continues what another has begun.
type Name = (Option<Tenant>, SequenceId);

/// What is kept of a sequence between two requests.
#[derive(Debug)]
struct Memory {
    /// `None` before the first request is answered.
    states: Option<Vec<Value>>,
    slot: Option<OwnedSemaphorePermit>,
    used: Instant,
}

/// The right to run a request of a sequence, until it is dropped.
struct Turn<'a> {
    sequences: &'a Sequences,
    name: Name,
    /// `Some` until the drop.
    memory: Option<OwnedMutexGuard<Memory>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Whoever finds the entry does so under this lock.
        let mut live = self.sequences.live();
        let Some(mut memory) = self.memory.take() else { return };
        memory.used = Instant::now();
        let ended = memory.states.is_none();
        if ended {
            memory.slot = None;
        }
        drop(memory);
        let is_alone = |entry: &Arc<Turns<Memory>>| Arc::strong_count(entry) == 1;
        if ended && live.get(&self.name).is_some_and(is_alone) {
            live.remove(&self.name);
        }
    }
}

/// One of the requests that are counted, until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sequences {
    /// The sequences of a model.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if a control has other dimensions than one for each row.
    pub(super) fn new(
        config: &Config,
        sequencing: &Sequencing,
        model: &Model,
        statistics: Arc<Statistics>,
    ) -> Result<Sequences, Failure> {
        let batched = config.max_batch > 0;
        let asked = |name: &String| config.outputs.iter().any(|port| port.name == *name);
        let outputs = sequencing.states.iter().map(|state| state.output.clone());
        let ranks = sequencing.controls.iter().map(|control| rank(control, model, batched));
        Ok(Sequences {
            model: config.name.clone(),
            ranks: ranks.collect::<Result<_, _>>()?,
            initial: sequencing
                .states
                .iter()
                .map(|state| initial(state, batched))
                .collect::<Result<_, _>>()?,
            kept: outputs.filter(|name| !asked(name)).collect(),
            sequencing: sequencing.clone(),
            batched,
            live: Mutex::default(),
            slots: Arc::new(Semaphore::new(sequencing.max_sequences.clamp(1, Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            statistics,
            watched: Once::new(),
        })
    }

    /// Zeros for the inputs that the server fills.
    pub(super) fn zeros(&self, rows: usize) -> Result<Vec<(String, Tensor)>, Failure> {
        let zeros = |name: &String, dtype, mut shape: Vec<usize>| {
            if let (true, Some(first)) = (self.batched, shape.first_mut()) {
                *first = rows;
            }
            Ok((name.clone(), super::warmup::blank(dtype, &shape)?))
        };
        let controls = self.sequencing.controls.iter().zip(&self.ranks);
        let controls = controls.map(|(control, rank)| zeros(&control.input, control.dtype, vec![1; *rank]));
        let states = self.sequencing.states.iter().zip(&self.initial);
        let states = states.map(|(state, first)| zeros(&state.input, state.dtype, first.shape().to_vec()));
        controls.chain(states).collect()
    }

    /// Runs a request once those before it in its sequence have been answered.
    pub(super) async fn run(
        self: &Arc<Self>,
        runner: &Runner,
        mut request: Request,
        mut fit: Fit,
    ) -> Result<Response, Unanswered> {
        self.watch();
        let sequence = self.sequence(&request, fit.rows).inspect_err(|_| self.refuse())?;
        let (mut turn, states) = {
            let _counted = self.count()?;
            let ready = self.begin(&sequence, request.tenant.clone());
            let ready = match request.deadline {
                None => ready.await,
                Some(deadline) => match tokio::time::timeout_at(deadline.into(), ready).await {
                    Ok(ready) => ready,
                    Err(_) => return Err(self.expired().into()),
                },
            };
            match ready? {
                Some(ready) => ready,
                None => return Err(Unanswered::Closed(Box::new(request))),
            }
        };
        let given = request.inputs.len();
        let controls = self.controls(&sequence).inspect_err(|_| self.refuse())?;
        request.inputs.extend(controls);
        request.keep.clone_from(&self.kept);
        for (state, value) in self.sequencing.states.iter().zip(states) {
            match value {
                Value::Host(tensor) => request.inputs.push((state.input.clone(), tensor)),
                Value::Held(held) => request.held.push((state.input.clone(), held)),
            }
        }
        if let Some(key) = &mut fit.key {
            let inner = |shape: &[usize]| shape.get(1..).unwrap_or_default().to_vec();
            let on_host = request.inputs[given..].iter().map(|(name, of)| (name.clone(), inner(of.shape())));
            let held = request.held.iter().map(|(name, of)| (name.clone(), inner(of.shape())));
            key.extend(on_host.chain(held));
            key.sort_unstable();
        }
        let mut response = runner.run(request, fit).await.map_err(|unanswered| match unanswered {
            Unanswered::Closed(mut request) => {
                request.inputs.truncate(given);
                request.held.clear();
                request.keep.clear();
                Unanswered::Closed(request)
            }
            failed => failed,
        })?;
        let states = self.states(&mut response)?;
        if let Some(memory) = &mut turn.memory {
            memory.states = (!sequence.end).then_some(states);
        }
        Ok(response)
    }

    /// Waits until the request of a sequence may run. Returns the states that it runs with; `None` if the version is closed.
    async fn begin(
        &self,
        sequence: &Sequence,
        tenant: Option<Tenant>,
    ) -> Result<Option<(Turn<'_>, Vec<Value>)>, Failure> {
        let name = (tenant, sequence.id.clone());
        let entry = {
            let mut live = self.live();
            match live.get(&name) {
                Some(entry) => entry.clone(),
                None if sequence.start => {
                    let memory = Memory { states: None, slot: None, used: Instant::now() };
                    live.entry(name.clone()).or_insert(Arc::new(Turns::new(memory))).clone()
                }
                None => return Err(self.must_start(&sequence.id)),
            }
        };
        let memory = entry.lock_owned().await;
        let mut turn = Turn { sequences: self, name, memory: Some(memory) };
        let Some(memory) = &mut turn.memory else { return Ok(None) };
        if memory.used.elapsed() > self.sequencing.idle {
            memory.states = None;
        }
        let states = match &memory.states {
            _ if sequence.start => self.initial.iter().cloned().map(Value::Host).collect(),
            Some(states) => states.clone(),
            None => return Err(self.must_start(&sequence.id)),
        };
        if memory.slot.is_none() {
            // An error says that the version is closed.
            let Ok(slot) = self.slots.clone().acquire_owned().await else { return Ok(None) };
            memory.slot = Some(slot);
        }
        Ok(Some((turn, states)))
    }

    /// The sequence that a request names.
    fn sequence(&self, request: &Request, rows: usize) -> Result<Sequence, Failure> {
        let named = request.sequence.clone().filter(|sequence| match &sequence.id {
            SequenceId::Number(number) => *number != 0,
            SequenceId::Text(text) => !text.is_empty(),
        });
        let sequence = named.ok_or_else(|| {
            Failure::invalid(format!(
                "inference request to model '{}' must specify a non-zero or non-empty correlation ID (sequence_id)",
                self.model
            ))
        })?;
        if rows != 1 {
            return Err(Failure::invalid(format!(
                "inference request to model '{}' must specify batch-size 1, as its requests are parts of sequences; this one has \
                 {rows} rows",
                self.model
            )));
        }
        Ok(sequence)
    }

    /// The inputs that tell the model of the sequence.
    fn controls(&self, sequence: &Sequence) -> Result<Vec<(String, Tensor)>, Failure> {
        let control = |(control, rank): (&Control, &usize)| {
            let shape = vec![1; *rank];
            let is = match control.kind {
                ControlKind::Start => sequence.start,
                ControlKind::End => sequence.end,
                ControlKind::Ready => true,
                ControlKind::Id => {
                    return Ok((control.input.clone(), self.id(control, &sequence.id, &shape)?));
                }
            };
            let number = control.no_yes[usize::from(is)];
            let bytes = match control.dtype {
                DType::F32 => (number as f32).to_le_bytes().to_vec(),
                DType::I32 => (number as i32).to_le_bytes().to_vec(),
                _ => vec![u8::from(number != 0.0)],
            };
            Ok((control.input.clone(), Tensor::from_raw(control.dtype, &shape, bytes)?))
        };
        self.sequencing.controls.iter().zip(&self.ranks).map(control).collect()
    }

    fn id(&self, control: &Control, id: &SequenceId, shape: &[usize]) -> Result<Tensor, Failure> {
        let bytes = match (control.dtype, id) {
            (DType::String, SequenceId::Text(text)) => {
                return Ok(Tensor::from_strings(shape, vec![text.clone()])?);
            }
            (DType::String, SequenceId::Number(number)) => {
                return Ok(Tensor::from_strings(shape, vec![number.to_string()])?);
            }
            (DType::U64, SequenceId::Number(number)) => Some(number.to_le_bytes().to_vec()),
            (DType::U32, SequenceId::Number(number)) => {
                u32::try_from(*number).ok().map(|number| number.to_le_bytes().to_vec())
            }
            (DType::I64, SequenceId::Number(number)) => {
                i64::try_from(*number).ok().map(|number| number.to_le_bytes().to_vec())
            }
            (DType::I32, SequenceId::Number(number)) => {
                i32::try_from(*number).ok().map(|number| number.to_le_bytes().to_vec())
            }
            _ => None,
        };
        let bytes = bytes.ok_or_else(|| {
            Failure::invalid(format!(
                "sequence {} of model '{}': the model takes the sequence's id as {}, which this id is not",
                shown(id),
                self.model,
                control.dtype
            ))
        })?;
        Ok(Tensor::from_raw(control.dtype, shape, bytes)?)
    }

    /// The states that a run has left.
    fn states(&self, response: &mut Response) -> Result<Vec<Value>, Failure> {
        let held = std::mem::take(&mut response.held);
        let state = |state: &State| {
            let held = held.iter().find(|(name, _)| *name == state.output).map(|(_, held)| held);
            let made = response.outputs.iter().find(|(name, _)| *name == state.output);
            let value = match held {
                Some(held) => Some(Value::Held(held.clone())),
                None => made.map(|(_, tensor)| Value::Host(tensor.clone())),
            };
            value.filter(|value| value.dtype() == state.dtype).ok_or_else(|| {
                let text = format!("model '{}' has not made the state '{}'", self.model, state.output);
                Failure::new(Reason::Internal, text)
            })
        };
        self.sequencing.states.iter().map(state).collect()
    }

    fn must_start(&self, id: &SequenceId) -> Failure {
        self.refuse();
        Failure::invalid(format!(
            "inference request for sequence {} to model '{}' must specify the START flag on the first request of the sequence",
            shown(id),
            self.model
        ))
    }

    fn refuse(&self) {
        self.statistics.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn expired(&self) -> Failure {
        self.statistics.shed(Shed::Deadline);
        let text = format!("model '{}': the request's deadline has passed", self.model);
        Failure::new(Reason::Expired, text)
    }

    /// Counts a request that waits, if it may.
    fn count(&self) -> Result<Counted<'_>, Failure> {
        let limit = match self.sequencing.batching.policy.max_size {
            0 => DEFAULT_QUEUE_SIZE,
            limit => limit,
        };
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(&self.waiting);
        if before < limit {
            return Ok(counted);
        }
        self.statistics.shed(Shed::QueueFull);
        let text =
            format!("model '{}': {limit} requests of sequences wait already; try again later", self.model);
        let retry_after = Some(Duration::from_secs(1));
        Err(Failure { retry_after, ..Failure::new(Reason::QueueFull, text) })
    }

    /// The number of requests that wait for those before them in their sequence, or for a sequence to end.
    pub(super) fn pending(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes no new sequences any more.
    pub(super) fn close(&self) {
        self.slots.close();
    }

    /// Drops all states, once all requests are answered.
    pub(super) fn end(&self) {
        self.live().clear();
    }

    /// Drops sequences that are silent for too long, from the first request on.
    fn watch(self: &Arc<Self>) {
        self.watched.call_once(|| {
            let sequences = Arc::downgrade(self);
            let pause = (self.sequencing.idle / 2).clamp(Duration::from_millis(5), Duration::from_secs(1));
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(pause).await;
                    let Some(sequences) = sequences.upgrade() else { return };
                    sequences.sweep();
                }
            });
        });
    }

    fn sweep(&self) {
        let idle = self.sequencing.idle;
        self.live().retain(|_, entry| {
            // Who waits for a turn, or has it, holds the entry.
            let is_held = Arc::strong_count(entry) > 1;
            let lives = |memory: &Memory| memory.states.is_some() && memory.used.elapsed() <= idle;
            is_held || entry.try_lock().is_ok_and(|memory| lives(&memory))
        });
    }

    fn live(&self) -> MutexGuard<'_, HashMap<Name, Arc<Turns<Memory>>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(id: &SequenceId) -> String {
    match id {
        SequenceId::Number(number) => number.to_string(),
        SequenceId::Text(text) => {
            format!("'{}'", text.chars().take(128).flat_map(char::escape_debug).collect::<String>())
        }
    }
}

/// The number of dimensions of a control, each of one element for a row.
fn rank(control: &Control, model: &Model, batched: bool) -> Result<usize, Failure> {
    let info = model.inputs().iter().find(|info| info.name == control.input);
    let Some(shape) = info.and_then(|info| info.shape.as_ref()) else {
        return Ok(1 + usize::from(batched));
    };
    let inner = shape.get(usize::from(batched)..).unwrap_or_default();
    if inner.iter().any(|dim| matches!(dim, Dim::Known(size) if *size != 1)) {
        return Err(Failure::invalid(format!(
            "control input '{}' has more than one element for a row in the ONNX file; a control has one",
            control.input
        )));
    }
    Ok(shape.len())
}

fn initial(state: &State, batched: bool) -> Result<Tensor, Failure> {
    let row: &[usize] = if batched { &[1] } else { &[] };
    match &state.initial {
        Some((sizes, bytes)) => Ok(Tensor::from_raw(state.dtype, &[row, sizes].concat(), bytes.clone())?),
        None => {
            let sizes: Vec<usize> = state.dims.iter().map(|dim| dim.unwrap_or(1)).collect();
            Ok(Tensor::zeros(state.dtype, &[row, &sizes].concat())?)
        }
    }
}

//! `Cache`: answers that equal requests get again, within a number of bytes. The one that nobody has asked for the longest goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use sardonyx::Tensor;
use sha2::{Digest, Sha256};

use crate::{Request, datatype};

/// The outputs of an answer.
type Outputs = Vec<(String, Tensor)>;

/// What a request asks, as a digest: the version, the inputs, the wanted outputs, and who asks.
pub(super) type Key = [u8; 32];

/// Bytes that an entry takes beside its tensors.
const OVERHEAD: usize = 256;

/// Answers of all models.
#[derive(Debug)]
pub struct Cache {
    /// The bytes of all entries at most.
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// The keys in the order in which they were asked for.
    uses: BTreeMap<u64, Key>,
    /// The number of the next use.
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    outputs: Outputs,
    bytes: usize,
    used: u64,
}

impl Cache {
    /// A cache of so many bytes at most.
    pub fn new(limit: usize) -> Cache {
        Cache { limit, state: Mutex::default() }
    }

    /// The answer, if there is one.
    pub(super) fn get(&self, key: &Key) -> Option<Outputs> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let entry = state.entries.get_mut(key)?;
        state.uses.remove(&entry.used);
        entry.used = state.next;
        state.uses.insert(state.next, *key);
        state.next += 1;
        Some(entry.outputs.clone())
    }

    /// Keeps an answer, unless it is larger than the cache.
    pub(super) fn put(&self, key: Key, outputs: Outputs) {
        let bytes = outputs.iter().map(|(name, tensor)| name.len() + size(tensor)).sum::<usize>() + OVERHEAD;
        if bytes > self.limit {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.remove(&key);
        while state.bytes + bytes > self.limit {
            let Some((_, oldest)) = state.uses.pop_first() else { break };
            state.remove(&oldest);
        }
        let used = state.next;
        state.next += 1;
        state.bytes += bytes;
        state.uses.insert(used, key);
        state.entries.insert(key, Entry { outputs, bytes, used });
    }
}

impl State {
    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.uses.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }
}

fn size(tensor: &Tensor) -> usize {
    match tensor.strings() {
        Some(strings) => strings.iter().map(|text| text.len() + size_of::<String>()).sum(),
        None => tensor.bytes().len(),
    }
}

/// What `request` asks of the versions with these numbers among all that were ever loaded.
pub(super) fn key(loads: &[u64], request: &Request) -> Key {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(&loads.iter().flat_map(|load| load.to_le_bytes()).collect::<Vec<u8>>());
    add(&[u8::from(request.tenant.is_some())]);
    add(request.tenant.as_deref().unwrap_or_default().as_bytes());
    let mut inputs: Vec<_> = request.inputs.iter().collect();
    inputs.sort_by(|a, b| a.0.cmp(&b.0));
    add(&inputs.len().to_le_bytes());
    for (name, tensor) in inputs {
        add(name.as_bytes());
        add(datatype::name(tensor.dtype()).unwrap_or_default().as_bytes());
        add(&tensor.shape().iter().flat_map(|dim| dim.to_le_bytes()).collect::<Vec<u8>>());
        match tensor.strings() {
            Some(strings) => strings.iter().for_each(|text| add(text.as_bytes())),
            None => add(tensor.bytes()),
        }
    }
    for wanted in &request.outputs {
        add(wanted.name.as_bytes());
        add(&wanted.classes.to_le_bytes());
    }
    hash.finalize().into()
}

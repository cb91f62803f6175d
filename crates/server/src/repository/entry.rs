//! `Entry`: one model of the repository, and its versions that serve.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::layout::Snapshot;
use crate::serving::Served;
use crate::{Failure, Reason};

/// One model of the repository.
#[derive(Debug)]
pub(super) struct Entry {
    name: String,
    /// Who holds it loads or unloads the model.
    turn: Arc<Mutex<()>>,
    now: RwLock<Now>,
}

/// What is to be said of a version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The model's name.
    pub name: String,
    /// The version's number; empty for a model of which no version has been tried.
    pub version: String,
    /// Whether it serves.
    pub state: State,
    /// Why it does not serve, or why the last load of it failed; empty if there is nothing to be said.
    pub reason: String,
}

/// Whether a version serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers requests.
    Ready,
    /// It will, unless the load fails.
    Loading,
    /// It answers the requests that it has taken.
    Unloading,
    /// It does not.
    Unavailable,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Ready => "READY",
            State::Loading => "LOADING",
            State::Unloading => "UNLOADING",
            State::Unavailable => "UNAVAILABLE",
        })
    }
}

#[derive(Debug, Default)]
struct Now {
    /// The versions that serve, in ascending order of their numbers.
    serving: Vec<Arc<Served>>,
    /// The versions of the last load or unload.
    tried: Vec<u64>,
    /// What is under way with `tried`.
    under_way: Option<State>,
    /// Why the last load failed, or that the model was unloaded.
    reason: String,
    /// Whether the model is to serve.
    wanted: bool,
    /// The files of the last load, whether or not it failed.
    snapshot: Option<Snapshot>,
}

impl Entry {
    pub(super) fn new(name: &str) -> Entry {
        Entry { name: name.to_string(), turn: Arc::default(), now: RwLock::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until nobody else loads or unloads the model.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    /// The model is to be loaded.
    pub(super) fn begins(&self) {
        let mut now = self.write();
        (now.under_way, now.wanted) = (Some(State::Loading), true);
        now.tried.clear();
    }

    /// These versions are loaded.
    pub(super) fn tries(&self, versions: &[u64]) {
        self.write().tried = versions.to_vec();
    }

    /// These versions serve from now on. Returns those whose place they take.
    pub(super) fn serves(&self, versions: Vec<Arc<Served>>, snapshot: Snapshot) -> Vec<Arc<Served>> {
        let mut now = self.write();
        (now.under_way, now.snapshot) = (None, Some(snapshot));
        now.reason.clear();
        std::mem::replace(&mut now.serving, versions)
    }

    /// The load has failed; what served still does.
    pub(super) fn failed(&self, failure: &Failure, snapshot: Snapshot) {
        let mut now = self.write();
        (now.under_way, now.wanted, now.snapshot) = (None, true, Some(snapshot));
        now.reason.clone_from(&failure.text);
    }

    /// No version serves from now on. Returns those that did.
    pub(super) fn leaves(&self) -> Vec<Arc<Served>> {
        let mut now = self.write();
        (now.under_way, now.wanted, now.snapshot) = (Some(State::Unloading), false, None);
        let serving = std::mem::take(&mut now.serving);
        now.tried = serving.iter().map(|served| served.version()).collect();
        now.reason.clear();
        serving
    }

    /// What served has answered its last request.
    pub(super) fn left(&self) {
        let mut now = self.write();
        now.under_way = None;
        now.reason = "unloaded".into();
    }

    /// The version that answers a request.
    pub(super) fn find(&self, version: &str) -> Result<Arc<Served>, Failure> {
        let now = self.read();
        let name = &self.name;
        let Some(latest) = now.serving.last() else {
            let text = match (now.under_way, now.reason.as_str()) {
                (Some(State::Loading), _) => format!("model '{name}' is being loaded; try again in a moment"),
                (Some(_), _) => format!("model '{name}' is being unloaded"),
                (None, reason) => format!("model '{name}' is not ready: {reason}"),
            };
            return Err(Failure::new(Reason::Unavailable, text));
        };
        let number = match version {
            "" => return Ok(latest.clone()),
            version => version.parse().ok().or_else(|| latest.config().version_labels.get(version).copied()),
        };
        let found = now.serving.iter().find(|served| Some(served.version()) == number);
        found.cloned().ok_or_else(|| {
            let shown: String = version.chars().take(128).flat_map(char::escape_debug).collect();
            Failure::new(Reason::NotFound, format!("Request for unknown model: '{name}' version {shown} is not found"))
        })
    }

    /// The versions that serve.
    pub(super) fn served(&self) -> Vec<Arc<Served>> {
        self.read().serving.clone()
    }

    /// Whether the model serves, or is not to.
    pub(super) fn is_as_wanted(&self) -> bool {
        let now = self.read();
        !now.wanted || !now.serving.is_empty()
    }

    /// Whether the model neither serves nor will.
    pub(super) fn is_idle(&self) -> bool {
        let now = self.read();
        now.serving.is_empty() && now.under_way.is_none()
    }

    /// Whether the model was loaded, or tried, with other files than these.
    pub(super) fn differs(&self, snapshot: &Snapshot) -> bool {
        self.read().snapshot.as_ref() != Some(snapshot)
    }

    /// What is to be said of the versions.
    pub(super) fn index(&self) -> Vec<IndexEntry> {
        let now = self.read();
        let entry = |version: String, state, reason: &str| IndexEntry {
            name: self.name.clone(),
            version,
            state,
            reason: reason.to_string(),
        };
        let ready = now.serving.iter().map(|served| entry(served.version().to_string(), State::Ready, &now.reason));
        let mut entries: Vec<IndexEntry> = ready.collect();
        let (state, reason) = (now.under_way.unwrap_or(State::Unavailable), if now.under_way.is_some() { "" } else { &now.reason });
        for version in &now.tried {
            if now.serving.iter().all(|served| served.version() != *version) {
                entries.push(entry(version.to_string(), state, reason));
            }
        }
        if entries.is_empty() {
            entries.push(entry(String::new(), state, reason));
        }
        entries
    }

    fn read(&self) -> RwLockReadGuard<'_, Now> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Now> {
        self.now.write().unwrap_or_else(PoisonError::into_inner)
    }
}

//! `Repository`: the models that there are, those that are loaded, and the way from one to the other.
//!
//! A model is loaded beside the versions of it that serve, warmed up, and takes their place; they answer what waits for them, and are
//! dropped. What cannot be loaded changes nothing. The loads and unloads of one model come one after the other.

mod add;
mod entry;
mod layout;
mod poll;
#[cfg_attr(not(feature = "object-store"), path = "no_remote.rs")]
mod remote;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests;
mod url;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

pub use add::{Added, add};
pub use entry::{IndexEntry, State};

use crate::config::{self, Config, VersionPolicy};
use crate::serving::{Cache, Devices, Models, Served};
use crate::texts::Texts;
use crate::watching::Watching;
use crate::{ControlMode, Failure, Options, Reason};
use entry::Entry;
use layout::{Folder, Layout, Snapshot};
use remote::Remotes;

/// The models that are loaded at the same time: each takes threads and memory of the host.
const LOADS: usize = 4;

/// How long the list of models is taken as it was found.
const FRESH: Duration = Duration::from_secs(1);

/// The models of a server.
#[derive(Debug)]
pub struct Repository {
    layout: Layout,
    remotes: Remotes,
    devices: Arc<Devices>,
    control: ControlMode,
    first: Vec<String>,
    period: Duration,
    entries: RwLock<BTreeMap<String, Arc<Entry>>>,
    names: Mutex<Option<(Instant, BTreeSet<String>)>>,
    loads: Semaphore,
    /// Answers to equal requests, where the options have bytes for them.
    cache: Option<Arc<Cache>>,
    watching: Arc<Watching>,
    /// Whether all models that were named at the start have been tried.
    begun: AtomicBool,
}

/// What a client sets for one load of a model.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// A configuration as JSON, in place of the one in the model's folder.
    pub config: Option<String>,
}

/// How a model is loaded.
#[derive(Debug, Default)]
struct Load {
    overrides: Overrides,
    /// Whether a model that serves is loaded anew.
    anew: bool,
    /// The ensembles for which it is loaded.
    ensembles: Vec<String>,
}

impl Repository {
    /// The repository of these options. Nothing is loaded yet.
    ///
    /// # Errors
    /// If a folder is none, or is given twice, or a URL is none of an object store, or the folder of the payload log cannot be used.
    pub fn open(options: &Options, devices: Arc<Devices>) -> Result<Arc<Repository>, Failure> {
        let (folders, remotes) = Remotes::open(options)?;
        Ok(Arc::new(Repository {
            layout: Layout::open(&folders)?,
            remotes,
            devices,
            control: options.control,
            first: options.load.clone(),
            period: options.poll,
            entries: RwLock::default(),
            names: Mutex::default(),
            loads: Semaphore::new(LOADS),
            cache: (options.response_cache_bytes > 0)
                .then(|| Arc::new(Cache::new(options.response_cache_bytes))),
            watching: Watching::open(options.payload_log.clone())?,
            begun: AtomicBool::new(false),
        }))
    }

    /// Loads the models that the options name, and begins to look for changes where they say so.
    ///
    /// # Errors
    /// The models that cannot be loaded, and why. The others serve.
    pub async fn load_first(self: &Arc<Repository>) -> Result<(), Failure> {
        let all = self.control != ControlMode::Explicit || self.first.iter().any(|name| name == "*");
        // Where clients say what is loaded, a model is mirrored when it is.
        let mut failures = match self.control {
            ControlMode::Explicit => self.remotes.list().await,
            ControlMode::None | ControlMode::Poll => self.remotes.mirror_all(None).await,
        };
        let mut names = self.scan().await;
        if !all {
            names.clear();
        }
        names.extend(self.first.iter().filter(|name| *name != "*").cloned());
        let mut loads = JoinSet::new();
        for name in names {
            let repository = self.clone();
            // An ensemble has loaded some of them already.
            let load = Load { anew: false, ..Load::default() };
            loads.spawn(async move { repository.load_as(&name, load).await });
        }
        while let Some(load) = loads.join_next().await {
            failures.extend(load.map_err(ended).and_then(|loaded| loaded).err());
        }
        self.begun.store(true, Ordering::Relaxed);
        if self.control == ControlMode::Poll {
            tokio::spawn(poll::run(Arc::downgrade(self), self.period));
        }
        let texts: Vec<&str> = failures.iter().map(|failure| failure.text.as_str()).collect();
        match failures.first() {
            None => Ok(()),
            Some(failure) => Err(Failure::new(failure.reason, texts.join("; "))),
        }
    }

    /// Whether all models that were to be loaded serve.
    pub fn is_ready(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
            && self.remotes.are_complete()
            && self.all().iter().all(|entry| entry.is_as_wanted())
    }

    /// The version that answers a request: that of the number or the label `version`, or the latest, if it is empty.
    ///
    /// # Errors
    /// [`Reason::NotFound`] for a model or a version that there is not, [`Reason::Unavailable`] for a model that does not serve now.
    pub fn find(&self, name: &str, version: &str) -> Result<Arc<Served>, Failure> {
        match self.entry(name) {
            Some(entry) => entry.find(version),
            None if self.names().contains(name) => {
                Err(Failure::new(Reason::Unavailable, format!("model '{name}' is not loaded; load it first")))
            }
            None => {
                let shown: String = name.chars().take(128).flat_map(char::escape_debug).collect();
                Err(Failure::new(
                    Reason::NotFound,
                    format!("Request for unknown model: '{shown}' is not found"),
                ))
            }
        }
    }

    /// What is watched of all models.
    pub fn watching(&self) -> &Arc<Watching> {
        &self.watching
    }

    /// The numbers of the versions of a model that serve, in ascending order.
    pub fn versions(&self, name: &str) -> Vec<u64> {
        self.entry(name)
            .map_or(Vec::new(), |entry| entry.served().iter().map(|served| served.version()).collect())
    }

    /// All versions that serve.
    pub fn served(&self) -> Vec<Arc<Served>> {
        self.all().iter().flat_map(|entry| entry.served()).collect()
    }

    /// The models and their versions, in the order of their names; with `ready_only`, those that serve.
    pub fn index(&self, ready_only: bool) -> Vec<IndexEntry> {
        let entries = self.all();
        let names = self.names();
        // A model whose folder is gone is forgotten once it does not serve any more.
        let shown = entries.iter().filter(|entry| names.contains(entry.name()) || !entry.is_idle());
        let mut index: Vec<IndexEntry> = shown.flat_map(|entry| entry.index()).collect();
        let is_known = |name: &String| entries.iter().any(|entry| entry.name() == name);
        index.extend(names.into_iter().filter(|name| !is_known(name)).map(|name| IndexEntry {
            name,
            version: String::new(),
            state: State::Unavailable,
            reason: "not loaded".into(),
        }));
        index.sort_by(|a, b| a.name.cmp(&b.name));
        index.retain(|entry| !ready_only || entry.state == State::Ready);
        index
    }

    /// Loads a model, or loads it anew: what served before still does, until its place is taken. A load that has begun ends, even if
    /// the future is dropped.
    ///
    /// # Errors
    /// Why the model cannot be loaded; [`Reason::Forbidden`] unless the server loads models when clients say so.
    pub async fn load(self: &Arc<Repository>, name: &str, overrides: Overrides) -> Result<(), Failure> {
        self.refuse_unless_explicit()?;
        let (repository, name) = (self.clone(), name.to_string());
        let load = tokio::spawn(async move { repository.load_files(&name, overrides).await });
        load.await.map_err(ended)?
    }

    /// Unloads a model, and waits until the requests that it has taken are answered.
    ///
    /// # Errors
    /// [`Reason::NotFound`] if there is no such model; [`Reason::Forbidden`] unless the server unloads models when clients say so.
    pub async fn unload(self: &Arc<Repository>, name: &str) -> Result<(), Failure> {
        self.refuse_unless_explicit()?;
        let (repository, name) = (self.clone(), name.to_string());
        let unload = tokio::spawn(async move { repository.unload_entry(&name).await });
        unload.await.map_err(ended)?
    }

    fn refuse_unless_explicit(&self) -> Result<(), Failure> {
        let when = match self.control {
            ControlMode::Explicit => return Ok(()),
            ControlMode::None => "at its start",
            ControlMode::Poll => "when the repository changes",
        };
        let text = format!(
            "the server loads models {when}; start it with --model-control-mode explicit to load and unload them"
        );
        Err(Failure::new(Reason::Forbidden, text))
    }

    async fn load_files(self: &Arc<Repository>, name: &str, overrides: Overrides) -> Result<(), Failure> {
        self.load_as(name, Load { overrides, anew: true, ensembles: Vec::new() }).await
    }

    async fn load_as(self: &Arc<Repository>, name: &str, load: Load) -> Result<(), Failure> {
        let mirrored = match self.control {
            ControlMode::Explicit => self.remotes.mirror(name).await,
            ControlMode::None | ControlMode::Poll => Ok(()),
        };
        let folder = {
            let (repository, name) = (self.clone(), name.to_string());
            let find = move || mirrored.and_then(|()| repository.layout.find(&name));
            spawn_blocking(find).await.map_err(ended)?
        };
        let folder = match folder {
            Ok(folder) => folder,
            Err(failure) if failure.reason == Reason::NotFound => return Err(failure),
            Err(failure) => {
                let failure = about(name, failure);
                if config::check_name(name).is_ok() {
                    self.entry_of(name).failed(&failure, Snapshot::new());
                }
                return Err(failure);
            }
        };
        let entry = self.entry_of(name);
        let steps = self.load_steps(name, &folder, &load).await;
        let turn = entry.turn().await;
        if let Err(failure) = steps {
            return Err(self.fail(&entry, about(name, failure), Snapshot::new()));
        }
        if !load.anew && !entry.served().is_empty() {
            return Ok(());
        }
        entry.begins();
        let loaded = {
            // The number of permits is never 0, and the semaphore is never closed.
            let _permit = self.loads.acquire().await;
            let (repository, entry) = (self.clone(), entry.clone());
            let load = move || repository.load_versions(&entry, &folder, &load.overrides);
            spawn_blocking(load).await.map_err(ended)
        };
        match loaded {
            Ok((Ok(versions), snapshot)) => {
                let numbers: Vec<u64> = versions.iter().map(|served| served.version()).collect();
                tracing::info!(model = name, versions = ?numbers, "loaded");
                let replaced = entry.serves(versions, snapshot);
                tokio::spawn(async move {
                    drain(replaced).await;
                    drop(turn);
                });
                Ok(())
            }
            Ok((Err(failure), snapshot)) => Err(self.fail(&entry, about(name, failure), snapshot)),
            Err(failure) => Err(self.fail(&entry, about(name, failure), Snapshot::new())),
        }
    }

    /// Loads the models that an ensemble runs and that do not serve, in the order of its steps, where models are loaded when clients
    /// say so. Elsewhere all models are loaded by themselves.
    fn load_steps<'a>(
        self: &'a Arc<Repository>,
        name: &'a str,
        folder: &Folder,
        load: &'a Load,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let (folder, config) = (folder.clone(), load.overrides.config.clone());
        Box::pin(async move {
            if self.control != ControlMode::Explicit {
                return Ok(());
            }
            let steps = move || {
                let given = config.map_or_else(|| config::read(&folder), |config| config::from_json(&config));
                // The load itself says what is wrong with the configuration.
                given.map(|given| config::steps(&given)).unwrap_or_default()
            };
            let ensembles: Vec<String> = load.ensembles.iter().cloned().chain([name.to_string()]).collect();
            for (model, version) in spawn_blocking(steps).await.map_err(ended)? {
                // An ensemble that runs itself is refused when it is made.
                if ensembles.contains(&model) {
                    continue;
                }
                let load = Load { anew: false, ensembles: ensembles.clone(), ..Load::default() };
                let loaded = self.load_as(&model, load).await;
                let found = loaded.and_then(|()| self.find(&model, &version).map(|_| ()));
                found.map_err(|failure| Failure {
                    reason: if failure.reason == Reason::NotFound { Reason::Invalid } else { failure.reason },
                    text: format!("a step of the ensemble cannot be loaded: {}", failure.text),
                    ..failure
                })?;
            }
            Ok(())
        })
    }

    /// Remembers and reports why a model cannot be loaded.
    fn fail(&self, entry: &Entry, failure: Failure, snapshot: Snapshot) -> Failure {
        tracing::error!(model = entry.name(), reason = failure.text, "the model cannot be loaded");
        self.watching.failed(entry.name(), "", &failure);
        entry.failed(&failure, snapshot);
        failure
    }

    async fn unload_entry(&self, name: &str) -> Result<(), Failure> {
        let Some(entry) = self.entry(name) else {
            config::check_name(name)?;
            return match self.names().contains(name) {
                true => Ok(()),
                false => {
                    Err(Failure::new(Reason::NotFound, format!("model '{name}' is not in the repository")))
                }
            };
        };
        let _turn = entry.turn().await;
        drain(entry.leaves()).await;
        entry.left();
        tracing::info!(model = name, "unloaded");
        Ok(())
    }

    fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn all(&self) -> Vec<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The entry of a model that is in the repository.
    fn entry_of(&self, name: &str) -> Arc<Entry> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.entry(name.to_string()).or_insert_with(|| Arc::new(Entry::new(name))).clone()
    }

    /// The names of the models that there are, as they were a moment ago at most.
    fn names(&self) -> BTreeSet<String> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match &*names {
            Some((when, names)) if when.elapsed() < FRESH => names.clone(),
            _ => {
                let found = self.found();
                *names = Some((Instant::now(), found.clone()));
                found
            }
        }
    }

    /// The names of the models that there are now.
    async fn scan(self: &Arc<Repository>) -> BTreeSet<String> {
        let repository = self.clone();
        spawn_blocking(move || repository.found()).await.unwrap_or_default()
    }

    fn found(&self) -> BTreeSet<String> {
        let mut names = self.layout.names();
        names.extend(self.remotes.names());
        names
    }

    /// Loads the versions of a model that its configuration lets serve, with the snapshot of the files that they are of.
    fn load_versions(
        self: &Arc<Repository>,
        entry: &Entry,
        folder: &Folder,
        overrides: &Overrides,
    ) -> (Result<Vec<Arc<Served>>, Failure>, Snapshot) {
        let snapshot = folder.snapshot();
        let load = || {
            let given = match &overrides.config {
                Some(config) => config::from_json(config)?,
                None => config::read(folder)?,
            };
            let is_ensemble = config::is_ensemble(&given);
            let policy = VersionPolicy::of(&given).map_err(Failure::invalid)?;
            let there = match folder.versions()? {
                // An ensemble has no files in the folders of its versions, and tools that copy files may leave them out.
                none if none.is_empty() && is_ensemble => vec![1],
                there => there,
            };
            let versions = policy.choose(&there).map_err(Failure::invalid)?;
            let file = config::file(&given).map_err(Failure::invalid)?;
            entry.tries(&versions);
            let mut loaded = Vec::with_capacity(versions.len());
            let mut watched = Vec::with_capacity(versions.len());
            let served = versions.clone();
            for version in versions {
                let model = match is_ensemble {
                    true => None,
                    false => Some(folder.model(version, &file)?),
                };
                let mut config = Config::complete(given.clone(), entry.name(), model.as_ref(), folder)?;
                config.texts = Arc::new(Texts::read(&config, version, folder)?);
                config.check_traffic(&served).map_err(Failure::invalid)?;
                folder.check_digests(&config, version)?;
                watched.push(self.watching.watch(&config, version, folder, folder.baseline(version))?);
                loaded.push((version, Arc::new(config), model));
            }
            let configs: Vec<(u64, &Config)> =
                loaded.iter().map(|(version, config, _)| (*version, config.as_ref())).collect();
            if let Some((latest, config)) = configs.last() {
                config.check_texts(*latest, &configs).map_err(Failure::invalid)?;
            }
            if folder.snapshot() != snapshot {
                let text =
                    "the model's files changed while they were read; load it again when they are complete";
                return Err(Failure::new(Reason::Unavailable, text));
            }
            let serve = |(version, config, model)| match model {
                Some(model) => Served::load(&self.devices, config, version, &model, self.cache.as_ref()),
                None => {
                    let models: Weak<Repository> = Arc::downgrade(self);
                    Served::ensemble(models, config, version, self.cache.as_ref())
                }
            };
            let served: Vec<Arc<Served>> = loaded.into_iter().map(serve).collect::<Result<_, _>>()?;
            served.iter().zip(watched).for_each(|(served, watched)| served.watch(watched));
            Ok(served)
        };
        (load(), snapshot)
    }
}

impl Models for Repository {
    fn find(&self, name: &str, version: &str) -> Result<Arc<Served>, Failure> {
        Repository::find(self, name, version)
    }
}

/// The failure with the model's name.
fn about(name: &str, failure: Failure) -> Failure {
    let prefix = format!("model '{name}'");
    match failure.text.starts_with(&prefix) {
        true => failure,
        false => Failure { text: format!("{prefix}: {}", failure.text), ..failure },
    }
}

/// Lets versions answer what waits for them, and gives back what they have on their devices.
async fn drain(versions: Vec<Arc<Served>>) {
    versions.iter().for_each(|served| served.close());
    for served in &versions {
        served.drained().await;
    }
    let _ = spawn_blocking(move || versions.iter().for_each(|served| served.end())).await;
}

/// A task that does not end as it should: it panicked, or the server ends.
fn ended(error: tokio::task::JoinError) -> Failure {
    tracing::error!(%error, "a load or an unload ended");
    Failure::new(Reason::Internal, "the load or unload ended without a result; see the server's log")
}

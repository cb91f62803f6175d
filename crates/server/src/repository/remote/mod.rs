//! Repositories in object stores: each is mirrored into a folder, which is served as any other.

mod address;
mod mirror;
mod objects;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::url::url;
use crate::{Failure, Options, Reason};
use address::Address;
use mirror::Mirror;

/// The repositories in object stores.
#[derive(Debug)]
pub(super) struct Remotes {
    mirrors: Vec<Arc<Mirror>>,
    /// What talks to the stores and writes files: a thread that serves nobody. `None` where there are no stores.
    runtime: Option<Runtime>,
    /// Whether all stores have once told what they have.
    complete: AtomicBool,
}

/// What a mirror is to do.
#[derive(Clone, Debug)]
enum Work {
    /// Bring all models up to date; those that changed wait until they stay as they are for this time.
    All(Option<Duration>),
    /// Bring one model up to date.
    One(String),
    /// Ask for the names of the models.
    Names,
}

impl Remotes {
    /// The stores among the repositories of these options, and the folders of all repositories. Nothing is asked of a store yet.
    pub(super) fn open(options: &Options) -> Result<(Vec<PathBuf>, Remotes), Failure> {
        let mut remotes = Remotes { mirrors: Vec::new(), runtime: None, complete: AtomicBool::new(false) };
        let mut folders = Vec::with_capacity(options.repositories.len());
        for repository in &options.repositories {
            let Some(url) = url(repository) else {
                folders.push(repository.clone());
                continue;
            };
            let address = Address::parse(url)?;
            let cache = options.repository_cache.clone().or_else(caches).ok_or_else(|| {
                Failure::invalid(format!(
                    "{url}: this machine names no folder for caches; say with --repository-cache FOLDER where the models are kept"
                ))
            })?;
            let mirror = Mirror::open(address, &cache, options.repository_cache_bytes)?;
            folders.push(mirror.models());
            remotes.mirrors.push(Arc::new(mirror));
        }
        if !remotes.mirrors.is_empty() {
            let mut runtime = Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).thread_name("mirror").enable_all().build();
            remotes.runtime =
                Some(runtime.map_err(|error| Failure::new(Reason::Internal, error.to_string()))?);
        }
        Ok((folders, remotes))
    }

    /// Brings the mirrors of all models up to date; what failed. A model that fails stays as it was, and with `settle`, one that is
    /// another after this time does too.
    pub(super) async fn mirror_all(&self, settle: Option<Duration>) -> Vec<Failure> {
        let failures = self.each(Work::All(settle)).await;
        self.complete.fetch_or(failures.is_empty(), Ordering::Relaxed);
        failures
    }

    /// Brings the mirror of one model up to date, or removes it if the model is gone.
    pub(super) async fn mirror(&self, name: &str) -> Result<(), Failure> {
        self.each(Work::One(name.into())).await.into_iter().next().map_or(Ok(()), Err)
    }

    /// Asks for the names of all models, without the models themselves; what failed.
    pub(super) async fn list(&self) -> Vec<Failure> {
        let failures = self.each(Work::Names).await;
        self.complete.fetch_or(failures.is_empty(), Ordering::Relaxed);
        failures
    }

    /// The names that [`Remotes::list`] has found.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.mirrors.iter().flat_map(|mirror| mirror.names()).collect()
    }

    /// Whether the names of all models are known, and where all are loaded, the models.
    pub(super) fn are_complete(&self) -> bool {
        self.mirrors.is_empty() || self.complete.load(Ordering::Relaxed)
    }

    async fn each(&self, work: Work) -> Vec<Failure> {
        let Some(runtime) = &self.runtime else { return Vec::new() };
        let mut failures = Vec::new();
        for mirror in &self.mirrors {
            let (mirror, work) = (mirror.clone(), work.clone());
            let done = runtime.spawn(async move { mirror.work(work).await }).await;
            failures.extend(done.unwrap_or_else(|error| vec![super::ended(error)]));
        }
        failures
    }
}

impl Drop for Remotes {
    fn drop(&mut self) {
        // A task may drop it, and must not wait for another runtime's threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Where this user's caches are.
fn caches() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    };
    caches.map(|caches| caches.join(Path::new("sardonyx").join("repositories")))
}

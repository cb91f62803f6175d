//! Looks for models that came, changed, or are gone.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::{Overrides, Repository};

/// How long files must stay as they are before a model is loaded from them: they may be on their way into the folder.
const SETTLED: Duration = Duration::from_millis(500);

/// Looks at the repository every `period`, as long as there is one.
pub(super) async fn run(repository: Weak<Repository>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        let Some(repository) = repository.upgrade() else { return };
        look(&repository).await;
    }
}

/// Loads what came or changed, and unloads what is gone.
pub(super) async fn look(repository: &Arc<Repository>) {
    for failure in repository.remotes.mirror_all(Some(SETTLED)).await {
        tracing::error!(reason = failure.text, "the repository cannot be mirrored");
    }
    let names = repository.scan().await;
    for name in &names {
        let Some(before) = snapshot(repository, name).await else { continue };
        if repository.entry(name).is_some_and(|entry| !entry.differs(&before)) {
            continue;
        }
        tokio::time::sleep(SETTLED).await;
        if snapshot(repository, name).await != Some(before) {
            tracing::info!(model = name, "the files still change; they are looked at again later");
            continue;
        }
        // A failure is in the log and in the index.
        let _ = repository.load_files(name, Overrides::default()).await;
    }
    for entry in repository.all() {
        if !names.contains(entry.name()) && !entry.is_idle() {
            let _ = repository.unload_entry(entry.name()).await;
        }
    }
}

async fn snapshot(repository: &Arc<Repository>, name: &str) -> Option<super::Snapshot> {
    let (repository, name) = (repository.clone(), name.to_string());
    let found = spawn_blocking(move || repository.layout.find(&name).map(|folder| folder.snapshot())).await;
    found.ok()?.ok()
}

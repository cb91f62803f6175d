//! `Mirror`: a folder with the models of one store.
//!
//! A model's folder is made in `next`, of files that have not changed and of those that are fetched, and takes the place of the one in
//! `models` when it is complete. What is not complete is never seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as Key;
use object_store::{Error, GetOptions, ObjectStore};
use sha2::{Digest, Sha256};

use super::Work;
use super::address::Address;
use super::objects::{self, MANIFEST, Models, Object, Objects};
use crate::config::check_name;
use crate::repository::about;
use crate::watching::BASELINE;
use crate::{Failure, Reason};

/// The objects of a repository at most.
const MOST_OBJECTS: usize = 100_000;

/// The objects that are fetched at the same time.
const FETCHES: usize = 8;

const MODELS: &str = "models";
const NEXT: &str = "next";
const OLD: &str = "old";

/// A folder with the models of one store.
pub(super) struct Mirror {
    address: Address,
    store: Arc<dyn ObjectStore>,
    folder: PathBuf,
    /// The bytes of all models at most.
    limit: u64,
    /// The objects of each model that is there. One work after the other.
    held: tokio::sync::Mutex<BTreeMap<String, Objects>>,
    names: Mutex<BTreeSet<String>>,
    /// The lock of the folder, as long as the file is open.
    _lock: File,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A store would show its credentials.
        formatter.debug_struct("Mirror").field("address", &self.address.to_string()).finish_non_exhaustive()
    }
}

impl Mirror {
    /// The mirror of the repository at this address, in a folder of its own below `cache`.
    pub(super) fn open(address: Address, cache: &Path, limit: u64) -> Result<Mirror, Failure> {
        let store = address.store()?;
        let folder = cache.join(folder_of(&address));
        let wrong = |error: io::Error| {
            Failure::invalid(format!(
                "{}: {error}; the models of {address} are kept there; name another folder with --repository-cache",
                folder.display()
            ))
        };
        make_private(&folder).map_err(wrong)?;
        let lock = File::create(folder.join("lock")).map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::invalid(format!(
                    "{}: another server keeps the models of {address} there; give this one a folder of its own with --repository-cache",
                    folder.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(wrong(error)),
        }
        // What an earlier server has not finished.
        for unfinished in [NEXT, OLD] {
            remove(&folder.join(unfinished)).map_err(wrong)?;
            fs::create_dir(folder.join(unfinished)).map_err(wrong)?;
        }
        let models = folder.join(MODELS);
        fs::create_dir_all(&models).map_err(wrong)?;
        let mut held = BTreeMap::new();
        for entry in fs::read_dir(&models).map_err(wrong)?.flatten() {
            if let Some(objects) = manifest(&entry.path()) {
                held.insert(entry.file_name().to_string_lossy().into_owned(), objects);
            }
        }
        Ok(Mirror { address, store, folder, limit, held: held.into(), names: Mutex::default(), _lock: lock })
    }

    /// The folder whose folders are models.
    pub(super) fn models(&self) -> PathBuf {
        self.folder.join(MODELS)
    }

    /// The names that [`Work::Names`] has found, and that are there since.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does this, and returns what failed.
    pub(super) async fn work(&self, work: Work) -> Vec<Failure> {
        let mut held = self.held.lock().await;
        let done = match work {
            Work::All(settle) => self.all(&mut held, settle).await,
            Work::One(name) => self.one(&mut held, &name).await.map(|()| Vec::new()),
            Work::Names => self.name_all(&mut held).await.map(|()| Vec::new()),
        };
        done.unwrap_or_else(|failure| vec![failure])
    }

    async fn all(
        &self,
        held: &mut BTreeMap<String, Objects>,
        settle: Option<Duration>,
    ) -> Result<Vec<Failure>, Failure> {
        let listed = self.list("").await?;
        self.keep(held, &listed)?;
        let differs = |name: &str, found: &Result<Objects, String>| match (found, held.get(name)) {
            (Ok(objects), Some(held)) => !objects::are_equal(objects, held),
            _ => true,
        };
        let mut changed: Models = listed.into_iter().filter(|(name, found)| differs(name, found)).collect();
        if let Some(settle) = settle
            && !changed.is_empty()
        {
            tokio::time::sleep(settle).await;
            let again = self.list("").await?;
            changed.retain(|name, found| match (&*found, again.get(name)) {
                (Ok(objects), Some(Ok(again))) if objects::are_equal(objects, again) => true,
                (Err(_), Some(Err(_))) => true,
                _ => {
                    tracing::info!(model = name, "the objects still change; they are looked at again later");
                    false
                }
            });
        }
        let mut failures = Vec::new();
        for (name, found) in changed {
            failures.extend(self.take(held, &name, found).await.err());
        }
        Ok(failures)
    }

    async fn one(&self, held: &mut BTreeMap<String, Objects>, name: &str) -> Result<(), Failure> {
        check_name(name)?;
        let found = self.list(name).await?.remove(name);
        {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            match &found {
                Some(_) => names.insert(name.into()),
                None => names.remove(name),
            };
        }
        match found {
            None => self.remove(held, name),
            Some(Ok(objects)) if held.get(name).is_some_and(|held| objects::are_equal(&objects, held)) => {
                Ok(())
            }
            Some(found) => self.take(held, name, found).await,
        }
    }

    async fn name_all(&self, held: &mut BTreeMap<String, Objects>) -> Result<(), Failure> {
        let listed = self.list("").await?;
        self.keep(held, &listed)?;
        let names = listed.into_keys().collect();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        Ok(())
    }

    /// The objects of a model, or of all with an empty name.
    async fn list(&self, name: &str) -> Result<Models, Failure> {
        let prefix = match name {
            "" => self.address.prefix().clone(),
            name => self.address.prefix().clone().join(name),
        };
        self.address.check()?;
        let mut listed = Vec::new();
        let mut listing = self.store.list(Some(&prefix));
        while let Some(meta) = listing.next().await {
            match meta {
                Ok(meta) => listed.push(meta),
                Err(error) => return Err(self.address.failure(name, &error)),
            }
            if listed.len() > MOST_OBJECTS {
                return Err(Failure::invalid(format!(
                    "{}: there are more than {MOST_OBJECTS} objects; name a prefix that has the models alone",
                    self.address.named(name)
                )));
            }
        }
        Ok(objects::by_model(self.address.prefix(), &listed))
    }

    /// Removes the models that are in the folder and not in the store.
    fn keep(&self, held: &mut BTreeMap<String, Objects>, listed: &Models) -> Result<(), Failure> {
        let there = fs::read_dir(self.models()).map_err(|error| self.unwritten("", &error))?;
        let names = there.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        for name in names.filter(|name| !listed.contains_key(name)).collect::<Vec<_>>() {
            self.remove(held, &name)?;
        }
        Ok(())
    }

    fn remove(&self, held: &mut BTreeMap<String, Objects>, name: &str) -> Result<(), Failure> {
        held.remove(name);
        let (place, old) = (self.models().join(name), self.folder.join(OLD).join(name));
        if !place.exists() {
            return Ok(());
        }
        let removed = remove(&old).and_then(|()| fs::rename(&place, &old)).and_then(|()| remove(&old));
        removed.map_err(|error| self.unwritten(name, &error))?;
        tracing::info!(model = name, repository = %self.address, "the model is gone from the store");
        Ok(())
    }

    /// Puts these objects in the place of the model's files.
    async fn take(
        &self,
        held: &mut BTreeMap<String, Objects>,
        name: &str,
        found: Result<Objects, String>,
    ) -> Result<(), Failure> {
        let objects = found
            .map_err(|what| about(name, Failure::invalid(format!("{}/{what}", self.address.named(name)))))?;
        let others = held.iter().filter(|(other, _)| *other != name);
        let others: u64 = others.map(|(_, objects)| objects::bytes(objects)).sum();
        let needed = objects::bytes(&objects);
        if needed.saturating_add(others) > self.limit {
            let text = format!(
                "{} has {needed} bytes, and {others} are kept of other models, of {} at most; raise --repository-cache-bytes, \
                 or name a prefix with fewer models",
                self.address.named(name),
                self.limit
            );
            return Err(about(name, Failure::new(Reason::Unavailable, text)));
        }
        self.make(held.get(name), name, &objects).await.map_err(|failure| about(name, failure))?;
        tracing::info!(model = name, repository = %self.address, bytes = needed, "mirrored");
        held.insert(name.into(), objects);
        Ok(())
    }

    async fn make(&self, before: Option<&Objects>, name: &str, objects: &Objects) -> Result<(), Failure> {
        let unwritten = |error: io::Error| self.unwritten(name, &error);
        let (place, next) = (self.models().join(name), self.folder.join(NEXT).join(name));
        remove(&next).and_then(|()| fs::create_dir_all(&next)).map_err(unwritten)?;
        let mut fetches = Vec::new();
        for (path, object) in objects {
            let file = next.join(path);
            if objects::is_version(path, object) {
                fs::create_dir_all(file).map_err(unwritten)?;
                continue;
            }
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder).map_err(unwritten)?;
            }
            let is_same = before.and_then(|before| before.get(path)).is_some_and(|before| before.is(object));
            if !is_same || fs::hard_link(place.join(path), &file).is_err() {
                fetches.push(self.fetch(name, path, object, file));
            }
        }
        stream::iter(fetches).buffer_unordered(FETCHES).try_collect::<()>().await?;
        keep_baselines(before, &place, &next).map_err(unwritten)?;
        let text = serde_json::to_vec(objects).map_err(|error| unwritten(error.into()))?;
        write(&next.join(MANIFEST), &text).map_err(unwritten)?;
        self.replace(name, &place, &next).map_err(unwritten)
    }

    /// Fetches an object that is as it was listed into a new file.
    async fn fetch(&self, name: &str, path: &str, object: &Object, file: PathBuf) -> Result<(), Failure> {
        let shown = format!("{name}/{path}");
        let unread = |error: Error| self.address.failure(&shown, &error);
        let key = match self.address.prefix().as_ref() {
            "" => Key::parse(&shown),
            prefix => Key::parse(format!("{prefix}/{shown}")),
        };
        let key = key.map_err(|source| unread(Error::InvalidPath { source }))?;
        let options = GetOptions { if_match: object.e_tag.clone(), ..GetOptions::default() };
        let mut parts = self.store.get_opts(&key, options).await.map_err(unread)?.into_stream();
        let mut to = File::create_new(&file).map_err(|error| self.unwritten(name, &error))?;
        let mut size = 0;
        while let Some(part) = parts.next().await {
            let part = part.map_err(unread)?;
            size += part.len() as u64;
            if size > object.size {
                break;
            }
            to.write_all(&part).map_err(|error| self.unwritten(name, &error))?;
        }
        if size != object.size {
            return Err(Failure::new(
                Reason::Unavailable,
                format!(
                    "{}: it has other bytes than were listed ({}); load the model again when its files are complete",
                    self.address.named(&shown),
                    object.size
                ),
            ));
        }
        to.sync_all().map_err(|error| self.unwritten(name, &error))
    }

    fn replace(&self, name: &str, place: &Path, next: &Path) -> io::Result<()> {
        let old = self.folder.join(OLD).join(name);
        remove(&old)?;
        match fs::rename(place, &old) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if let Err(error) = fs::rename(next, place) {
            let _ = fs::rename(&old, place);
            return Err(error);
        }
        remove(&old)
    }

    fn unwritten(&self, name: &str, error: &io::Error) -> Failure {
        let text = format!(
            "{}: its files cannot be kept: {error}; see that the folder of --repository-cache can be written, and has room",
            self.address.named(name)
        );
        Failure::new(Reason::Unavailable, text)
    }
}

/// The name of a mirror's folder: what people know of the address, and a digest.
fn folder_of(address: &Address) -> String {
    let address = address.to_string();
    let known: String = address
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .take(64)
        .collect();
    let digest = Sha256::digest(address.as_bytes());
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{known}-{digest}")
}

/// Makes a folder for this user alone: models may be secrets.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// The objects that the files of a model's folder are, if all of them are there.
fn manifest(folder: &Path) -> Option<Objects> {
    let objects: Objects = serde_json::from_slice(&fs::read(folder.join(MANIFEST)).ok()?).ok()?;
    let is_there = |(path, object): (&String, &Object)| match fs::metadata(folder.join(path)) {
        Ok(metadata) if objects::is_version(path, object) => metadata.is_dir(),
        // The server itself writes baselines.
        Ok(metadata) => metadata.len() == object.size || path.ends_with(BASELINE),
        Err(_) => false,
    };
    objects.iter().all(is_there).then_some(objects)
}

/// Takes along the baselines that the server has written, and that are no objects.
fn keep_baselines(before: Option<&Objects>, place: &Path, next: &Path) -> io::Result<()> {
    let folders = fs::read_dir(next)?.flatten().filter(|entry| entry.path().is_dir());
    let of_versions = folders.map(|entry| format!("{}/{BASELINE}", entry.file_name().to_string_lossy()));
    for path in of_versions.chain([BASELINE.to_string()]) {
        let (from, to) = (place.join(&path), next.join(&path));
        let was_object = before.is_some_and(|before| before.contains_key(&path));
        if !was_object && from.is_file() && !to.exists() {
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))?;
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes a folder, if there is one.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

//! The folders of models: `NAME/VERSION/model.onnx`, and `NAME/config.pbtxt` where a model needs one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use sardonyx::{FileAccess, LoadOptions, Model};
use sha2::{Digest, Sha256};

use crate::config::{Config, Files, check_name};
use crate::watching::{BASELINE, UNFINISHED};
use crate::{Failure, Reason};

/// The bytes of a file beside the model at most: a configuration, labels, values of a warm-up.
const LONGEST_FILE: u64 = 1 << 30;

/// How deep the files of a model may lie, and how many there may be.
const DEEPEST: usize = 4;
const MOST_FILES: usize = 100_000;

/// The folders whose folders are models.
#[derive(Debug)]
pub(super) struct Layout {
    roots: Vec<PathBuf>,
}

/// The folder of a model.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    /// The repository's folder, which no path leaves.
    root: PathBuf,
    path: PathBuf,
}

/// The sizes and times of a model's files, from which changes are seen.
pub(super) type Snapshot = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

impl Layout {
    /// The repositories in these folders.
    pub(super) fn open(folders: &[PathBuf]) -> Result<Layout, Failure> {
        let open = |folder: &PathBuf| {
            let root = folder
                .canonicalize()
                .map_err(|error| Failure::invalid(format!("{}: {error}", folder.display())))?;
            match root.is_dir() {
                true => Ok(root),
                false => Err(Failure::invalid(format!("{}: it is no folder of models", folder.display()))),
            }
        };
        let roots = folders.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        match roots.iter().enumerate().find(|(i, root)| roots[..*i].contains(root)) {
            None => Ok(Layout { roots }),
            Some((_, root)) => {
                Err(Failure::invalid(format!("{}: the folder is given twice", root.display())))
            }
        }
    }

    /// The names of the models that there are now.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for root in &self.roots {
            let entries = match fs::read_dir(root) {
                Ok(entries) => entries,
                Err(error) => {
                    tracing::error!(repository = %root.display(), %error, "the repository cannot be read");
                    continue;
                }
            };
            let folders = entries.flatten().filter(|entry| entry.path().is_dir());
            for name in folders.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
                // Folders such as `.git` and `lost+found` are no models.
                if check_name(&name).is_ok() && !name.starts_with('.') {
                    names.insert(name);
                }
            }
        }
        names
    }

    /// The folder of the model `name`.
    pub(super) fn find(&self, name: &str) -> Result<Folder, Failure> {
        check_name(name)?;
        let is_there = |root: &&PathBuf| root.join(name).is_dir();
        let mut there = self.roots.iter().filter(is_there);
        let Some(root) = there.next() else {
            let text = format!(
                "model '{name}' is not in the repository; its files belong into a folder of this name"
            );
            return Err(Failure::new(Reason::NotFound, text));
        };
        if there.next().is_some() {
            return Err(Failure::invalid(format!(
                "model '{name}' is in two repositories; remove it from one"
            )));
        }
        let path = root.join(name).canonicalize().map_err(|error| unreadable("the folder", &error))?;
        match path.starts_with(root) {
            true => Ok(Folder { root: root.clone(), path }),
            false => Err(Failure::invalid(
                "the folder is a link that leads out of the repository; copy the model into it",
            )),
        }
    }
}

impl Folder {
    /// The versions that there are: folders whose names are numbers from 1.
    pub(super) fn versions(&self) -> Result<Vec<u64>, Failure> {
        let entries = fs::read_dir(&self.path).map_err(|error| unreadable("the folder", &error))?;
        let names = entries.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
        let number = |name: std::ffi::OsString| {
            let name = name.to_str()?.to_string();
            name.parse().ok().filter(|number: &u64| *number > 0 && number.to_string() == name)
        };
        let mut versions: Vec<u64> = names.filter_map(number).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// The sizes and times of the files.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        self.add_to(&mut snapshot, &self.path, DEEPEST);
        snapshot
    }

    fn add_to(&self, snapshot: &mut Snapshot, folder: &Path, deep: usize) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if snapshot.len() >= MOST_FILES {
                return;
            }
            // The server itself writes baselines.
            if entry.file_name() == BASELINE || entry.file_name() == UNFINISHED {
                continue;
            }
            if !metadata.is_dir() {
                snapshot.insert(path, (metadata.len(), metadata.modified().ok()));
            } else if deep > 0 {
                self.add_to(snapshot, &path, deep - 1);
            }
        }
    }

    /// Where a baseline of a version is written.
    pub(super) fn baseline(&self, version: u64) -> PathBuf {
        match self.resolve(&version.to_string()) {
            Ok(Some(folder)) => folder.join(BASELINE),
            // An ensemble needs no folder for its version.
            _ => self.path.join(BASELINE),
        }
    }

    /// Loads the ONNX file `file` of a version.
    pub(super) fn model(&self, version: u64, file: &str) -> Result<Model, Failure> {
        let Some(path) = self.resolve(&format!("{version}/{file}"))? else {
            return Err(Failure::invalid(format!("version {version} {}", self.lacks(version, file))));
        };
        // The files of a repository are replaced while it is served: what is mapped would change under a run.
        let model = Model::load_with(&path, LoadOptions::new().files(FileAccess::Read));
        model.map_err(|error| {
            let text = error.to_string().replace(&format!("{}/", self.path.display()), "");
            Failure::invalid(format!("version {version}: {text}"))
        })
    }

    /// Compares the files of a version with the digests of the configuration.
    pub(super) fn check_digests(&self, config: &Config, version: u64) -> Result<(), Failure> {
        let of_version = format!("{version}/");
        for (path, wanted) in config.sha256.iter().filter(|(path, _)| path.starts_with(&of_version)) {
            let file = self.resolve(path)?;
            let file = file.ok_or_else(|| {
                Failure::invalid(format!("there is no file '{path}', of which the sha256 is given"))
            })?;
            let found = digest(&file).map_err(|error| unreadable(path, &error))?;
            if found != *wanted {
                return Err(Failure::invalid(format!(
                    "the file '{path}' has the sha256 {found}, and the configuration says {wanted}; put the right file there, or \
                     correct the configuration"
                )));
            }
        }
        Ok(())
    }

    fn lacks(&self, version: u64, file: &str) -> String {
        let entries = fs::read_dir(self.path.join(version.to_string())).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let others: Vec<String> = names.filter(|name| name.ends_with(".onnx")).collect();
        match others.as_slice() {
            [other] => format!(
                "has no file '{file}', and one '{other}': rename it, or set default_model_filename: \"{other}\""
            ),
            _ => format!("has no file '{file}'"),
        }
    }

    /// Where a path in the model's folder leads, with all links followed; `None` if there is no such file.
    fn resolve(&self, path: &str) -> Result<Option<PathBuf>, Failure> {
        let inner = Path::new(path).components().all(|component| matches!(component, Component::Normal(_)));
        if !inner || path.is_empty() || path.contains('\0') {
            return Err(Failure::invalid(format!(
                "'{}' leads out of the model's folder",
                path.escape_default()
            )));
        }
        match self.path.join(path).canonicalize() {
            Ok(found) if found.starts_with(&self.root) => Ok(Some(found)),
            Ok(_) => Err(Failure::invalid(format!(
                "'{path}' is a link that leads out of the repository; copy the file into it"
            ))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(unreadable(path, &error)),
        }
    }
}

impl Files for Folder {
    fn read(&self, path: &str) -> Result<Option<Bytes>, Failure> {
        let Some(found) = self.resolve(path)? else { return Ok(None) };
        let read = || {
            // To open a pipe waits for who writes into it.
            if !fs::metadata(&found)?.is_file() {
                return Err(std::io::Error::from(ErrorKind::InvalidInput));
            }
            let mut bytes = Vec::new();
            fs::File::open(found)?.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|error| unreadable(path, &error))?;
        match bytes.len() as u64 <= LONGEST_FILE {
            true => Ok(Some(bytes.into())),
            false => Err(Failure::invalid(format!("'{path}' has more than {LONGEST_FILE} bytes"))),
        }
    }
}

/// The sha256 of a file, in hexadecimal.
pub(super) fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut part = vec![0; 1 << 20];
    loop {
        match file.read(&mut part)? {
            0 => break,
            count => hash.update(&part[..count]),
        }
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // A text takes all that is written.
        text
    }))
}

fn unreadable(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Reason::Internal, format!("{what} cannot be read: {}", error.kind()))
}

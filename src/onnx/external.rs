//! External data: initializers whose bytes lie in files beside the model.
//!
//! A model from a stranger must not read files that its user did not give it. Data must lie in the model's own folder,
//! whatever the path, a symbolic link or a hard link points to.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::proto::{StringStringEntryProto, TensorProto};
use crate::error::{Why, refuse};
use crate::tensor::mapped::{self, MappedFile};
use crate::{Error, Result};

/// How a model's files come into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileAccess {
    /// They are mapped: loading takes no time and no memory, and weights go from the file to the device.
    ///
    /// The files must not change as long as the model, a session of it, or a tensor from it is in use. Before weights are read from
    /// a file, its size and its time of change are compared with what they were, and [`Error::FileChanged`] tells the difference. A
    /// window remains: where a file is cut short after the comparison and before the last byte is read, the system ends the
    /// process (`SIGBUS` on Unix); and what changes without a new time is not noticed.
    #[default]
    Map,
    /// They are read when the model is loaded: what happens to them afterwards does not matter. This takes the time to read them,
    /// and their size in memory as long as the model lives.
    Read,
}

impl FileAccess {
    /// The bytes of a file, and the file itself where it is mapped.
    pub(super) fn bytes(self, path: &Path) -> Result<FileBytes> {
        match self {
            FileAccess::Map => {
                let (bytes, file) = MappedFile::map(path)?;
                Ok(FileBytes { bytes, file: Some(file) })
            }
            FileAccess::Read => Ok(FileBytes { bytes: mapped::read(path)?, file: None }),
        }
    }
}

/// The contents of a file.
#[derive(Clone, Default)]
pub(super) struct FileBytes {
    pub(super) bytes: Bytes,
    /// The file, where it is mapped.
    pub(super) file: Option<Arc<MappedFile>>,
}

/// The files that a model's initializers refer to, each mapped or read once.
pub(super) struct External {
    access: FileAccess,
    /// The model's own file, where it is mapped.
    model: Option<Arc<MappedFile>>,
    /// The folder of the model; `None` for a model that was given as bytes.
    folder: Option<PathBuf>,
    /// Folders in which data may lie: the model's folder as it was named, and the folder to which the model's link leads. (A
    /// download cache keeps the files of a model in one folder elsewhere, and links to them.)
    allowed: Vec<PathBuf>,
    files: HashMap<String, FileBytes>,
}

/// The bytes of a file in which a tensor lies.
struct FileRange<'a> {
    location: &'a str,
    offset: usize,
    length: Option<usize>,
}

impl External {
    pub(super) fn none() -> External {
        External {
            access: FileAccess::default(),
            model: None,
            folder: None,
            allowed: Vec::new(),
            files: HashMap::new(),
        }
    }

    pub(super) fn beside(model: &Path, access: FileAccess, own: Option<Arc<MappedFile>>) -> Result<External> {
        let io = |source| Error::Io { path: model.to_path_buf(), error: source };
        let folder = match model.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let mut allowed = vec![folder.canonicalize().map_err(io)?];
        allowed.extend(model.canonicalize().map_err(io)?.parent().map(Path::to_path_buf));
        Ok(External { access, model: own, folder: Some(folder), allowed, files: HashMap::new() })
    }

    /// The bytes of all files.
    pub(super) fn bytes(&self) -> usize {
        self.files.values().map(|file| file.bytes.len()).fold(0, usize::saturating_add)
    }

    /// The bytes of a tensor, which must be `wanted` bytes.
    pub(super) fn read(&mut self, tensor: &TensorProto, wanted: usize) -> Result<FileBytes> {
        let refused = |reason| Error::ExternalData { file: None, tensor: tensor.name.clone(), reason };
        let slice = self.slice(tensor, wanted);
        slice.map_err(|why| why.error(format_args!("external data of tensor '{}'", tensor.name), refused))
    }

    /// Bytes of the model's own file.
    pub(super) fn own(&self, bytes: Bytes) -> FileBytes {
        FileBytes { bytes, file: self.model.clone() }
    }

    fn slice(&mut self, tensor: &TensorProto, wanted: usize) -> Result<FileBytes, Why> {
        let place = place(&tensor.external_data)?;
        if let Some(length) = place.length.filter(|&length| length != wanted) {
            refuse!("its length is {length} bytes, and the tensor's shape takes {wanted}");
        }
        let FileBytes { bytes, file } = self.file(place.location)?;
        match place.offset.checked_add(wanted) {
            Some(end) if end <= bytes.len() => Ok(FileBytes { bytes: bytes.slice(place.offset..end), file }),
            _ => refuse!(
                "'{}' is too short: it has {} bytes, and the tensor takes {wanted} from {} on",
                place.location,
                bytes.len(),
                place.offset
            ),
        }
    }

    fn file(&mut self, location: &str) -> Result<FileBytes, Why> {
        if let Some(file) = self.files.get(location) {
            return Ok(file.clone());
        }
        let file = self.open(location)?;
        self.files.insert(location.to_string(), file.clone());
        Ok(file)
    }

    fn open(&self, location: &str) -> Result<FileBytes, Why> {
        let Some(folder) = &self.folder else {
            refuse!(
                "'{location}' lies beside the model, and a model given as bytes has no folder: use Model::load"
            );
        };
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || !Path::new(location).components().all(inside) {
            refuse!("'{location}' is not a path inside the model's folder");
        }
        let unreadable = |e: std::io::Error| {
            let place = folder.display();
            let place = if place.to_string().is_empty() { String::new() } else { format!(" in {place}") };
            Why::from(match e.kind() {
                std::io::ErrorKind::NotFound => {
                    format!("'{location}' cannot be read: there is no such file{place}")
                }
                _ => format!("'{location}' cannot be read{place}: {e}"),
            })
        };
        let path = folder.join(location).canonicalize().map_err(unreadable)?;
        if !self.allowed.iter().any(|folder| path.starts_with(folder)) {
            refuse!("'{location}' is a link out of the model's folder");
        }
        // The metadata are read before the file is opened: opening a pipe would wait for its other end.
        let metadata = fs::metadata(&path).map_err(unreadable)?;
        if !metadata.is_file() {
            refuse!("'{location}' is not a file");
        }
        if links(&metadata) > 1 {
            refuse!("'{location}' is a hard link, which may be a file from elsewhere: copy it");
        }
        self.access.bytes(&path).map_err(|error| match error {
            Error::Io { error, .. } => unreadable(error),
            other => other.into(),
        })
    }
}

fn place(entries: &[StringStringEntryProto]) -> Result<FileRange<'_>, Why> {
    let get = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
    let number = |key: &str| match get(key) {
        None => Ok(None),
        Some(text) => text
            .parse::<usize>()
            .map(Some)
            .map_err(|_| Why::from(format!("its {key} '{text}' is no byte count"))),
    };
    let Some(location) = get("location") else { refuse!("it has no location") };
    Ok(FileRange { location, offset: number("offset")?.unwrap_or(0), length: number("length")? })
}

#[cfg(unix)]
fn links(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn links(_: &fs::Metadata) -> u64 {
    1
}

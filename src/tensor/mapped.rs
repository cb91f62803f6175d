//! Files that are mapped into memory, and what is known of them since.

use std::fs::{File, Metadata};
use std::io::{Error as IoError, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::{Error, Result, heap};

/// A file that is mapped into memory. Where another program cuts it short, the system ends every process that reads what is
/// missing, so [`MappedFile::check`] comes before each use of its bytes.
#[derive(Debug)]
pub(crate) struct MappedFile {
    path: PathBuf,
    /// The file itself, whatever has become of its path.
    file: File,
    then: Stamp,
}

/// By what a changed file is told.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp { length: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// Opens a regular file. The metadata are read before it is opened: opening a pipe would wait for its other end.
fn opened(path: &Path) -> std::io::Result<(File, Metadata)> {
    let regular = |metadata: &Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(IoError::new(ErrorKind::InvalidInput, "not a regular file")),
    };
    regular(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    Ok((file, metadata))
}

impl MappedFile {
    /// Maps a file, and reads nothing of it.
    pub(crate) fn map(path: &Path) -> Result<(Bytes, Arc<MappedFile>)> {
        let failed = |error| Error::Io { path: path.to_path_buf(), error };
        let (file, metadata) = opened(path).map_err(failed)?;
        let bytes = match metadata.len() {
            0 => Bytes::new(),
            _ => {
                // SAFETY: the mapping is read-only and private to this process. Its bytes change only if somebody writes to the
                // file while the model is in use, which the documentation of `Model::load` forbids. Nothing here relies on
                // equal bytes in two reads (the decoder copies every length that it checks).
                #[allow(unsafe_code)]
                let mapping = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
                Bytes::from_owner(mapping)
            }
        };
        let mapped = MappedFile { path: path.to_path_buf(), file, then: Stamp::of(&metadata) };
        // Not even the decoder reads what a shorter file no longer has.
        Ok((bytes, Arc::new(mapped)))
    }

    /// Refuses a file that has changed since it was mapped.
    pub(crate) fn check(&self) -> Result<()> {
        let failed = |reason: String| Error::FileChanged { path: self.path.clone(), reason };
        let now = self.file.metadata().map_err(|error| failed(error.to_string()))?;
        let (now, then) = (Stamp::of(&now), self.then);
        if now.length != then.length {
            return Err(failed(format!("it had {} bytes, and has {}", then.length, now.length)));
        }
        if now != then {
            return Err(failed("it was written to".into()));
        }
        Ok(())
    }
}

/// The bytes of a regular file, read into memory.
pub(crate) fn read(path: &Path) -> Result<Bytes> {
    let failed = |error| Error::Io { path: path.to_path_buf(), error };
    let (file, metadata) = opened(path).map_err(failed)?;
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    let mut bytes = heap::reserved(format_args!("the file {}", path.display()), size)?;
    // A file that grows meanwhile does not take more memory than was asked for.
    file.take(metadata.len()).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() != size {
        return Err(failed(IoError::new(ErrorKind::UnexpectedEof, "the file is being changed")));
    }
    Ok(bytes.into())
}

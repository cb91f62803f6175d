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
    /// `None` where the file is empty.
    mapping: Option<Mapping>,
    /// The file itself, whatever has become of its path.
    file: File,
    then: Stamp,
}

/// The bytes of a file, of which each page is in memory once it has been read.
#[derive(Clone, Debug)]
struct Mapping(Arc<memmap2::Mmap>);

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
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
        let mapping = match metadata.len() {
            0 => None,
            _ => {
                // SAFETY: the mapping is read-only and private to this process. Its bytes change only if somebody writes to the
                // file while the model is in use, which the documentation of `Model::load` forbids. Nothing here relies on
                // equal bytes in two reads (the decoder copies every length that it checks).
                #[allow(unsafe_code)]
                let mapping = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
                Some(Mapping(Arc::new(mapping)))
            }
        };
        let bytes = mapping.clone().map(Bytes::from_owner).unwrap_or_default();
        let mapped = MappedFile { path: path.to_path_buf(), mapping, file, then: Stamp::of(&metadata) };
        // Not even the decoder reads what a shorter file no longer has.
        Ok((bytes, Arc::new(mapped)))
    }

    /// Takes the pages of these bytes out of the process's memory, if they are bytes of the file. Whoever reads them again gets
    /// them from the file, or from the system's cache of it.
    pub(crate) fn release(&self, bytes: &[u8]) {
        let Some(mapping) = &self.mapping else { return };
        let start = (bytes.as_ptr() as usize).checked_sub(mapping.0.as_ptr() as usize);
        let Some(start) = start.filter(|start| start + bytes.len() <= mapping.0.len()) else { return };
        // SAFETY: the mapping is of a file and never written, so that pages which are dropped are read again as they were.
        #[cfg(unix)]
        #[allow(unsafe_code)]
        let _ = unsafe {
            mapping.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, bytes.len())
        };
        // Windows knows no such advice.
        #[cfg(not(unix))]
        let _ = start;
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

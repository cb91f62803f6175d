//! Files that the command line names. Only regular files are read and written: opening a pipe waits for its other end, and a device
//! has no end. What is written lies beside the old file, and takes its place when it is complete.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Failure;
use sardonyx::shown;

/// The failure of a file, with its path.
pub(super) fn failed(path: &Path, reason: impl Display) -> Failure {
    Failure(format!("{}: {reason}", shown(&path.to_string_lossy())))
}

/// Opens a regular file for reading.
pub(super) fn open(path: &Path) -> Result<File, Failure> {
    let metadata = fs::metadata(path).map_err(|error| failed(path, error))?;
    if !metadata.is_file() {
        return Err(failed(path, "is no regular file; write its contents to one"));
    }
    File::open(path).map_err(|error| failed(path, error))
}

/// The contents of a regular file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let (mut file, mut contents) = (open(path)?, Vec::new());
    file.read_to_end(&mut contents).map_err(|error| failed(path, error))?;
    Ok(contents)
}

/// Writes a file by `fill`. Whatever was at `path` stays until everything is written.
pub(super) fn write(path: &Path, fill: impl FnOnce(&mut Quiet) -> Result<(), String>) -> Result<(), Failure> {
    // A link stays a link: the file to which it leads is replaced.
    let target = match fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => path.to_path_buf(),
        found => found.map_err(|error| failed(path, error))?,
    };
    let before = fs::metadata(&target).ok();
    if before.as_ref().is_some_and(|before| !before.is_file()) {
        return Err(failed(path, "is no regular file; name a file that is to be made or replaced"));
    }
    if before.as_ref().is_some_and(|before| before.permissions().readonly()) {
        return Err(failed(path, "is read-only"));
    }
    let partial = Partial::beside(&target).map_err(|error| failed(path, error))?;
    let written = partial.filled(fill).and_then(|()| match before {
        Some(before) => fs::set_permissions(&partial.path, before.permissions()).map_err(|e| e.to_string()),
        None => Ok(()),
    });
    written.map_err(|reason| failed(path, reason))?;
    fs::rename(&partial.path, &target).map_err(|error| failed(path, error))
}

/// A file that is not complete yet. It is removed where it stays so.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    fn beside(target: &Path) -> std::io::Result<Partial> {
        for i in 0..100 {
            let path = target.with_file_name(format!(".sardonyx-{}-{i}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                opened => return opened.map(|file| Partial { path, file }),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    fn filled(&self, fill: impl FnOnce(&mut Quiet) -> Result<(), String>) -> Result<(), String> {
        let mut writer = Quiet { file: BufWriter::new(&self.file), error: None };
        let filled = fill(&mut writer);
        let flushed = writer.file.flush();
        writer
            .error
            .map_or(Ok(()), Err)
            .and(flushed)
            .and_then(|()| self.file.sync_all())
            .map_err(|e| e.to_string())?;
        filled
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the file has been renamed there is nothing to remove.
        let _ = fs::remove_file(&self.path);
    }
}

/// A file that remembers its first error and takes no more bytes after it. `ZipWriter` writes the archive's end when it is dropped,
/// and would print a second error.
pub(super) struct Quiet<'f> {
    file: BufWriter<&'f File>,
    error: Option<std::io::Error>,
}

impl Quiet<'_> {
    fn remembered<T>(&mut self, result: std::io::Result<T>, otherwise: T) -> std::io::Result<T> {
        match result {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                self.error.get_or_insert(error);
                Ok(otherwise)
            }
            other => other,
        }
    }
}

impl Write for Quiet<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.error.is_some() {
            return Ok(bytes.len());
        }
        let written = self.file.write(bytes);
        self.remembered(written, bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let flushed = self.file.flush();
        self.remembered(flushed, ())
    }
}

impl Seek for Quiet<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let place = self.file.seek(to);
        self.remembered(place, 0)
    }
}

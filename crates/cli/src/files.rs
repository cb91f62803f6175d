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
    Failure::of_file(format!("{}: {reason}", shown(&path.to_string_lossy())))
}

/// Opens a regular file for reading.
pub(super) fn open(path: &Path) -> Result<File, Failure> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        return Err(failed(path, "is a folder, and no regular file"));
    }
    if !metadata.is_file() {
        return Err(failed(path, "is no regular file; write its contents to one"));
    }
    File::open(path).map_err(|error| unreadable(path, &error))
}

/// Why a file cannot be opened.
fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => failed(path, "there is no such file"),
        ErrorKind::NotADirectory => {
            failed(path, "there is no such file: a part of the path is a file, and no folder")
        }
        ErrorKind::PermissionDenied => failed(path, "may not be read (permission denied)"),
        _ => failed(path, error),
    }
}

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Empty,
    Zip,
    Npy,
    Picture,
    Sound,
    Html,
    Json,
    LfsPointer,
    Text,
    Unknown,
}

impl Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Empty => "an empty file",
            Kind::Zip => "a zip archive",
            Kind::Npy => "an .npy file",
            Kind::Picture => "a picture",
            Kind::Sound => "a sound",
            Kind::Html => "a web page, perhaps of a failed download",
            Kind::Json => "a JSON file",
            Kind::LfsPointer => "a pointer of Git LFS, whose contents were not fetched (git lfs pull)",
            Kind::Text => "a text file",
            Kind::Unknown => "a file of another kind",
        })
    }
}

/// The kind of a file that begins with these bytes.
pub(super) fn kind(start: &[u8]) -> Kind {
    let text = std::str::from_utf8(start).map_or_else(|error| &start[..error.valid_up_to()], str::as_bytes);
    let printable = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace() || *byte >= 0x80;
    match start {
        [] => Kind::Empty,
        [b'P', b'K', ..] => Kind::Zip,
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Kind::Npy,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', ..] => Kind::Sound,
        [0x89, b'P', b'N', b'G', ..] | [0xff, 0xd8, 0xff, ..] | [b'R', b'I', b'F', b'F', ..] => Kind::Picture,
        _ if start.starts_with(b"version https://git-lfs") => Kind::LfsPointer,
        // A character may be cut at the end.
        _ if text.len() + 4 > start.len() && text.iter().all(printable) => match text.trim_ascii_start() {
            [b'<', ..] => Kind::Html,
            [b'{' | b'[', ..] => Kind::Json,
            _ => Kind::Text,
        },
        _ => Kind::Unknown,
    }
}

/// The first bytes of a file, which is then read from its beginning again.
pub(super) fn beginning(path: &Path, file: &mut File) -> Result<Vec<u8>, Failure> {
    let mut start = Vec::new();
    let read = file.take(256).read_to_end(&mut start).and_then(|_| file.seek(SeekFrom::Start(0)));
    read.map_err(|error| failed(path, error))?;
    Ok(start)
}

/// The contents of a regular file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let (mut file, mut contents) = (open(path)?, Vec::new());
    file.read_to_end(&mut contents).map_err(|error| failed(path, error))?;
    Ok(contents)
}

/// Refuses a path to which nothing could be written: before the work whose result it is for.
pub(super) fn check_target(path: &Path) -> Result<(), Failure> {
    let (target, _) = target(path)?;
    // Whether a file can be made there is known only by making one; it is removed again.
    Partial::beside(&target).map(drop).map_err(|error| unwritable(path, &target, &error))
}

/// Makes a folder for results, and refuses one in which nothing can be written.
pub(super) fn check_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|error| failed(path, format!("cannot be made: {}", reason(&error))))?;
    check_target(&path.join("result"))
}

/// Why no file can be made beside `target`.
fn unwritable(path: &Path, target: &Path, error: &std::io::Error) -> Failure {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.to_string_lossy();
    failed(path, format!("nothing can be written in the folder {}: {}", shown(&folder), reason(error)))
}

/// The system's reason in plain words.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => "permission denied".into(),
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        ErrorKind::StorageFull => "the disk is full".into(),
        ErrorKind::NotFound => "the system makes no files there".into(),
        _ => error.to_string(),
    }
}

/// The file that is to be made or replaced, and what is known of the one that is there.
fn target(path: &Path) -> Result<(PathBuf, Option<fs::Metadata>), Failure> {
    // A link stays a link: the file to which it leads is replaced.
    let target = match fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => path.to_path_buf(),
        found => found.map_err(|error| failed(path, error))?,
    };
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder
        && !folder.is_dir()
    {
        return Err(failed(
            path,
            format!("there is no folder {}; make it first", shown(&folder.to_string_lossy())),
        ));
    }
    let before = fs::metadata(&target).ok();
    if before.as_ref().is_some_and(|before| !before.is_file()) {
        return Err(failed(path, "is no regular file; name a file that is to be made or replaced"));
    }
    if before.as_ref().is_some_and(|before| before.permissions().readonly()) {
        return Err(failed(path, "is read-only"));
    }
    Ok((target, before))
}

/// Writes a file by `fill`. Whatever was at `path` stays until everything is written.
pub(super) fn write(path: &Path, fill: impl FnOnce(&mut Quiet) -> Result<(), String>) -> Result<(), Failure> {
    let (target, before) = target(path)?;
    let partial = Partial::beside(&target).map_err(|error| unwritable(path, &target, &error))?;
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

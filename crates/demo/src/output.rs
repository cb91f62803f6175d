//! What the demo says, and the file that it writes.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

/// The exit code where nobody reads standard output any more (`| head`): what a shell reports of a program that SIGPIPE ends.
const NO_READER: i32 = 141;

/// Prints a line. If the reader has gone away, the program ends without a word.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(NO_READER),
        // A full disk behind standard output does not keep the picture from being drawn.
        _ => {}
    }
}

/// `1 line`, `2 lines`.
pub fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// Refuses a path to which the picture could not be written: before the page is read.
pub fn check_target(path: &Path) -> Result<(), String> {
    let refused = |why: &str| Err(format!("--out {}: {why}", path.display()));
    if path.is_dir() {
        return refused("is a folder; name a file in it");
    }
    if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("png")) {
        return refused("a PNG is written, so the file's name must end in .png");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return refused(&format!("there is no folder {}; make it first", folder.display()));
    }
    if fs::metadata(path).is_ok_and(|file| file.permissions().readonly() || !file.is_file()) {
        return refused("is read-only, or no regular file");
    }
    // Whether a file can be made there is known only by making one.
    let trial = folder.join(format!(".sardonyx-demo-{}", std::process::id()));
    match OpenOptions::new().write(true).create_new(true).open(&trial) {
        Ok(_) => fs::remove_file(&trial).map_err(|error| format!("{}: {error}", trial.display())),
        Err(error) => {
            let why = match error.kind() {
                ErrorKind::PermissionDenied => "permission denied".into(),
                ErrorKind::NotFound => "the system makes no files there".into(),
                _ => error.to_string(),
            };
            refused(&format!("nothing can be written in the folder {}: {why}", folder.display()))
        }
    }
}

/// Mesa's Vulkan layer that sorts devices looks for a display, and libwayland complains on standard error where this variable names
/// no folder.
pub fn without_complaints_about_displays() {
    const FOLDER: &str = "XDG_RUNTIME_DIR";
    if cfg!(target_os = "linux")
        && !std::env::var_os(FOLDER).is_some_and(|folder| Path::new(&folder).is_absolute())
    {
        // SAFETY: the program has one thread yet, so nobody reads the environment at the same time.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(FOLDER, "/nonexistent");
        }
    }
}

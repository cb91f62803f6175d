//! Any bytes are arrays or an error.
#![no_main]

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::LazyLock;

#[path = "../../crates/cli/src/files.rs"]
#[allow(dead_code)] // What writes.
mod files;
#[path = "../../crates/cli/src/numpy.rs"]
#[allow(dead_code)] // What writes.
mod numpy;

/// The command line's error.
struct Failure(#[allow(dead_code)] String);

impl Failure {
    fn of_file(message: String) -> Failure {
        Failure(message)
    }
}

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.to_string())
    }
}

/// The command line's text for a size.
fn bytes(count: u64) -> String {
    format!("{count} B")
}

/// A file of this process, in memory where the system has such a folder.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("sardonyx-fuzz-{}", std::process::id()))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*FILE, bytes).expect("the file can be written");
    let _ = numpy::read_npy(&FILE, None);
    let _ = numpy::read_npz(&FILE, &|_| None, "", |_| Ok(()));
});

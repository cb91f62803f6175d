//! `AccessLog`: a line of JSON for each request, without its payload. A thread of its own writes them, so that a slow disk holds up
//! nobody; what it cannot keep up with is dropped and counted.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde::Serialize;

/// Where the lines of requests go.
#[derive(Debug)]
pub(crate) struct AccessLog {
    lines: SyncSender<Message>,
    dropped: AtomicU64,
}

/// What a line says. Durations are in microseconds; what is not known is left out.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) time: String,
    pub(crate) protocol: &'static str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// The status of HTTP, or the code of gRPC.
    pub(crate) status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) version: &'a str,
    pub(crate) total_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compute_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<usize>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<&'a str>,
    pub(crate) trace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<String>,
}

#[derive(Debug)]
enum Message {
    Line(String),
    /// All lines before it are written once this is answered.
    Flush(SyncSender<()>),
}

/// The lines that may wait for the disk.
const WAITING: usize = 8192;

/// How long the end of the server waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

impl AccessLog {
    /// Appends to a file, or to the standard output if it is `-`.
    ///
    /// # Errors
    /// A text with the file.
    pub(crate) fn open(file: &Path) -> Result<Arc<AccessLog>, String> {
        let shown = |error: std::io::Error| format!("--access-log {}: {error}", file.display());
        if file.as_os_str() == "-" {
            return AccessLog::to(std::io::stdout(), WAITING).map_err(shown);
        }
        let file = OpenOptions::new().append(true).create(true).open(file).map_err(shown)?;
        AccessLog::to(file, WAITING).map_err(|error| format!("--access-log: {error}"))
    }

    fn to(out: impl Write + Send + 'static, waiting: usize) -> std::io::Result<Arc<AccessLog>> {
        let (lines, written) = sync_channel(waiting);
        std::thread::Builder::new().name("access log".into()).spawn(move || write(out, &written))?;
        Ok(Arc::new(AccessLog { lines, dropped: AtomicU64::new(0) }))
    }

    /// Writes a line, soon. Never blocks.
    pub(crate) fn write(&self, line: &Line<'_>) {
        let sent = serde_json::to_string(line).is_ok_and(|mut text| {
            text.push('\n');
            self.lines.try_send(Message::Line(text)).is_ok()
        });
        if !sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all lines are written, at most for a few seconds. Blocks.
    pub(crate) fn flush(&self) {
        let (done, ended) = sync_channel(1);
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            let _ = ended.recv_timeout(PATIENCE);
        }
    }
}

/// Writes what comes, and lets go of it when nothing more waits.
fn write(out: impl Write, messages: &Receiver<Message>) {
    let mut out = BufWriter::new(out);
    let mut failed = false;
    while let Ok(first) = messages.recv() {
        let mut flushed = Vec::new();
        let mut outcome = Ok(());
        for message in std::iter::once(first).chain(messages.try_iter()) {
            match message {
                Message::Line(line) => outcome = outcome.and(out.write_all(line.as_bytes())),
                Message::Flush(done) => {
                    flushed.push(done);
                    break;
                }
            }
        }
        let outcome = outcome.and(out.flush());
        if let Err(error) = &outcome
            && !failed
        {
            tracing::error!(%error, "the access log cannot be written");
        }
        failed = outcome.is_err();
        for done in flushed {
            // Nobody may wait any more.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn line(path: &str) -> Line<'_> {
        Line {
            time: "2026-11-30T16:33:55.000Z".into(),
            protocol: "http",
            method: "POST",
            path,
            status: 200,
            reason: None,
            model: "",
            version: "",
            total_us: 5,
            queue_us: None,
            compute_us: Some(3),
            batch: None,
            bytes_in: 1,
            bytes_out: 2,
            key: None,
            trace: "ab".into(),
            client: None,
        }
    }

    #[test]
    fn lines_of_json() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        let log = AccessLog::open(&file).unwrap();
        log.write(&line("/a\"\n"));
        log.write(&line("/b"));
        log.flush();
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0],
            r#"{"time":"2026-11-30T16:33:55.000Z","protocol":"http","method":"POST","path":"/a\"\n","status":200,"total_us":5,"compute_us":3,"bytes_in":1,"bytes_out":2,"trace":"ab"}"#
        );
        assert!(AccessLog::open(&folder.path().join("none/log")).unwrap_err().contains("none/log"));
    }

    /// A disk that takes nothing as long as the test holds its lock.
    struct Stuck(Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_the_disk_does_not_keep_up_with_is_counted() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let held = written.lock().unwrap();
        let log = AccessLog::to(Stuck(written.clone()), 2).unwrap();
        // The thread may hold some lines already, and the buffer some more: 8 KiB and the channel do not hold all of these.
        (0..200).for_each(|_| log.write(&line("/a")));
        let dropped = log.dropped();
        assert!(dropped > 0);
        drop(held);
        let lines = || written.lock().unwrap().iter().filter(|byte| **byte == b'\n').count() as u64;
        // All others are written.
        while lines() + dropped != 200 {
            std::thread::yield_now();
        }
    }
}

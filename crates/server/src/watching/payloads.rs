//! The payload log: lines of JSON with a share of the requests and their answers, as far as the model's configuration shows them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sardonyx::Tensor;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::aside::Aside;
use super::numbers::{Numbers, summary};
use super::plan::PayloadPlan;
use crate::datatype;

/// The elements of a tensor, and the bytes of its texts, that are written in full at most; larger ones are summarised.
const MOST_ELEMENTS: usize = 4096;
const MOST_TEXT: usize = 64 << 10;

/// How often old files are looked for while nothing is written.
const IDLE: Duration = Duration::from_secs(60);

/// Where payloads are logged, and how many.
#[derive(Clone, Debug, PartialEq)]
pub struct PayloadLog {
    /// The folder; only files whose names this log gives are touched in it.
    pub folder: PathBuf,
    /// The bytes of all files together at most; the oldest file is removed first.
    pub bytes: u64,
    /// How long a file is kept after its last line.
    pub age: Duration,
}

/// How a tensor is shown in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// In full.
    Keep,
    /// Its digest with a secret of the process: equal tensors have equal ones, and nobody finds the tensor by trying.
    Hash,
    /// Its type, shape and summary.
    Summary,
    /// Not at all.
    Drop,
}

/// A request and its answer.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) plan: Arc<PayloadPlan>,
    pub(super) model: String,
    pub(super) version: String,
    pub(super) id: String,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) time: SystemTime,
    pub(super) took: Duration,
    pub(super) inputs: Vec<(String, Tensor)>,
    pub(super) outputs: Vec<(String, Tensor)>,
}

/// The log, and the thread that writes it.
#[derive(Debug)]
pub(super) struct Payloads {
    aside: Aside<Payload>,
    tally: Arc<PayloadTally>,
}

/// What the log has done.
#[derive(Debug, Default)]
pub(super) struct PayloadTally {
    pub(super) written: AtomicU64,
    pub(super) failed: AtomicU64,
}

impl Payloads {
    /// # Errors
    /// If the folder cannot be made or read.
    pub(super) fn start(log: PayloadLog) -> std::io::Result<Payloads> {
        let tally = Arc::new(PayloadTally::default());
        let mut files = Files::open(log)?;
        let (secret, counts) = (super::random_bytes(), tally.clone());
        let mut silent = false;
        let aside = Aside::start("payloads", IDLE, move |payload: Option<Payload>| {
            let outcome = match payload {
                Some(payload) => {
                    let outcome = files.write(&line(&payload, &secret), SystemTime::now());
                    let count = if outcome.is_ok() { &counts.written } else { &counts.failed };
                    count.fetch_add(1, Ordering::Relaxed);
                    outcome
                }
                None => files.forget(SystemTime::now(), 0),
            };
            // A full disk would fill the server's log with the same line.
            if let Err(error) = &outcome
                && !silent
            {
                tracing::error!(%error, "the payload log cannot be written");
            }
            silent = outcome.is_err();
        })?;
        Ok(Payloads { aside, tally })
    }

    pub(super) fn give(&self, payload: Payload) {
        let tensors = payload.inputs.iter().chain(&payload.outputs);
        self.aside.give(super::size(tensors), payload);
    }

    /// The lines written, those that could not be, and the requests for which there was no time.
    pub(super) fn counts(&self) -> [u64; 3] {
        let PayloadTally { written, failed } = &*self.tally;
        [written.load(Ordering::Relaxed), failed.load(Ordering::Relaxed), self.aside.dropped()]
    }
}

/// A payload as a line.
fn line(payload: &Payload, secret: &[u8]) -> Vec<u8> {
    let tensors = |tensors: &[(String, Tensor)]| -> Map<String, Value> {
        let shown = |(name, tensor): &(String, Tensor)| {
            let form = payload.plan.forms.get(name).copied().unwrap_or(Form::Summary);
            Some((name.clone(), shown(tensor, form, secret)?))
        };
        tensors.iter().filter_map(shown).collect()
    };
    let since = payload.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = Map::new();
    line.insert("unix_ms".into(), u64::try_from(since.as_millis()).unwrap_or(u64::MAX).into());
    line.insert("model".into(), payload.model.as_str().into());
    line.insert("version".into(), payload.version.as_str().into());
    if !payload.id.is_empty() {
        line.insert("id".into(), payload.id.chars().take(256).collect::<String>().into());
    }
    if let Some(tenant) = &payload.tenant {
        line.insert("tenant".into(), (&**tenant).into());
    }
    line.insert("took_us".into(), u64::try_from(payload.took.as_micros()).unwrap_or(u64::MAX).into());
    line.insert("inputs".into(), tensors(&payload.inputs).into());
    line.insert("outputs".into(), tensors(&payload.outputs).into());
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    text
}

fn shown(tensor: &Tensor, form: Form, secret: &[u8]) -> Option<Value> {
    let mut shown = json!({"datatype": datatype::name(tensor.dtype()), "shape": tensor.shape()});
    let (key, value) = match form {
        Form::Drop => return None,
        Form::Hash => ("hash", hash(tensor, secret).into()),
        Form::Keep => match in_full(tensor) {
            Some(data) => ("data", data),
            None => ("summary", summarised(tensor)),
        },
        Form::Summary => ("summary", summarised(tensor)),
    };
    shown[key] = value;
    Some(shown)
}

fn in_full(tensor: &Tensor) -> Option<Value> {
    if tensor.len() > MOST_ELEMENTS {
        return None;
    }
    if let Some(strings) = tensor.strings() {
        let bytes: usize = strings.iter().map(String::len).sum();
        return (bytes <= MOST_TEXT).then(|| strings.iter().map(String::as_str).collect());
    }
    let numbers = Numbers::of(tensor)?;
    // What is not finite is null, as JSON has no word for it.
    Some((0..numbers.len()).map(|i| numbers.get(i)).collect())
}

fn summarised(tensor: &Tensor) -> Value {
    if let Some(strings) = tensor.strings() {
        let bytes: usize = strings.iter().map(String::len).sum();
        return json!({"bytes": bytes, "longest": strings.iter().map(String::len).max()});
    }
    match Numbers::of(tensor) {
        None => Value::Null,
        Some(numbers) => {
            let of = summary(&numbers, 0, numbers.len(), 1 << 16);
            json!({
                "mean": of.mean, "std": of.std, "min": of.min, "max": of.max, "zeros": of.zeros, "not_finite": of.not_finite,
            })
        }
    }
}

fn hash(tensor: &Tensor, secret: &[u8]) -> String {
    let mut hash = Sha256::new_with_prefix(secret);
    hash.update(format!("{:?} {:?} ", tensor.dtype(), tensor.shape()));
    match tensor.strings() {
        None => hash.update(tensor.bytes()),
        Some(strings) => strings.iter().for_each(|string| {
            hash.update((string.len() as u64).to_le_bytes());
            hash.update(string);
        }),
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The files of the log, the oldest first.
#[derive(Debug)]
struct Files {
    log: PayloadLog,
    /// The names and sizes of those that are full.
    full: BTreeMap<String, u64>,
    now: Option<(String, File, u64)>,
    number: u64,
}

const START: &str = "payloads-";
const END: &str = ".jsonl";

impl Files {
    fn open(log: PayloadLog) -> std::io::Result<Files> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&log.folder)?;
        let mut full = BTreeMap::new();
        for entry in fs::read_dir(&log.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_ours(&name) {
                full.insert(name, entry.metadata()?.len());
            }
        }
        Ok(Files { log, full, now: None, number: 0 })
    }

    /// The bytes of a file at most: the oldest eighth of the log is what a full log forgets.
    fn most(&self) -> u64 {
        (self.log.bytes / 8).min(64 << 20)
    }

    fn write(&mut self, line: &[u8], now: SystemTime) -> std::io::Result<()> {
        let length = line.len() as u64;
        if length > self.log.bytes {
            return Err(std::io::Error::other("a line is longer than the log may be"));
        }
        if self.now.as_ref().is_some_and(|(_, _, size)| *size > 0 && size + length > self.most()) {
            self.close();
        }
        self.forget(now, length)?;
        let (_, file, size) = match &mut self.now {
            Some(now) => now,
            none => none.insert(create(&self.log.folder, now, &mut self.number)?),
        };
        file.write_all(line)?;
        *size += length;
        Ok(())
    }

    fn close(&mut self) {
        if let Some((name, _, size)) = self.now.take() {
            self.full.insert(name, size);
        }
    }

    /// Removes what is too old, and the oldest files until `more` bytes fit.
    fn forget(&mut self, now: SystemTime, more: u64) -> std::io::Result<()> {
        let folder = self.log.folder.clone();
        let age = |name: &str| {
            let written = fs::metadata(folder.join(name)).and_then(|metadata| metadata.modified());
            written.ok().and_then(|written| now.duration_since(written).ok()).unwrap_or_default()
        };
        if self.now.as_ref().is_some_and(|(name, _, size)| *size > 0 && age(name) > self.log.age) {
            self.close();
        }
        let old: Vec<String> = self.full.keys().filter(|name| age(name) > self.log.age).cloned().collect();
        for name in old {
            self.remove(&name)?;
        }
        loop {
            let size = self.full.values().sum::<u64>() + self.now.as_ref().map_or(0, |(_, _, size)| *size);
            if size + more <= self.log.bytes {
                return Ok(());
            }
            let Some(oldest) = self.full.keys().next().cloned() else {
                self.close();
                continue;
            };
            self.remove(&oldest)?;
        }
    }

    fn remove(&mut self, name: &str) -> std::io::Result<()> {
        match fs::remove_file(self.log.folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => self.full.remove(name),
        };
        Ok(())
    }
}

/// Whether a file has a name that this log gives: the milliseconds since 1970 and a number.
fn is_ours(name: &str) -> bool {
    let inner = name.strip_prefix(START).and_then(|rest| rest.strip_suffix(END));
    inner.is_some_and(|inner| {
        inner.len() == 20 && inner.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
    })
}

fn create(folder: &Path, now: SystemTime, number: &mut u64) -> std::io::Result<(String, File, u64)> {
    let mut options = fs::OpenOptions::new();
    options.append(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    // Two files of one millisecond, or another process with the same folder.
    for _ in 0..1000 {
        let name = format!("{START}{millis:014}-{:05}{END}", *number % 100_000);
        *number += 1;
        match options.open(folder.join(&name)) {
            Ok(file) => return Ok((name, file, 0)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other("there is no free name for a file"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use super::*;

    fn payload(forms: &[(&str, Form)]) -> Payload {
        let forms = forms.iter().map(|(name, form)| (name.to_string(), *form)).collect();
        let text = Tensor::from_strings(&[1], vec!["my secret".into()]).unwrap();
        let x = Tensor::from_slice(&[1, 2], &[1.5f32, f32::NAN]).unwrap();
        Payload {
            plan: Arc::new(PayloadPlan { share: 1.0, forms }),
            model: "m".into(),
            version: "1".into(),
            id: "a".into(),
            tenant: Some("shop".into()),
            time: UNIX_EPOCH + Duration::from_millis(1234),
            took: Duration::from_micros(5),
            inputs: vec![("text".into(), text), ("x".into(), x.clone())],
            outputs: vec![("y".into(), x)],
        }
    }

    fn shown_as(forms: &[(&str, Form)], secret: &[u8]) -> (String, Value) {
        let text = String::from_utf8(line(&payload(forms), secret)).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let value = serde_json::from_str(&text).unwrap();
        (text, value)
    }

    #[test]
    fn payloads_are_redacted() {
        let (text, line) = shown_as(&[("x", Form::Keep), ("y", Form::Drop)], b"s");
        assert!(!text.contains("secret"), "what is not named is summarised");
        assert_eq!(line["inputs"]["text"]["summary"], json!({"bytes": 9, "longest": 9}));
        assert_eq!(line["inputs"]["x"], json!({"datatype": "FP32", "shape": [1, 2], "data": [1.5, null]}));
        assert_eq!(line["outputs"], json!({}));
        assert_eq!((&line["unix_ms"], &line["took_us"]), (&1234.into(), &5.into()));
        assert_eq!(
            (&line["id"], &line["tenant"], &line["model"]),
            (&"a".into(), &"shop".into(), &"m".into())
        );
        let (text, _) = shown_as(&[("text", Form::Keep)], b"s");
        assert!(text.contains("my secret"));
    }

    #[test]
    fn hashes_are_equal_for_equal_tensors_and_depend_on_the_secret() {
        let forms = [("text", Form::Hash), ("x", Form::Hash), ("y", Form::Hash)];
        let (text, first) = shown_as(&forms, b"s");
        let (_, other) = shown_as(&forms, b"t");
        assert!(!text.contains("my secret"));
        assert_eq!(first["inputs"]["x"]["hash"], first["outputs"]["y"]["hash"]);
        assert_ne!(first["inputs"]["x"]["hash"], first["inputs"]["text"]["hash"]);
        assert_ne!(first["inputs"]["x"]["hash"], other["inputs"]["x"]["hash"]);
        assert_eq!(first["inputs"]["x"]["hash"].as_str().unwrap().len(), 32);
    }

    #[test]
    fn large_tensors_are_never_in_full() {
        let large = Tensor::zeros(sardonyx::DType::F32, &[5000]).unwrap();
        let shown = shown(&large, Form::Keep, b"").unwrap();
        assert_eq!(shown["summary"]["zeros"], 1.0);
        assert!(shown.get("data").is_none());
    }

    fn sizes(folder: &Path) -> Vec<u64> {
        let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(|entry| entry.file_name());
        entries.iter().map(|entry| entry.metadata().unwrap().len()).collect()
    }

    #[test]
    fn the_log_is_never_larger_than_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let log = PayloadLog { folder: folder.path().join("log"), bytes: 800, age: Duration::from_secs(60) };
        let mut files = Files::open(log.clone()).unwrap();
        let now = SystemTime::now();
        for i in 0..100 {
            files.write(format!("{i:029}\n").as_bytes(), now).unwrap();
            assert!(sizes(&log.folder).iter().sum::<u64>() <= 800);
        }
        assert!(sizes(&log.folder).iter().all(|size| *size <= 100));
        let names: Vec<_> = fs::read_dir(&log.folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let last = fs::read_to_string(names.iter().max().unwrap()).unwrap();
        assert!(last.ends_with("99\n"));
        assert!(files.write(&[b'x'; 801], now).is_err());
        // Another process finds what is there.
        let mut files = Files::open(log.clone()).unwrap();
        files.write(&[b'x'; 700], now).unwrap();
        assert!(sizes(&log.folder).iter().sum::<u64>() <= 800);
    }

    #[test]
    fn old_files_are_removed_and_others_are_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine.jsonl"), "x").unwrap();
        let log = PayloadLog { folder: folder.path().into(), bytes: 1000, age: Duration::from_secs(60) };
        let mut files = Files::open(log).unwrap();
        let now = SystemTime::now();
        files.write(b"a\n", now).unwrap();
        files.forget(now + Duration::from_secs(50), 0).unwrap();
        assert_eq!(sizes(folder.path()).len(), 2);
        files.forget(now + Duration::from_secs(70), 0).unwrap();
        assert_eq!(sizes(folder.path()), [1], "only the file of another");
        files.write(b"b\n", now).unwrap();
        assert_eq!(sizes(folder.path()).len(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_server_s_user_may_read_the_log() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let log = PayloadLog { folder: folder.path().join("log"), bytes: 1000, age: Duration::from_secs(60) };
        let mut files = Files::open(log.clone()).unwrap();
        files.write(b"a\n", SystemTime::now()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&log.folder), 0o700);
        let file = fs::read_dir(&log.folder).unwrap().next().unwrap().unwrap().path();
        assert_eq!(mode(&file), 0o600);
    }
}

//! Traces: when an inference came, waited, ran and was answered. Settings that clients may change say which ones are recorded; they go
//! to a collector of OpenTelemetry's, or to files in Triton's form.

mod context;
mod file;
mod otlp;
mod settings;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

pub(crate) use context::TraceContext;
pub(crate) use settings::TraceSettings;

use crate::Reason;
use crate::settings::Settings;

/// Where traces go, and which inferences are recorded at first. Clients may change the latter.
///
/// ```
/// use sardonyx_server::traces::TraceConfig;
/// let config = TraceConfig::parse(&["level=TIMESTAMPS", "rate=100", "opentelemetry,url=http://localhost:4318/v1/traces"])?;
/// assert!(TraceConfig::parse(&["colour=red"]).is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TraceConfig {
    sink: Option<Sink>,
    /// What the settings are at first.
    settings: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
enum Sink {
    /// A collector of OpenTelemetry's, by OTLP over HTTP, and the name of the service.
    Collector(otlp::Collector),
    /// A file of Triton's form.
    File(PathBuf),
}

impl TraceConfig {
    /// Reads Triton's `--trace-config`: `level=TIMESTAMPS`, `rate=N`, `count=N`, `mode=triton` or `mode=opentelemetry`,
    /// `triton,file=FILE`, `triton,log-frequency=N`, `opentelemetry,url=URL`, `opentelemetry,resource=service.name=NAME`.
    ///
    /// # Errors
    /// A text with what cannot be read.
    pub fn parse<T: AsRef<str>>(values: &[T]) -> Result<TraceConfig, String> {
        let (mut mode, mut file, mut url, mut service) = (None, None, None, "sardonyx".to_string());
        let mut settings = Vec::new();
        for value in values.iter().map(AsRef::as_ref) {
            let wrong = |text: &str| format!("--trace-config '{value}': {text}");
            let (name, to) = value.split_once('=').ok_or_else(|| wrong("it is SETTING=VALUE"))?;
            let to = to.trim().to_string();
            match name.trim() {
                "mode" => mode = Some(to),
                "level" => settings.push(("trace_level".to_string(), to)),
                "rate" => settings.push(("trace_rate".to_string(), to)),
                "count" => settings.push(("trace_count".to_string(), to)),
                "triton,log-frequency" => settings.push(("log_frequency".to_string(), to)),
                "triton,file" => file = Some(PathBuf::from(to)),
                "opentelemetry,url" => url = Some(otlp::address(&to).map_err(|error| wrong(&error))?),
                "opentelemetry,resource" => match to.split_once('=') {
                    Some(("service.name", name)) => service = name.to_string(),
                    _ => return Err(wrong("the only resource is service.name=NAME")),
                },
                _ => return Err(wrong("there is no such setting")),
            }
        }
        let sink = match mode.as_deref() {
            Some("opentelemetry") | None if url.is_some() && file.is_none() => {
                url.map(|url| Sink::Collector(otlp::Collector { url, service }))
            }
            Some("triton") | None if file.is_some() && url.is_none() => file.map(Sink::File),
            None if file.is_none() => None,
            None => {
                return Err(
                    "--trace-config has a file and a URL; say mode=triton or mode=opentelemetry".into()
                );
            }
            Some("opentelemetry") => {
                return Err("--trace-config: mode=opentelemetry needs opentelemetry,url=URL".into());
            }
            Some("triton") => return Err("--trace-config: mode=triton needs triton,file=FILE".into()),
            Some(_) => return Err("--trace-config: mode is triton or opentelemetry".into()),
        };
        let config = TraceConfig { sink, settings };
        config.settings()?;
        Ok(config)
    }

    /// The settings that clients may change.
    ///
    /// # Errors
    /// A text, if one has no such value.
    pub(crate) fn settings(&self) -> Result<TraceSettings, String> {
        let (mode, file) = match &self.sink {
            Some(Sink::Collector(_)) => ("opentelemetry", String::new()),
            Some(Sink::File(file)) => ("triton", file.display().to_string()),
            None => ("triton", String::new()),
        };
        TraceSettings::new(self.sink.is_some(), mode, file, &self.settings)
    }
}

/// An inference that was recorded. Times are nanoseconds since 1970.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) context: TraceContext,
    pub(crate) protocol: &'static str,
    pub(crate) path: String,
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) reason: Option<Reason>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// One run, or several for an ensemble.
    pub(crate) runs: Vec<Run>,
}

/// A run that an inference was part of.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) model: String,
    /// The rows of the batch.
    pub(crate) rows: usize,
    /// When it began to wait, the run began, its inputs were joined, the device was done, and the outputs were separated.
    pub(crate) times: [u64; 5],
}

/// The nanoseconds since 1970.
pub(crate) fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What takes traces in.
#[derive(Debug)]
pub(crate) struct Traces {
    sender: mpsc::Sender<Message>,
    settings: Settings,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Trace(Box<Trace>),
    /// All traces before it are sent or written once this is answered.
    Flush(oneshot::Sender<()>),
}

/// The traces that may wait for the task that gathers them, and the traces that it keeps at most.
const WAITING: usize = 4096;

/// The traces that a collector is sent at once, and how long the first of them waits for more.
const TOGETHER: usize = 512;
const PAUSE: Duration = Duration::from_secs(1);

/// How long the end of the server waits for the last traces.
const PATIENCE: Duration = Duration::from_secs(5);

impl Traces {
    /// `None` if traces go nowhere. The settings say which inferences are recorded.
    pub(crate) fn start(config: &TraceConfig, settings: &Settings) -> Option<Arc<Traces>> {
        let sink = config.sink.clone()?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        tokio::spawn(gather(receiver, sink, settings.clone(), dropped.clone()));
        Some(Arc::new(Traces { sender, settings: settings.clone(), dropped }))
    }

    /// Whether an inference by this model is recorded; `asked` is what the client says of it, if it says something.
    pub(crate) fn records(&self, model: &str, asked: Option<bool>) -> bool {
        self.settings.traces().records(model, asked)
    }

    pub(crate) fn take(&self, trace: Trace) {
        if self.sender.try_send(Message::Trace(Box::new(trace))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many traces were lost, since nobody took them.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all traces are sent or written, at most for a few seconds.
    pub(crate) async fn flush(&self) {
        let (done, ended) = oneshot::channel();
        if self.sender.send(Message::Flush(done)).await.is_ok() {
            let _ = tokio::time::timeout(PATIENCE, ended).await;
        }
    }
}

/// Gathers traces, and hands them on.
async fn gather(
    mut messages: mpsc::Receiver<Message>,
    sink: Sink,
    settings: Settings,
    dropped: Arc<AtomicU64>,
) {
    let mut waiting: Vec<Trace> = Vec::new();
    let mut due = None;
    let mut files = 0;
    let mut failed = false;
    loop {
        let pause = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let (done, ends) = tokio::select! {
            message = messages.recv() => match message {
                Some(Message::Trace(trace)) => {
                    waiting.push(*trace);
                    (None, false)
                }
                Some(Message::Flush(done)) => (Some(done), false),
                None => (None, true),
            },
            () = pause => (None, false),
        };
        let wanted = match &sink {
            Sink::Collector(_) => TOGETHER,
            Sink::File(_) => settings.traces().per_file(),
        };
        let is_due = due.is_some_and(|due| due <= Instant::now());
        if !waiting.is_empty() && (waiting.len() >= wanted || is_due || done.is_some() || ends) {
            let traces = std::mem::take(&mut waiting);
            due = None;
            let outcome = match &sink {
                Sink::Collector(collector) => collector.send(&traces).await,
                Sink::File(path) => {
                    // Triton numbers the files if there may be several.
                    let number = (wanted < WAITING).then_some(files);
                    files += 1;
                    file::write(path.clone(), number, &traces).await
                }
            };
            if let Err(error) = &outcome {
                dropped.fetch_add(traces.len() as u64, Ordering::Relaxed);
                if !failed {
                    tracing::warn!(error, "traces are lost");
                }
            }
            failed = outcome.is_err();
        } else if due.is_none() && !waiting.is_empty() && matches!(sink, Sink::Collector(_)) {
            due = Some(Instant::now() + PAUSE);
        }
        if let Some(done) = done {
            // Nobody may wait any more.
            let _ = done.send(());
        }
        if ends {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_triton() {
        let parse = |values: &[&str]| TraceConfig::parse(values);
        let shown = |values: &[&str]| parse(values).unwrap().settings().unwrap().shown("");
        let nowhere = shown(&[]);
        assert_eq!((&nowhere["trace_level"][0], &nowhere["trace_rate"][0]), (&"OFF".into(), &"1000".into()));
        let file = shown(&["triton,file=/tmp/t", "level=TIMESTAMPS", "rate=5", "triton,log-frequency=50"]);
        assert_eq!((&file["trace_level"][0], &file["trace_rate"][0]), (&"TIMESTAMPS".into(), &"5".into()));
        assert_eq!((&file["trace_file"][0], &file["log_frequency"][0]), (&"/tmp/t".into(), &"50".into()));
        let url = shown(&["mode=opentelemetry", "opentelemetry,url=http://here:4318/v1/traces", "count=9"]);
        assert_eq!((&url["trace_mode"][0], &url["trace_count"][0]), (&"opentelemetry".into(), &"9".into()));
        for (values, text) in [
            (&["rate"][..], "SETTING=VALUE"),
            (&["rate=x"], "trace_rate"),
            (&["triton,file=a", "opentelemetry,url=http://b/"], "mode=triton or mode=opentelemetry"),
            (&["mode=opentelemetry"], "needs opentelemetry,url"),
            (&["mode=other"], "mode is"),
            (&["level=TIMESTAMPS"], "--trace-config"),
            (&["opentelemetry,url=https://b/"], "http://"),
            (&["opentelemetry,resource=a=b"], "service.name"),
        ] {
            let error = parse(values).unwrap_err();
            assert!(error.contains(text), "{values:?}: {error}");
        }
    }
}

//! What the program does just now, on a terminal, and what it took.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::number;

/// A line that moves while the program works. It is shown on a terminal only, and goes away at the end.
pub(super) struct Spinner(ProgressBar);

impl Spinner {
    pub(super) fn new(doing: &'static str) -> Spinner {
        let bar = ProgressBar::new_spinner();
        bar.set_message(doing);
        bar.enable_steady_tick(Duration::from_millis(100));
        Spinner(bar)
    }

    pub(super) fn now(&self, doing: &'static str) {
        self.0.set_message(doing);
    }
}

/// A bar over `count` steps, shown on a terminal only.
pub(super) fn bar(count: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} {msg}");
    let bar = ProgressBar::new(count).with_message(what);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// What preparing the first run took, by the library's events.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Preparation {
    pub(super) planned_ms: f64,
    pub(super) pipelines: u64,
    pub(super) compile_ms: f64,
    pub(super) uploaded_bytes: u64,
    pub(super) upload_ms: f64,
}

static PREPARATION: Mutex<Preparation> = Mutex::new(Preparation {
    planned_ms: 0.0,
    pipelines: 0,
    compile_ms: 0.0,
    uploaded_bytes: 0,
    upload_ms: 0.0,
});

/// What preparation has taken since the program listens.
pub(super) fn preparation() -> Preparation {
    *PREPARATION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens to the library from now on.
pub(super) fn listen() {
    // The program does this once; a second time would change nothing.
    let _ = tracing::subscriber::set_global_default(Listener);
}

fn add(sum: &mut f64, milliseconds: f64) {
    *sum = number::rounded(*sum + milliseconds);
}

struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sardonyx" && *metadata.level() <= tracing::Level::DEBUG
    }

    fn event(&self, event: &Event<'_>) {
        let mut told = Told::default();
        event.record(&mut told);
        let mut sum = PREPARATION.lock().unwrap_or_else(PoisonError::into_inner);
        match told.message.as_str() {
            "plan made" => add(&mut sum.planned_ms, told.milliseconds),
            "pipelines compiled" => {
                sum.pipelines += told.count;
                add(&mut sum.compile_ms, told.milliseconds);
            }
            "weights uploaded" => {
                sum.uploaded_bytes += told.bytes;
                add(&mut sum.upload_ms, told.milliseconds);
            }
            _ => {}
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The fields of an event.
#[derive(Default)]
struct Told {
    message: String,
    count: u64,
    bytes: u64,
    milliseconds: f64,
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "count" => self.count = text.parse().unwrap_or(0),
            "bytes" => self.bytes = text.parse().unwrap_or(0),
            "milliseconds" => self.milliseconds = text.parse().unwrap_or(0.0),
            "message" => self.message = text,
            _ => {}
        }
    }
}

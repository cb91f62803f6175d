//! Traces in files, in the form of Triton's own traces, which its `trace_summary.py` reads.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::Trace;

/// Writes traces to `path`, or to the file of a number beside it.
///
/// # Errors
/// A text with the file.
pub(super) async fn write(path: PathBuf, number: Option<usize>, traces: &[Trace]) -> Result<(), String> {
    let path = match number {
        Some(number) => {
            let mut name = path.into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        }
        None => path,
    };
    let text = shown(traces).to_string();
    let written = tokio::task::spawn_blocking(move || {
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    });
    written.await.map_err(|error| error.to_string())?
}

/// A list: what each trace is of, and its times.
fn shown(traces: &[Trace]) -> Value {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = |text: &str| text.parse::<u64>().map_or(json!(text), Value::from);
    let mut list = Vec::new();
    for trace in traces {
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        list.push(json!({ "id": id, "model_name": trace.model, "model_version": number(&trace.version),
            "trace_id": trace.context.trace_id() }));
        let mut times = vec![("REQUEST_START", trace.start)];
        let names =
            ["QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"];
        times.extend(trace.runs.iter().flat_map(|run| names.into_iter().zip(run.times)));
        times.push(("REQUEST_END", trace.end));
        let times: Vec<Value> =
            times.into_iter().map(|(name, ns)| json!({ "name": name, "ns": ns })).collect();
        list.push(json!({ "id": id, "timestamps": times }));
    }
    list.into()
}

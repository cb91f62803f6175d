//! `sardonyx serve`: a model server.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use sardonyx_server::settings::Settings;
use sardonyx_server::{Flags, Options, Parameter};
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{dynamic_filter_fn, filter_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::{Failure, Verdict, complain, print_json};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sardonyx serve models                                  serve every model of the folder models/ on ports 8000, 8001 and 8002
  sardonyx serve models --model-control-mode poll        and load what is put there later
  sardonyx serve --config server.toml --http-port 9000   flags override the file, whose keys are the flags' names
  curl localhost:8000/v2/models/NAME                     what a model takes and gives

A model is a folder: NAME/1/model.onnx, and beside 1 a config.pbtxt where the model needs one. `sardonyx repo add` makes one.
Clients of the Open Inference Protocol, of KServe and of Triton work as they are, over HTTP (8000) and gRPC (8001);
metrics for Prometheus are on 8002. SIGTERM ends the server once its requests are answered.")]
pub(super) struct Args {
    /// The folder of models, or where an object store has them, as s3://BUCKET/PREFIX.
    #[arg(value_name = "REPOSITORY")]
    repository: Option<PathBuf>,
    /// A TOML file of options, whose keys are the names of the flags below.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Box<Flags>,
    /// The form of the log on standard error.
    #[arg(long, value_name = "FORM", default_value = "text")]
    log_format: LogFormat,
    /// Log what happens to each connection and request too.
    #[arg(long)]
    log_verbose: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub(super) fn main(args: &Args, json: bool) -> Verdict {
    let flags = (*args.flags).clone().with_repository(args.repository.clone());
    let options = Options::read(&flags, args.config.as_deref())?;
    log(args, &options.settings);
    let ready = |server: &sardonyx_server::Server| {
        let addresses = server.addresses();
        if json {
            let shown = json!({
                "http": addresses.http,
                "grpc": addresses.grpc,
                "metrics": addresses.metrics,
                "admin": addresses.admin,
            });
            // Who reads the addresses has gone; requests come all the same.
            let _ = print_json(&shown);
            return;
        }
        for (name, address) in [
            ("HTTP", addresses.http),
            ("gRPC", addresses.grpc),
            ("metrics", addresses.metrics),
            ("admin", addresses.admin),
        ] {
            match (address, args.log_format) {
                (Some(address), LogFormat::Text) => complain(&format!("{name} on {address}")),
                (Some(address), LogFormat::Json) => tracing::info!(protocol = name, %address, "listening"),
                (None, _) => {}
            }
        }
    };
    let outcome = sardonyx_server::run(options, ready);
    if let (Err(text), LogFormat::Json, false) = (&outcome, args.log_format, json) {
        tracing::error!("{text}");
        // The log has the error, and nothing that is no JSON may follow it.
        std::process::exit(2);
    }
    outcome.map(|()| true).map_err(Failure::from)
}

/// Writes the server's log to standard error: of this program's own messages, those that `settings` allow at the time.
fn log(args: &Args, settings: &Settings) {
    if args.log_verbose {
        let _ = settings.set_log([("log_verbose_level".to_string(), Parameter::Int(1))].into());
    }
    let is_own = |metadata: &Metadata<'_>| metadata.target().starts_with("sardonyx");
    let settings = settings.clone();
    let filter = dynamic_filter_fn(move |metadata, _| is_own(metadata) && settings.allows(metadata.level()))
        .with_callsite_filter(
            move |metadata| {
                if is_own(metadata) { Interest::sometimes() } else { Interest::never() }
            },
        );
    let compiles = Compiles.with_filter(filter_fn(Compiles::are_told_by));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let set = match args.log_format {
        LogFormat::Text => {
            tracing_subscriber::registry().with(compiles).with(lines.with_filter(filter)).try_init()
        }
        LogFormat::Json => {
            tracing_subscriber::registry().with(compiles).with(lines.json().with_filter(filter)).try_init()
        }
    };
    if let Err(error) = set {
        complain(&format!("there is no log: {error}"));
    }
}

/// Passes on how long kernels took to compile, which the library reports as events.
struct Compiles;

impl Compiles {
    /// Whether events of this kind are those of kernels that were compiled together.
    fn are_told_by(metadata: &Metadata<'_>) -> bool {
        let has = |field| metadata.fields().field(field).is_some();
        metadata.target() == "sardonyx"
            && *metadata.level() == Level::DEBUG
            && has("count")
            && has(MILLISECONDS)
    }
}

const MILLISECONDS: &str = "milliseconds";

impl<S: Subscriber> Layer<S> for Compiles {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Took(f64);
        impl Visit for Took {
            fn record_f64(&mut self, field: &Field, value: f64) {
                if field.name() == MILLISECONDS {
                    self.0 = value;
                }
            }

            fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
        }
        let mut took = Took(0.0);
        event.record(&mut took);
        sardonyx_server::metrics::compiled_in(Duration::from_secs_f64(took.0.max(0.0) / 1e3));
    }
}

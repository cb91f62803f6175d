//! `sardonyx load`: a load generator for servers of the Open Inference Protocol.

mod arrivals;
mod checks;
mod client;
mod credentials;
mod drive;
mod grpc;
mod http;
mod metrics;
mod questions;
mod report;
mod tally;
mod tuning;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use sardonyx::Error;

use super::progress::Spinner;
use super::{Failure, Verdict, number, print, print_json, signals};
use client::Client;
use credentials::Credentials;
use drive::{Load, Pace};
use metrics::Monitor;
use questions::{Question, Questions};
use report::{Point, Report};
use tuning::{Setting, Tuning};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sardonyx load resnet                                               one client after the other's answer, for 10 seconds
  sardonyx load resnet --concurrency 1,2,4,8,16 --duration 5         what the server gives to more and more clients
  sardonyx load bert --grpc localhost:8001 --rate 50,100,200 --dim input_ids=128 --dim attention_mask=128
  sardonyx load resnet --batch 1,4 --instances 1,2 --delay 0,500     how the model is best served
  sardonyx load iris --inputs x.npz --batch 1 --labels y.txt --metrics-url localhost:8002     the accuracy and the memory too

With --concurrency each client sends a request when it has the answer to the last (a closed loop). With --rate requests come at their
times whether the server keeps up or not (an open loop), and a response time is measured from the time at which the request was due, not
from when it was sent: so a server that stalls is charged with all requests that had to wait meanwhile (coordinated omission). Requests
that failed are counted, and are not in the percentiles. Requests that begin in the warm-up are not counted.

The report has response time, throughput, accuracy (--labels), memory and utilisation (--metrics-url). Points with * are on the Pareto
front: no other gives more rows per second with a p99 as low. The exit code is 1 if a request failed or an answer was wrong (--expect).
Ctrl-C ends the load early and prints what there is.")]
pub(super) struct Args {
    /// The model's name on the server.
    #[arg(value_name = "MODEL")]
    model: String,
    /// The server's address for HTTP [default: http://localhost:8000].
    #[arg(long, value_name = "URL", conflicts_with = "grpc")]
    url: Option<String>,
    /// The server's address for gRPC, such as localhost:8001.
    #[arg(long, value_name = "HOST:PORT")]
    grpc: Option<String>,
    /// A key that the server asks for, sent as `Authorization: Bearer KEY` [default: SARDONYX_API_KEY of the environment, which other
    /// users do not see].
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// A header of every request; may be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// The roots of the server's certificate in PEM form: the address is one of TLS, https://HOST:PORT, with --grpc too.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A certificate that the server asks for, in PEM form, with those between it and the root.
    #[arg(long, value_name = "FILE", requires = "ca", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// The model's version; without it the server chooses.
    #[arg(long, value_name = "V", default_value = "", hide_default_value = true)]
    version: String,
    /// The numbers of clients, each of which waits for its answer [default: 1].
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', conflicts_with = "rate", value_parser = number::whole::<1>, allow_negative_numbers = true)]
    concurrency: Vec<u64>,
    /// The numbers of requests per second, whether there are answers or not.
    #[arg(long, value_name = "R,R,..", value_delimiter = ',', value_parser = rate, allow_negative_numbers = true)]
    rate: Vec<f64>,
    /// The times between the requests of --rate.
    #[arg(long, value_name = "KIND", value_enum, default_value = "exponential", requires = "rate")]
    arrivals: Arrivals,
    /// How many requests of --rate are with the server at most; others wait, and their waiting counts.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = number::whole::<1>, allow_negative_numbers = true)]
    in_flight: u64,
    /// For how many seconds requests are sent, for each point.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, allow_negative_numbers = true)]
    duration: Duration,
    /// For how many seconds before that requests are sent and not counted.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, allow_negative_numbers = true)]
    warmup: Duration,
    /// After how many seconds a request without an answer has failed.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, allow_negative_numbers = true)]
    timeout: Duration,
    /// The rows of a request, for models whose first dimension is open: random ones [default: 1], or those of --inputs in turn, which
    /// are otherwise sent all at once. Several numbers are measured one after the other.
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', value_parser = number::whole::<1>, allow_negative_numbers = true)]
    batch: Vec<u64>,
    /// The numbers of runs in flight. The server loads the model anew with each, and as it was at the end, so it must let its clients do
    /// that (--model-control-mode explicit).
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', value_parser = number::whole::<1>, allow_negative_numbers = true)]
    instances: Vec<u64>,
    /// How many microseconds a request waits for others to be run with, likewise.
    #[arg(long, value_name = "US,US,..", value_delimiter = ',', value_parser = number::whole::<0>, allow_negative_numbers = true)]
    delay: Vec<u64>,
    /// The size of an input's open dimensions after the first, or of one axis (NAME:AXIS=N); may be repeated.
    #[arg(long, value_name = "INPUT=N")]
    dim: Vec<String>,
    /// Inputs by name, from an .npz file; without it they are random.
    #[arg(long, value_name = "F.npz")]
    inputs: Option<PathBuf>,
    /// Decides the random inputs, and the times of exponential arrivals.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number::whole::<0>, allow_negative_numbers = true)]
    seed: u64,
    /// Compare the answers with the arrays of an .npz file, which belong to --inputs.
    #[arg(long, value_name = "F.npz", requires = "inputs")]
    expect: Option<PathBuf>,
    /// How far an element may be from the expected one: X + X * |expected|.
    #[arg(long, value_name = "X", default_value = "1e-3", requires = "expect", value_parser = number::tolerance, allow_negative_numbers = true)]
    tolerance: f64,
    /// The class of each row of --inputs, one on each line of a text file: what the output says, or the place of its greatest element.
    #[arg(long, value_name = "FILE", requires = "inputs")]
    labels: Option<PathBuf>,
    /// The output that says the class [default: the first].
    #[arg(long, value_name = "NAME", requires = "labels")]
    labels_output: Option<String>,
    /// The server's metrics, for memory and utilisation: http://localhost:8002/metrics.
    #[arg(long, value_name = "URL")]
    metrics_url: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Arrivals {
    /// As of many independent clients (a Poisson process).
    Exponential,
    /// All alike.
    Constant,
}

/// Reads a time of at most four months.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = number::real(text).ok().filter(|number| (0.0..=1e7).contains(number));
    number.map(Duration::from_secs_f64).ok_or_else(|| "is no number of seconds, as 2.5 is".to_string())
}

/// Reads a number of requests per second.
fn rate(text: &str) -> Result<f64, String> {
    let number = number::real(text).ok().filter(|number| (1e-3..=1e6).contains(number));
    number.ok_or_else(|| "is no number of requests per second from 0.001 to 1000000".to_string())
}

impl Args {
    /// What is measured with each batch size: numbers of clients, or rates.
    fn paces(&self) -> Vec<Pace> {
        let open =
            self.rate.iter().map(|&rate| Pace::Open { rate, arrivals: self.arrivals, seed: self.seed });
        let closed = self.concurrency.iter().map(|&clients| Pace::Closed { clients });
        let mut paces: Vec<Pace> = open.chain(closed).collect();
        if paces.is_empty() {
            paces.push(Pace::Closed { clients: 1 });
        }
        paces
    }

    /// The most requests that are on their way at once.
    fn most_at_once(&self) -> u64 {
        match self.rate.is_empty() {
            true => self.concurrency.iter().copied().max().unwrap_or(1),
            false => self.in_flight,
        }
    }

    /// The sizes of batches; `None` where the command line says nothing.
    fn batches(&self) -> Vec<Option<usize>> {
        match self.batch.is_empty() {
            true => vec![None],
            false => self.batch.iter().map(|&rows| usize::try_from(rows).ok()).collect(),
        }
    }
}

pub(super) fn main(args: &Args, json: bool) -> Verdict {
    // What goes from one thread to another takes time of the machine that is measured.
    let threads = std::thread::available_parallelism().map_or(1, |count| (count.get() / 2).clamp(1, 4));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let report = runtime.block_on(measure(args));
    // What is abandoned need not be waited for.
    runtime.shutdown_background();
    let report = report?;
    match json {
        true => print_json(&report.json())?,
        false => print(&report.text())?,
    }
    match report.interrupted {
        true => Err(Error::Interrupted.into()),
        false => Ok(report.is_good()),
    }
}

async fn measure(args: &Args) -> Result<Report, Failure> {
    signals::interrupt();
    let spinner = Spinner::new("asking for the model");
    let client = Arc::new(Client::new(args)?);
    let metadata = client.metadata(args.timeout).await?;
    let monitor = match &args.metrics_url {
        Some(url) => {
            Some(Monitor::new(url, &args.model, &args.version, Credentials::read(args, "http/1.1")?)?)
        }
        None => None,
    };
    if let Some(monitor) = &monitor {
        monitor.check().await?;
    }
    let questions = Questions::read(args, &metadata)?;
    let mut report = Report::new(args, &client, &metadata);
    let settings = tuning::settings(args);
    if settings == [Setting::default()] {
        sweep(args, &client, &questions, monitor.as_ref(), (Setting::default(), &mut report), &spinner)
            .await?;
        return Ok(report);
    }
    let tuning = Tuning::new(client.clone(), args.timeout).await?;
    let mut outcome = Ok(());
    for setting in settings {
        spinner.now("loading the model");
        outcome = match tuning.set(setting).await {
            Ok(()) => {
                sweep(args, &client, &questions, monitor.as_ref(), (setting, &mut report), &spinner).await
            }
            refused => refused,
        };
        if outcome.is_err() || report.interrupted {
            break;
        }
    }
    tuning.end().await.and(outcome)?;
    Ok(report)
}

/// Measures all batch sizes and paces with one setting.
async fn sweep(
    args: &Args,
    client: &Arc<Client>,
    questions: &Questions<'_>,
    monitor: Option<&Monitor>,
    (setting, report): (Setting, &mut Report),
    spinner: &Spinner,
) -> Result<(), Failure> {
    for batch in args.batches() {
        let questions = questions.cut(batch, client)?;
        report.shapes(&questions[0]);
        probe(client, &questions[0], args.timeout).await?;
        for pace in args.paces() {
            spinner.now("sending requests");
            let load = Load::new(args, client.clone(), questions.clone());
            let (tally, server) = drive::run(load, pace, args.warmup, monitor).await;
            report.points.push(Point { setting, batch, pace, tally, server });
            if signals::interrupt().is_raised() {
                report.interrupted = true;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Asks once, so that a request which the server never takes is one clear failure, and not a load.
async fn probe(client: &Client, question: &Question, timeout: Duration) -> Result<(), Failure> {
    match tokio::time::timeout(timeout, client.ask(&question.message)).await {
        Ok(Err(trouble)) if trouble.is_askers_fault => {
            Err(client.refused(&format!("the server refuses a request: {trouble}")))
        }
        _ => Ok(()),
    }
}

//! What systems that run servers rely on: the files of deploy/, the order in which addresses open, and AWS Lambda.

mod lambda;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Args, Command};
use sardonyx_server::{Flags, Options, Server, metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::sum;
use crate::setup::{options, put};

fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The arguments of `sardonyx serve` in a file: those of lists in YAML and JSON, and of a command's line.
fn arguments(text: &str) -> Vec<String> {
    let of_line = |line: &str| -> Vec<String> {
        // That of a HEALTHCHECK is indented.
        if let Some(list) = line.strip_prefix("CMD ") {
            return serde_json::from_str(list).unwrap();
        }
        let line = line.trim();
        if let Some(list) = line.strip_prefix("args: [").and_then(|list| list.strip_suffix(']')) {
            return list.split(", ").map(str::to_string).collect();
        }
        if let Some(command) = line.strip_prefix("ExecStart=/usr/local/bin/sardonyx serve ") {
            return command.split(' ').map(str::to_string).collect();
        }
        line.strip_prefix("- ")
            .filter(|item| item.starts_with("--"))
            .map(str::to_string)
            .into_iter()
            .collect()
    };
    text.lines().flat_map(of_line).collect()
}

#[test]
fn arguments_in_files_of_deploy_are_those_that_there_are() {
    // Those of the command line, which has them beside the flags of this crate.
    let of_program = [Arg::new("config").long("config"), Arg::new("log-format").long("log-format")];
    let serve = Flags::augment_args(Command::new("serve").no_binary_name(true))
        .args(of_program)
        .arg(Arg::new("repository").index(1));
    for (name, least) in [
        ("Dockerfile", 7),
        ("compose.yaml", 5),
        ("sardonyx.service", 7),
        ("kubernetes/sardonyx.yaml", 2),
        ("kserve/runtime.yaml", 6),
        ("helm/sardonyx/templates/deployment.yaml", 2),
    ] {
        let arguments = arguments(&file(name));
        assert!(arguments.len() >= least, "{name}: {arguments:?}");
        if let Err(error) = serve.clone().try_get_matches_from(&arguments) {
            panic!("{name}: {error}");
        }
    }
    assert!(serve.clone().try_get_matches_from(["--drain-delay", "5"]).is_err());
}

#[test]
fn options_in_files_of_deploy_are_those_that_there_are() {
    let manifest = file("kubernetes/sardonyx.yaml");
    let options = manifest.split("server.toml: |\n").nth(1).unwrap().split("---").next().unwrap();
    let values = file("helm/sardonyx/values.yaml");
    let values = values.split("\noptions:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let quoted = |line: &str| {
        let (name, value) = line.trim().split_once(": ").unwrap();
        let value = if value.parse::<i64>().is_ok() { value.into() } else { format!("\"{value}\"") };
        format!("{name} = {value}\n")
    };
    let values: String =
        ["model-repository = [\"m\"]\n".to_string()].into_iter().chain(values.lines().map(quoted)).collect();
    let folder = tempfile::tempdir().unwrap();
    for (text, delay) in [(options, 10), (&values, 10)] {
        let path = folder.path().join("server.toml");
        std::fs::write(&path, text).unwrap();
        let options = Options::read(&Flags::default(), Some(&path)).unwrap();
        assert_eq!(options.drain_delay, Duration::from_secs(delay), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_in_files_of_deploy_are_those_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 1, &sum(0.0), "");
    let server = Server::start(options(folder.path())).await.unwrap();
    let text = String::from_utf8(metrics::exposition(server.service())).unwrap();
    for (name, least) in [
        ("prometheus/alerts.yml", 6),
        ("prometheus/adapter.yaml", 1),
        ("kubernetes/sardonyx.yaml", 1),
        ("helm/sardonyx/templates/autoscaling.yaml", 1),
    ] {
        let file = file(name);
        let words = file.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let families: Vec<_> = words
            .filter(|word| word.starts_with("nv_") || word.starts_with("sardonyx_"))
            .map(|word| word.trim_end_matches("_bucket"))
            .collect();
        assert!(families.len() >= least, "{name}: {families:?}");
        for family in families {
            assert!(text.contains(&format!("# TYPE {family} ")), "{name}: {family}");
        }
    }
    assert!(server.shut_down().await);
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn is_ready(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let question = b"GET /v2/health/ready HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(question).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.starts_with("HTTP/1.1 200 ")
}

/// A balancer takes the connection as a promise of answers.
#[tokio::test(flavor = "multi_thread")]
async fn grpc_takes_connections_when_all_models_are_loaded() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..30 {
        put(folder.path(), &format!("sum{i}"), 1, &sum(i as f32), "");
    }
    let mut options = options(folder.path());
    let (http, grpc) = (free_address(), free_address());
    (options.http, options.grpc) = (Some(http), Some(grpc));
    let start = tokio::spawn(Server::start(options));
    while TcpStream::connect(grpc).await.is_err() {
        assert!(!start.is_finished() || TcpStream::connect(grpc).await.is_ok());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(is_ready(http).await);
    assert!(start.await.unwrap().unwrap().shut_down().await);
}

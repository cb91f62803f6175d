//! `sardonyx load` against a server on the CPU reference, and against small servers that misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sardonyx::{DeviceOptions, Select};
use sardonyx_server::access::Access;
use sardonyx_server::tls::TlsFiles;
use sardonyx_server::{ControlMode, Options, Server};
use sardonyx_testing::onnx::build::*;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::npy::{array, save_npz};
use crate::program::{Ended, program, run};

/// A server of the model `sum`, whose output is A + B in rows of four, and of `long`, whose second dimension is open too.
struct Served {
    server: Server,
    _runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Served {
    fn start() -> Served {
        Served::with(|_, _| {})
    }

    /// A server whose options are changed; the folder is that of its models.
    fn with(change: impl FnOnce(&std::path::Path, &mut Options)) -> Served {
        let folder = tempfile::tempdir().unwrap();
        for (name, size) in [("sum", "4"), ("long", "n")] {
            let mut graph = graph(&[], vec![node("Add", &["A", "B"], &["SUM"])], &[]);
            graph.input = vec![value("A", FLOAT, &["batch", size]), value("B", FLOAT, &["batch", size])];
            graph.output = vec![value("SUM", FLOAT, &["batch", size])];
            let version = folder.path().join(name).join("1");
            std::fs::create_dir_all(&version).unwrap();
            let onnx = prost::Message::encode_to_vec(&model(17, graph));
            std::fs::write(version.join("model.onnx"), onnx).unwrap();
        }
        let mut options = Options::new(vec![folder.path().to_path_buf()]);
        let local = Some("127.0.0.1:0".parse().unwrap());
        (options.http, options.grpc, options.metrics) = (local, local, local);
        let cpu: Select = "cpu".parse().unwrap();
        options.devices = vec![DeviceOptions::new().select(cpu)];
        change(folder.path(), &mut options);
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Server::start(options)).unwrap();
        Served { server, _runtime: runtime, folder }
    }

    fn http(&self) -> String {
        format!("http://{}", self.server.addresses().http.unwrap())
    }

    fn grpc(&self) -> String {
        self.server.addresses().grpc.unwrap().to_string()
    }

    fn metrics(&self) -> String {
        self.server.addresses().metrics.unwrap().to_string()
    }

    /// How many requests for `sum` the server has answered.
    fn answered(&self) -> u64 {
        let served = self.server.service().served();
        let sum = served.iter().find(|served| served.config().name == "sum").unwrap();
        sum.statistics().success.count()
    }

    /// Writes rows of four numbers to an `.npz` file.
    fn save(&self, file: &str, arrays: &[(&str, &[[f32; 4]])]) -> String {
        let path: PathBuf = self.folder.path().join(file);
        let arrays: Vec<(String, Vec<u8>)> = arrays
            .iter()
            .map(|(name, rows)| {
                let raw: Vec<u8> = rows.as_flattened().iter().flat_map(|x| x.to_le_bytes()).collect();
                (name.to_string(), array("<f4", false, &format!("({}, 4)", rows.len()), &raw))
            })
            .collect();
        save_npz(path.to_str().unwrap(), &arrays);
        path.to_str().unwrap().to_string()
    }
}

/// Runs a load whose report is JSON.
fn load(arguments: &[&str]) -> (Ended, Value) {
    let ended = run(&[&["load", "--json", "--warmup", "0"], arguments].concat());
    let json = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
    (ended, json)
}

fn count(point: &Value, key: &str) -> u64 {
    point[key].as_u64().unwrap_or_else(|| panic!("{key}: {point}"))
}

#[test]
fn counts_add_up_over_both_protocols() {
    let served = Served::start();
    let (http, grpc) = (served.http(), served.grpc());
    for server in [["--url", http.as_str()], ["--grpc", grpc.as_str()]] {
        let before = served.answered();
        let metrics = served.metrics();
        let arguments = ["sum", server[0], server[1], "--metrics-url", metrics.as_str(), "--duration", "0.4"];
        let (ended, json) = load(&[&arguments[..], &["--concurrency", "1,3", "--batch", "2"]].concat());
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
        let points = json["points"].as_array().unwrap();
        assert_eq!(points.len(), 2);
        for (point, clients) in points.iter().zip([1, 3]) {
            assert_eq!((count(point, "concurrency"), count(point, "batch")), (clients, 2));
            assert_eq!(count(point, "sent"), count(point, "answered"));
            let bad = ["failed", "wrong", "unfinished"].map(|key| count(point, key));
            assert_eq!(bad, [0, 0, 0], "{point}");
            let times = &point["latency_ms"];
            let ordered =
                ["p50", "p90", "p95", "p99", "p99.9", "max"].map(|key| times[key].as_f64().unwrap());
            assert!(ordered[0] > 0.0 && ordered.is_sorted(), "{times}");
            let rates = ["requests_per_second", "rows_per_second"].map(|key| point[key].as_f64().unwrap());
            assert!((rates[1] / rates[0] - 2.0).abs() < 1e-4, "{rates:?}");
            let elapsed = point["elapsed_s"].as_f64().unwrap();
            assert!((rates[0] * elapsed - count(point, "answered") as f64).abs() < 0.1, "{point}");
            assert!(point["server"]["answered"].as_f64().unwrap() > 0.0, "{point}");
        }
        assert!(points.iter().any(|point| point["pareto"] == true));
        // One request more asks whether the server takes it at all.
        let answered: u64 = points.iter().map(|point| count(point, "answered")).sum();
        assert_eq!(served.answered() - before, answered + 1);
    }
}

#[test]
fn the_table_is_for_people() {
    let served = Served::start();
    let ended = run(&[
        "load",
        "sum",
        "--url",
        &served.http(),
        "--duration",
        "0.2",
        "--warmup",
        "0.1",
        "--concurrency",
        "1,2",
    ]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for word in [
        "A: float32[1, 4] (random)",
        "closed loop",
        "p99.9 ms",
        "1 client",
        "2 clients",
        "with --metrics-url",
        "*",
    ] {
        assert!(ended.out.contains(word), "{word}: {}", ended.out);
    }
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let served = Served::start();
    let (ended, json) = load(&[
        "sum",
        "--grpc",
        &served.grpc(),
        "--rate",
        "100,200",
        "--arrivals",
        "constant",
        "--duration",
        "0.5",
    ]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!((&json["loop"], &json["arrivals"]), (&"open".into(), &"constant".into()));
    let sent = [&json["points"][0], &json["points"][1]].map(|point| count(point, "sent"));
    // Rounding may put one more before the end.
    assert!((50..=51).contains(&sent[0]) && (100..=101).contains(&sent[1]), "{sent:?}");
}

#[test]
fn what_cannot_be_asked_is_an_error() {
    let served = Served::start();
    let (http, grpc) = (served.http(), served.grpc());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let wrong = served.save("wrong.npz", &[("C", &[[0.0; 4]])]);
    let good = served.save("good.npz", &[("A", &[[0.0; 4]]), ("B", &[[0.0; 4]])]);
    let one = served.save("one.npz", &[("A", &[[0.0; 4]])]);
    let cases: [(&[&str], &str); 16] = [
        (&["cat", "--url", &http], "model 'cat'"),
        (&["cat", "--grpc", &grpc], "model 'cat'"),
        (&["sum", "--url", &http, "--version", "7"], "7"),
        (&["sum", "--url", &free], &free),
        (&["sum", "--grpc", &free], &free),
        (&["sum", "--url", "ftp://localhost"], "no URL of http"),
        (&["sum", "--url", "https://localhost"], "--ca"),
        (&["sum", "--url", &http, "--header", "X-A"], "NAME: VALUE"),
        (&["sum", "--grpc", &grpc, "--instances", "2"], "--model-control-mode explicit"),
        (&["sum", "--url", &http, "--metrics-url", &free], "--metrics-url"),
        (&["long", "--url", &http], "--dim 'A=N'"),
        (&["sum", "--url", &http, "--dim", "A=3"], "no dimension after the first"),
        (&["sum", "--url", &http, "--inputs", &wrong], "'C': the model has no such input"),
        (&["sum", "--url", &http, "--inputs", &good, "--expect", &good], "'A': the model has no such output"),
        (&["sum", "--url", &http, "--inputs", &one], "the server refuses a request"),
        (&["sum", "--url", &http, "--rate", "5", "--concurrency", "1"], "cannot be used with"),
    ];
    for (arguments, text) in cases {
        let ended = run(&[&["load", "--duration", "0.1", "--warmup", "0"], arguments].concat());
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{arguments:?}: {ended:?}");
        assert!(ended.err.starts_with("error: ") && ended.err.contains(text), "{arguments:?}: {ended:?}");
    }
    let (ended, json) = load(&["cat", "--url", &http]);
    assert_eq!((ended.code, &json["error"]["kind"]), (2, &"server".into()));
}

#[test]
fn open_dimensions_have_the_sizes_that_are_said() {
    let served = Served::start();
    let (ended, json) = load(&[
        "long",
        "--url",
        &served.http(),
        "--duration",
        "0.1",
        "--dim",
        "A=7",
        "--dim",
        "B:1=7",
        "--batch",
        "1,3",
    ]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let shapes = [0, 1].map(|at| json["inputs"][at][1]["shape"].clone());
    assert_eq!(shapes, [serde_json::json!([1, 7]), serde_json::json!([3, 7])]);
}

#[test]
fn wrong_answers_are_found() {
    let served = Served::start();
    let a = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [0.0, -1.0, 0.5, 9.0]];
    let mut sum = a.map(|row| row.map(|x| x + 1.0));
    let inputs = served.save("x.npz", &[("A", &a), ("B", &[[1.0; 4]; 3])]);
    let right = served.save("right.npz", &[("SUM", &sum)]);
    sum[2][1] += 0.5;
    let wrong = served.save("wrong.npz", &[("SUM", &sum)]);
    let (http, grpc) = (served.http(), served.grpc());
    for server in [["--url", http.as_str()], ["--grpc", grpc.as_str()]] {
        let with = |expected: &str, more: &[&str]| {
            let arguments =
                ["sum", server[0], server[1], "--inputs", &inputs, "--expect", expected, "--duration", "0.2"];
            load(&[&arguments[..], more].concat())
        };
        for more in [&[][..], &["--batch", "2"]] {
            assert_eq!(with(&right, more).0.code, 0);
        }
        let (ended, json) = with(&wrong, &[]);
        let point = &json["points"][0];
        assert_eq!((ended.code, count(point, "wrong")), (1, count(point, "answered")));
        assert!(count(point, "wrong") > 0);
        // The third row is the second request of two.
        let (ended, json) = with(&wrong, &["--batch", "2"]);
        let point = &json["points"][0];
        assert_eq!((ended.code, count(point, "wrong")), (1, count(point, "answered") / 2));
        assert!(point["difference"].as_str().unwrap().contains("'SUM'"), "{point}");
        assert_eq!(with(&wrong, &["--tolerance", "0.6"]).0.code, 0);
    }
}

#[test]
fn accuracy_on_labelled_rows() {
    let served = Served::start();
    let rows = [[9.0, 0.0, 0.0, 0.0], [0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0], [0.0, 0.0, 0.0, 9.0]];
    let inputs = served.save("x.npz", &[("A", &rows), ("B", &[[0.0; 4]; 4])]);
    let labels = served.folder.path().join("labels.txt");
    let labels_file = labels.to_str().unwrap();
    let http = served.http();
    let arguments =
        ["sum", "--url", &http, "--inputs", &inputs, "--labels", labels_file, "--duration", "0.2"];
    std::fs::write(&labels, "0\n1\n2\n0\n").unwrap();
    let (ended, json) = load(&arguments);
    let point = &json["points"][0];
    assert_eq!((ended.code, &point["accuracy"]), (0, &0.75.into()), "{ended:?}");
    assert_eq!(count(point, "labelled_rows"), 4 * count(point, "answered"));
    std::fs::write(&labels, "0\n1\n2\n").unwrap();
    let (ended, json) = load(&arguments);
    assert_eq!(ended.code, 2);
    assert!(json["error"]["message"].as_str().unwrap().contains("3 lines"), "{json}");
}

/// Answers requests for the model `m` by HTTP, one after the other on each connection. `infer` is given the number of the request, and
/// returns its status.
fn small_server(infer: impl Fn(usize) -> u16 + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (infer, asked) = (Arc::new(infer), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, infer, asked) = (stream.unwrap(), infer.clone(), asked.clone());
            std::thread::spawn(move || converse(stream, &*infer, &asked));
        }
    });
    address
}

fn converse(stream: TcpStream, infer: &dyn Fn(usize) -> u16, asked: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut lines, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            let header = line.to_lowercase();
            length =
                header.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
            lines.push(line);
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        let status =
            if lines[0].contains("/infer ") { infer(asked.fetch_add(1, Ordering::Relaxed)) } else { 200 };
        let body = match status {
            200 => r#"{"name":"m","inputs":[{"name":"x","datatype":"FP32","shape":[1]}],"outputs":[]}"#,
            _ => r#"{"error":"too much"}"#,
        };
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        (&stream).write_all(answer.as_bytes()).ok()?;
    }
}

#[test]
fn a_stall_is_charged_to_all_requests_that_were_due() {
    // The first request asks whether the server takes it; the next stalls, and the others are answered at once.
    let address = small_server(|number| {
        std::thread::sleep(Duration::from_millis(if number == 1 { 400 } else { 0 }));
        200
    });
    let (ended, json) = load(&[
        "m",
        "--url",
        &address.to_string(),
        "--rate",
        "100",
        "--arrivals",
        "constant",
        "--in-flight",
        "1",
        "--duration",
        "0.5",
    ]);
    assert_eq!(ended.code, 0, "{ended:?}");
    // Of 50 requests, 40 were due while the first was not answered: the one in the middle of all waited for 150 ms.
    let p50 = json["points"][0]["latency_ms"]["p50"].as_f64().unwrap();
    assert!(p50 >= 140.0, "{json}");
}

#[test]
fn failures_are_counted_by_kind() {
    let address = small_server(|number| if number % 2 == 0 { 200 } else { 503 }).to_string();
    let (ended, json) = load(&["m", "--url", &address, "--duration", "0.2"]);
    let point = &json["points"][0];
    assert_eq!(ended.code, 1);
    assert_eq!(count(point, "sent"), count(point, "answered") + count(point, "failed"));
    let failures = point["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(
        (&failures[0]["kind"], &failures[0]["code"], &failures[0]["text"]),
        (&"status".into(), &"503".into(), &"too much".into())
    );
    assert_eq!(count(&failures[0], "count"), count(point, "failed"));
    assert!(count(point, "failed") > 0);

    let address = small_server(|number| {
        std::thread::sleep(Duration::from_millis(if number == 0 { 0 } else { 600 }));
        200
    });
    let (ended, json) = load(&["m", "--url", &address.to_string(), "--duration", "0.3", "--timeout", "0.1"]);
    let point = &json["points"][0];
    assert_eq!(
        (ended.code, count(point, "answered"), &point["failures"][0]["kind"]),
        (1, 0, &"timeout".into())
    );
    assert_eq!(count(point, "sent"), count(point, "failed"));
    assert!(point["latency_ms"].is_null());
}

#[cfg(unix)]
#[test]
fn ctrl_c_prints_what_there_is() {
    let served = Served::start();
    let child = program()
        .args(["load", "sum", "--json", "--url", &served.http(), "--duration", "600", "--warmup", "0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let before = served.answered();
    while served.answered() < before + 20 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let interrupt =
        std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["interrupted"], true);
    let point = &json["points"][0];
    assert!(count(point, "answered") > 10, "{json}");
    assert_eq!(
        count(point, "sent"),
        count(point, "answered") + count(point, "failed") + count(point, "unfinished")
    );
}

/// Writes `NAME.pem` and `NAME.key`, of 127.0.0.1, signed by `issuer`.
fn certificate(folder: &std::path::Path, name: &str, issuer: &rcgen::CertifiedIssuer<'_, rcgen::KeyPair>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_string()]).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

#[test]
fn keys_and_certificates() {
    let files = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    std::fs::write(files.path().join("root.pem"), issuer.pem()).unwrap();
    for name in ["server", "client"] {
        certificate(files.path(), name, &issuer);
    }
    let file = |name: &str| files.path().join(name);
    let served = Served::with(|_, options| {
        let clients = Some(file("root.pem"));
        let tls = TlsFiles { certificate: file("server.pem"), key: file("server.key"), clients };
        (options.http_tls, options.grpc_tls) = (Some(tls.clone()), Some(tls));
        // The hash of the key `foo`.
        let key = "[shop]\nsha256 = \"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae\"";
        options.access = Access::parse(key).unwrap();
    });
    let (http, grpc) = (served.http().replace("http:", "https:"), format!("https://{}", served.grpc()));
    let [root, own, key] =
        ["root.pem", "client.pem", "client.key"].map(|name| file(name).display().to_string());
    let tls = ["--ca", root.as_str(), "--client-cert", own.as_str(), "--client-key", key.as_str()];
    for server in [["--url", http.as_str()], ["--grpc", grpc.as_str()]] {
        let asked = |more: &[&[&str]]| {
            load(&[&["sum", server[0], server[1], "--duration", "0.1"], &more.concat()[..]].concat())
        };
        for known in [["--api-key", "foo"], ["--header", "X-API-Key: foo"]] {
            let (ended, json) = asked(&[&tls, &known]);
            assert_eq!(ended.code, 0, "{ended:?}");
            assert!(count(&json["points"][0], "answered") > 0 && json["good"] == true, "{json}");
        }
        let refused = |more: &[&[&str]]| {
            let (ended, json) = asked(more);
            assert_eq!(ended.code, 2, "{ended:?}");
            json["error"]["message"].as_str().unwrap_or_else(|| panic!("{json}")).to_owned()
        };
        assert!(refused(&[&tls]).contains("key"));
        assert!(refused(&[&tls, &["--api-key", "bar"]]).contains("key"));
        refused(&[&["--ca", &root, "--api-key", "foo"]]);
        refused(&[&["--ca", &own, "--api-key", "foo"], &tls[2..]]);
    }
}

#[test]
fn a_sweep_changes_how_the_model_is_served() {
    let served = Served::with(|folder, options| {
        (options.control, options.load) = (ControlMode::Explicit, vec!["sum".into()]);
        let config = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 7 }";
        std::fs::write(folder.join("sum/config.pbtxt"), config).unwrap();
    });
    let config = || served.server.service().config("sum", "").unwrap().to_json().unwrap();
    let own = config();
    let (http, grpc) = (served.http(), served.grpc());
    for server in [["--url", http.as_str()], ["--grpc", grpc.as_str()]] {
        let arguments = ["sum", server[0], server[1], "--duration", "0.1", "--batch", "1,2"];
        let (ended, json) = load(&[&arguments[..], &["--instances", "1,3", "--delay", "0,200"]].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        let points = json["points"].as_array().unwrap();
        let served_by = |point: &Value| ["delay_us", "instances", "batch"].map(|key| count(point, key));
        let expected =
            [[0, 1, 1], [0, 1, 2], [0, 3, 1], [0, 3, 2], [200, 1, 1], [200, 1, 2], [200, 3, 1], [200, 3, 2]];
        assert_eq!(points.iter().map(served_by).collect::<Vec<_>>(), expected);
        assert!(
            points.iter().all(|point| count(point, "answered") > 0 && count(point, "failed") == 0),
            "{json}"
        );
        assert!(points.iter().any(|point| point["pareto"] == true));
        assert_eq!(config(), own, "the model is as it was");
    }
    let single =
        run(&["load", "sum", "--url", &http, "--delay", "1", "--instances", "1", "--duration", "0.1"]);
    assert_eq!(single.code, 0, "{single:?}");
    assert!(single.out.contains("1 client, 1 instance, 1 us"), "{single:?}");
}

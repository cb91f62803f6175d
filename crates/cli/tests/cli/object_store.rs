//! `sardonyx serve s3://...` against a small S3 that is written here after the protocol's description: listings in pages, objects with
//! tags, errors.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use sardonyx_testing::onnx::build::*;
use serde_json::Value;

use crate::program::{Ended, program};

const KEY: &str = "AKIDSARDONYX";
const SECRET: &str = "secret-that-nobody-prints";

/// The objects of a page of a listing at most.
const PAGE: usize = 2;

/// A store with one bucket, `zoo`.
#[derive(Clone)]
struct Store {
    address: SocketAddr,
    bucket: Arc<Mutex<Bucket>>,
}

#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Vec<u8>>,
    /// The key of an object that is listed and cannot be read.
    unreadable: Option<String>,
    /// The keys of objects that were read.
    read: Vec<String>,
    pages: usize,
}

impl Store {
    fn start() -> Store {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = Store { address: listener.local_addr().unwrap(), bucket: Arc::default() };
        let serving = store.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let store = serving.clone();
                std::thread::spawn(move || store.converse(stream.unwrap()));
            }
        });
        store
    }

    fn put(&self, key: &str, contents: &[u8]) {
        self.bucket.lock().unwrap().objects.insert(key.into(), contents.into());
    }

    fn converse(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_string());
            }
            let target = lines[0].split(' ').nth(1)?.to_string();
            let signed = lines.iter().any(|line| {
                line.to_lowercase().starts_with("authorization: aws4-hmac-sha256")
                    && line.contains(&format!("Credential={KEY}/"))
                    && !line.contains(SECRET)
            });
            let (status, headers, body) = match (signed, target.split_once('?')) {
                (false, _) => (403, String::new(), error("AccessDenied")),
                (true, Some(("/zoo", query))) => self.list(query),
                (true, _) => self.get(target.strip_prefix("/zoo/").unwrap_or_default()),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n");
            (&stream).write_all(&[head.as_bytes(), &body].concat()).ok()?;
        }
    }

    fn list(&self, query: &str) -> (u16, String, Vec<u8>) {
        let query: BTreeMap<&str, String> = query
            .split('&')
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name, value.replace("%2F", "/")))
            .collect();
        let mut bucket = self.bucket.lock().unwrap();
        bucket.pages += 1;
        let prefix = query.get("prefix").cloned().unwrap_or_default();
        let after = query.get("continuation-token").cloned().unwrap_or_default();
        let found: Vec<_> = bucket
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) && **key > after)
            .take(PAGE + 1)
            .collect();
        let mut xml = String::from("<?xml version=\"1.0\"?><ListBucketResult><Name>zoo</Name>");
        for (key, contents) in found.iter().take(PAGE) {
            let (tag, size) = (tag(contents), contents.len());
            write!(
                xml,
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>{tag}</ETag><Size>{size}</Size></Contents>"
            )
            .unwrap();
        }
        if found.len() > PAGE {
            let last = found[PAGE - 1].0;
            write!(xml, "<NextContinuationToken>{last}</NextContinuationToken>").unwrap();
        }
        xml.push_str("</ListBucketResult>");
        (200, "content-type: application/xml\r\n".into(), xml.into_bytes())
    }

    fn get(&self, key: &str) -> (u16, String, Vec<u8>) {
        let mut bucket = self.bucket.lock().unwrap();
        bucket.read.push(key.into());
        if bucket.unreadable.as_deref() == Some(key) {
            return (403, String::new(), error("AccessDenied"));
        }
        match bucket.objects.get(key) {
            None => (404, String::new(), error("NoSuchKey")),
            Some(contents) => {
                let modified = "last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
                (200, format!("etag: {}\r\n{modified}", tag(contents)), contents.clone())
            }
        }
    }
}

fn error(code: &str) -> Vec<u8> {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>").into_bytes()
}

/// Other contents have another tag.
fn tag(contents: &[u8]) -> String {
    let sum = contents.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    format!("\"{sum:016x}\"")
}

/// `y = x + of`.
fn adds(of: f32) -> Vec<u8> {
    let mut main = graph(&[], vec![node("Add", &["x", "w"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["2"])];
    main.output = vec![value("y", FLOAT, &["2"])];
    main.initializer = vec![weights("w", &[1], &[of])];
    bytes(&model(17, main)).to_vec()
}

/// A program that serves, and its address for HTTP.
struct Serving {
    child: Child,
    http: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    /// The status, and the body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    fn load(&self, name: &str) -> (u16, Value) {
        self.ask("POST", &format!("/v2/repository/models/{name}/load"), "")
    }

    /// What the model makes of zeros.
    fn answer(&self, name: &str) -> f64 {
        let body = r#"{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [0, 0]}]}"#;
        let (status, answer) = self.ask("POST", &format!("/v2/models/{name}/infer"), body);
        assert_eq!(status, 200, "{answer}");
        answer["outputs"][0]["data"][0].as_f64().unwrap()
    }
}

/// The program, told to serve this repository.
fn serve(repository: &str, cache: &tempfile::TempDir, more: &[&str]) -> std::process::Command {
    let mut command = program();
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
    }
    command.args(["serve", repository, "--json", "--device", "cpu", "--http-address", "127.0.0.1"]);
    command.args(["--http-port", "0", "--allow-grpc", "false", "--allow-metrics", "false"]);
    command.arg("--repository-cache").arg(cache.path()).args(more);
    command
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_REGION", "eu-north-1");
    command
}

#[test]
fn a_bucket_is_served() {
    let store = Store::start();
    store.put("zoo.txt", b"beside the prefix");
    store.put("models/add/1/model.onnx", &adds(1.0));
    store.put("models/add/config.pbtxt", b"");
    store.put("models/add/notes/readme.md", b"notes");
    store.put("models/two/1/model.onnx", &adds(2.0));
    let cache = tempfile::tempdir().unwrap();
    let log = cache.path().with_extension("log");
    let repository = format!("s3://http://{}/zoo/models", store.address);
    let explicit = ["--model-control-mode", "explicit", "--load-model", "*", "--log-verbose"];
    let mut child = serve(&repository, &cache, &explicit)
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    // The whole text of JSON, of which lines may be many.
    let addresses = loop {
        let bytes = stdout.read_line(&mut line).unwrap();
        let text = || std::fs::read_to_string(&log).unwrap();
        assert!(bytes > 0, "the server ended: {}", text());
        if let Ok(value) = serde_json::from_str::<Value>(&line) {
            break value;
        }
    };
    let server = Serving { child, http: addresses["http"].as_str().unwrap().to_string() };
    assert_eq!((server.answer("add"), server.answer("two")), (1.0, 2.0));
    assert!(store.bucket.lock().unwrap().pages > 2, "a listing has pages");

    // A new version, of which all files are new, and no others are read.
    store.put("models/add/2/model.onnx", &adds(20.0));
    store.bucket.lock().unwrap().read.clear();
    assert_eq!(server.load("add").0, 200);
    assert_eq!(server.answer("add"), 20.0);
    assert_eq!(store.bucket.lock().unwrap().read, ["models/add/2/model.onnx"]);

    // A version that cannot be read whole is not served, and what serves goes on.
    store.put("models/add/3/model.onnx", &adds(30.0));
    store.put("models/add/3/labels.txt", b"cat");
    store.bucket.lock().unwrap().unreadable = Some("models/add/3/labels.txt".into());
    let (status, answer) = server.load("add");
    let text = answer["error"].as_str().unwrap();
    assert_eq!(status, 503, "{text}");
    assert!(text.contains(&format!("{repository}/add/3/labels.txt: ")), "{text}");
    assert!(text.contains("AWS_ACCESS_KEY_ID") && !text.contains(SECRET), "{text}");
    assert_eq!(server.answer("add"), 20.0);
    store.bucket.lock().unwrap().unreadable = None;
    assert_eq!(server.load("add").0, 200);
    assert_eq!(server.answer("add"), 30.0);

    // A key that leads elsewhere.
    store.put("models/two/1/../../../x", b"");
    let (status, answer) = server.load("two");
    assert!(status >= 400 && answer["error"].as_str().unwrap().contains("remove the object"), "{answer}");
    assert_eq!(server.answer("two"), 2.0);
    drop(server);
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    assert!(text.contains("mirrored") && !text.contains(SECRET) && !text.contains(KEY), "{text}");
}

#[test]
fn a_store_that_refuses_is_said_with_what_to_do() {
    let store = Store::start();
    let cache = tempfile::tempdir().unwrap();
    let repository = format!("s3://{}/zoo/models", store.address);
    let mut command = serve(&repository, &cache, &[]);
    let ended: Ended = command.env("AWS_ACCESS_KEY_ID", "another").output().unwrap().into();
    assert_eq!(ended.code, 2, "{ended:?}");
    let named = format!("s3://http://{}/zoo/models: ", store.address);
    assert!(ended.out.contains(&named) && ended.out.contains("set credentials"), "{ended:?}");
    assert!(!ended.out.contains(SECRET) && !ended.err.contains(SECRET), "{ended:?}");

    let ended: Ended = serve("s3://127.0.0.1:1/zoo", &cache, &[]).output().unwrap().into();
    assert!(
        ended.code == 2 && ended.out.contains("refused") && ended.out.contains("the endpoint"),
        "{ended:?}"
    );

    let ended: Ended = serve("s3://a@b/c", &cache, &[]).output().unwrap().into();
    assert!(ended.code == 2 && ended.out.contains("from the environment"), "{ended:?}");
}

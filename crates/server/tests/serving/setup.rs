//! What the tests share: repositories in folders of their own, options, and a server without connections.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use sardonyx::{DeviceOptions, Select};
use sardonyx_server::http::{self, Limits};
use sardonyx_server::repository::Repository;
use sardonyx_server::serving::Devices;
use sardonyx_server::settings::Settings;
use sardonyx_server::shared_memory::SharedMemory;
use sardonyx_server::{ControlMode, Options, Service};
use sardonyx_testing::devices::usable;
use sardonyx_testing::onnx::build::*;
use sardonyx_testing::onnx::proto::ModelProto;
use serde_json::Value;
use tempfile::TempDir;
use tower_service::Service as _;

pub const FLOAT16: i32 = 10;

/// Puts a version of a model into a repository. Without bytes it has no file, and an empty configuration is none.
pub fn put(repository: &Path, name: &str, version: u64, onnx: &[u8], config: &str) {
    let folder = repository.join(name);
    let version = folder.join(version.to_string());
    std::fs::create_dir_all(&version).unwrap();
    if !onnx.is_empty() {
        std::fs::write(version.join("model.onnx"), onnx).unwrap();
    }
    if !config.is_empty() {
        std::fs::write(folder.join("config.pbtxt"), config).unwrap();
    }
}

/// The options of a server that listens on free ports of this machine.
pub fn options(repository: &Path) -> Options {
    let mut options = Options::new(vec![repository.to_path_buf()]);
    let local = Some("127.0.0.1:0".parse().unwrap());
    (options.http, options.grpc, options.metrics) = (local, local, local);
    // The CPU reference only where tests are told to pass without adapters.
    let select = usable().first().map_or(Select::Cpu, |adapter| Select::Name(adapter.name.clone()));
    options.devices = vec![DeviceOptions::new().select(select)];
    options
}

/// `OUTPUT0 = INPUT0 + INPUT1` and `OUTPUT1 = INPUT0 - INPUT1`, as the golden answers of Triton have it.
pub fn addsub() -> ModelProto {
    let nodes = vec![
        node("Add", &["INPUT0", "INPUT1"], &["OUTPUT0"]),
        node("Sub", &["INPUT0", "INPUT1"], &["OUTPUT1"]),
    ];
    let mut addsub = graph(&[], nodes, &[]);
    addsub.input = ["INPUT0", "INPUT1"].map(|name| value(name, FLOAT, &["batch", "4"])).into();
    addsub.output = ["OUTPUT0", "OUTPUT1"].map(|name| value(name, FLOAT, &["batch", "4"])).into();
    model(17, addsub)
}

/// A vector of any length, in and out.
pub fn identity(elem_type: i32, input: &str, output: &str) -> ModelProto {
    let mut identity = graph(&[], vec![node("Identity", &[input], &[output])], &[]);
    identity.input = vec![value(input, elem_type, &["count"])];
    identity.output = vec![value(output, elem_type, &["count"])];
    model(17, identity)
}

/// What a client of HTTP gets.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    /// The body of a success.
    pub fn good(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// The status, and the text of the error.
    pub fn error(&self) -> (u16, String) {
        assert_eq!(self.headers["content-type"], "application/json");
        (self.status, self.json()["error"].as_str().unwrap().to_owned())
    }
}

/// What answers requests of HTTP, on models that the CPU reference runs; nothing listens.
pub struct Routes {
    router: Router,
    pub folder: TempDir,
}

impl Routes {
    /// All models of the folder are loaded.
    pub async fn of(folder: TempDir, memory: SharedMemory) -> Routes {
        let mut options = Options::new(vec![folder.path().to_owned()]);
        (options.control, options.load) = (ControlMode::Explicit, vec!["*".into()]);
        let devices = Devices::open(vec![DeviceOptions::new().select(Select::Cpu)], 1).unwrap();
        let repository = Repository::open(&options, devices.clone()).unwrap();
        let service: Arc<Service> =
            Service::new(repository.clone(), devices, memory, Settings::default(), true);
        repository.load_first().await.unwrap();
        let limits = Limits { body_bytes: 1 << 20, ..Limits::default() };
        Routes { router: http::router(&service, limits), folder }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().call(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let length = headers.get("content-length").map(|length| length.to_str().unwrap().to_owned());
        let body = to_bytes(response.into_body(), 1 << 24).await.unwrap().to_vec();
        assert!(length.is_none_or(|length| length == body.len().to_string()));
        Answer { status, headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Body>, headers: &[(&str, &str)]) -> Answer {
        let request =
            headers.iter().fold(Request::post(path), |request, (name, value)| request.header(*name, *value));
        self.send(request.body(body.into()).unwrap()).await
    }

    pub async fn post_as(&self, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
        self.post(path, body, &[("content-type", kind)]).await
    }

    pub async fn post_json(&self, path: &str, body: impl ToString) -> Answer {
        self.post_as(path, "application/json", body.to_string()).await
    }
}

//! Traffic of whole servers, whose models run on the CPU reference.

use std::path::Path;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use sardonyx::{DeviceOptions, Select, Tensor};
use sardonyx_testing::onnx::build::{FLOAT, bytes, graph, model, node, value, weights};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower_service::Service as _;

use super::*;
use crate::grpc;
use crate::http::{self, Limits};
use crate::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use crate::proto::model_infer_request::InferInputTensor;
use crate::proto::{InferTensorContents, ModelInferRequest};
use crate::repository::Overrides;
use crate::{ControlMode, Options, Reason, Sequence, SequenceId, Server, metrics};

/// `y = x + of`, for rows of two numbers.
fn adds(input: &str, of: f32) -> Vec<u8> {
    let mut graph = graph(&[], vec![node("Add", &[input, "w"], &["y"])], &[]);
    graph.input = vec![value(input, FLOAT, &["N", "2"])];
    graph.output = vec![value("y", FLOAT, &["N", "2"])];
    graph.initializer = vec![weights("w", &[2], &[of, 1.0])];
    bytes(&model(17, graph)).to_vec()
}

fn put(folder: &TempDir, name: &str, version: u64, onnx: &[u8], config: &str) {
    let at = folder.path().join(name);
    std::fs::create_dir_all(at.join(version.to_string())).unwrap();
    std::fs::write(at.join(version.to_string()).join("model.onnx"), onnx).unwrap();
    std::fs::write(at.join("sardonyx.toml"), config).unwrap();
}

fn config(parameters: &str) -> String {
    format!("max_batch_size = 4\nversion_policy = {{ all = {{}} }}\nparameters = {{ {parameters} }}")
}

async fn server(folder: &Path) -> Server {
    let mut options = Options::new(vec![folder.to_owned()]);
    let local = Some("127.0.0.1:0".parse().unwrap());
    (options.http, options.grpc, options.metrics) = (local, local, None);
    options.devices = vec![DeviceOptions::new().select(Select::Cpu)];
    (options.control, options.load) = (ControlMode::Explicit, vec!["*".into()]);
    Server::start(options).await.unwrap()
}

fn request(model: &str) -> Request {
    let x = Tensor::from_slice(&[1, 2], &[1.0f32, 2.0]).unwrap();
    Request { model: model.into(), inputs: vec![("x".into(), x)], ..Request::default() }
}

fn keyed(model: &str, key: &str) -> Request {
    let preference = Preference { key: Some(key.as_bytes().into()), variant: None };
    Request { preference, ..request(model) }
}

async fn answered_by(server: &Server, request: Request) -> (String, String) {
    let response = server.service().infer(request).await.unwrap();
    (response.model, response.version)
}

async fn over_http(server: &Server, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let mut router = http::router(server.service(), Limits::default());
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]});
    let mut request = axum::http::Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.call(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap())
}

async fn over_grpc(server: &Server, headers: &[(&'static str, &str)]) -> String {
    let mut client =
        GrpcInferenceServiceClient::new(grpc::router(server.service(), &Limits::default()).unwrap());
    let contents = Some(InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() });
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "FP32".into(),
        shape: vec![1, 2],
        contents,
        ..Default::default()
    };
    let message = ModelInferRequest { model_name: "m".into(), inputs: vec![input], ..Default::default() };
    let mut request = tonic::Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    client.model_infer(request).await.unwrap().into_inner().model_version
}

/// Waits until a metric has this value.
async fn becomes(server: &Server, metric: &str, wanted: f64) {
    let wanted = format!("{metric} {wanted}");
    for _ in 0..3000 {
        let text = String::from_utf8(metrics::exposition(server.service())).unwrap();
        if text.lines().any(|line| line == wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{wanted} is not to be seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_share_requests_that_name_none() {
    let folder = TempDir::new().unwrap();
    let parameters = "traffic = 'stable=70, 2=20, other/=10', version_labels = 'stable=1'";
    put(&folder, "m", 1, &adds("x", 1.0), &config(parameters));
    put(&folder, "m", 2, &adds("x", 2.0), &config(parameters));
    put(&folder, "other", 7, &adds("x", 3.0), "");
    let server = server(folder.path()).await;
    let variants = [("stable", 70.0), ("2", 20.0), ("other/", 10.0)];
    let served = [("m", "1"), ("m", "2"), ("other", "7")];
    let mut seen = [0; 3];
    for user in 0..100 {
        let user = format!("user {user}");
        let chosen = choose::choose("m", user.as_bytes(), variants.into_iter()).unwrap();
        seen[chosen] += 1;
        for _ in 0..2 {
            let (model, version) = answered_by(&server, keyed("m", &user)).await;
            assert_eq!((model.as_str(), version.as_str()), served[chosen]);
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    for i in 0..20 {
        let id = format!("id {i}");
        let chosen = choose::choose("m", id.as_bytes(), variants.into_iter()).unwrap();
        let (_, version) = answered_by(&server, Request { id: id.clone(), ..request("m") }).await;
        assert_eq!(version, served[chosen].1, "an id is a key where there is no other");
        let (status, answer) = over_http(&server, "/v2/models/m/infer", &[("X-Sardonyx-Key", &id)]).await;
        assert_eq!((status, &answer["model_version"]), (200, &json!(served[chosen].1)));
        assert_eq!(over_grpc(&server, &[("x-sardonyx-key", &id)]).await, served[chosen].1);
    }
    // Without a key, chance decides.
    let mut random = std::collections::BTreeSet::new();
    for _ in 0..200 {
        random.insert(answered_by(&server, request("m")).await);
    }
    assert_eq!(random.len(), 3, "with a probability of 1 - 1e-9");
    // A version in the path is no matter of traffic.
    let (_, answer) =
        over_http(&server, "/v2/models/m/versions/2/infer", &[("X-Sardonyx-Variant", "1")]).await;
    assert_eq!(answer["model_version"], "2");

    // The share of one that does not serve goes to the others, whose callers stay.
    server.service().unload("other", false).await.unwrap();
    for user in 0..100 {
        let user = format!("user {user}");
        let before = choose::choose("m", user.as_bytes(), variants.into_iter()).unwrap();
        let (model, version) = answered_by(&server, keyed("m", &user)).await;
        assert_eq!(model, "m");
        assert!(before == 2 || version == served[before].1);
    }
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_asks_for_a_variant() {
    let folder = TempDir::new().unwrap();
    let parameters = "traffic = '1=1, canary=0, other/=0', version_labels = 'canary=2'";
    put(&folder, "m", 1, &adds("x", 1.0), &config(parameters));
    put(&folder, "m", 2, &adds("x", 2.0), &config(parameters));
    put(&folder, "m", 3, &adds("x", 2.0), &config(parameters));
    put(&folder, "other", 7, &adds("x", 3.0), "");
    let server = server(folder.path()).await;
    for (variant, version) in [("1", "1"), ("canary", "2"), ("2", "2"), ("3", "3"), ("other/", "7")] {
        let (status, answer) =
            over_http(&server, "/v2/models/m/infer", &[("X-Sardonyx-Variant", variant)]).await;
        assert_eq!((status, &answer["model_version"]), (200, &json!(version)), "{variant}");
        assert_eq!(over_grpc(&server, &[("x-sardonyx-variant", variant)]).await, version);
    }
    assert_eq!(over_grpc(&server, &[]).await, "1");
    // No other model than those of the configuration, and no version that there is not.
    for variant in ["9", "other", "other/7", "../m"] {
        let (status, answer) =
            over_http(&server, "/v2/models/m/infer", &[("X-Sardonyx-Variant", variant)]).await;
        assert_eq!(status, 404, "{answer}");
    }
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_for_versions_that_do_not_serve_is_refused() {
    let folder = TempDir::new().unwrap();
    put(&folder, "m", 1, &adds("x", 1.0), &config("traffic = '1=1'"));
    let server = server(folder.path()).await;
    for (parameters, part) in [
        ("traffic = '1=1, 2=1'", "names '2', and the versions that serve are [1]"),
        ("traffic = 'canary=1'", "names 'canary'"),
        ("shadow = '1'", "'1', which answers all requests"),
        ("traffic = '1=1', shadow = '1'", "'1', which answers all requests"),
        ("traffic = '1'", "is no variant with its share"),
    ] {
        put(&folder, "m", 1, &adds("x", 1.0), &config(parameters));
        let failure = server.service().load("m", Overrides::default()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Invalid);
        assert!(failure.text.contains(part), "{failure}");
    }
    assert_eq!(answered_by(&server, request("m")).await.1, "1", "the first load serves");
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_s_answers_are_compared() {
    let folder = TempDir::new().unwrap();
    let parameters = "traffic = '1=1', shadow = '2', shadow_tolerance = 0.01";
    put(&folder, "m", 1, &adds("x", 1.0), &config(parameters));
    // The first element is greater by 4, so that it is the greatest; the second is equal.
    put(&folder, "m", 2, &adds("x", 5.0), &config(parameters));
    let server = server(folder.path()).await;
    let response = server.service().infer(request("m")).await.unwrap();
    assert_eq!(
        (response.version.as_str(), response.outputs[0].1.to_vec::<f32>().unwrap()),
        ("1", vec![2.0, 3.0])
    );
    let of = |name: &str| format!(r#"{name}{{model="m",version="1",shadow="2"}}"#);
    let compared = r#"sardonyx_shadow_requests_total{model="m",version="1",shadow="2",outcome="compared"}"#;
    becomes(&server, compared, 1.0).await;
    becomes(&server, &of("sardonyx_shadow_difference_max"), 4.0).await;
    becomes(&server, &of("sardonyx_shadow_elements_total"), 2.0).await;
    becomes(&server, &of("sardonyx_shadow_elements_beyond_total"), 1.0).await;
    becomes(&server, &of("sardonyx_shadow_rows_total"), 1.0).await;
    let text = String::from_utf8(metrics::exposition(server.service())).unwrap();
    assert!(text.contains(&format!("{} 0\n", of("sardonyx_shadow_rows_agreed_total"))));
    // What names a version, or is part of a sequence, is not copied.
    let sequence = Some(Sequence { id: SequenceId::Number(1), start: true, end: true });
    server.service().infer(Request { version: "1".into(), ..request("m") }).await.unwrap();
    server.service().infer(Request { sequence, ..request("m") }).await.unwrap();
    server.service().infer(request("m")).await.unwrap();
    becomes(&server, compared, 2.0).await;
    becomes(&server, r#"nv_inference_request_success{model="m",version="2"}"#, 2.0).await;
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_neither_delays_nor_fails_anybody() {
    let folder = TempDir::new().unwrap();
    put(&folder, "fails", 1, &adds("x", 1.0), &config("shadow = 'other/'"));
    put(&folder, "other", 1, &adds("another", 1.0), "");
    put(&folder, "waits", 1, &adds("x", 1.0), &config("shadow = 'slow/', shadow_in_flight = 1"));
    put(
        &folder,
        "slow",
        1,
        &adds("x", 1.0),
        "max_batch_size = 4\ndynamic_batching = { max_queue_delay_microseconds = 3600000000 }",
    );
    let server = server(folder.path()).await;
    let of = |model: &str, outcome: &str, shadow: &str| {
        format!(
            r#"sardonyx_shadow_requests_total{{model="{model}",version="1",shadow="{shadow}",outcome="{outcome}"}}"#
        )
    };
    assert_eq!(answered_by(&server, request("fails")).await.1, "1");
    becomes(&server, &of("fails", "failed", "other/1"), 1.0).await;
    server.service().unload("other", false).await.unwrap();
    assert_eq!(answered_by(&server, request("fails")).await.1, "1", "nor does one that is not there");
    // The first copy waits for an hour, or until the server ends; the others are dropped.
    for _ in 0..3 {
        assert_eq!(answered_by(&server, request("waits")).await.1, "1");
    }
    becomes(&server, &of("waits", "dropped", "slow/1"), 2.0).await;
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_that_take_texts_otherwise_are_refused() {
    let folder = TempDir::new().unwrap();
    let add = |name: &str, version, parameters: &str| {
        put(&folder, name, version, &adds("x", version as f32), &config(parameters));
    };
    add("m", 1, "traffic = '1=1'");
    add("m", 2, "traffic = '1=1'");
    add("n", 3, "traffic = 'other/=1'");
    add("shadowed", 4, "shadow = 'other/'");
    add("other", 7, "'embeddings.pooling' = 'cls'");
    let server = server(folder.path()).await;
    assert_eq!(answered_by(&server, request("m")).await.1, "1");
    let pooling = folder.path().join("m/1/1_Pooling");
    std::fs::create_dir(&pooling).unwrap();
    std::fs::write(pooling.join("config.json"), r#"{"pooling_mode_cls_token": true}"#).unwrap();
    for parameters in ["traffic = '1=1'", "shadow = '1'", "traffic = 'old=1', version_labels = 'old=1'"] {
        add("m", 2, parameters);
        let failure = server.service().load("m", Overrides::default()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Invalid);
        let text = "version 1 of model 'm' cannot answer for version 2 of model 'm': their embeddings.pooling differs";
        assert!(failure.text.contains(text), "{failure}");
    }
    assert_eq!(answered_by(&server, request("m")).await.1, "1", "the first load serves");

    // Another model may be loaded at any time.
    let text = "version 7 of model 'other' cannot answer for version 3 of model 'n': their embeddings.pooling differs";
    let refused = server.service().infer(request("n")).await.unwrap_err();
    assert_eq!((refused.reason, refused.text.contains(text)), (Reason::Internal, true), "{refused}");
    let (status, answer) =
        over_http(&server, "/v2/models/n/infer", &[("X-Sardonyx-Variant", "other/")]).await;
    assert_eq!((status, answer["error"].as_str().unwrap().contains(text)), (400, true), "{answer}");
    for (name, version) in [("n", "3"), ("other", "7")] {
        let named = Request { version: version.into(), ..request(name) };
        assert_eq!(answered_by(&server, named).await, (name.to_string(), version.to_string()));
    }
    assert_eq!(answered_by(&server, request("shadowed")).await.1, "4");
    let incomparable = r#"sardonyx_shadow_requests_total{model="shadowed",version="4",shadow="other/7",outcome="incomparable"}"#;
    becomes(&server, incomparable, 1.0).await;
    let other = server.service().statistics("other", "").unwrap();
    assert_eq!(other[0].inference_count, 1, "the shadow has run nothing");
    assert!(server.shut_down().await);
}

//! How requests are run by a whole server: ensembles, sequences, and answers from the cache.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::path::Path;
use std::time::{Duration, Instant};

use sardonyx::{DeviceOptions, Select, Tensor};
use sardonyx_server::repository::{Overrides, State};
use sardonyx_server::{ControlMode, Failure, Options, Reason, Request, Server, WantedOutput, metrics};
use sardonyx_testing::onnx::build::*;

/// `y = x OPERATOR of`, for rows of two numbers.
fn unary(operator: &str, of: f32) -> Vec<u8> {
    let mut graph = graph(&[], vec![node(operator, &["x", "w"], &["y"])], &[]);
    graph.input = vec![value("x", FLOAT, &["N", "2"])];
    graph.output = vec![value("y", FLOAT, &["N", "2"])];
    graph.initializer = vec![weights("w", &[1], &[of])];
    bytes(&model(17, graph)).to_vec()
}

/// `y = a + b`, for rows of two numbers.
fn sum() -> Vec<u8> {
    let mut graph = graph(&[], vec![node("Add", &["a", "b"], &["y"])], &[]);
    graph.input = vec![value("a", FLOAT, &["N", "2"]), value("b", FLOAT, &["N", "2"])];
    graph.output = vec![value("y", FLOAT, &["N", "2"])];
    bytes(&model(17, graph)).to_vec()
}

fn put(repository: &Path, name: &str, onnx: &[u8], config: &str) {
    let folder = repository.join(name);
    std::fs::create_dir_all(folder.join("1")).unwrap();
    if !onnx.is_empty() {
        std::fs::write(folder.join("1").join("model.onnx"), onnx).unwrap();
    }
    std::fs::write(folder.join("config.pbtxt"), config).unwrap();
}

fn options(repository: &Path) -> Options {
    let mut options = Options::new(vec![repository.to_path_buf()]);
    let local = Some("127.0.0.1:0".parse().unwrap());
    (options.http, options.grpc, options.metrics) = (local, local, local);
    options.devices = vec![DeviceOptions::new().select(Select::Name("llvmpipe".into()))];
    options
}

fn request(model: &str, input: &str, rows: &[[f32; 2]]) -> Request {
    let tensor = Tensor::from_slice(&[rows.len(), 2], rows.as_flattened()).unwrap();
    Request { model: model.into(), inputs: vec![(input.into(), tensor)], ..Request::default() }
}

async fn answer(server: &Server, request: Request) -> Result<Vec<f32>, Failure> {
    let response = server.service().infer(request).await?;
    Ok(response.outputs[0].1.to_vec::<f32>().unwrap())
}

async fn load(server: &Server, name: &str) -> Result<(), Failure> {
    server.service().load(name, Overrides::default()).await
}

fn text_of_metrics(server: &Server) -> String {
    String::from_utf8(metrics::exposition(server.service())).unwrap()
}

/// An ensemble with the input `in` and the output `out`; a step is a model, its inputs, and what its output `y` is called.
fn ensemble(steps: &[(&str, &[(&str, &str)], &str)]) -> String {
    let step = |(model, inputs, output): &(&str, &[(&str, &str)], &str)| {
        let inputs =
            inputs.iter().map(|(key, value)| format!("input_map {{ key: '{key}' value: '{value}' }}"));
        let inputs = inputs.collect::<Vec<_>>().join(" ");
        format!("{{ model_name: '{model}' {inputs} output_map {{ key: 'y' value: '{output}' }} }}")
    };
    format!(
        "platform: 'ensemble' max_batch_size: 8
         input {{ name: 'in' data_type: TYPE_FP32 dims: [ 2 ] }} output {{ name: 'out' data_type: TYPE_FP32 dims: [ 2 ] }}
         ensemble_scheduling {{ step [ {} ] }}",
        steps.iter().map(step).collect::<Vec<_>>().join(", ")
    )
}

/// `out = (in + 1) + 2 in`, of which the last step comes first in the configuration.
fn diamond() -> String {
    ensemble(&[
        ("sum", &[("a", "left"), ("b", "right")], "out"),
        ("one", &[("x", "in")], "left"),
        ("twice", &[("x", "in")], "right"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_models_of_an_ensemble_answer_together() {
    let folder = tempfile::tempdir().unwrap();
    let batching = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 500000 }";
    put(folder.path(), "one", &unary("Add", 1.0), batching);
    put(folder.path(), "twice", &unary("Mul", 2.0), batching);
    put(folder.path(), "sum", &sum(), "");
    put(folder.path(), "all", &[], &diamond());
    put(folder.path(), "outer", &[], &ensemble(&[("all", &[("in", "in")], "out")]).replace("'y'", "'out'"));
    let server = Server::start(options(folder.path())).await.unwrap();
    let service = server.service();
    assert!(service.model_ready("all", "") && service.model_ready("outer", "1"));

    let start = Instant::now();
    let (a, b) = tokio::join!(
        answer(&server, request("all", "in", &[[1.0, 2.0], [3.0, 4.0]])),
        answer(&server, request("one", "x", &[[5.0, 5.0]])),
    );
    assert_eq!(a.unwrap(), [4.0, 7.0, 10.0, 13.0]);
    assert_eq!(b.unwrap(), [6.0, 6.0]);
    let count = |name: &str| {
        let statistics = service.statistics(name, "").unwrap().remove(0);
        (statistics.inference_count, statistics.execution_count)
    };
    assert_eq!(count("one"), (3, 1), "the step and the other request are one run");
    assert_eq!((count("twice"), count("sum"), count("all")), ((2, 1), (2, 1), (2, 1)));
    assert!(start.elapsed() < Duration::from_millis(990), "both steps wait at the same time");

    let named = Request {
        id: "7".into(),
        outputs: vec![WantedOutput { name: "out".into(), classes: 1 }],
        ..request("outer", "in", &[[1.0, 2.0]])
    };
    let response = service.infer(named).await.unwrap();
    assert_eq!(
        (response.model.as_str(), response.version.as_str(), response.id.as_str()),
        ("outer", "1", "7")
    );
    assert_eq!(response.outputs[0].1.strings().unwrap(), ["7.000000:1"]);

    let metadata = service.metadata("all", "").unwrap();
    assert_eq!(
        (metadata.platform.as_str(), metadata.versions.as_slice()),
        ("ensemble", &["1".to_string()][..])
    );
    assert_eq!((metadata.inputs[0].name.as_str(), &metadata.outputs[0].shape[..]), ("in", &[-1, 2][..]));
    assert!(service.config("all", "1").unwrap().to_json().unwrap()["ensemble_scheduling"]["step"].is_array());
    let entry = service.index(true).into_iter().find(|entry| entry.name == "all").unwrap();
    assert_eq!((entry.version.as_str(), entry.state), ("1", State::Ready));
    let counted = r#"nv_inference_request_success{model="all",version="1"} 2"#;
    assert!(text_of_metrics(&server).contains(counted));
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_waits_for_its_models() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "one", &unary("Add", 1.0), "");
    put(folder.path(), "twice", &unary("Mul", 2.0), "");
    put(folder.path(), "sum", &sum(), "");
    put(folder.path(), "all", &[], &diamond());
    let mut options = options(folder.path());
    (options.control, options.load) = (ControlMode::Explicit, vec!["all".into(), "sum".into(), "one".into()]);
    let server = Server::start(options).await.unwrap();
    let ask = || answer(&server, request("all", "in", &[[1.0, 2.0]]));
    assert!(!server.service().model_ready("all", ""));
    let failure = ask().await.unwrap_err();
    assert_eq!(failure.reason, Reason::Unavailable);
    assert!(failure.text.contains("ensemble 'all' needs model 'twice'"), "{failure}");
    load(&server, "twice").await.unwrap();
    assert!(server.service().model_ready("all", ""));
    assert_eq!(ask().await.unwrap(), [4.0, 7.0]);

    // Another model of the same name takes another input.
    std::fs::write(folder.path().join("twice/1/model.onnx"), sum()).unwrap();
    load(&server, "twice").await.unwrap();
    assert!(!server.service().model_ready("all", ""));
    let failure = ask().await.unwrap_err();
    assert!(failure.text.contains("'twice'") && failure.text.contains("'x'"), "{failure}");
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn ensembles_that_cannot_work_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let x: &[(&str, &str)] = &[("in", "in")];
    put(folder.path(), "a", &[], &ensemble(&[("b", x, "out")]).replace("'y'", "'out'"));
    put(folder.path(), "b", &[], &ensemble(&[("c", x, "out")]).replace("'y'", "'out'"));
    put(folder.path(), "c", &[], &ensemble(&[("a", x, "out")]).replace("'y'", "'out'"));
    put(folder.path(), "circle", &[], &ensemble(&[("m", &[("x", "q")], "p"), ("m", &[("x", "p")], "q")]));
    put(
        folder.path(),
        "double",
        &[],
        &ensemble(&[("m", &[("x", "in")], "out"), ("n", &[("x", "in")], "out")]),
    );
    put(folder.path(), "lack", &[], &ensemble(&[("m", &[("x", "nothing")], "out")]));
    let mut options = options(folder.path());
    options.control = ControlMode::Explicit;
    let server = Server::start(options).await.unwrap();
    load(&server, "a").await.unwrap();
    load(&server, "b").await.unwrap();
    for (name, text) in
        [("c", "would run itself"), ("circle", "takes"), ("double", "twice"), ("lack", "'nothing'")]
    {
        let failure = load(&server, name).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Invalid, "{failure}");
        assert!(failure.text.contains(text), "{failure}");
    }
    let failure = answer(&server, request("a", "in", &[[1.0, 2.0]])).await.unwrap_err();
    assert!(failure.text.contains("'c'"), "{failure}");
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_an_ensemble_keep_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let waits = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 400000 }";
    put(folder.path(), "one", &unary("Add", 1.0), waits);
    put(folder.path(), "all", &[], &ensemble(&[("one", &[("x", "in")], "out")]));
    let server = Server::start(options(folder.path())).await.unwrap();
    let deadline = Some(Instant::now() + Duration::from_millis(50));
    let late = Request { deadline, ..request("all", "in", &[[1.0, 2.0]]) };
    assert_eq!(answer(&server, late).await.unwrap_err().reason, Reason::Expired);
    // Who has gone takes the steps along.
    let gone = answer(&server, request("all", "in", &[[1.0, 2.0]]));
    assert!(tokio::time::timeout(Duration::from_millis(50), gone).await.is_err());
    tokio::time::sleep(Duration::from_millis(600)).await;
    let rows = |name: &str| server.service().statistics(name, "").unwrap()[0].inference_count;
    assert_eq!((rows("one"), rows("all")), (0, 0));
    assert!(server.shut_down().await);
}

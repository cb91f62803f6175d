//! How requests are run by a whole server: ensembles, sequences, and answers from the cache.

use std::path::Path;
use std::time::{Duration, Instant};

use sardonyx::{Tensor, wgpu};
use sardonyx_server::repository::{Overrides, State};
use sardonyx_server::{
    ControlMode, Failure, Options, Reason, Request, Sequence, SequenceId, Server, WantedOutput, metrics,
};
use sardonyx_testing::devices::usable;
use sardonyx_testing::onnx::build::*;

use crate::setup::{options, put};

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

/// A model, the ensemble's tensor for each of its inputs, and the one for its output.
type StepOf<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

/// An ensemble with the input `in` and the output `out`; a step is a model, its inputs, and what its output `y` is called.
fn ensemble(steps: &[StepOf<'_>]) -> String {
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
    put(folder.path(), "one", 1, &unary("Add", 1.0), batching);
    put(folder.path(), "twice", 1, &unary("Mul", 2.0), batching);
    put(folder.path(), "sum", 1, &sum(), "");
    put(folder.path(), "all", 1, &[], &diamond());
    put(
        folder.path(),
        "outer",
        1,
        &[],
        &ensemble(&[("all", &[("in", "in")], "out")]).replace("'y'", "'out'"),
    );
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

/// Bytes of inputs and outputs that runs of a model have copied between the host and the device.
fn copied(server: &Server, model: &str) -> u64 {
    let served = server.service().served();
    served.iter().find(|served| served.config().name == model).unwrap().statistics().copied_bytes()
}

/// The options of a server whose device is timed, and does one thing at a time: what waits for a second turn within one waits for ever.
fn one_at_a_time(repository: &Path) -> Options {
    let options = options(repository);
    let devices = options.devices.into_iter().map(|device| device.timed(|_| true)).collect();
    Options { frames: 1, devices, ..options }
}

#[tokio::test(flavor = "multi_thread")]
async fn tensors_between_the_steps_of_an_ensemble_stay_on_the_device() {
    if usable().is_empty() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let batching = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 200000 }";
    put(folder.path(), "one", 1, &unary("Add", 1.0), batching);
    put(folder.path(), "twice", 1, &unary("Mul", 2.0), batching);
    put(folder.path(), "sum", 1, &sum(), batching);
    put(folder.path(), "all", 1, &[], &diamond());
    // What the ensemble gives and what it takes further is on the host for both.
    let both = ensemble(&[("one", &[("x", "in")], "out"), ("twice", &[("x", "out")], "more")]);
    let more = "output { name: 'more' data_type: TYPE_FP32 dims: [ 2 ] } ensemble_scheduling";
    put(folder.path(), "both", 1, &[], &both.replace("ensemble_scheduling", more));
    let server = Server::start(one_at_a_time(folder.path())).await.unwrap();
    let all = |server: &Server| ["one", "twice", "sum"].map(|model| copied(server, model));
    let row = 2 * size_of::<f32>() as u64;

    let before = all(&server);
    assert_eq!(answer(&server, request("all", "in", &[[1.0, 2.0]])).await.unwrap(), [4.0, 7.0]);
    let after = all(&server);
    assert_eq!([0, 1, 2].map(|i| after[i] - before[i]), [row; 3]);

    // Requests of two callers are one run of each model, and each gets its own rows.
    let (a, b) = tokio::join!(
        answer(&server, request("all", "in", &[[1.0, 2.0], [3.0, 4.0]])),
        answer(&server, request("all", "in", &[[5.0, 6.0]])),
    );
    assert_eq!((a.unwrap(), b.unwrap()), (vec![4.0, 7.0, 10.0, 13.0], vec![16.0, 19.0]));
    let batched = all(&server);
    assert_eq!([0, 1, 2].map(|i| batched[i] - after[i]), [3 * row; 3]);

    // Beside a caller who wants the output itself, both get it from the host.
    let (a, b) = tokio::join!(
        answer(&server, request("all", "in", &[[1.0, 2.0]])),
        answer(&server, request("one", "x", &[[8.0, 9.0]])),
    );
    assert_eq!((a.unwrap(), b.unwrap()), (vec![4.0, 7.0], vec![9.0, 10.0]));

    let response = server.service().infer(request("both", "in", &[[1.0, 2.0]])).await.unwrap();
    let outputs = response.outputs.iter().map(|(name, of)| (name.as_str(), of.to_vec::<f32>().unwrap()));
    assert_eq!(outputs.collect::<Vec<_>>(), [("out", vec![2.0, 3.0]), ("more", vec![4.0, 6.0])]);
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tensor_that_decides_shapes_comes_from_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let mut cast = graph(&[], vec![node("Cast", &["x"], &["y"]).with(int("to", INT64.into()))], &[]);
    (cast.input, cast.output) = (vec![value("x", FLOAT, &["2"])], vec![value("y", INT64, &["2"])]);
    put(folder.path(), "cast", 1, &bytes(&model(17, cast)), "");
    let mut reshape = graph(&[], vec![node("Reshape", &["x", "shape"], &["y"])], &[]);
    reshape.input = vec![value("x", FLOAT, &["6"]), value("shape", INT64, &["2"])];
    reshape.output = vec![value("y", FLOAT, &["A", "B"])];
    put(folder.path(), "reshape", 1, &bytes(&model(17, reshape)), "");
    let step = |model: &str, inputs: &[(&str, &str)], output: &str| {
        let inputs = inputs.iter().map(|(key, of)| format!("input_map {{ key: '{key}' value: '{of}' }}"));
        let inputs = inputs.collect::<String>();
        format!("{{ model_name: '{model}' {inputs} output_map {{ key: 'y' value: '{output}' }} }}")
    };
    let config = format!(
        "platform: 'ensemble' input {{ name: 'in' data_type: TYPE_FP32 dims: [ 6 ] }}
         input {{ name: 'sizes' data_type: TYPE_FP32 dims: [ 2 ] }} output {{ name: 'out' data_type: TYPE_FP32 dims: [ -1, -1 ] }}
         ensemble_scheduling {{ step [ {}, {} ] }}",
        step("cast", &[("x", "sizes")], "shape"),
        step("reshape", &[("x", "in"), ("shape", "shape")], "out"),
    );
    put(folder.path(), "all", 1, &[], &config);
    let server = Server::start(one_at_a_time(folder.path())).await.unwrap();
    for sizes in [[2.0f32, 3.0], [6.0, 1.0], [3.0, 2.0]] {
        let x = Tensor::from_slice(&[6], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let inputs = vec![("in".into(), x), ("sizes".into(), Tensor::from_slice(&[2], &sizes).unwrap())];
        let request = Request { model: "all".into(), inputs, ..Request::default() };
        let response = server.service().infer(request).await.unwrap();
        assert_eq!(response.outputs[0].1.shape(), sizes.map(|size| size as usize));
    }
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_waits_for_its_models() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "one", 1, &unary("Add", 1.0), "");
    put(folder.path(), "twice", 1, &unary("Mul", 2.0), "");
    put(folder.path(), "sum", 1, &sum(), "");
    put(folder.path(), "all", 1, &[], &diamond());
    let mut options = options(folder.path());
    (options.control, options.load) = (ControlMode::Explicit, vec!["all".into(), "sum".into()]);
    let server = Server::start(options).await.unwrap();
    let ask = || answer(&server, request("all", "in", &[[1.0, 2.0]]));
    // It was loaded with its models.
    assert_eq!(ask().await.unwrap(), [4.0, 7.0]);
    server.service().unload("twice", false).await.unwrap();
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
    put(folder.path(), "a", 1, &[], &ensemble(&[("b", x, "out")]).replace("'y'", "'out'"));
    put(folder.path(), "b", 1, &[], &ensemble(&[("c", x, "out")]).replace("'y'", "'out'"));
    put(folder.path(), "c", 1, &[], &ensemble(&[("a", x, "out")]).replace("'y'", "'out'"));
    put(folder.path(), "circle", 1, &[], &ensemble(&[("m", &[("x", "q")], "p"), ("m", &[("x", "p")], "q")]));
    put(
        folder.path(),
        "double",
        1,
        &[],
        &ensemble(&[("m", &[("x", "in")], "out"), ("n", &[("x", "in")], "out")]),
    );
    put(folder.path(), "lack", 1, &[], &ensemble(&[("m", &[("x", "nothing")], "out")]));
    for name in ["m", "n"] {
        put(folder.path(), name, 1, &unary("Add", 1.0), "");
    }
    put(folder.path(), "bad", 1, b"no ONNX file", "");
    put(
        folder.path(),
        "broken",
        1,
        &[],
        &ensemble(&[("m", x, "p"), ("bad", &[("x", "p")], "out")]).replace("'in' value", "'x' value"),
    );
    put(folder.path(), "alone", 1, &[], &ensemble(&[("nobody", &[("x", "in")], "out")]));
    let later = ensemble(&[("m", &[("x", "in")], "out")])
        .replace("model_name: 'm'", "model_name: 'm' model_version: 2");
    put(folder.path(), "later", 1, &[], &later);
    let mut options = options(folder.path());
    options.control = ControlMode::Explicit;
    let server = Server::start(options).await.unwrap();
    for (name, text) in [
        ("a", "would run itself"),
        ("circle", "takes"),
        ("double", "twice"),
        ("lack", "'nothing'"),
        ("broken", "a step of the ensemble cannot be loaded: model 'bad': "),
        ("alone", "a step of the ensemble cannot be loaded: model 'nobody' is not in the repository"),
        ("later", "version 2"),
    ] {
        let failure = load(&server, name).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Invalid, "{failure}");
        assert!(failure.text.contains(text), "{failure}");
        assert!(failure.text.starts_with(&format!("model '{name}': ")), "{failure}");
    }
    let failure = answer(&server, request("b", "in", &[[1.0, 2.0]])).await.unwrap_err();
    assert!(failure.text.contains("'a'"), "{failure}");
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_an_ensemble_keep_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let waits = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 400000 }";
    put(folder.path(), "one", 1, &unary("Add", 1.0), waits);
    put(folder.path(), "all", 1, &[], &ensemble(&[("one", &[("x", "in")], "out")]));
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
    let text = text_of_metrics(&server);
    for (model, reason) in [("one", "cancelled"), ("all", "abandoned")] {
        let counted = format!(r#"sardonyx_shed_total{{model="{model}",version="1",reason="{reason}"}} 1"#);
        assert!(text.contains(&counted), "{text}");
    }
    assert!(server.shut_down().await);
}

/// `total = x + old` as the state, and what the controls say: `told = [start, end, ready, id]`.
fn running_total() -> Vec<u8> {
    let nodes = vec![
        node("Add", &["x", "old"], &["new"]),
        node("Identity", &["new"], &["total"]),
        node("Cast", &["id"], &["number"]).with(int("to", i64::from(FLOAT))),
        node("Concat", &["start", "end", "ready", "number"], &["told"]).with(int("axis", 1)),
    ];
    let mut graph = graph(&[], nodes, &[]);
    let row = |name: &str| value(name, FLOAT, &["N", "1"]);
    graph.input = vec![value("x", FLOAT, &["N", "2"]), value("old", FLOAT, &["N", "2"])];
    graph.input.extend([row("start"), row("end"), row("ready"), value("id", INT64, &["N", "1"])]);
    graph.output = vec![value("total", FLOAT, &["N", "2"]), value("new", FLOAT, &["N", "2"])];
    graph.output.push(value("told", FLOAT, &["N", "4"]));
    bytes(&model(17, graph)).to_vec()
}

/// The configuration of [`running_total`].
fn sequences(slots: usize, idle: Duration, more: &str) -> String {
    let control = |name: &str| {
        let kind = name.to_uppercase();
        format!(
            "control_input {{ name: '{name}' control {{ kind: CONTROL_SEQUENCE_{kind} fp32_false_true: [ -1, 1 ] }} }}"
        )
    };
    format!(
        "max_batch_size: 8 {more}
         sequence_batching {{
             oldest {{ max_candidate_sequences: {slots} max_queue_delay_microseconds: 20000 }}
             max_sequence_idle_microseconds: {}
             {} {} {}
             control_input {{ name: 'id' control {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 }} }}
             state {{ input_name: 'old' output_name: 'new' data_type: TYPE_FP32 dims: [ 2 ] }}
         }}",
        idle.as_micros(),
        control("start"),
        control("end"),
        control("ready")
    )
}

/// A request of sequence `id` with `x = [n, 1]`; `at` says that it is the first (`[`) or the last (`]`).
fn part(id: u64, n: f32, at: &str) -> Request {
    let (start, end) = (at.contains('['), at.contains(']'));
    let sequence = Some(Sequence { id: SequenceId::Number(id), start, end });
    Request { sequence, ..request("total", "x", &[[n, 1.0]]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_keep_their_state() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "total", 1, &running_total(), &sequences(64, Duration::from_secs(60), ""));
    let server = Server::start(options(folder.path())).await.unwrap();
    let metadata = server.service().metadata("total", "").unwrap();
    let names = |tensors: &[sardonyx_server::proto::model_metadata_response::TensorMetadata]| {
        tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&metadata.inputs), names(&metadata.outputs)),
        (vec!["x".into()], vec!["total".into(), "told".into()])
    );

    // Eight sequences at once, each of them with all its requests at once.
    let all = (1..=8).map(|id| {
        let service = server.service().clone();
        tokio::spawn(async move {
            let parts = (1..=10).map(|n| {
                let at = ["[", "", "]"][usize::from(n > 1) + usize::from(n > 9)];
                service.infer(part(id, (n * id) as f32, at))
            });
            for (i, response) in futures_util::future::join_all(parts).await.into_iter().enumerate() {
                let (response, n) = (response.unwrap(), i as u64 + 1);
                let names: Vec<_> = response.outputs.iter().map(|(name, _)| name.as_str()).collect();
                assert_eq!(names, ["total", "told"], "the state is the server's");
                let total = response.outputs[0].1.to_vec::<f32>().unwrap();
                assert_eq!(total, [(n * (n + 1) / 2 * id) as f32, n as f32]);
                let told = response.outputs[1].1.to_vec::<f32>().unwrap();
                let yes = |is: bool| if is { 1.0 } else { -1.0 };
                assert_eq!(told, [yes(n == 1), yes(n == 10), 1.0, id as f32]);
            }
        })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    let statistics = server.service().statistics("total", "").unwrap().remove(0);
    assert_eq!(statistics.inference_count, 80);
    assert!(statistics.execution_count < 60, "{} runs of 80 rows", statistics.execution_count);

    let text = answer(&server, part(3, 1.0, "")).await.unwrap_err().text;
    assert_eq!(
        text,
        "inference request for sequence 3 to model 'total' must specify the START flag on the first request of the sequence"
    );
    let text = answer(&server, request("total", "x", &[[1.0, 1.0]])).await.unwrap_err().text;
    assert!(text.contains("non-zero or non-empty correlation ID"), "{text}");
    let two = Request { sequence: part(9, 1.0, "[").sequence, ..request("total", "x", &[[1.0; 2]; 2]) };
    assert!(answer(&server, two).await.unwrap_err().text.contains("batch-size 1"));
    let id = SequenceId::Text("cat".into());
    let named = Request { sequence: Some(Sequence { id, start: true, end: false }), ..part(9, 1.0, "[") };
    assert!(answer(&server, named).await.unwrap_err().text.contains("'cat'"));

    // A sequence may begin anew, and be of a single request. What is not answered changes nothing.
    for (n, at, total) in [(5.0, "[", 5.0), (2.0, "", 7.0), (4.0, "[", 4.0), (1.0, "", 5.0), (6.0, "[]", 6.0)]
    {
        assert_eq!(answer(&server, part(4, n, at)).await.unwrap()[0], total);
    }
    assert!(answer(&server, part(4, 1.0, "")).await.is_err());
    answer(&server, part(4, 1.0, "[")).await.unwrap();
    let gone = answer(&server, part(4, 100.0, ""));
    assert!(tokio::time::timeout(Duration::from_millis(2), gone).await.is_err());
    assert_eq!(answer(&server, part(4, 1.0, "")).await.unwrap()[0], 2.0);
    // The same name is another sequence of another tenant.
    let stranger = |at| Request { tenant: Some("shop".into()), ..part(4, 7.0, at) };
    assert!(answer(&server, stranger("")).await.unwrap_err().text.contains("must specify the START flag"));
    assert_eq!(answer(&server, stranger("[")).await.unwrap()[0], 7.0);
    assert_eq!(answer(&server, part(4, 1.0, "")).await.unwrap()[0], 3.0);
    assert!(server.shut_down().await);
}

/// The seconds that devices have spent on model `total`.
fn device_seconds(server: &Server) -> Option<f64> {
    let text = text_of_metrics(server);
    let line = r#"sardonyx_gpu_seconds_total{model="total",version="1"} "#;
    text.lines().find_map(|of| of.strip_prefix(line)).map(|seconds| seconds.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn states_stay_on_the_device() {
    if usable().is_empty() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "total", 1, &running_total(), &sequences(64, Duration::from_secs(60), ""));
    let server = Server::start(one_at_a_time(folder.path())).await.unwrap();
    answer(&server, part(1, 1.0, "[")).await.unwrap();
    let before = copied(&server, "total");
    assert_eq!(answer(&server, part(1, 2.0, "")).await.unwrap(), [3.0, 2.0]);
    // x of two numbers, start, end and ready; total of two and told of four. The state has two, and the id is an int64.
    let [number, id] = [size_of::<f32>() as u64, size_of::<i64>() as u64];
    assert_eq!(copied(&server, "total") - before, (2 + 3 + 2 + 4) * number + id);

    // A lost device takes them with it.
    let slot = &server.service().devices().slots()[0];
    let device = slot.device_now().unwrap();
    let has_timestamps = device.wgpu().unwrap().0.features().contains(wgpu::Features::TIMESTAMP_QUERY);
    let spent = device_seconds(&server);
    assert_eq!(spent.is_some_and(|seconds| seconds > 0.0), has_timestamps);
    device.wgpu().unwrap().0.destroy();
    for _ in 0..100 {
        let failure = answer(&server, part(1, 4.0, "")).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Unavailable, "{failure}");
        if failure.text.contains("begin the sequence again") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let failure = answer(&server, part(1, 4.0, "")).await.unwrap_err();
    assert!(failure.text.contains("begin the sequence again"), "{failure}");
    assert_eq!(answer(&server, part(1, 4.0, "[")).await.unwrap(), [4.0, 1.0]);
    assert_eq!(answer(&server, part(1, 1.0, "]")).await.unwrap(), [5.0, 2.0]);
    // The time goes on from what was spent on the lost device.
    assert!(!has_timestamps || device_seconds(&server) > spent);
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_wait_for_one_another_to_end() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "total", 1, &running_total(), &sequences(2, Duration::from_millis(400), ""));
    let server = Server::start(options(folder.path())).await.unwrap();
    answer(&server, part(1, 1.0, "[")).await.unwrap();
    answer(&server, part(2, 1.0, "[")).await.unwrap();
    let deadline = Some(Instant::now() + Duration::from_millis(50));
    let late = Request { deadline, ..part(3, 1.0, "[") };
    assert_eq!(answer(&server, late).await.unwrap_err().reason, Reason::Expired);
    // One ends: the third begins, and what came behind its first request follows it.
    let (third, follows, end) = tokio::join!(
        answer(&server, part(3, 1.0, "[")),
        answer(&server, part(3, 2.0, "")),
        answer(&server, part(1, 1.0, "]")),
    );
    assert_eq!((third.unwrap()[0], follows.unwrap()[0], end.unwrap()[0]), (1.0, 3.0, 2.0));
    // The others are silent for too long: the fourth begins without an end of them.
    assert_eq!(answer(&server, part(4, 1.0, "[")).await.unwrap()[0], 1.0);
    tokio::time::sleep(Duration::from_millis(450)).await;
    for id in 2..=4 {
        let failure = answer(&server, part(id, 1.0, "")).await.unwrap_err();
        assert!(failure.text.contains("START"), "{failure}");
    }
    assert_eq!(server.service().served()[0].pending(), 0);
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn states_begin_as_the_configuration_says() {
    let folder = tempfile::tempdir().unwrap();
    let of_file = "state { input_name: 'old' output_name: 'new' data_type: TYPE_FP32 dims: [ 2 ]
                   initial_state { dims: [ 2 ] data_type: TYPE_FP32 data_file: 'first' } }";
    let config = sequences(8, Duration::from_secs(5), "");
    let zeros = config.find("state {").unwrap();
    put(folder.path(), "total", 1, &running_total(), &format!("{}{of_file} }}", &config[..zeros]));
    std::fs::create_dir(folder.path().join("total/initial_state")).unwrap();
    let first: Vec<u8> = [100.0f32, 200.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(folder.path().join("total/initial_state/first"), first).unwrap();
    let server = Server::start(options(folder.path())).await.unwrap();
    assert_eq!(answer(&server, part(1, 1.0, "[")).await.unwrap(), [101.0, 201.0]);
    assert_eq!(answer(&server, part(1, 1.0, "")).await.unwrap(), [102.0, 202.0]);
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_keeps_its_limit_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let limited = |bytes: &str| {
        format!("parameters {{ key: 'device_memory_limit' value {{ string_value: '{bytes}' }} }}")
    };
    put(folder.path(), "one", 1, &unary("Add", 1.0), &limited("1GiB"));
    let mut options = options(folder.path());
    options.control = ControlMode::Explicit;
    let server = Server::start(options).await.unwrap();
    load(&server, "one").await.unwrap();
    let taken = server.service().served()[0].memory();
    assert!(taken > 1);
    put(folder.path(), "one", 1, &unary("Add", 2.0), &limited(&(taken - 1).to_string()));
    let failure = load(&server, "one").await.unwrap_err();
    assert!(failure.text.contains(&format!("takes {taken} bytes")), "{failure}");
    assert_eq!(answer(&server, request("one", "x", &[[1.0, 2.0]])).await.unwrap(), [2.0, 3.0]);
    assert!(server.shut_down().await);
}

/// `twice = 2 x`, and `mean`, that of the numbers of a row where `mask` is 1.
fn masked_mean() -> Vec<u8> {
    let reduce = |from, to| node("ReduceSum", &[from], &[to]).with(ints("axes", &[1]));
    let nodes = vec![
        node("Add", &["x", "x"], &["twice"]),
        node("Mul", &["x", "mask"], &["seen"]),
        reduce("seen", "sum"),
        reduce("mask", "count"),
        node("Div", &["sum", "count"], &["mean"]),
    ];
    let mut graph = graph(&[], nodes, &[]);
    graph.input = ["x", "mask"].map(|name| value(name, FLOAT, &["N", "length"])).into();
    graph.output = vec![value("twice", FLOAT, &["N", "length"]), value("mean", FLOAT, &["N", "1"])];
    bytes(&model(11, graph)).to_vec()
}

/// A request of a row of these numbers, all of which count.
fn row(numbers: &[f32]) -> Request {
    let shape = [1, numbers.len()];
    let inputs = [("x", numbers.to_vec()), ("mask", vec![1.0; numbers.len()])];
    let inputs =
        inputs.map(|(name, values)| (name.to_string(), Tensor::from_slice(&shape, &values).unwrap()));
    Request { model: "mean".into(), inputs: inputs.into(), ..Request::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_of_a_bucket_are_one_batch() {
    let folder = tempfile::tempdir().unwrap();
    // The numbers that are put there would show if they were seen.
    let parameters = [
        ("length_buckets", "4, 8"),
        ("length_inputs", "x/0=1000, mask/0=0"),
        ("length_mask", "mask"),
        ("length_outputs", "twice/0"),
    ];
    let parameters = parameters
        .map(|(key, value)| format!("parameters {{ key: '{key}' value {{ string_value: '{value}' }} }}"));
    let batching = "max_batch_size: 3 dynamic_batching { max_queue_delay_microseconds: 600000000 }";
    put(folder.path(), "mean", 1, &masked_mean(), &format!("{batching} {}", parameters.concat()));
    let server = Server::start(options(folder.path())).await.unwrap();
    let runs = || {
        let statistics = server.service().statistics("mean", "").unwrap().remove(0);
        (statistics.inference_count, statistics.execution_count)
    };
    let rows: [&[f32]; 9] = [
        &[1.0, 2.0, 3.0],
        &[5.0],
        &[1.0, 1.0, 1.0, 5.0],
        &[1.0, 2.0, 3.0, 4.0, 5.0],
        &[2.0; 8],
        &[3.0, 3.0, 3.0, 3.0, 3.0, 9.0],
        &[1.0; 9],
        &[2.0; 9],
        &[3.0; 9],
    ];
    // The rows of all three batches wait together; each batch is full, and runs.
    let order = [0, 3, 6, 1, 4, 7, 2, 5, 8];
    let asked = order.map(|i| server.service().infer(row(rows[i])));
    for (i, response) in order.into_iter().zip(futures_util::future::join_all(asked).await) {
        let outputs = response.unwrap().outputs;
        let twice: Vec<f32> = rows[i].iter().map(|x| 2.0 * x).collect();
        assert_eq!((outputs[0].0.as_str(), outputs[0].1.shape()), ("twice", &[1, rows[i].len()][..]));
        assert_eq!(outputs[0].1.to_vec::<f32>().unwrap(), twice);
        let mean = rows[i].iter().sum::<f32>() / rows[i].len() as f32;
        assert!((outputs[1].1.to_vec::<f32>().unwrap()[0] - mean).abs() < 1e-6, "{:?}", rows[i]);
    }
    assert_eq!(runs(), (9, 3));
    let mut uneven = row(&[1.0, 2.0]);
    uneven.inputs[1].1 = Tensor::from_slice(&[1, 3], &[1.0f32; 3]).unwrap();
    let failure = server.service().infer(uneven).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Invalid);
    assert!(failure.text.contains("have one length"), "{failure}");
    assert!(server.shut_down().await);
}

/// `y = x w`, for rows of 1024 numbers; the weights take 8 MiB.
fn heavy(of: f32) -> Vec<u8> {
    let mut graph = graph(&[], vec![node("MatMul", &["x", "w"], &["y"])], &[]);
    graph.input = vec![value("x", FLOAT, &["N", "1024"])];
    graph.output = vec![value("y", FLOAT, &["N", "2048"])];
    graph.initializer = vec![weights("w", &[1024, 2048], &vec![of; 2 << 20])];
    bytes(&model(17, graph)).to_vec()
}

fn device_bytes(server: &Server) -> u64 {
    server.service().devices().slots()[0].device_now().unwrap().memory_bytes()
}

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn all_models_keep_the_limit_of_a_device() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        put(folder.path(), name, 1, &heavy(1.0), "max_batch_size: 1");
    }
    if usable().is_empty() {
        return; // The CPU reference has no device memory.
    }
    let start = async |bytes: u64| {
        let mut options = options(folder.path());
        (options.control, options.device_memory_bytes) = (ControlMode::Explicit, Some(bytes));
        Server::start(options).await.unwrap()
    };
    // What one of them needs.
    let server = start(MIB).await;
    let failure = load(&server, "a").await.unwrap_err();
    let needed = failure.text.split(" takes ").nth(1).and_then(|text| text.split(' ').next()).unwrap();
    let needed: u64 = needed.parse().unwrap();
    assert!(needed >= 8 * MIB, "{failure}");
    assert!(server.shut_down().await);

    let limit = needed + 4 * MIB;
    let server = start(limit).await;
    load(&server, "a").await.unwrap();
    let ask = async |name: &str| {
        let x = Tensor::from_slice(&[1, 1024], &[0.5f32; 1024]).unwrap();
        let request = Request { model: name.into(), inputs: vec![("x".into(), x)], ..Request::default() };
        answer(&server, request).await.map(|y| y[0])
    };
    assert_eq!(ask("a").await.unwrap(), 512.0);
    // Beside another, and beside itself, it is too much.
    put(folder.path(), "a", 1, &heavy(2.0), "max_batch_size: 1");
    for name in ["a", "b"] {
        let failure = load(&server, name).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Unavailable);
        assert!(failure.text.starts_with(&format!("model '{name}': ")), "{failure}");
        assert!(failure.text.contains("bytes of device memory beside "), "{failure}");
        assert!(failure.text.contains(&format!("the server's limit is {limit}; unload")), "{failure}");
        assert_eq!(ask("a").await.unwrap(), 512.0, "what served still does");
    }
    assert!(device_bytes(&server) <= limit);
    let text = text_of_metrics(&server);
    let mut lines = text.lines().filter(|line| line.starts_with("sardonyx_device_memory_limit_bytes{"));
    assert!(lines.any(|line| line.ends_with(&format!("}} {limit}"))), "{text}");
    // There is room once the first has gone.
    server.service().unload("a", false).await.unwrap();
    load(&server, "b").await.unwrap();
    assert_eq!(ask("b").await.unwrap(), 512.0);
    assert!(server.shut_down().await);
}

/// `y = x w`, for rows of any number of numbers: it has no first run.
fn open() -> Vec<u8> {
    const COLUMNS: usize = 1 << 18;
    let mut graph = graph(&[], vec![node("Mul", &["x", "w"], &["y"])], &[]);
    graph.input = vec![value("x", FLOAT, &["N", "k", "1"])];
    graph.output = vec![value("y", FLOAT, &["N", "k", &COLUMNS.to_string()])];
    graph.initializer = vec![weights("w", &[COLUMNS as i64], &vec![2.0; COLUMNS])];
    bytes(&model(17, graph)).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_memory_does_not_hold_is_run_in_halves() {
    let folder = tempfile::tempdir().unwrap();
    let four = "max_batch_size: 4 dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 600000000 }";
    put(folder.path(), "open", 1, &open(), four);
    put(folder.path(), "pair", 1, &open(), "max_batch_size: 2");
    if usable().is_empty() {
        return; // The CPU reference has no device memory.
    }
    let rows = |model: &str, of: &[f32]| {
        let x = Tensor::from_slice(&[of.len(), 1, 1], of).unwrap();
        Request { model: model.into(), inputs: vec![("x".into(), x)], ..Request::default() }
    };
    // What two rows take.
    let mut pair = options(folder.path());
    (pair.control, pair.load) = (ControlMode::Explicit, vec!["pair".into()]);
    let server = Server::start(pair).await.unwrap();
    answer(&server, rows("pair", &[1.0, 2.0])).await.unwrap();
    let taken = device_bytes(&server);
    assert!(server.shut_down().await);

    let mut open = options(folder.path());
    (open.control, open.load) = (ControlMode::Explicit, vec!["open".into()]);
    open.device_memory_bytes = Some(taken + MIB / 2);
    let server = Server::start(open).await.unwrap();
    let ask = |x: f32| answer(&server, rows("open", &[x]));
    let answers = tokio::join!(ask(1.0), ask(2.0), ask(3.0), ask(4.0));
    for (x, y) in [(1.0, answers.0), (2.0, answers.1), (3.0, answers.2), (4.0, answers.3)] {
        let y = y.unwrap();
        assert!(y.len() == 1 << 18 && y.iter().all(|y| *y == 2.0 * x));
    }
    let statistics = server.service().statistics("open", "").unwrap().remove(0);
    assert_eq!((statistics.inference_count, statistics.execution_count), (4, 2));
    // Four rows of one request are no batch that has halves.
    let failure = answer(&server, rows("open", &[1.0; 4])).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Unavailable);
    assert!(failure.text.contains("send fewer rows at once"), "{failure}");
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_get_the_kept_answer() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "one", 1, &unary("Add", 1.0), "response_cache { enable: true }");
    put(folder.path(), "two", 1, &unary("Add", 2.0), "");
    let mut options = options(folder.path());
    (options.control, options.load) = (ControlMode::Explicit, vec!["*".into()]);
    options.response_cache_bytes = 1000;
    let server = Server::start(options).await.unwrap();
    let counts = |name: &str| {
        let statistics = server.service().statistics(name, "").unwrap().remove(0);
        let inference = statistics.inference_stats.unwrap();
        let count = |of: Option<sardonyx_server::proto::StatisticDuration>| of.unwrap().count;
        (
            statistics.inference_count,
            count(inference.cache_hit),
            count(inference.cache_miss),
            count(inference.success),
        )
    };
    let ask = |x: f32| answer(&server, request("one", "x", &[[x, 0.0]]));
    for (x, seen) in [(1.0, (1, 0, 1, 1)), (1.0, (1, 1, 1, 2)), (2.0, (2, 1, 2, 3)), (1.0, (2, 2, 2, 4))] {
        assert_eq!(ask(x).await.unwrap(), [x + 1.0, 1.0]);
        assert_eq!(counts("one"), seen);
    }
    // Others do not see it.
    let tenant = Request { tenant: Some("b".into()), ..request("one", "x", &[[1.0, 0.0]]) };
    answer(&server, tenant).await.unwrap();
    assert_eq!(counts("one").2, 3);
    // Of three answers, the one that nobody has asked for the longest has made room: x = 2.
    ask(1.0).await.unwrap();
    assert_eq!((counts("one").1, counts("one").2), (3, 3));
    ask(4.0).await.unwrap();
    ask(2.0).await.unwrap();
    assert_eq!((counts("one").1, counts("one").2), (3, 5));
    assert!(text_of_metrics(&server).contains(r#"nv_cache_num_misses_per_model{model="one",version="1"} 5"#));
    // A model without a cache, and one that is loaded anew, compute.
    for _ in 0..2 {
        assert_eq!(answer(&server, request("two", "x", &[[1.0, 0.0]])).await.unwrap(), [3.0, 2.0]);
    }
    assert_eq!(counts("two"), (2, 0, 0, 2));
    put(folder.path(), "one", 1, &unary("Add", 5.0), "response_cache { enable: true }");
    load(&server, "one").await.unwrap();
    assert_eq!(ask(2.0).await.unwrap(), [7.0, 5.0]);
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_keeps_its_answers_as_long_as_its_models() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "one", 1, &unary("Add", 1.0), "");
    let kept = "response_cache { enable: true }";
    put(folder.path(), "inner", 1, &[], &ensemble(&[("one", &[("x", "in")], "out")]));
    let outer = ensemble(&[("inner", &[("in", "in")], "out")]).replace("'y'", "'out'");
    put(folder.path(), "outer", 1, &[], &format!("{outer} {kept}"));
    let mut options = options(folder.path());
    (options.control, options.load) = (ControlMode::Explicit, vec!["outer".into()]);
    options.response_cache_bytes = 1 << 20;
    let server = Server::start(options).await.unwrap();
    let runs = || server.service().statistics("one", "").unwrap()[0].execution_count;
    let ask = || answer(&server, request("outer", "in", &[[1.0, 2.0]]));
    for _ in 0..3 {
        assert_eq!(ask().await.unwrap(), [2.0, 3.0]);
    }
    assert_eq!(runs(), 1);
    // A model of it that is loaded anew makes other answers.
    put(folder.path(), "one", 1, &unary("Add", 5.0), "");
    load(&server, "one").await.unwrap();
    for _ in 0..2 {
        assert_eq!(ask().await.unwrap(), [6.0, 7.0]);
    }
    assert_eq!(runs(), 1);
    server.service().unload("one", false).await.unwrap();
    assert_eq!(ask().await.unwrap_err().reason, Reason::Unavailable, "without its models it has no answers");
    // An answer of a sequence depends on those before it.
    put(
        folder.path(),
        "total",
        1,
        &running_total(),
        &format!("{} {kept}", sequences(8, Duration::from_secs(5), "")),
    );
    let failure = load(&server, "total").await.unwrap_err();
    assert!(failure.text.contains("response_cache is not served with sequence_batching"), "{failure}");
    assert!(server.shut_down().await);
}

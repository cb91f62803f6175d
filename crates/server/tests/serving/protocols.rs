//! The protocols of TensorFlow Serving, KServe v1, TorchServe and OpenAI, on models that the CPU reference runs.

use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use sardonyx_server::shared_memory::SharedMemory;
use sardonyx_testing::onnx::build::*;
use sardonyx_testing::onnx::proto::{GraphProto, ModelProto};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::setup::{Answer, FLOAT16, Routes, addsub, identity, put};

fn add(folder: &Path, name: &str, model: &ModelProto, config: &str) {
    put(folder, name, 1, &bytes(model), config);
}

/// `y`, which is `x` twice.
fn twice(columns: &str) -> ModelProto {
    let mut twice = graph(&[], vec![node("Add", &["x", "x"], &["y"])], &[]);
    twice.input = vec![value("x", FLOAT, &["batch", columns])];
    twice.output = vec![value("y", FLOAT, &["batch", columns])];
    model(17, twice)
}

/// A vector of a token: the token itself, and its part of the mask.
fn embedder() -> GraphProto {
    let cast = |from, to| node("Cast", &[from], &[to]).with(int("to", FLOAT.into()));
    let column = |from, to| node("Unsqueeze", &[from], &[to]).with(ints("axes", &[2]));
    let nodes = vec![
        cast("input_ids", "a"),
        column("a", "b"),
        cast("attention_mask", "c"),
        column("c", "d"),
        node("Concat", &["b", "d"], &["last_hidden_state"]).with(int("axis", 2)),
    ];
    let mut embedder = graph(&[], nodes, &[]);
    embedder.input = ["input_ids", "attention_mask"].map(|name| value(name, INT64, &["batch", "n"])).into();
    embedder.output = vec![value("last_hidden_state", FLOAT, &["batch", "n", "2"])];
    embedder
}

/// A tokenizer of the words "a" 4, "cat" 5 and "sat" 7, between 2 and 3.
fn word_level() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "decoder": null,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {"type": "WordLevel", "unk_token": "[UNK]",
            "vocab": {"[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "cat": 5, "sat": 7}},
    })
}

async fn routes() -> Routes {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let label = "parameters { key: 'version_labels' value { string_value: 'stable=1' } }";
    add(at, "addsub", &addsub(), &format!("max_batch_size: 8 {label}"));
    add(at, "twice", &twice("2"), "max_batch_size: 8 output { name: 'y' label_filename: 'labels.txt' }");
    std::fs::write(at.join("twice/labels.txt"), "cat\ndog\n").unwrap();
    add(at, "line", &twice("1"), "max_batch_size: 8");
    for (name, elem_type, input, output) in [
        ("text", STRING, "text_input", "text_output"),
        ("half", FLOAT16, "x", "y"),
        ("bytes", STRING, "x", "y_bytes"),
    ] {
        add(at, name, &identity(elem_type, input, output), "");
    }
    add(at, "tokens", &model(11, embedder()), "max_batch_size: 8");
    std::fs::write(at.join("tokens/tokenizer.json"), word_level().to_string()).unwrap();
    let normalize = "parameters { key: 'embeddings.normalize' value { string_value: 'true' } }";
    add(at, "unit", &model(11, embedder()), &format!("max_batch_size: 8 {normalize}"));
    let encoder = node("LabelEncoder", &["text"], &["vector"])
        .of("ai.onnx.ml")
        .with(strings("keys_strings", &["cat", "dog"]))
        .with(floats("values_floats", &[0.5, -2.0]));
    let mut encoder = graph(&[], vec![encoder], &[]);
    encoder.input = vec![value("text", STRING, &["batch", "1"])];
    encoder.output = vec![value("vector", FLOAT, &["batch", "1"])];
    let mut encoder = model(17, encoder);
    encoder.opset_import.push(import("ai.onnx.ml", 2));
    add(at, "words", &encoder, "max_batch_size: 8");

    Routes::of(folder, SharedMemory::new(Vec::new())).await
}

impl Routes {
    async fn embeddings(&self, body: Value) -> Answer {
        self.post_json("/v1/embeddings", body).await
    }
}

#[tokio::test]
async fn states_and_signatures() {
    let server = routes().await;
    let available =
        json!([{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]);
    for path in ["/v1/models/addsub", "/v1/models/addsub/versions/1", "/v1/models/addsub/labels/stable"] {
        let status = server.get(path).await.good();
        assert_eq!(status["model_version_status"], available, "{path}");
        assert_eq!((&status["name"], &status["ready"]), (&json!("addsub"), &json!(true)));
        assert_eq!((&status["id"], &status["object"]), (&json!("addsub"), &json!("model")));
        let metadata = server.get(&format!("{path}/metadata")).await.good();
        assert_eq!(metadata["model_spec"], json!({"name": "addsub", "signature_name": "", "version": "1"}));
        let signature = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
        let dim = json!([{"size": "-1", "name": ""}, {"size": "4", "name": ""}]);
        let shape = json!({"dim": dim, "unknown_rank": false});
        assert_eq!(
            signature["inputs"]["INPUT1"],
            json!({"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "INPUT1"})
        );
        assert_eq!(signature["outputs"].as_object().unwrap().len(), 2);
        assert_eq!(signature["method_name"], "tensorflow/serving/predict");
    }
    for path in ["/v1/models/nope", "/v1/models/addsub/versions/2", "/v1/models/addsub/labels/old"] {
        assert_eq!(server.get(path).await.error().0, 404, "{path}");
        assert_eq!(server.get(&format!("{path}/metadata")).await.error().0, 404, "{path}");
    }
    let unload = server.post_json("/v2/repository/models/addsub/unload", "").await;
    assert_eq!(unload.status, 200);
    let status = server.get("/v1/models/addsub").await.good();
    assert_eq!(
        (&status["ready"], &status["model_version_status"][0]["state"]),
        (&json!(false), &json!("END"))
    );
}

#[tokio::test]
async fn predicts_rows_and_columns() {
    let server = routes().await;
    let rows = json!({"signature_name": "serving_default", "instances": [
        {"INPUT0": [0, 1, 2, 3], "INPUT1": [1, 1, 1, 1]},
        {"INPUT1": [1, 2, 3, 4], "INPUT0": [10, 20, 30, 40]}]});
    let predictions = json!({"predictions": [
        {"OUTPUT0": [1.0, 2.0, 3.0, 4.0], "OUTPUT1": [-1.0, 0.0, 1.0, 2.0]},
        {"OUTPUT0": [11.0, 22.0, 33.0, 44.0], "OUTPUT1": [9.0, 18.0, 27.0, 36.0]}]});
    let columns = json!({"inputs": {"INPUT0": [[0, 1, 2, 3]], "INPUT1": [[1, 1, 1, 1]]}});
    let outputs = json!({"outputs": {"OUTPUT0": [[1.0, 2.0, 3.0, 4.0]], "OUTPUT1": [[-1.0, 0.0, 1.0, 2.0]]}});
    for path in ["", "/versions/1", "/labels/stable"] {
        let path = format!("/v1/models/addsub{path}:predict");
        assert_eq!(server.post_json(&path, &rows).await.good(), predictions);
        assert_eq!(server.post_json(&path, &columns).await.good(), outputs);
    }
    let twice =
        async |body: &str| server.post_json("/v1/models/twice:predict", body).await.text().to_string();
    assert_eq!(twice(r#"{"instances":[[1,2],[3,4.5]]}"#).await, r#"{"predictions":[[2.0,4.0],[6.0,9.0]]}"#);
    assert_eq!(twice(r#"{"instances":[{"x":[1,2]}]}"#).await, r#"{"predictions":[[2.0,4.0]]}"#);
    assert_eq!(twice(r#"{"inputs":[[1,2]]}"#).await, r#"{"outputs":[[2.0,4.0]]}"#);
    assert_eq!(twice(r#"{"inputs":{"x":[[1,2]]}}"#).await, r#"{"outputs":[[2.0,4.0]]}"#);
    assert_eq!(
        twice(r#"{"instances":[[NaN,-Infinity],[1e3,Infinity]]}"#).await,
        r#"{"predictions":[[NaN,-Infinity],[2000.0,Infinity]]}"#
    );
    let half = server.post_json("/v1/models/half:predict", r#"{"instances":[0.5,-2]}"#).await.good();
    assert_eq!(half, json!({"predictions": [0.5, -2.0]}));
}

#[tokio::test]
async fn predicts_texts() {
    let server = routes().await;
    // "ö" is 0xc3 0xb6, in base64 w7Y=.
    let body = r#"{"instances":["a, ]",{"b64":"w7Y="}]}"#;
    let text = server.post_json("/v1/models/text:predict", body).await.good();
    assert_eq!(text, json!({"predictions": ["a, ]", "ö"]}));
    let bytes = server.post_json("/v1/models/bytes:predict", body).await.good();
    assert_eq!(bytes, json!({"predictions": [{"b64": "YSwgXQ=="}, {"b64": "w7Y="}]}));
    let named = r#"{"instances":[{"text_input":{"b64":"w7Y="}},{"text_input":"b"}]}"#;
    let named = server.post_json("/v1/models/text:predict", named).await.good();
    assert_eq!(named, json!({"predictions": ["ö", "b"]}));
}

#[tokio::test]
async fn classifies_and_regresses() {
    let server = routes().await;
    let classes = server
        .post_json("/v1/models/twice:classify", r#"{"examples":[{"x":[1,2]},{"x":[0.5,-1]}]}"#)
        .await
        .good();
    assert_eq!(classes, json!({"results": [[["cat", 2.0], ["dog", 4.0]], [["cat", 1.0], ["dog", -2.0]]]}));
    let values =
        server.post_json("/v1/models/line:regress", r#"{"examples":[{"x":1.5},{"x":-2}]}"#).await.good();
    assert_eq!(values, json!({"results": [3.0, -4.0]}));
    assert_eq!(
        server.post_json("/v1/models/twice:regress", r#"{"examples":[{"x":[1,2]}]}"#).await.error().0,
        400
    );
    let two = server.post_json("/v1/models/addsub:regress", r#"{"examples":[{"INPUT0":1}]}"#).await.error();
    assert_eq!(two.0, 501);
    assert!(two.1.contains("use :predict"));
    assert_eq!(server.post_json("/v1/models/twice:explain", "{}").await.error().0, 501);
}

#[tokio::test]
async fn faults_of_predictions() {
    let server = routes().await;
    let refused = async |path: &str, body: &str| server.post_json(path, body).await.error();
    let twice = async |body: &str| refused("/v1/models/twice:predict", body).await;
    for (body, text) in [
        ("", "no request in JSON"),
        ("{}", "neither 'instances' nor 'inputs'"),
        (r#"{"instances":[[1,2]],"inputs":[[1,2]]}"#, "both 'instances' and 'inputs'"),
        (r#"{"instances":1}"#, "'instances' is no list"),
        (r#"{"instances":[]}"#, "'instances' is an empty list"),
        (r#"{"instances":[[1,2],[3]]}"#, "ragged"),
        (r#"{"instances":[[1,"a"]]}"#, "input 'x': element 1 is \"a\", which is no FP32"),
        (r#"{"instances":[[1,2,3]]}"#, "takes [-1, 2]"),
        (r#"{"instances":[{"z":[1,2]}]}"#, "has no input 'z'; it has 'x'"),
        (r#"{"instances":[{"x":[1,2]},{"z":[1,2]}]}"#, "instance 1 has other inputs than the first"),
        (r#"{"instances":[{"x":[1,2]},3]}"#, "instance 1 is no object"),
        (r#"{"signature_name":3,"instances":[[1,2]]}"#, "no request in JSON"),
        (r#"{"instances":[[1,2]"#, "no request in JSON"),
    ] {
        let (status, error) = twice(body).await;
        assert!(status == 400 && error.contains(text), "{body}: {error}");
    }
    let two = refused("/v1/models/addsub:predict", r#"{"instances":[[1,2,3,4]]}"#).await;
    assert!(two.0 == 400 && two.1.contains("2 inputs: 'INPUT0', 'INPUT1'"));
    for path in ["/v1/models/nope:predict", "/v1/models/addsub/versions/7:predict"] {
        assert_eq!(refused(path, r#"{"instances":[1]}"#).await.0, 404, "{path}");
    }
    for path in ["/v1/models/twice", "/v1/models/twice:fly", "/v1/models/twice/versions/1"] {
        let (status, error) = refused(path, r#"{"instances":[[1,2]]}"#).await;
        assert!(status == 404 && error.contains(":predict"), "{path}");
    }
    let deep = format!("{{\"instances\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(twice(&deep).await.0, 400);
}

#[tokio::test]
async fn torchserve() {
    let server = routes().await;
    assert_eq!(server.get("/ping").await.good(), json!({"status": "Healthy"}));
    let models = server.get("/models").await.good();
    assert_eq!(models["models"][0], json!({"modelName": "addsub", "modelUrl": "addsub/"}));
    assert_eq!(server.get("/models/addsub").await.good()[0]["modelVersion"], "1");
    let registered =
        server.send(Request::post("/models?url=http://x/y.mar").body(Body::empty()).unwrap()).await;
    assert_eq!(registered.error().0, 501);
    for path in ["/predictions/twice", "/predictions/twice/1"] {
        for (body, answer) in [
            ("[[1,2],[3,4.5]]", json!([[2.0, 4.0], [6.0, 9.0]])),
            ("[1,2]", json!([2.0, 4.0])),
            (r#"{"x":[1,2]}"#, json!([2.0, 4.0])),
            (r#"{"instances":[[1,2]]}"#, json!({"predictions": [[2.0, 4.0]]})),
            (r#"{"inputs":[[1,2]]}"#, json!({"outputs": [[2.0, 4.0]]})),
        ] {
            assert_eq!(server.post_json(path, body).await.good(), answer, "{body}");
        }
    }
    let both = r#"{"INPUT0":[0,1,2,3],"INPUT1":[1,1,1,1]}"#;
    let expected = json!({"OUTPUT0": [1.0, 2.0, 3.0, 4.0], "OUTPUT1": [-1.0, 0.0, 1.0, 2.0]});
    assert_eq!(server.post_json("/predictions/addsub", both).await.good(), expected);
    let put = Request::put("/predictions/addsub").body(Body::from(both)).unwrap();
    assert_eq!(server.send(put).await.good(), expected);
    let raw = [1.0f32, 2.0, -3.0, 0.25].map(f32::to_le_bytes).concat();
    let binary = async |path, body| server.post_as(path, "application/octet-stream", body).await;
    assert_eq!(binary("/predictions/twice", raw.clone()).await.good(), json!([[2.0, 4.0], [-6.0, 0.5]]));
    assert_eq!(binary("/predictions/addsub", raw.clone()).await.error().0, 400);
    assert_eq!(binary("/predictions/twice", raw[1..].to_vec()).await.error().0, 400);
    let text = server.post_as("/predictions/text", "text/plain; charset=utf-8", "a [cat]").await;
    assert_eq!(text.good(), json!(["a [cat]"]));
    let parts = server.post_as("/predictions/text", "multipart/form-data; boundary=x", "--x--").await;
    assert_eq!(parts.error().0, 501);
    assert_eq!(server.post_json("/predictions/nope", "[1]").await.error().0, 404);
    assert_eq!(server.post_json("/predictions/twice/2", "[1]").await.error().0, 404);
    assert_eq!(server.post_json("/predictions/twice", "[1,2").await.error().0, 400);
}

#[tokio::test]
async fn models_in_one_list() {
    let server = routes().await;
    let list = server.get("/v1/models").await.good();
    assert_eq!(list["object"], "list");
    let names = ["addsub", "bytes", "half", "line", "text", "tokens", "twice", "unit", "words"];
    assert_eq!(list["models"], json!(names));
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, names);
    assert_eq!(list["data"][0]["object"], "model");
    assert!(list["data"][0]["created"].is_u64());
}

#[tokio::test]
async fn embeddings() {
    let server = routes().await;
    // The means of (1, 2, 6) and of (4), and of masks of ones.
    let answer = server.embeddings(json!({"model": "tokens", "input": [[1, 2, 6], [4]]})).await.good();
    let embedding =
        |index: usize, vector: [f32; 2]| json!({"object": "embedding", "index": index, "embedding": vector});
    let expected = json!({"object": "list", "data": [embedding(0, [3.0, 1.0]), embedding(1, [4.0, 1.0])],
        "model": "tokens", "usage": {"prompt_tokens": 4, "total_tokens": 4}});
    assert_eq!(answer, expected);
    // 3.0 and 1.0 are 0x40400000 and 0x3f800000, little-endian.
    let body = json!({"model": "tokens", "input": [1, 2, 6], "encoding_format": "base64", "user": "u"});
    let answer = server.embeddings(body).await.good();
    assert_eq!(answer["data"][0]["embedding"], "AABAQAAAgD8=");
    let first =
        server.embeddings(json!({"model": "tokens", "input": [1, 2, 6], "dimensions": 1})).await.good();
    assert_eq!(first["data"][0]["embedding"], json!([3.0]));
    // (1, 1) has the length of the square root of 2.
    let unit = server.embeddings(json!({"model": "unit", "input": [1, 1]})).await.good();
    for at in 0..2 {
        let number = unit["data"][0]["embedding"][at].as_f64().unwrap();
        assert!((number - std::f64::consts::FRAC_1_SQRT_2).abs() < 1e-7, "{number}");
    }
    let cut = server.embeddings(json!({"model": "unit", "input": [2, 1], "dimensions": 1})).await.good();
    assert_eq!(cut["data"][0]["embedding"], json!([1.0]));
    let words = server.embeddings(json!({"model": "words", "input": ["dog", "cat"]})).await.good();
    assert_eq!(words["data"][0]["embedding"], json!([-2.0]));
    assert_eq!(words["data"][1]["embedding"], json!([0.5]));
    assert_eq!(words["usage"]["total_tokens"], 0);
    let many: Vec<[i64; 1]> = (0..100).map(|at| [at]).collect();
    let many = server.embeddings(json!({"model": "tokens", "input": many})).await.good();
    for (at, entry) in many["data"].as_array().unwrap().iter().enumerate() {
        assert_eq!(entry["embedding"][0], at as f64);
    }
}

#[tokio::test]
#[cfg(feature = "tokenizers")]
async fn embeddings_of_texts() {
    let server = routes().await;
    // (2 + 4 + 5 + 3) / 4, and (2 + 7 + 3) / 3: padding is in neither.
    let body = json!({"model": "tokens", "input": ["a cat", "sat"]});
    let answer = server.embeddings(body).await.good();
    assert_eq!(answer["data"][0]["embedding"], json!([3.5, 1.0]));
    assert_eq!(answer["data"][1]["embedding"], json!([4.0, 1.0]));
    assert_eq!(answer["usage"], json!({"prompt_tokens": 7, "total_tokens": 7}));
    let many: Vec<String> = (0..50).map(|at| "cat ".repeat(at % 20 + 1)).collect();
    let answer = server.embeddings(json!({"model": "tokens", "input": many})).await.good();
    for (at, entry) in answer["data"].as_array().unwrap().iter().enumerate() {
        let cats = (at % 20 + 1) as f64;
        let mean = entry["embedding"][0].as_f64().unwrap();
        assert!((mean - (5.0 + 5.0 * cats) / (2.0 + cats)).abs() < 1e-6, "{at}: {mean}");
    }
    let generate = async |body: Value| server.post_json("/v2/models/tokens/generate", &body).await;
    let answer = generate(json!({"text_input": "a cat", "parameters": {"stream": false}})).await.good();
    let vectors = json!([[2.0, 1.0], [4.0, 1.0], [5.0, 1.0], [3.0, 1.0]]);
    let expected = json!({"model_name": "tokens", "model_version": "1", "last_hidden_state": vectors});
    assert_eq!(answer, expected);
    for body in [json!({"text": "a"}), json!({"text_input": ["a", "b"]}), json!({"text_input": 1})] {
        let (status, text) = generate(body).await.error();
        assert!(status == 400 && text.contains("'text_input' with one text"), "{text}");
    }
}

#[tokio::test]
async fn faults_of_embeddings() {
    let server = routes().await;
    for (body, status, text) in [
        (json!({"model": "nope", "input": "a"}), 404, "'nope' is not found"),
        (json!({"model": "unit", "input": "a cat"}), 400, "no tokenizer"),
        (json!({"model": "words", "input": [1, 2]}), 400, "its own tokenizer"),
        (json!({"model": "addsub", "input": "a"}), 400, "no output that is known"),
        (json!({"model": "twice", "input": [1]}), 400, "no embeddings over this protocol"),
        (json!({"model": "tokens", "input": []}), 400, "'input' is empty"),
        (json!({"model": "tokens", "input": [[]]}), 400, "empty list of tokens"),
        (json!({"model": "tokens", "input": [[1], "a"]}), 400, "no request in JSON"),
        (json!({"model": "tokens", "input": [1], "encoding_format": "int8"}), 400, "'float' or 'base64'"),
        (json!({"model": "tokens", "input": [1], "dimensions": 3}), 400, "embeddings have 2"),
        (json!({"model": "tokens", "input": [1], "dimensions": 0}), 400, "embeddings have 2"),
        (json!({"model": "tokens", "input": vec![[1]; 2049]}), 400, "2049 entries"),
    ] {
        let answer = server.embeddings(body).await;
        let error = &answer.json()["error"];
        let message = error["message"].as_str().unwrap();
        assert!(answer.status == status && message.contains(text), "{message}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    // OpenAI's clients show the text of no other form.
    let chat = server.post_json("/v1/chat/completions", json!({"model": "tokens"})).await;
    let error = &chat.json()["error"];
    assert_eq!((chat.status, &error["code"]), (404, &json!("unknown_url")));
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .ends_with("of OpenAI's, this server has /v1/embeddings and /v1/models")
    );
    assert_eq!(server.get("/v3").await.error(), (404, "there is no path '/v3'".into()));
}

/// Bodies of which some bytes are others, are missing or are there twice.
#[tokio::test]
async fn mutated_bodies() {
    let server = routes().await;
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |sides: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % sides
    };
    let seeds = [
        ("/v1/models/addsub:predict", r#"{"instances":[{"INPUT0":[0,1,2,3],"INPUT1":[1,NaN,1,1]}]}"#),
        ("/v1/models/twice:predict", r#"{"signature_name":"s","inputs":{"x":[[1,-Infinity],[3,4]]}}"#),
        ("/v1/models/text:predict", r#"{"instances":["a\"\u00e4",{"b64":"w7Y="}]}"#),
        ("/v1/models/twice:classify", r#"{"examples":[{"x":[1,2]},{"x":[0.5,-1]}]}"#),
        ("/predictions/twice", r#"[[1,2],[3,4.5]]"#),
        ("/predictions/addsub", r#"{"INPUT0":[0,1,2,3],"INPUT1":[1,1,1,1]}"#),
        (
            "/v1/embeddings",
            r#"{"model":"tokens","input":[[1,2,6],[4]],"encoding_format":"base64","dimensions":2}"#,
        ),
    ];
    let mut answered = 0;
    for (path, seed) in seeds {
        for _ in 0..400 {
            let mut body = seed.as_bytes().to_vec();
            for _ in 0..=roll(3) {
                let at = roll(body.len());
                match roll(4) {
                    0 => body[at] = br#"[]{}",:-0eEN\I"#[roll(14)],
                    1 => body[at] = roll(256) as u8,
                    2 => drop(body.remove(at)),
                    _ => {
                        let part = body[at..].to_vec();
                        body.extend(part);
                    }
                }
                if body.is_empty() {
                    body.push(b' ');
                }
            }
            let shown = String::from_utf8_lossy(&body).into_owned();
            let answer = server.post_as(path, "application/json", body).await;
            assert!(
                matches!(answer.status, 200 | 400 | 404),
                "{path} {shown}: {} {}",
                answer.status,
                answer.text()
            );
            answered += usize::from(answer.status == 200);
        }
    }
    assert!(answered > 50, "{answered}");
}

//! The Open Inference Protocol over REST, on models that the CPU reference runs.

use prost::Message;
use sardonyx_server::shared_memory::SharedMemory;
use sardonyx_testing::onnx::build::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::setup::{self, Answer, FLOAT16, Routes, identity, put};

/// `addsub`; `text`, a string in and out; `half`, a float16 in and out.
async fn routes() -> Routes {
    let folder = TempDir::new().unwrap();
    put(folder.path(), "addsub", 1, &bytes(&setup::addsub()), "max_batch_size: 8");
    put(folder.path(), "text", 1, &bytes(&identity(STRING, "text_input", "text_output")), "");
    put(folder.path(), "half", 1, &bytes(&identity(FLOAT16, "x", "y")), "");
    Routes::of(folder, SharedMemory::new(vec!["/sardonyx-http-".into()])).await
}

impl Routes {
    async fn infer(&self, model: &str, body: &Value) -> Answer {
        self.post(&format!("/v2/models/{model}/infer"), body.to_string(), &[]).await
    }
}

fn input(name: &str, data: Value) -> Value {
    json!({"name": name, "datatype": "FP32", "shape": [1, 4], "data": data})
}

fn addsub() -> Value {
    json!({"id": "abc", "inputs": [input("INPUT0", json!([0, 1, 2, 3])), input("INPUT1", json!([[1, 1, 1, 1]]))]})
}

#[tokio::test]
async fn health_and_metadata() {
    let server = routes().await;
    for (path, body) in [
        ("/v2/health/live", json!({"live": true})),
        ("/v2/health/ready", json!({"ready": true})),
        ("/v2/models/addsub/ready", json!({"name": "addsub", "ready": true})),
        ("/v2/models/addsub/versions/1/ready", json!({"name": "addsub", "ready": true})),
    ] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.json()), (200, body), "{path}");
    }
    assert_eq!(server.get("/v2/models/nope/ready").await.error().0, 400);
    assert_eq!(server.get("/v2/models/addsub/versions/9/ready").await.status, 503);
    assert_eq!(server.get("/v2").await.json()["name"], "sardonyx");
    let tensor = |name: &str| json!({"name": name, "datatype": "FP32", "shape": [-1, 4]});
    for path in ["/v2/models/addsub", "/v2/models/addsub/versions/1"] {
        let metadata = server.get(path).await.json();
        assert_eq!((&metadata["name"], &metadata["versions"]), (&json!("addsub"), &json!(["1"])));
        assert_eq!(metadata["inputs"], json!([tensor("INPUT0"), tensor("INPUT1")]));
        assert_eq!(metadata["outputs"], json!([tensor("OUTPUT0"), tensor("OUTPUT1")]));
    }
    let config = server.get("/v2/models/addsub/config").await.json();
    assert_eq!((&config["name"], &config["max_batch_size"]), (&json!("addsub"), &json!(8)));
    assert_eq!(config["input"][0]["data_type"], "TYPE_FP32");
    assert_eq!(config["input"][0]["dims"], json!([4]));
}

#[tokio::test]
async fn infers_from_json() {
    let server = routes().await;
    let answer = server.infer("addsub", &addsub()).await;
    let output =
        |name: &str, data: [f32; 4]| json!({"name": name, "datatype": "FP32", "shape": [1, 4], "data": data});
    let expected = json!({"model_name": "addsub", "model_version": "1", "id": "abc",
        "outputs": [output("OUTPUT0", [1.0, 2.0, 3.0, 4.0]), output("OUTPUT1", [-1.0, 0.0, 1.0, 2.0])]});
    assert_eq!((answer.status, answer.json()), (200, expected));
    let mut body = addsub();
    body["outputs"] = json!([{"name": "OUTPUT0", "parameters": {"classification": 2}}]);
    let answer = server.post("/v2/models/addsub/versions/1/infer", body.to_string(), &[]).await.json();
    assert_eq!(answer["outputs"][0]["data"], json!(["4.000000:3", "3.000000:2"]));
    assert_eq!(answer["outputs"][0]["shape"], json!([1, 2]));
}

/// A body that tritonclient 2.73 sends, and what it reads.
#[tokio::test]
async fn infers_from_binary_data() {
    let server = routes().await;
    let json = concat!(
        r#"{"inputs":[{"name":"INPUT0","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}},"#,
        r#"{"name":"INPUT1","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}],"#,
        r#""parameters":{"binary_data_output":true}}"#
    );
    let floats = |values: [f32; 8]| values.map(f32::to_le_bytes).concat();
    let body = [json.as_bytes(), &floats([0.0, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0])].concat();
    let length = json.len().to_string();
    let header = ("Inference-Header-Content-Length", length.as_str());
    let answer = server.post("/v2/models/addsub/infer", body.clone(), &[header]).await;
    assert_eq!(
        (answer.status, answer.headers["content-type"].as_bytes()),
        (200, &b"application/octet-stream"[..])
    );
    let json_bytes: usize =
        answer.headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let (json, data) = answer.body.split_at(json_bytes);
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["outputs"][1]["parameters"], json!({"binary_data_size": 16}));
    assert_eq!(data, floats([1.0, 2.0, 3.0, 4.0, -1.0, 0.0, 1.0, 2.0]));
    let wrong = server
        .post("/v2/models/addsub/infer", body.clone(), &[("inference-header-content-length", "999")])
        .await;
    assert_eq!(wrong.error().0, 400);
    let wrong =
        server.post("/v2/models/addsub/infer", body, &[("inference-header-content-length", "0")]).await;
    assert_eq!(wrong.error().0, 400);
}

#[tokio::test]
async fn halves_and_bodies_without_json() {
    let server = routes().await;
    let half = [0x00, 0x3c, 0x00, 0xc0];
    let raw = server
        .post("/v2/models/half/infer", half.to_vec(), &[("inference-header-content-length", "0")])
        .await;
    assert_eq!(raw.status, 200, "{}", String::from_utf8_lossy(&raw.body));
    assert!(raw.body.ends_with(&half));
    let json =
        r#"{"inputs":[{"name":"x","shape":[2],"datatype":"FP16","parameters":{"binary_data_size":4}}]}"#;
    let body = [json.as_bytes(), &half].concat();
    let length = json.len().to_string();
    let refused =
        server.post("/v2/models/half/infer", body, &[("inference-header-content-length", &length)]).await;
    assert_eq!(refused.error(), (400, "output 'y': FP16 has no form in JSON; use binary data".into()));
}

#[tokio::test]
async fn compressed_both_ways() {
    use std::io::{Read, Write};
    let server = routes().await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(addsub().to_string().as_bytes()).unwrap();
    let body = encoder.finish().unwrap();
    let answer = server.post("/v2/models/addsub/infer", body.clone(), &[("content-encoding", "gzip")]).await;
    assert_eq!(
        (answer.status, answer.json()["outputs"][0]["data"].clone()),
        (200, json!([1.0, 2.0, 3.0, 4.0]))
    );
    assert_eq!(
        server.post("/v2/models/addsub/infer", body.clone(), &[("content-encoding", "br")]).await.error().0,
        400
    );
    assert_eq!(server.post("/v2/models/addsub/infer", body, &[]).await.error().0, 400);
    let texts = ["onyx".repeat(1000)];
    let input = json!({"name": "text_input", "datatype": "BYTES", "shape": [1], "data": texts});
    let body = json!({"inputs": [input]}).to_string();
    let answer = server.post("/v2/models/text/infer", body, &[("accept-encoding", "deflate")]).await;
    assert_eq!(answer.headers["content-encoding"], "deflate");
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(answer.body.as_slice()).read_to_string(&mut text).unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["outputs"][0]["data"], json!(texts));
}

#[tokio::test]
async fn faults_of_requests() {
    let server = routes().await;
    assert_eq!(server.infer("nope", &addsub()).await.error().0, 404);
    assert_eq!(
        server.post("/v2/models/addsub/versions/9/infer", addsub().to_string(), &[]).await.error().0,
        404
    );
    assert_eq!(server.get("/v2/models/addsub/infer").await.error().0, 405);
    assert_eq!(server.get("/v2/models/addsub/infer").await.headers["allow"], "POST");
    assert_eq!(server.get("/v3").await.error(), (404, "there is no path '/v3'".into()));
    assert_eq!(server.post("/v2/models/addsub/infer", "{", &[]).await.error().0, 400);
    assert_eq!(server.get("/v2/models/%ff").await.error().0, 400);
    let mut body = addsub();
    body["inputs"][0]["datatype"] = json!("FP64");
    assert_eq!(server.infer("addsub", &body).await.error().0, 400);
    let mut body = addsub();
    body["inputs"].as_array_mut().unwrap().pop();
    assert_eq!(server.infer("addsub", &body).await.error().0, 400);
    let mut body = addsub();
    body["outputs"] = json!([{"name": "ZZ"}]);
    assert_eq!(server.infer("addsub", &body).await.error().0, 400);
    let large = server.post("/v2/models/addsub/infer", vec![b' '; (1 << 20) + 1], &[]).await;
    assert_eq!(large.error().0, 413);
    let late =
        server.post("/v2/models/addsub/infer", addsub().to_string(), &[("x-request-timeout", "0")]).await;
    assert_eq!(late.error().0, 504);
    let wrong =
        server.post("/v2/models/addsub/infer", addsub().to_string(), &[("x-request-timeout", "-1")]).await;
    assert_eq!(wrong.error().0, 400);
}

#[tokio::test]
async fn the_repository() {
    let server = routes().await;
    let index = server.post("/v2/repository/index", "", &[]).await.json();
    let entry = |name: &str| json!({"name": name, "version": "1", "state": "READY"});
    assert_eq!(index, json!([entry("addsub"), entry("half"), entry("text")]));
    let unload = json!({"parameters": {"unload_dependents": true}}).to_string();
    assert_eq!(server.post("/v2/repository/models/addsub/unload", unload, &[]).await.error().0, 501);
    assert_eq!(server.infer("addsub", &addsub()).await.status, 200);
    let unload = json!({"parameters": {"unload_dependents": false}}).to_string();
    assert_eq!(server.post("/v2/repository/models/addsub/unload", unload, &[]).await.status, 200);
    assert_eq!(server.infer("addsub", &addsub()).await.error().0, 503);
    assert_eq!(server.get("/v2/models/addsub/ready").await.status, 503);
    let ready = server.post("/v2/repository/index", r#"{"ready":true}"#, &[]).await.json();
    assert_eq!(ready, json!([entry("half"), entry("text")]));
    assert_eq!(server.post("/v2/repository/models/addsub/load", "{}", &[]).await.status, 200);
    assert_eq!(server.infer("addsub", &addsub()).await.status, 200);
    let file = json!({"parameters": {"file:1/model.onnx": "AAAA"}}).to_string();
    let refused = server.post("/v2/repository/models/addsub/load", file, &[]).await.error();
    assert_eq!(refused.0, 400);
    assert!(refused.1.contains("'file:1/model.onnx'"));
    assert_eq!(server.post("/v2/repository/models/nope/load", "", &[]).await.status / 100, 4);
}

#[tokio::test]
async fn statistics_count_requests() {
    let server = routes().await;
    for _ in 0..3 {
        assert_eq!(server.infer("addsub", &addsub()).await.status, 200);
    }
    for path in ["/v2/models/addsub/stats", "/v2/models/addsub/versions/1/stats"] {
        let statistics = server.get(path).await.json();
        assert_eq!(statistics["model_stats"][0]["inference_count"], 3, "{path}");
        assert_eq!(statistics["model_stats"][0]["inference_stats"]["success"]["count"], 3);
    }
    assert_eq!(server.get("/v2/models/stats").await.json()["model_stats"].as_array().unwrap().len(), 3);
    assert_eq!(server.get("/v2/models/nope/stats").await.error().0, 404);
}

#[tokio::test]
async fn settings() {
    let server = routes().await;
    let log = server.get("/v2/logging").await.json();
    let expected = json!({"log_errors": true, "log_file": "", "log_format": "default", "log_info": true,
        "log_verbose_level": 0, "log_warnings": true});
    assert_eq!(log, expected);
    let changed = server.post("/v2/logging", r#"{"log_verbose_level":1,"log_info":false}"#, &[]).await.json();
    assert_eq!((&changed["log_verbose_level"], &changed["log_info"]), (&json!(1), &json!(false)));
    assert_eq!(server.get("/v2/logging").await.json(), changed);
    assert_eq!(server.post("/v2/logging", r#"{"log_file":"x"}"#, &[]).await.error().0, 400);
    for path in ["/v2/trace/setting", "/v2/models/addsub/trace/setting"] {
        let trace = server.get(path).await.json();
        assert_eq!((&trace["trace_level"], &trace["trace_rate"]), (&json!(["OFF"]), &json!("1000")));
        let same = r#"{"trace_level":["OFF"],"trace_rate":null,"trace_count":"-1"}"#;
        assert_eq!(server.post(path, same, &[]).await.json(), trace);
        let changed = server.post(path, r#"{"trace_rate":"5"}"#, &[]).await.json();
        assert_eq!(changed["trace_rate"], "5");
        assert_eq!(server.post(path, r#"{"trace_rate":null}"#, &[]).await.json(), trace);
        // Traces go nowhere.
        let refused = server.post(path, r#"{"trace_level":["TIMESTAMPS"]}"#, &[]).await.error();
        assert!(refused.0 == 400 && refused.1.contains("--trace-config"), "{refused:?}");
    }
    assert_eq!(server.get("/v2/models/nope/trace/setting").await.error().0, 404);
}

#[tokio::test]
async fn shared_memory() {
    use rustix::shm;
    let server = routes().await;
    let key = format!("/sardonyx-http-{}", std::process::id());
    let flags = shm::OFlags::RDWR | shm::OFlags::CREATE | shm::OFlags::EXCL;
    let file = shm::open(&key, flags, shm::Mode::RUSR | shm::Mode::WUSR).unwrap();
    let values = [0.0f32, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0].map(f32::to_le_bytes).concat();
    rustix::fs::ftruncate(&file, 64).unwrap();
    rustix::io::pwrite(&file, &values, 0).unwrap();
    let register = json!({"key": key, "offset": 0, "byte_size": 64}).to_string();
    let answer = server.post("/v2/systemsharedmemory/region/r/register", register, &[]).await;
    let status = [
        server.get("/v2/systemsharedmemory/status").await,
        server.get("/v2/systemsharedmemory/region/r/status").await,
    ];
    let place = |offset: u32| json!({"shared_memory_region": "r", "shared_memory_byte_size": 16, "shared_memory_offset": offset});
    let tensor = |name: &str, offset| json!({"name": name, "datatype": "FP32", "shape": [1, 4], "parameters": place(offset)});
    let body = json!({"inputs": [tensor("INPUT0", 0), tensor("INPUT1", 16)], "outputs": [{"name": "OUTPUT0", "parameters": place(32)}]});
    let inferred = server.infer("addsub", &body).await;
    let mut written = [0; 16];
    rustix::io::pread(&file, &mut written, 32).unwrap();
    let small = json!({"shared_memory_region": "r", "shared_memory_byte_size": 8});
    let too_small = json!({"inputs": body["inputs"], "outputs": [{"name": "OUTPUT0", "parameters": small}]});
    let too_small = server.infer("addsub", &too_small).await;
    shm::unlink(&key).unwrap();

    assert_eq!(answer.status, 200);
    for status in status {
        assert_eq!(status.json(), json!([{"name": "r", "key": key, "offset": 0, "byte_size": 64}]));
    }
    assert_eq!(inferred.status, 200, "{}", String::from_utf8_lossy(&inferred.body));
    let output = json!({"name": "OUTPUT0", "datatype": "FP32", "shape": [1, 4]});
    assert_eq!(inferred.json()["outputs"], json!([output]));
    assert_eq!(written.to_vec(), [1.0f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat());
    assert_eq!(
        too_small.error(),
        (400, "output 'OUTPUT0': it takes 16 bytes, and 'shared_memory_byte_size' is 8".into())
    );
    let other = json!({"key": "/private", "byte_size": 1}).to_string();
    assert_eq!(server.post("/v2/systemsharedmemory/region/p/register", other, &[]).await.error().0, 403);
    assert_eq!(server.post("/v2/systemsharedmemory/unregister", "", &[]).await.status, 200);
    assert_eq!(server.get("/v2/systemsharedmemory/region/r/status").await.error().0, 404);
    assert_eq!(server.get("/v2/cudasharedmemory/status").await.json(), json!([]));
    assert_eq!(server.post("/v2/cudasharedmemory/region/r/register", "{}", &[]).await.error().0, 501);
}

#[tokio::test]
async fn texts_are_generated() {
    let server = routes().await;
    let body = r#"{"text_input":"a \"cat\"","parameters":{"temperature":0},"stream":false}"#;
    let expected = json!({"model_name": "text", "model_version": "1", "text_output": "a \"cat\""});
    let answer = server.post("/v2/models/text/generate", body, &[]).await;
    assert_eq!((answer.status, answer.json()), (200, expected.clone()));
    let answer = server.post("/v2/models/text/versions/1/generate_stream", body, &[]).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream; charset=utf-8");
    let text = String::from_utf8(answer.body).unwrap();
    let event = text.strip_prefix("data: ").and_then(|text| text.strip_suffix("\n\n")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(event).unwrap(), expected);
    assert_eq!(server.post("/v2/models/text/generate", "{}", &[]).await.error().0, 400);
    assert_eq!(server.post("/v2/models/addsub/generate", body, &[]).await.error().0, 400);
}

/// The page asks at `/v2/status`; feedback finds the prediction by the id of the response.
#[tokio::test]
async fn what_is_watched_of_a_model() {
    let server = routes().await;
    let folder = server.folder.path().join("watched");
    std::fs::create_dir_all(folder.join("1")).unwrap();
    let mut identity = graph(&[], vec![node("Identity", &["x"], &["y"])], &[]);
    identity.input = vec![value("x", FLOAT, &["batch", "3"])];
    identity.output = vec![value("y", FLOAT, &["batch", "3"])];
    std::fs::write(folder.join("1/model.onnx"), model(17, identity).encode_to_vec()).unwrap();
    let load = async |parameters: &[(&str, &str)]| {
        let parameter = |(name, value): &(&str, &str)| {
            format!("parameters {{ key: \"{name}\" value {{ string_value: \"{value}\" }} }}\n")
        };
        let parameters: String = parameters.iter().map(parameter).collect();
        std::fs::write(folder.join("config.pbtxt"), format!("max_batch_size: 8\n{parameters}")).unwrap();
        server.post("/v2/repository/models/watched/load", "", &[]).await
    };
    let wrong = load(&[("feedback", "true"), ("feedback.kind", "red")]).await.error();
    assert!(wrong.0 == 400 && wrong.1.contains("'scores', 'label' or 'values'"), "{wrong:?}");
    let on = [("feedback", "true"), ("feedback.top", "2"), ("drift", "true"), ("drift.learn", "100")];
    assert_eq!(load(&on).await.status, 200);

    let scores = json!([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]);
    let input = json!({"name": "x", "datatype": "FP32", "shape": [2, 3], "data": scores});
    let answer = server.infer("watched", &json!({"inputs": [input]})).await.json();
    let id = answer["id"].as_str().unwrap();
    let feedback = async |path: &str, body: Value| {
        server.post(&format!("/v2/models/{path}/feedback"), body.to_string(), &[]).await
    };
    let counted = feedback("watched", json!({"id": id, "labels": [1, 2]})).await;
    let versions = |counted: usize| json!([{"version": "1", "counted": counted}]);
    assert_eq!((counted.status, &counted.json()["versions"]), (200, &versions(2)));
    let again = feedback("watched/versions/1", json!({"id": id, "labels": [1, 0]})).await;
    assert_eq!(again.json()["versions"], versions(0));
    assert_eq!(feedback("watched", json!({"id": "other", "label": 1})).await.error().0, 404);
    assert_eq!(feedback("watched", json!({"label": 1})).await.error().0, 400);
    assert!(
        feedback("addsub", json!({"id": id, "label": 1})).await.error().1.contains("keeps no predictions")
    );
    let statistics = server.get("/v2/models/watched/stats").await.json();
    let shown = &statistics["model_stats"][0];
    assert_eq!(shown["feedback"]["all"], json!({"rows": 2, "top1": 0.5, "top_k": 1.0}));
    assert_eq!((&shown["feedback"]["unknown"], &shown["feedback"]["repeated"]), (&1.into(), &1.into()));
    assert_eq!((&shown["drift"]["state"], &shown["drift"]["series"]), (&"learning".into(), &7.into()));
    let addsub = server.infer("addsub", &addsub()).await.json();
    assert_eq!(addsub["id"], "abc");

    assert_eq!(server.get("/v2/models/watched/baseline").await.error().0, 404);
    let learn = async |path: &str, body: &'static str| {
        server.post(&format!("/v2/models/{path}/baseline"), body, &[]).await
    };
    assert_eq!(learn("watched", "{\"rows\": 1}").await.error().0, 400);
    assert_eq!(
        learn("watched", "{\"rows\": 200}").await.json(),
        json!({"model_name": "watched", "rows": 200})
    );
    assert_eq!(learn("watched", "").await.json()["rows"], 100);
    assert!(learn("addsub", "").await.error().1.contains("is not watched"));

    assert_eq!(server.infer("nothing", &json!({"inputs": []})).await.error().0, 404);
    let status = server.get("/v2/status").await.json();
    let shown = status["models"].as_array().unwrap().iter().find(|model| model["name"] == "watched").unwrap();
    assert_eq!((&shown["state"], &shown["requests"]), (&"READY".into(), &1.into()));
    assert_eq!(shown["latency"]["count"], 1);
    assert_eq!(shown["feedback"]["window"]["top1"], 0.5);
    assert_eq!(
        (&status["errors"][0]["model"], &status["errors"][0]["reason"]),
        (&"nothing".into(), &"NotFound".into())
    );
    for path in ["/", "/status"] {
        let page = server.get(path).await;
        assert_eq!(
            (page.status, &page.headers["content-type"]),
            (200, &"text/html; charset=utf-8".parse().unwrap())
        );
        assert!(page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
        let text = String::from_utf8(page.body).unwrap();
        // The name of SVG's elements is no address that anybody asks.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        assert!(text.contains("/v2/status") && !text.contains("://"), "the page is one file");
    }
}

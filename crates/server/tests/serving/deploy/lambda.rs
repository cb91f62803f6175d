//! Invocations of AWS Lambda, against a runtime API of our own.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sardonyx_server::{Options, Server};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use crate::server::sum;
use crate::setup::{options, put};

/// What the runtime API has for the function, and what the function told it.
struct Api {
    events: Mutex<mpsc::UnboundedReceiver<(Value, Duration)>>,
    told: mpsc::UnboundedSender<(String, String, Value)>,
}

/// A function with its runtime API.
struct Function {
    events: mpsc::UnboundedSender<(Value, Duration)>,
    told: mpsc::UnboundedReceiver<(String, String, Value)>,
    server: Server,
}

impl Function {
    async fn start(mut options: Options) -> Function {
        let (events, to_send) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        let api = Arc::new(Api { events: Mutex::new(to_send), told: tell });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{outcome}", post(take))
            .with_state(api);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        options.lambda = Some(listener.local_addr().unwrap().to_string());
        (options.http, options.grpc, options.metrics) = (None, None, None);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let server = Server::start(options).await.unwrap();
        Function { events, told, server }
    }

    /// The outcome of an event, whose time is over in `seconds`, and what is told.
    async fn invoke(&mut self, event: Value, seconds: u64) -> (String, Value) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        self.events.send((event, now + Duration::from_secs(seconds))).unwrap();
        let (id, outcome, told) = self.told.recv().await.unwrap();
        assert_eq!(id, "id-1");
        (outcome, told)
    }
}

async fn next(State(api): State<Arc<Api>>) -> Response {
    match api.events.lock().await.recv().await {
        Some((event, deadline)) => {
            let headers = [
                ("Lambda-Runtime-Aws-Request-Id", "id-1".to_string()),
                ("Lambda-Runtime-Deadline-Ms", deadline.as_millis().to_string()),
            ];
            (headers, event.to_string()).into_response()
        }
        None => std::future::pending().await,
    }
}

async fn take(
    State(api): State<Arc<Api>>,
    Path((id, outcome)): Path<(String, String)>,
    told: String,
) -> StatusCode {
    let _ = api.told.send((id, outcome, serde_json::from_str(&told).unwrap()));
    StatusCode::ACCEPTED
}

/// An event as a function URL has it.
fn event(method: &str, path: &str, body: Value) -> Value {
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": { "content-type": "application/json", "host": "abc.lambda-url" },
        "requestContext": {
            "accountId": "anonymous",
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1" },
            "stage": "$default",
            "timeEpoch": 1_700_000_000_000_u64,
        },
        "body": body,
        "isBase64Encoded": false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn invocations_are_requests() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 1, &sum(0.5), "");
    let mut function = Function::start(options(folder.path())).await;
    let input =
        |name, data: [f32; 4]| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": data });
    let inputs =
        json!({ "inputs": [input("A", [1.0, 2.0, 3.0, 4.0]), input("B", [10.0, 20.0, 30.0, 40.0])] });
    let sums = [11.5_f32, 22.5, 33.5, 44.5];

    let asked = event("POST", "/v2/models/sum/infer", inputs.to_string().into());
    let (outcome, answer) = function.invoke(asked.clone(), 60).await;
    assert_eq!((outcome.as_str(), &answer["statusCode"]), ("response", &json!(200)), "{answer}");
    assert_eq!(answer["isBase64Encoded"], false);
    assert_eq!(answer["headers"]["content-type"], "application/json");
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["outputs"][0]["data"], json!(sums));

    // A stage of API Gateway is no part of the server's paths.
    let mut staged = event("GET", "/prod/v2/models/sum", Value::Null);
    staged["requestContext"]["stage"] = "prod".into();
    let (_, answer) = function.invoke(staged, 60).await;
    assert_eq!(answer["statusCode"], 200, "{answer}");
    assert!(answer["body"].as_str().unwrap().contains("\"SUM\""));

    // Tensors as bytes, in base64 both ways.
    let binary = |name| {
        let size = json!({ "binary_data_size": 16 });
        json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "parameters": size })
    };
    let head = json!({ "inputs": [binary("A"), binary("B")], "parameters": { "binary_data_output": true } });
    let mut body = head.to_string().into_bytes();
    let length = body.len();
    for x in [1.0_f32, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0] {
        body.extend(x.to_le_bytes());
    }
    let mut asked_in_bytes = event("POST", "/v2/models/sum/infer", BASE64_STANDARD.encode(&body).into());
    asked_in_bytes["isBase64Encoded"] = true.into();
    asked_in_bytes["headers"]["inference-header-content-length"] = length.to_string().into();
    let (_, answer) = function.invoke(asked_in_bytes, 60).await;
    assert_eq!((&answer["statusCode"], &answer["isBase64Encoded"]), (&json!(200), &json!(true)), "{answer}");
    let bytes = BASE64_STANDARD.decode(answer["body"].as_str().unwrap()).unwrap();
    let length: usize =
        answer["headers"]["inference-header-content-length"].as_str().unwrap().parse().unwrap();
    assert_eq!(bytes[length..], *sums.map(f32::to_le_bytes).as_flattened());

    // An invocation whose time is over is not run.
    let runs = function.server.service().served()[0].statistics().runs();
    let (_, answer) = function.invoke(asked.clone(), 0).await;
    assert_eq!(answer["statusCode"], 504, "{answer}");
    assert_eq!(function.server.service().served()[0].statistics().runs(), runs);

    // Faults of the client, and what is no request.
    for (path, status) in [("/v2/models/none/infer", 404), ("/nowhere", 404), ("/v2/models/sum/ä b", 404)] {
        let (outcome, answer) = function.invoke(event("POST", path, inputs.to_string().into()), 60).await;
        assert_eq!((outcome.as_str(), &answer["statusCode"]), ("response", &json!(status)), "{answer}");
    }
    let mut wrong = asked.clone();
    wrong["isBase64Encoded"] = true.into();
    assert_eq!(function.invoke(wrong, 60).await.1["statusCode"], 400);
    let (outcome, told) = function.invoke(json!({ "Records": [] }), 60).await;
    assert_eq!(outcome, "error");
    assert!(told["errorMessage"].as_str().unwrap().contains("payload 2.0"), "{told}");

    assert_eq!(function.invoke(asked, 60).await.1["statusCode"], 200, "the function goes on");
    assert!(function.server.shut_down().await);
}

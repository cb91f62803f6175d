//! A whole server over gRPC: batches, full queues, reloads, lost devices, and the end.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod deploy;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sardonyx::{DeviceOptions, Select};
use sardonyx_server::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use sardonyx_server::proto::model_infer_request::InferInputTensor;
use sardonyx_server::proto::*;
use sardonyx_server::serving::Shed;
use sardonyx_server::{ControlMode, Options, Server};
use sardonyx_testing::devices::usable;
use sardonyx_testing::onnx::build::*;
use tonic::Code;
use tonic::transport::Channel;

type Client = GrpcInferenceServiceClient<Channel>;

/// `SUM = A + B` of rows of four numbers, plus `bias`.
fn sum(bias: f32) -> Vec<u8> {
    let nodes = vec![node("Add", &["A", "B"], &["s"]), node("Add", &["s", "bias"], &["SUM"])];
    let mut graph = graph(&[], nodes, &[]);
    graph.input = vec![value("A", FLOAT, &["batch", "4"]), value("B", FLOAT, &["batch", "4"])];
    graph.output = vec![value("SUM", FLOAT, &["batch", "4"])];
    graph.initializer = vec![weights("bias", &[1], &[bias])];
    prost::Message::encode_to_vec(&model(17, graph))
}

fn put(repository: &Path, name: &str, version: u64, onnx: &[u8], config: &str) {
    let folder = repository.join(name);
    std::fs::create_dir_all(folder.join(version.to_string())).unwrap();
    std::fs::write(folder.join(version.to_string()).join("model.onnx"), onnx).unwrap();
    if !config.is_empty() {
        std::fs::write(folder.join("config.pbtxt"), config).unwrap();
    }
}

fn options(repository: &Path) -> Options {
    let mut options = Options::new(vec![repository.to_path_buf()]);
    let local = Some("127.0.0.1:0".parse().unwrap());
    (options.http, options.grpc, options.metrics) = (local, local, local);
    // The CPU reference only where tests are told to pass without adapters.
    let select = usable().first().map_or(Select::Cpu, |adapter| Select::Name(adapter.name.clone()));
    options.devices = vec![DeviceOptions::new().select(select)];
    options
}

async fn started(options: Options) -> (Server, Client) {
    let server = Server::start(options).await.unwrap();
    let client = connected(&server).await;
    (server, client)
}

async fn connected(server: &Server) -> Client {
    let address = format!("http://{}", server.addresses().grpc.unwrap());
    Client::new(Channel::from_shared(address).unwrap().connect().await.unwrap())
}

fn request(model: &str, rows: &[[f32; 4]]) -> ModelInferRequest {
    let bytes =
        |scale: f32| rows.as_flattened().iter().flat_map(|x| (x * scale).to_le_bytes()).collect::<Vec<u8>>();
    let input = |name: &str| InferInputTensor {
        name: name.into(),
        datatype: "FP32".into(),
        shape: vec![rows.len() as i64, 4],
        ..Default::default()
    };
    ModelInferRequest {
        model_name: model.into(),
        inputs: vec![input("A"), input("B")],
        raw_input_contents: vec![bytes(1.0).into(), bytes(10.0).into()],
        ..Default::default()
    }
}

fn numbers(response: &ModelInferResponse) -> Vec<f32> {
    let (numbers, rest) = response.raw_output_contents[0].as_chunks::<4>();
    assert!(rest.is_empty());
    numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_together_are_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let batching = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 10000000 }";
    put(folder.path(), "sum", 1, &sum(0.5), batching);
    let (server, client) = started(options(folder.path())).await;
    let asked = (0..8).map(|i| {
        let mut client = client.clone();
        let x = i as f32;
        tokio::spawn(async move {
            let response =
                client.model_infer(request("sum", &[[x, 1.0, 2.0, 3.0]])).await.unwrap().into_inner();
            assert_eq!(numbers(&response), [11.0 * x + 0.5, 11.5, 22.5, 33.5]);
            assert_eq!(response.outputs[0].shape, [1, 4]);
        })
    });
    for asked in asked.collect::<Vec<_>>() {
        asked.await.unwrap();
    }
    let served = &server.service().served()[0];
    assert_eq!(served.statistics().rows(), 8);
    assert_eq!(served.statistics().runs(), 1, "a full batch waits no longer");
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_client_are_said_to_the_client() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 1, &sum(0.0), "");
    let (server, mut client) = started(options(folder.path())).await;
    let good = request("sum", &[[1.0; 4]]);
    let mut cases: Vec<(ModelInferRequest, Code, &str)> = Vec::new();
    cases.push((request("cat", &[[1.0; 4]]), Code::NotFound, "'cat'"));
    cases.push((ModelInferRequest { model_version: "7".into(), ..good.clone() }, Code::NotFound, "7"));
    let mut case = good.clone();
    case.inputs[0].datatype = "FP64".into();
    cases.push((case, Code::InvalidArgument, "FP64"));
    let mut case = good.clone();
    case.inputs[1].shape = vec![1, 5];
    cases.push((case, Code::InvalidArgument, "20 bytes"));
    let mut case = good.clone();
    case.inputs[1].name = "C".into();
    cases.push((case, Code::InvalidArgument, "'C'"));
    let mut case = good.clone();
    case.inputs.pop();
    case.raw_input_contents.pop();
    cases.push((case, Code::InvalidArgument, "'B' is missing"));
    let mut case = good.clone();
    case.outputs =
        vec![model_infer_request::InferRequestedOutputTensor { name: "Z".into(), ..Default::default() }];
    cases.push((case, Code::InvalidArgument, "'Z'"));
    cases.push((request("sum", &[[1.0; 4]; 500]), Code::InvalidArgument, "500 rows"));
    for (request, code, text) in cases {
        let status = client.model_infer(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    assert_eq!(numbers(client.model_infer(good).await.unwrap().get_ref()), [11.0; 4]);
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rejection_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    // The first four wait for a fuller batch, so that the queue is full for half a second.
    let config = "max_batch_size: 8
        dynamic_batching { max_queue_delay_microseconds: 500000 default_queue_policy { max_queue_size: 4 } }";
    put(folder.path(), "sum", 1, &sum(0.0), config);
    let (server, client) = started(options(folder.path())).await;
    let asked = (0..1000).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move { client.model_infer(request("sum", &[[1.0; 4]])).await.map(drop) })
    });
    let mut refused = 0;
    for asked in asked.collect::<Vec<_>>() {
        if let Err(status) = asked.await.unwrap() {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            refused += 1;
        }
    }
    let served = &server.service().served()[0];
    assert!(refused > 0, "1000 requests at once fit a queue of 4");
    assert_eq!(served.statistics().shed_count(Shed::QueueFull), refused);
    assert_eq!(served.statistics().success.count(), 1000 - refused);
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    // The batch waits longer than the clients.
    let config = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 400000 }";
    put(folder.path(), "sum", 1, &sum(0.0), config);
    let (server, mut client) = started(options(folder.path())).await;
    for _ in 0..5 {
        let mut late = tonic::Request::new(request("sum", &[[1.0; 4]]));
        late.set_timeout(Duration::from_millis(30));
        let status = client.model_infer(late).await.unwrap_err();
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(server.service().served()[0].statistics().rows(), 0);
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_lose_no_request() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 1, &sum(0.0), "");
    let mut options = options(folder.path());
    (options.control, options.load) = (ControlMode::Explicit, vec!["sum".into()]);
    let (server, client) = started(options).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load = (0..4).map(|_| {
        let (mut client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            let mut answers = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let response = client.model_infer(request("sum", &[[1.0; 4]])).await.unwrap();
                let first = numbers(response.get_ref())[0];
                assert!((11.0..=30.0).contains(&first), "{first}");
                answers += 1;
            }
            answers
        })
    });
    let load: Vec<_> = load.collect();
    let mut admin = client.clone();
    for version in 2..12 {
        put(folder.path(), "sum", version, &sum(version as f32), "");
        let model_name = "sum".to_string();
        admin
            .repository_model_load(RepositoryModelLoadRequest { model_name, ..Default::default() })
            .await
            .unwrap();
        let response = admin.model_infer(request("sum", &[[1.0; 4]])).await.unwrap().into_inner();
        assert_eq!(
            (numbers(&response)[0], response.model_version),
            (11.0 + version as f32, version.to_string())
        );
    }
    // A file that is no model changes nothing.
    put(folder.path(), "sum", 12, b"no model", "");
    let model_name = "sum".to_string();
    let status =
        admin.repository_model_load(RepositoryModelLoadRequest { model_name, ..Default::default() }).await;
    assert!(status.unwrap_err().message().contains("not an ONNX model"));
    assert_eq!(numbers(admin.model_infer(request("sum", &[[1.0; 4]])).await.unwrap().get_ref())[0], 22.0);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for load in load {
        assert!(load.await.unwrap() > 0);
    }
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_device_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 1, &sum(0.0), "");
    let (server, mut client) = started(options(folder.path())).await;
    client.model_infer(request("sum", &[[1.0; 4]])).await.unwrap();
    let slot = &server.service().devices().slots()[0];
    for losses in 1..=3 {
        let device = slot.device_now().unwrap();
        let Some((device, _)) = device.wgpu() else {
            assert!(usable().is_empty());
            break;
        };
        device.destroy();
        let mut failures = 0;
        while let Err(status) = client.model_infer(request("sum", &[[1.0; 4]])).await {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            failures += 1;
            assert!(failures < 100);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(slot.lost_count(), losses);
        assert_eq!(
            numbers(client.model_infer(request("sum", &[[2.0; 4]])).await.unwrap().get_ref()),
            [22.0; 4]
        );
    }
    assert!(server.service().is_ready());
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_answers_what_has_begun() {
    let folder = tempfile::tempdir().unwrap();
    let config = "max_batch_size: 64 dynamic_batching { max_queue_delay_microseconds: 300000 }";
    put(folder.path(), "sum", 1, &sum(0.0), config);
    let (server, client) = started(options(folder.path())).await;
    let asked = (0..16).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move { client.model_infer(request("sum", &[[1.0; 4]])).await.map(drop) })
    });
    let asked: Vec<_> = asked.collect();
    let pending = server.service().served()[0].clone();
    let arrived = || pending.pending() as u64 + pending.statistics().rows();
    while arrived() < 16 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(server.shut_down().await);
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unloading_gives_memory_back() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 1, &sum(0.0), "");
    let mut options = options(folder.path());
    (options.control, options.load) = (ControlMode::Explicit, vec!["sum".into()]);
    let (server, mut client) = started(options).await;
    let device = server.service().devices().slots()[0].device_now().unwrap();
    let mut used = Vec::new();
    for _ in 0..20 {
        client.model_infer(request("sum", &[[1.0; 4]])).await.unwrap();
        let model_name = "sum".to_string();
        client
            .repository_model_unload(RepositoryModelUnloadRequest {
                model_name: model_name.clone(),
                ..Default::default()
            })
            .await
            .unwrap();
        used.push(device.memory_bytes());
        let status = client.model_infer(request("sum", &[[1.0; 4]])).await.unwrap_err();
        assert!(matches!(status.code(), Code::NotFound | Code::Unavailable), "{status}");
        client
            .repository_model_load(RepositoryModelLoadRequest { model_name, ..Default::default() })
            .await
            .unwrap();
    }
    assert!(used.windows(2).all(|pair| pair[0] == pair[1]), "{used:?}");
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_known_keys_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 1, &sum(0.0), "");
    let mut options = options(folder.path());
    (options.control, options.load) = (ControlMode::Explicit, vec!["sum".into()]);
    // The hash of the key `foo`.
    let key = "[shop]\nsha256 = \"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae\"";
    options.access = sardonyx_server::access::Access::parse(key).unwrap();
    let (server, mut client) = started(options).await;
    let with_key = |message: ModelInferRequest| {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", "Bearer foo".parse().unwrap());
        request
    };
    let answer = client.model_infer(with_key(request("sum", &[[1.0; 4]]))).await.unwrap();
    assert_eq!(numbers(answer.get_ref()), [11.0; 4]);
    let status = client.model_infer(request("sum", &[[1.0; 4]])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().get_ref().ready);
    let mut load =
        tonic::Request::new(RepositoryModelLoadRequest { model_name: "sum".into(), ..Default::default() });
    load.metadata_mut().insert("x-api-key", "foo".parse().unwrap());
    assert_eq!(client.repository_model_load(load).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 1, &sum(0.0), "");
    let (server, mut client) = started(options(folder.path())).await;
    let (send, messages) = tokio::sync::mpsc::channel(4);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut answers = client.model_stream_infer(messages).await.unwrap().into_inner();
    send.send(request("sum", &[[1.0; 4]])).await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(numbers(answer.infer_response.as_ref().unwrap()), [11.0; 4]);
    let end = tokio::time::timeout(Duration::from_secs(10), server.shut_down());
    assert_eq!(end.await, Ok(true), "the client keeps its stream open");
    assert!(answers.message().await.unwrap().is_none());
    drop(send);
}

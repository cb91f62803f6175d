//! A whole server over gRPC: batches, full queues, reloads, lost devices, and the end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sardonyx_server::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use sardonyx_server::proto::model_infer_request::InferInputTensor;
use sardonyx_server::proto::*;
use sardonyx_server::serving::Shed;
use sardonyx_server::traces::TraceConfig;
use sardonyx_server::{ControlMode, Options, Server};
use sardonyx_testing::devices::usable;
use sardonyx_testing::onnx::build::*;
use tonic::Code;
use tonic::transport::Channel;

use crate::setup::{options, put};

type Client = GrpcInferenceServiceClient<Channel>;

/// `SUM = A + B` of rows of four numbers, plus `bias`.
pub fn sum(bias: f32) -> Vec<u8> {
    let nodes = vec![node("Add", &["A", "B"], &["s"]), node("Add", &["s", "bias"], &["SUM"])];
    let mut graph = graph(&[], nodes, &[]);
    graph.input = vec![value("A", FLOAT, &["batch", "4"]), value("B", FLOAT, &["batch", "4"])];
    graph.output = vec![value("SUM", FLOAT, &["batch", "4"])];
    graph.initializer = vec![weights("bias", &[1], &[bias])];
    prost::Message::encode_to_vec(&model(17, graph))
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
    // The weights are put on the last device by the thread that made it.
    while !server.service().is_ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(server.shut_down().await);
}

/// A thread that waits for a device which does not answer: the turn of a run that never ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_hangs_ends_liveness() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 1, &sum(0.0), "");
    let (server, mut client) = started(options(folder.path())).await;
    server.service().set_hang_time(Duration::from_millis(10));
    let live =
        async |client: &mut Client| client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live;
    assert!(live(&mut client).await);
    {
        let devices = server.service().devices();
        let _turn = devices.slots()[0].turn();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!live(&mut client).await);
    }
    assert!(live(&mut client).await);
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
        // Who looks at a version meanwhile does not keep its memory.
        let _held = server.service().served();
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
    assert_eq!(used, [0; 20]);
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

/// A message with the key `foo`.
fn with_key<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-api-key", "foo".parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_have_limits_and_models() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 1, &sum(0.0), "");
    put(folder.path(), "secret", 1, &sum(0.0), "");
    let mut options = options(folder.path());
    let key = "[shop]\nsha256 = \"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae\"
        models = [\"s*m\"]\nrequests_per_second = 0.001\nburst = 8\nquota_bytes = 100";
    options.access = sardonyx_server::access::Access::parse(key).unwrap();
    let access = options.access.clone();
    let (server, mut client) = started(options).await;
    let status = client.model_infer(with_key(request("secret", &[[1.0; 4]]))).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let name = || "secret".to_string();
    let metadata =
        client.model_metadata(with_key(ModelMetadataRequest { name: name(), ..Default::default() }));
    assert_eq!(metadata.await.unwrap_err().code(), Code::PermissionDenied);
    let index =
        client.repository_index(with_key(RepositoryIndexRequest::default())).await.unwrap().into_inner();
    assert_eq!(index.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["sum"]);
    let all =
        client.model_statistics(with_key(ModelStatisticsRequest::default())).await.unwrap().into_inner();
    assert_eq!(all.model_stats.len(), 1);
    // 32 bytes go in, and 16 come out.
    client.model_infer(with_key(request("sum", &[[1.0; 4]]))).await.unwrap();
    client.model_infer(with_key(request("sum", &[[1.0; 4]]))).await.unwrap();
    let status = client.model_infer(with_key(request("sum", &[[1.0; 4]]))).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message().contains("quota of 100 a day")),
        (Code::ResourceExhausted, true)
    );
    // The eighth is a stream, whose requests count too.
    let stream = tokio_stream::iter([request("sum", &[[1.0; 4]])]);
    let mut answers = client.model_stream_infer(with_key(stream)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(answer.error_message.contains("0.001 a second"), "{}", answer.error_message);
    let status = client.model_infer(with_key(request("sum", &[[1.0; 4]]))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let wait: u64 = status.metadata().get("retry-after").unwrap().to_str().unwrap().parse().unwrap();
    assert!((900..=1000).contains(&wait), "{wait}");
    let counted = |reason: &str| {
        access
            .refused()
            .into_iter()
            .find(|(key, of, _)| key == "shop" && *of == reason)
            .map(|(.., count)| count)
    };
    assert_eq!((counted("model"), counted("quota"), counted("rate")), (Some(2), Some(1), Some(2)));
    assert!(server.shut_down().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_its_own_changes_the_server() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 1, &sum(0.0), "");
    let mut options = options(folder.path());
    (options.control, options.admin) = (ControlMode::Explicit, Some("127.0.0.1:0".parse().unwrap()));
    let (server, mut client) = started(options).await;
    let load = || RepositoryModelLoadRequest { model_name: "sum".into(), ..Default::default() };
    let status = client.repository_model_load(load()).await.unwrap_err();
    assert_eq!((status.code(), status.message().contains("--admin-port")), (Code::PermissionDenied, true));
    let address = server.addresses().admin.unwrap();
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Client::new(channel).repository_model_load(load()).await.unwrap();
    client.model_infer(request("sum", &[[1.0; 4]])).await.unwrap();
    let over_http = |address: std::net::SocketAddr, request: &'static str| {
        let asked = move || {
            use std::io::{Read, Write};
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream
                .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        tokio::task::spawn_blocking(asked)
    };
    let unload = "POST /v2/repository/models/sum/unload";
    let refused = over_http(server.addresses().http.unwrap(), unload).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("--admin-port"), "{refused}");
    let metrics = over_http(address, "GET /metrics").await.unwrap();
    assert!(metrics.contains("nv_inference_request_success{model=\"sum\",version=\"1\"} 1"), "{metrics}");
    assert!(over_http(address, unload).await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(client.model_infer(request("sum", &[[1.0; 4]])).await.is_err());
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

/// TensorFlow Serving's protocol at the address of gRPC.
#[tokio::test(flavor = "multi_thread")]
async fn tensorflow_serving_over_grpc() {
    use sardonyx_server::proto::tensorflow::serving::model_service_client::ModelServiceClient;
    use sardonyx_server::proto::tensorflow::serving::model_spec::VersionChoice;
    use sardonyx_server::proto::tensorflow::serving::prediction_service_client::PredictionServiceClient;
    use sardonyx_server::proto::tensorflow::serving::*;
    use sardonyx_server::proto::tensorflow::{DataType, TensorProto, TensorShapeProto, tensor_shape_proto};

    let folder = tempfile::tempdir().unwrap();
    let labels = "max_batch_size: 4 version_policy { all {} } \
                  parameters { key: \"version_labels\" value { string_value: \"stable=2\" } }";
    put(folder.path(), "sum", 2, &sum(0.5), labels);
    put(folder.path(), "sum", 3, &sum(1.5), labels);
    let server = Server::start(options(folder.path())).await.unwrap();
    let address = format!("http://{}", server.addresses().grpc.unwrap());
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let mut client = PredictionServiceClient::new(channel.clone());
    let mut states = ModelServiceClient::new(channel);

    let spec = |version_choice| ModelSpec { name: "sum".into(), version_choice, ..ModelSpec::default() };
    let dim = |size| tensor_shape_proto::Dim { size, ..Default::default() };
    let row = TensorShapeProto { dim: vec![dim(1), dim(4)], ..Default::default() };
    let row = |values: Vec<f32>| TensorProto {
        dtype: DataType::DtFloat.into(),
        tensor_shape: Some(row.clone()),
        float_val: values,
        ..TensorProto::default()
    };
    let predict = |spec: ModelSpec| PredictRequest {
        model_spec: Some(spec),
        inputs: [("A".into(), row(vec![1.0, 2.0, 3.0, 4.0])), ("B".into(), row(vec![10.0]))].into(),
        output_filter: vec!["SUM".into()],
    };
    for (version, answered, bias) in [
        (None, 3, 1.5),
        (Some(VersionChoice::Version(2)), 2, 0.5),
        (Some(VersionChoice::VersionLabel("stable".into())), 2, 0.5),
    ] {
        let answer = client.predict(predict(spec(version))).await.unwrap().into_inner();
        let shown = answer.model_spec.unwrap();
        assert_eq!((shown.name.as_str(), shown.signature_name.as_str()), ("sum", "serving_default"));
        assert_eq!(shown.version_choice, Some(VersionChoice::Version(answered)));
        let sum = &answer.outputs["SUM"];
        assert_eq!(sum.float_val, [11.0, 12.0, 13.0, 14.0].map(|sum| sum + bias));
        assert_eq!(sum.tensor_shape.as_ref().unwrap().dim, [dim(1), dim(4)]);
    }

    let mut wrong = predict(spec(None));
    wrong.output_filter = vec!["NONE".into()];
    assert_eq!(client.predict(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    let mut wrong = predict(spec(None));
    wrong.inputs.remove("B");
    assert_eq!(client.predict(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    let nobody = ModelSpec { name: "nobody".into(), ..ModelSpec::default() };
    assert_eq!(client.predict(predict(nobody.clone())).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.predict(PredictRequest::default()).await.unwrap_err().code(), Code::InvalidArgument);
    let regress = RegressionRequest { model_spec: Some(spec(None)), input: None };
    let two_inputs = client.regress(regress).await.unwrap_err();
    assert_eq!(two_inputs.code(), Code::Unimplemented, "{}", two_inputs.message());

    let asked = |fields: &[&str]| GetModelMetadataRequest {
        model_spec: Some(spec(None)),
        metadata_field: fields.iter().map(|field| field.to_string()).collect(),
    };
    assert_eq!(client.get_model_metadata(asked(&[])).await.unwrap_err().code(), Code::InvalidArgument);
    let metadata = client.get_model_metadata(asked(&["signature_def"])).await.unwrap().into_inner();
    let signatures: SignatureDefMap =
        prost::Message::decode(metadata.metadata["signature_def"].value.as_slice()).unwrap();
    let inputs = &signatures.signature_def["serving_default"].inputs;
    assert_eq!(inputs["A"].tensor_shape.as_ref().unwrap().dim, [dim(-1), dim(4)]);

    let status = |spec| GetModelStatusRequest { model_spec: Some(spec) };
    let all = states.get_model_status(status(spec(None))).await.unwrap().into_inner();
    let shown: Vec<_> =
        all.model_version_status.iter().map(|status| (status.version, status.state())).collect();
    let available = model_version_status::State::Available;
    assert_eq!(shown, [(2, available), (3, available)]);
    let unknown = states.get_model_status(status(nobody)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(server.shut_down().await);
}

/// Several results of one run.
#[tokio::test(flavor = "multi_thread")]
async fn several_inferences_of_one_input() {
    use sardonyx_server::proto::tensorflow::serving::inference_result::Result as Found;
    use sardonyx_server::proto::tensorflow::serving::prediction_service_client::PredictionServiceClient;
    use sardonyx_server::proto::tensorflow::serving::*;
    use sardonyx_server::proto::tensorflow::{Example, Feature, Features, FloatList, feature};

    let folder = tempfile::tempdir().unwrap();
    for (name, size) in [("twice", "1"), ("wide", "2")] {
        let mut twice = graph(&[], vec![node("Add", &["x", "x"], &["y"])], &[]);
        twice.input = vec![value("x", FLOAT, &["batch", size])];
        twice.output = vec![value("y", FLOAT, &["batch", size])];
        let config = "max_batch_size: 4 output { name: 'y' label_filename: 'labels.txt' }";
        put(folder.path(), name, 1, &bytes(&model(17, twice)), config);
        std::fs::write(folder.path().join(name).join("labels.txt"), "cat\ndog\n").unwrap();
    }
    let server = Server::start(options(folder.path())).await.unwrap();
    let address = format!("http://{}", server.addresses().grpc.unwrap());
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let mut client = PredictionServiceClient::new(channel);

    let task = |model: &str, method: &str| InferenceTask {
        model_spec: Some(ModelSpec {
            name: model.into(),
            signature_name: method.into(),
            ..ModelSpec::default()
        }),
        method_name: format!("tensorflow/serving/{method}"),
    };
    let asked = |tasks: Vec<InferenceTask>, rows: &[&[f32]]| {
        let example = |row: &&[f32]| {
            let kind = Some(feature::Kind::FloatList(FloatList { value: row.to_vec() }));
            let feature = [("x".to_string(), Feature { kind })].into();
            Example { features: Some(Features { feature }) }
        };
        let examples = ExampleList { examples: rows.iter().map(example).collect() };
        MultiInferenceRequest { tasks, input: Some(Input { kind: Some(input::Kind::ExampleList(examples)) }) }
    };
    let both = vec![task("twice", "regress"), task("twice", "classify")];
    let results = client.multi_inference(asked(both.clone(), &[&[1.5], &[-2.0]])).await.unwrap();
    let [regressed, classified] = <[_; 2]>::try_from(results.into_inner().results).unwrap();
    for (result, signature) in [(&regressed, "regress"), (&classified, "classify")] {
        let spec = result.model_spec.as_ref().unwrap();
        assert_eq!((spec.name.as_str(), spec.signature_name.as_str()), ("twice", signature));
        assert_eq!(spec.version_choice, Some(model_spec::VersionChoice::Version(1)));
    }
    let Some(Found::RegressionResult(found)) = regressed.result else { panic!("{regressed:?}") };
    assert_eq!(found.regressions.iter().map(|row| row.value).collect::<Vec<_>>(), [3.0, -4.0]);
    let Some(Found::ClassificationResult(found)) = classified.result else { panic!("{classified:?}") };
    let classes = found.classifications.iter().flat_map(|row| &row.classes);
    let shown: Vec<_> = classes.map(|class| (class.label.as_str(), class.score)).collect();
    assert_eq!(shown, [("cat", 3.0), ("cat", -4.0)]);
    let runs = |name| {
        let served = server.service().served();
        served.iter().find(|served| served.config().name == name).unwrap().statistics().runs()
    };
    assert_eq!(runs("twice"), 1, "both tasks are answered by one run");

    let wide = client.multi_inference(asked(vec![task("wide", "classify")], &[&[1.0, 2.0]])).await.unwrap();
    let Some(Found::ClassificationResult(found)) = wide.into_inner().results.remove(0).result else {
        panic!()
    };
    assert_eq!(found.classifications[0].classes[1], Class { label: "dog".into(), score: 4.0 });
    for (tasks, code) in [
        (Vec::new(), Code::InvalidArgument),
        (vec![task("twice", "classify"), task("wide", "classify")], Code::InvalidArgument),
        (vec![task("twice", "predict")], Code::Unimplemented),
        (vec![task("nobody", "classify")], Code::NotFound),
        (vec![InferenceTask { model_spec: None, ..task("twice", "classify") }], Code::InvalidArgument),
        (vec![task("wide", "regress")], Code::InvalidArgument),
        (vec![task("twice", "classify"); 17], Code::InvalidArgument),
    ] {
        let refused = client.multi_inference(asked(tasks.clone(), &[&[1.0, 2.0][..]])).await.unwrap_err();
        assert_eq!(refused.code(), code, "{tasks:?}: {}", refused.message());
    }
    assert!(server.shut_down().await);
}

/// The lines of an access log, once there are `count` of them.
async fn lines(file: &Path, count: usize) -> Vec<serde_json::Value> {
    loop {
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<_> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
        if lines.len() >= count {
            return lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_a_line_of_the_access_log() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 3, &sum(0.0), "max_batch_size: 4");
    let logs = tempfile::tempdir().unwrap();
    let file = logs.path().join("access");
    let server =
        Server::start(Options { access_log: Some(file.clone()), ..options(folder.path()) }).await.unwrap();
    let mut client = connected(&server).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = |message| {
        let mut request = tonic::Request::new(message);
        let parent = format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap();
        request.metadata_mut().insert("traceparent", parent);
        request
    };
    let two = request("sum", &[[1.0, 2.0, 3.0, 4.0]; 2]);
    let answer = client.model_infer(traced(two.clone())).await.unwrap();
    let shown = answer.metadata().get("traceparent").unwrap().to_str().unwrap();
    assert!(shown.starts_with(&format!("00-{trace}-")) && !shown.contains("00f067aa0ba902b7"), "{shown}");
    client.model_infer(request("nobody", &[[0.0; 4]])).await.unwrap_err();
    let messages = tokio_stream::iter([two, request("nobody", &[[0.0; 4]])]);
    let mut answers = client.model_stream_infer(messages).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    let http = server.addresses().http.unwrap();
    let mut socket = tokio::net::TcpStream::connect(http).await.unwrap();
    let head = "GET /v2/models/nobody HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut socket, head.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut socket, &mut text).await.unwrap();

    let mut lines = lines(&file, 6).await;
    // The requests of a stream run beside one another, and their lines have any order.
    lines[2..4].sort_by_key(|line| line["status"].as_u64());
    let [infer, unknown, first, second, stream, get] = &lines[..] else { panic!("{lines:?}") };
    let of = |line: &serde_json::Value, names: &[&str]| {
        names.iter().map(|name| line[name].clone()).collect::<serde_json::Value>()
    };
    let shown = of(infer, &["protocol", "status", "model", "version", "batch", "trace"]);
    assert_eq!(shown, serde_json::json!(["grpc", 0, "sum", "3", 2, trace]));
    assert_eq!(infer["path"], "/inference.GRPCInferenceService/ModelInfer");
    assert!(
        infer["reason"].is_null()
            && infer["bytes_in"].as_u64() > Some(64)
            && infer["bytes_out"].as_u64() > Some(32)
    );
    let micros = |name: &str| infer[name].as_u64().unwrap();
    assert!(micros("queue_us") + micros("compute_us") <= micros("total_us"), "{infer}");
    assert!(infer["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(of(unknown, &["status", "reason", "model"]), serde_json::json!([5, "NOT_FOUND", "nobody"]));
    assert!(unknown["compute_us"].is_null(), "{unknown}");
    assert_eq!(of(first, &["status", "model", "batch"]), serde_json::json!([0, "sum", 2]));
    assert_eq!(of(second, &["status", "reason", "model"]), serde_json::json!([5, "NOT_FOUND", "nobody"]));
    assert_eq!(of(stream, &["status", "model"]), serde_json::json!([0, null]));
    assert_eq!(
        of(get, &["protocol", "method", "status", "reason"]),
        serde_json::json!(["http", "GET", 404, "NOT_FOUND"])
    );
    assert!(server.shut_down().await);
}

/// Takes one request of HTTP, and answers that all is well; its body.
async fn collected(listener: &tokio::net::TcpListener) -> serde_json::Value {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    loop {
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            return serde_json::from_str(body).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_reach_a_collector() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 1, &sum(0.0), "max_batch_size: 4");
    let collector = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("opentelemetry,url=http://{}/v1/traces", collector.local_addr().unwrap());
    let traces = TraceConfig::parse(&[url.as_str(), "level=TIMESTAMPS", "rate=1000000"]).unwrap();
    let server = Server::start(Options { traces, ..options(folder.path()) }).await.unwrap();
    let mut client = connected(&server).await;
    let asked = |flags: &str| {
        let mut request = tonic::Request::new(request("sum", &[[1.0; 4]; 3]));
        let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        request
    };
    // The first is no part of a trace, the second is part of one that nobody records.
    client.model_infer(request("sum", &[[1.0; 4]])).await.unwrap();
    client.model_infer(asked("00")).await.unwrap();
    let answer = client.model_infer(asked("01")).await.unwrap();
    let shown = answer.metadata().get("traceparent").unwrap().to_str().unwrap().to_string();
    let json = collected(&collector).await;
    let resource = &json["resourceSpans"][0];
    assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "sardonyx");
    let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
    let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    let parts = ["compute_input", "compute_infer", "compute_output"];
    assert_eq!(names, [&["infer sum", "queue", "compute"][..], &parts[..]].concat());
    assert!(spans.iter().all(|span| span["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736"));
    let [infer, queue, compute] = [0, 1, 2].map(|at| &spans[at]);
    assert_eq!(infer["parentSpanId"], "00f067aa0ba902b7");
    let place = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", infer["spanId"].as_str().unwrap());
    assert_eq!(shown, place);
    assert_eq!((&queue["parentSpanId"], &compute["parentSpanId"]), (&infer["spanId"], &infer["spanId"]));
    assert!(spans[3..].iter().all(|span| span["parentSpanId"] == compute["spanId"]));
    assert_eq!(compute["attributes"][1]["value"]["intValue"], "3");
    let time = |span: &serde_json::Value, name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    let (start, end) = ("startTimeUnixNano", "endTimeUnixNano");
    let times = [
        time(infer, start),
        time(queue, start),
        time(queue, end),
        time(compute, start),
        time(compute, end),
        time(infer, end),
    ];
    assert!(times.is_sorted(), "{times:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    assert!(now - times[0] < 3_600_000_000_000, "they are nanoseconds since 1970");

    // Clients may change what is recorded while the server runs.
    let every = trace_setting_request::SettingValue { value: vec!["1".into()] };
    let change = TraceSettingRequest {
        model_name: "sum".into(),
        settings: [("trace_rate".to_string(), every)].into(),
    };
    let now = client.trace_setting(change).await.unwrap().into_inner().settings;
    assert_eq!(
        (&now["trace_rate"].value[0], &now["trace_mode"].value[0]),
        (&"1".into(), &"opentelemetry".into())
    );
    client.model_infer(request("sum", &[[1.0; 4]])).await.unwrap();
    // The end of the server waits for what is not sent yet.
    let (json, ended) = tokio::join!(collected(&collector), server.shut_down());
    assert!(ended);
    let span = &json["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert!(span["name"] == "infer sum" && span["parentSpanId"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_written_to_files_of_tritons_form() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "sum", 7, &sum(0.0), "max_batch_size: 4");
    let kept = tempfile::tempdir().unwrap();
    let file = kept.path().join("trace");
    let file_is = format!("triton,file={}", file.display());
    let config = [file_is.as_str(), "level=TIMESTAMPS", "rate=1", "triton,log-frequency=2"];
    let traces = TraceConfig::parse(&config).unwrap();
    let server = Server::start(Options { traces, ..options(folder.path()) }).await.unwrap();
    let mut client = connected(&server).await;
    for _ in 0..3 {
        client.model_infer(request("sum", &[[1.0; 4]])).await.unwrap();
    }
    assert!(server.shut_down().await);
    let read = |number: usize| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(kept.path().join(format!("trace.{number}"))).unwrap()).unwrap()
    };
    let (first, second) = (read(0), read(1));
    assert_eq!((first.as_array().unwrap().len(), second.as_array().unwrap().len()), (4, 2));
    assert_eq!((&first[0]["model_name"], &first[0]["model_version"]), (&"sum".into(), &7.into()));
    assert_eq!(first[0]["id"], first[1]["id"]);
    let times = first[1]["timestamps"].as_array().unwrap();
    let names: Vec<_> = times.iter().map(|time| time["name"].as_str().unwrap()).collect();
    let wanted = [
        "REQUEST_START",
        "QUEUE_START",
        "COMPUTE_START",
        "COMPUTE_INPUT_END",
        "COMPUTE_OUTPUT_START",
        "COMPUTE_END",
        "REQUEST_END",
    ];
    assert_eq!(names, wanted);
    assert!(times.is_sorted_by_key(|time| time["ns"].as_u64()));
}

//! Clients of all kinds. Each goes on until it is told to stop, and ends with its last answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::StreamExt;
use sardonyx_server::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use sardonyx_server::proto::infer_parameter::ParameterChoice;
use sardonyx_server::proto::model_infer_request::InferInputTensor;
use sardonyx_server::proto::{InferParameter, ModelInferRequest, ModelInferResponse};
use sardonyx_testing::dice::Dice;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::books::{Books, Outcome};
use super::http::{self, Connection};
use super::models::{Question, WIDE};

/// A request that takes longer has no answer.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub type Grpc = GrpcInferenceServiceClient<Channel>;

/// What the clients know.
pub struct World {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub questions: Vec<Question>,
    pub books: Books,
    pub stop: AtomicBool,
    sequence: AtomicU64,
}

impl World {
    pub fn new(http: SocketAddr, grpc: SocketAddr, questions: Vec<Question>) -> World {
        let (books, stop, sequence) = (Books::default(), AtomicBool::new(false), AtomicU64::new(1));
        World { http, grpc, questions, books, stop, sequence }
    }

    pub fn goes_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    pub async fn connected(&self) -> Grpc {
        let channel = Channel::from_shared(format!("http://{}", self.grpc)).unwrap();
        GrpcInferenceServiceClient::new(channel.connect().await.unwrap())
            .max_decoding_message_size(usize::MAX)
    }

    /// Asks every model until it answers.
    pub async fn all_answer(&self, client: &mut Grpc) {
        for model in super::models::ALL {
            let mut questions = self.questions.iter();
            let Some(question) = questions.find(|question| question.model == model && model != "left") else {
                continue;
            };
            let mut tries = 0;
            while !ask(self, client, question).await {
                tries += 1;
                assert!(tries < 1000, "{model} does not answer any more");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Any question to one of these models.
    fn any(&self, dice: &mut Dice, models: &[&str]) -> &Question {
        let model = dice.of(models);
        let of: Vec<_> = self.questions.iter().filter(|question| question.model == model).collect();
        of[dice.below(of.len())]
    }
}

/// The models that clients ask one request after the other.
const PLAIN: [&str; 6] = ["sum", "come", "host", "perceptron", "cached", "all"];

/// Starts all clients.
pub fn all(world: &Arc<World>, dice: &mut Dice) -> Vec<tokio::task::JoinHandle<()>> {
    let mut clients = Vec::new();
    for i in 0..14 {
        let (world, dice) = (world.clone(), Dice(dice.below(usize::MAX) as u64 | 1));
        clients.push(tokio::spawn(async move {
            match i {
                0..4 => over_grpc(&world, dice).await,
                4..7 => over_http(&world, dice).await,
                7 | 8 => sequences(&world, dice).await,
                9 => streams(&world, dice).await,
                10 => leaves(&world, dice).await,
                11 => slow(&world, dice).await,
                12 => resets(&world, dice).await,
                _ => bursts(&world, dice).await,
            }
        }));
    }
    clients
}

pub fn message(question: &Question) -> ModelInferRequest {
    let input = |(name, tensor): &(&str, sardonyx::Tensor)| InferInputTensor {
        name: (*name).into(),
        datatype: "FP32".into(),
        shape: tensor.shape().iter().map(|&size| size as i64).collect(),
        ..Default::default()
    };
    let raw = question.inputs.iter().map(|(_, tensor)| bytes::Bytes::copy_from_slice(tensor.bytes()));
    ModelInferRequest {
        model_name: question.model.into(),
        inputs: question.inputs.iter().map(input).collect(),
        raw_input_contents: raw.collect(),
        ..Default::default()
    }
}

pub fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn judged(question: &Question, answer: Result<ModelInferResponse, Status>) -> Outcome {
    match answer {
        Ok(response) => {
            let got = numbers(response.raw_output_contents.first().map_or(&[][..], |bytes| bytes));
            question.difference(&response.model_version, &got).map_or(Outcome::Right, Outcome::Wrong)
        }
        Err(status) => {
            Outcome::of_error(question.model, status.code() == Code::Unavailable, status.message())
        }
    }
}

fn judged_http(question: &Question, answer: std::io::Result<http::Answer>) -> Outcome {
    match answer {
        Ok(answer) if answer.status == 200 => match answer.output() {
            Ok((version, got)) => question.difference(&version, &got).map_or(Outcome::Right, Outcome::Wrong),
            Err(text) => Outcome::Wrong(format!("{}: {text}", question.model)),
        },
        Ok(answer) => Outcome::of_error(question.model, answer.status == 503, &answer.text()),
        Err(error) => Outcome::Wrong(format!("{}: the connection ended: {error}", question.model)),
    }
}

/// Asks over gRPC, and notes what comes of it.
pub async fn ask(world: &World, client: &mut Grpc, question: &Question) -> bool {
    let outcome = match tokio::time::timeout(PATIENCE, client.model_infer(message(question))).await {
        Ok(answer) => judged(question, answer.map(tonic::Response::into_inner)),
        Err(_) => Outcome::Unanswered,
    };
    world.books.note(question.model, outcome)
}

async fn over_grpc(world: &World, mut dice: Dice) {
    let mut client = world.connected().await;
    while world.goes_on() {
        ask(world, &mut client, world.any(&mut dice, &PLAIN)).await;
    }
}

async fn over_http(world: &World, mut dice: Dice) {
    let mut connection = Connection::open(world.http).await.unwrap();
    while world.goes_on() {
        let question = world.any(&mut dice, &PLAIN);
        let request = http::request(question, dice.below(2) == 0);
        let outcome = match tokio::time::timeout(PATIENCE, connection.ask(&request)).await {
            Ok(answer) => judged_http(question, answer),
            Err(_) => Outcome::Unanswered,
        };
        let is_broken = matches!(outcome, Outcome::Wrong(_) | Outcome::Unanswered);
        world.books.note(question.model, outcome);
        if is_broken {
            connection = Connection::open(world.http).await.unwrap();
        }
    }
}

/// The total of a sequence is that of the requests that were answered.
async fn sequences(world: &World, mut dice: Dice) {
    let mut client = world.connected().await;
    while world.goes_on() {
        let id = world.sequence.fetch_add(1, Relaxed) as i64;
        let (mut total, length) = (0.0, 1 + dice.below(12));
        let mut at = 0;
        while at < length {
            let x = dice.below(1000) as f32;
            let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
            let request = ModelInferRequest {
                model_name: "total".into(),
                inputs: vec![InferInputTensor {
                    name: "x".into(),
                    datatype: "FP32".into(),
                    shape: vec![1, 2],
                    ..Default::default()
                }],
                raw_input_contents: vec![[x, -x].map(f32::to_le_bytes).concat().into()],
                parameters: [
                    ("sequence_id".into(), parameter(ParameterChoice::Int64Param(id))),
                    ("sequence_start".into(), parameter(ParameterChoice::BoolParam(at == 0))),
                    ("sequence_end".into(), parameter(ParameterChoice::BoolParam(at + 1 == length))),
                ]
                .into(),
                ..Default::default()
            };
            let outcome = match tokio::time::timeout(PATIENCE, client.model_infer(request)).await {
                Err(_) => Outcome::Unanswered,
                Ok(Err(status)) => {
                    Outcome::of_error("total", status.code() == Code::Unavailable, status.message())
                }
                Ok(Ok(response)) => {
                    total += x;
                    let got = numbers(&response.get_ref().raw_output_contents[0]);
                    match got == [total, -total] {
                        true => Outcome::Right,
                        false => Outcome::Wrong(format!("sequence {id}: {got:?} in place of {total}")),
                    }
                }
            };
            let is_lost = matches!(outcome, Outcome::Wrong(_) | Outcome::Unanswered);
            let begins_again = matches!(outcome, Outcome::Broken);
            at += usize::from(world.books.note("total", outcome));
            // The state may be lost with its device.
            if begins_again {
                (at, total) = (0, 0.0);
            }
            if is_lost {
                break;
            }
        }
    }
}

/// Streams of several requests each.
async fn streams(world: &World, mut dice: Dice) {
    let mut client = world.connected().await;
    while world.goes_on() {
        let asked: Vec<_> = (0..1 + dice.below(16)).map(|_| world.any(&mut dice, &PLAIN)).collect();
        let messages: Vec<_> = asked.iter().map(|question| message(question)).collect();
        let answers = async {
            let mut answers =
                client.model_stream_infer(futures_util::stream::iter(messages)).await?.into_inner();
            let mut all = Vec::new();
            while let Some(answer) = answers.next().await {
                all.push(answer?);
            }
            Ok::<_, Status>(all)
        };
        match tokio::time::timeout(PATIENCE, answers).await {
            Ok(Ok(answers)) => {
                for (i, question) in asked.iter().enumerate() {
                    let outcome = match answers.get(i) {
                        None => Outcome::Unanswered,
                        Some(answer) if answer.error_message.is_empty() => {
                            judged(question, Ok(answer.infer_response.clone().unwrap_or_default()))
                        }
                        Some(answer) => Outcome::of_error(question.model, true, &answer.error_message),
                    };
                    world.books.note(question.model, outcome);
                }
            }
            Ok(Err(status)) => drop(world.books.note("sum", Outcome::Wrong(format!("a stream: {status}")))),
            Err(_) => drop(world.books.note("sum", Outcome::Unanswered)),
        }
    }
}

/// Clients that do not wait for their answers: by leaving, by their deadline, and by closing the connection.
async fn leaves(world: &World, mut dice: Dice) {
    let mut client = world.connected().await;
    while world.goes_on() {
        let question = world.any(&mut dice, &["left"]);
        let short = Duration::from_millis(dice.below(8) as u64);
        match dice.below(3) {
            0 => drop(tokio::time::timeout(short, client.model_infer(message(question))).await),
            1 => {
                let mut request = tonic::Request::new(message(question));
                request.set_timeout(short + Duration::from_millis(1));
                drop(client.model_infer(request).await);
            }
            _ => {
                let mut connection = Connection::open(world.http).await.unwrap();
                let request = http::request(question, true);
                let _ = tokio::time::timeout(short, connection.ask(&request)).await;
            }
        }
        world.books.left.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Clients that send and read slowly.
async fn slow(world: &World, mut dice: Dice) {
    while world.goes_on() {
        let mut connection = Connection::open(world.http).await.unwrap();
        let pause = Duration::from_millis(1);
        if dice.below(3) > 0 {
            let question = world.any(&mut dice, &PLAIN);
            let request = http::request(question, dice.below(2) == 0);
            let sent = connection.send(&request, 1 + request.len() / 50, pause).await;
            let answer = tokio::time::timeout(PATIENCE, connection.receive(100, pause)).await;
            let outcome =
                answer.map_or(Outcome::Unanswered, |answer| judged_http(question, sent.and(answer)));
            world.books.note(question.model, outcome);
            continue;
        }
        let x = dice.below(100) as f32;
        let json = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}],
            "parameters":{"binary_data_output":true}}"#;
        let request = http::post("/v2/models/wide/infer", json.as_bytes(), &x.to_le_bytes());
        let sent = connection.send(&request, usize::MAX, pause).await;
        let answer = tokio::time::timeout(PATIENCE, connection.receive(1 << 16, pause)).await;
        let outcome = match answer.map(|answer| sent.and(answer)) {
            Err(_) => Outcome::Unanswered,
            Ok(Err(error)) => Outcome::Wrong(format!("wide: {error}")),
            Ok(Ok(answer)) if answer.status != 200 => {
                Outcome::of_error("wide", answer.status == 503, &answer.text())
            }
            Ok(Ok(answer)) => match answer.output() {
                Ok((_, got)) if got.len() == WIDE && got.iter().all(|got| *got == x) => Outcome::Right,
                other => Outcome::Wrong(format!("wide: {:?}", other.map(|(_, got)| got.len()))),
            },
        };
        world.books.note("wide", outcome);
    }
}

/// Clients that reset their connections amid a request, amid an answer, or amid nothing that the protocol knows.
async fn resets(world: &World, mut dice: Dice) {
    while world.goes_on() {
        let question = world.any(&mut dice, &["sum"]);
        let request = http::request(question, true);
        let address = if dice.below(3) == 0 { world.grpc } else { world.http };
        let mut connection = Connection::open(address).await.unwrap();
        let part = 1 + dice.below(request.len());
        let _ = connection.send(&request[..part], usize::MAX, Duration::ZERO).await;
        tokio::time::sleep(Duration::from_millis(dice.below(4) as u64)).await;
        match dice.below(2) {
            0 => connection.reset(),
            _ => drop(connection),
        }
        world.books.left.fetch_add(1, Relaxed);
    }
}

/// More requests at once than the queue of `narrow` holds.
async fn bursts(world: &Arc<World>, mut dice: Dice) {
    let client = world.connected().await;
    while world.goes_on() {
        let burst = (0..16).map(|_| {
            let (world, mut client) = (world.clone(), client.clone());
            let mut dice = Dice(dice.below(usize::MAX) as u64 | 1);
            tokio::spawn(async move {
                let question = world.any(&mut dice, &["narrow"]);
                ask(&world, &mut client, question).await;
            })
        });
        for asked in burst.collect::<Vec<_>>() {
            asked.await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(dice.below(200) as u64)).await;
    }
}

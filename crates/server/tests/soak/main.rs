//! A server under a load of many kinds, while its device is lost, memory runs out, models are loaded anew, and clients leave: for 20
//! seconds, or as many as SARDONYX_SOAK_SECONDS says. Every request is answered, with the reference's numbers or with an error that says
//! what has happened; the metrics count what the clients have seen; memory stays flat; and SIGTERM loses nothing.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod books;
mod clients;
mod faults;
mod http;
mod models;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use sardonyx::{DeviceOptions, Select};
use sardonyx_server::{ControlMode, Options, Service, metrics, run};
use sardonyx_testing::devices::usable;
use sardonyx_testing::dice::Dice;

use books::{Outcome, Page};
use clients::World;
use faults::Faults;

/// The rounds after each of which memory is measured, with no request at work.
const ROUNDS: u32 = 10;
/// The growth that is flat, as a share.
const FLAT: f64 = 1.02;
/// A soak of fewer seconds is too short to tell what grows from what has not yet found its size. A longer one needs
/// MALLOC_ARENA_MAX=1: with more arenas, glibc keeps more and more of what threads have given back, up to a bound.
const LONG: u64 = 300;

fn options(repository: &Path) -> Options {
    let mut options = Options::new(vec![repository.to_path_buf()]);
    let local = Some("127.0.0.1:0".parse().unwrap());
    (options.http, options.grpc, options.metrics) = (local, local, None);
    (options.control, options.load) = (ControlMode::Explicit, vec!["*".into()]);
    (options.frames, options.response_cache_bytes) = (faults::FRAMES, 1 << 16);
    // The CPU reference only where tests are told to pass without adapters.
    let select = usable().first().map_or(Select::Cpu, |adapter| Select::Name(adapter.name.clone()));
    options.devices = vec![DeviceOptions::new().select(select)];
    options
}

#[test]
fn soak() {
    let seconds = std::env::var("SARDONYX_SOAK_SECONDS").map_or(20, |text| text.parse::<u64>().unwrap());
    let folder = tempfile::tempdir().unwrap();
    models::fill(folder.path());
    let options = options(folder.path());
    let (ready, is_ready) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        run(options, |server| ready.send((server.service().clone(), server.addresses())).unwrap())
    });
    let (service, addresses) = is_ready.recv().unwrap();
    let world = Arc::new(World::new(addresses.http.unwrap(), addresses.grpc.unwrap(), models::questions()));
    let clients = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    clients.block_on(soaked(&world, &service, folder.path(), Duration::from_secs(seconds)));
    let before = successes(&service);
    let after = clients.block_on(end(&world, || {
        let killed =
            std::process::Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status();
        assert!(killed.unwrap().success());
    }));
    assert_eq!(server.join().unwrap(), Ok(()), "the server has answered all requests before its end");
    assert_eq!(successes(&service) - before, after, "an answer was lost at the end");
    assert_eq!((world.books.wrong.load(Relaxed), world.books.unanswered.load(Relaxed)), (0, 0));
}

async fn soaked(world: &Arc<World>, service: &Service, repository: &Path, time: Duration) {
    let (faults, mut dice, mut version, mut held) = (Faults::default(), Dice(11), 1, Vec::new());
    let mut sums = Page::default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        world.stop.store(false, Relaxed);
        let clients = clients::all(world, &mut dice);
        let seed = Dice(dice.below(usize::MAX) as u64 | 1);
        let over = async {
            tokio::time::sleep((time / ROUNDS).saturating_sub(start.elapsed())).await;
            world.stop.store(true, Relaxed);
        };
        tokio::join!(over, faults::all(world, service, repository, &faults, &mut version, seed));
        for client in clients {
            client.await.unwrap();
        }
        settled(world, service).await;
        let pages = world.books.take();
        counted(service, &pages);
        for page in pages.values() {
            sums.right += page.right;
            sums.full += page.full;
            sums.broken += page.broken;
            sums.gone += page.gone;
        }
        held.push(emptied(world, service).await);
    }
    let (early, late) = held.split_at(held.len() / 2);
    let most = |held: &[[u64; 3]], i: usize| held.iter().map(|held| held[i]).max().unwrap_or(0);
    let growth = [0, 1, 2].map(|i| most(late, i) as f64 / most(early, i).max(1) as f64);
    println!(
        "{sums:?}, {} left, {} wrong, {} unanswered; {faults:?}; resident {} MiB x{:.3}, device {} bytes x{:.3}, and {} without models",
        world.books.left.load(Relaxed),
        world.books.wrong.load(Relaxed),
        world.books.unanswered.load(Relaxed),
        most(late, 0) >> 20,
        growth[0],
        most(late, 1),
        growth[1],
        most(late, 2),
    );
    println!("{held:?}");
    assert!(sums.right > 0 && sums.full > 0 && sums.gone > 0, "{sums:?}");
    assert_eq!(
        most(late, 2),
        most(early, 2),
        "models that were unloaded have left bytes on the device: {held:?}"
    );
    assert!(growth[1] <= FLAT, "{held:?}");
    assert!(time.as_secs() < LONG || growth[0] <= FLAT, "{held:?}");
}

/// Waits until the device is there, every model answers, and nothing waits.
async fn settled(world: &World, service: &Service) {
    world.all_answer(&mut world.connected().await).await;
    while service.served().iter().any(|served| served.pending() > 0) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Compares the metrics with what the clients have seen of the models that were not loaded anew.
fn counted(service: &Service, pages: &BTreeMap<&'static str, Page>) {
    let text = String::from_utf8(metrics::exposition(service)).unwrap();
    let sum = |name: &str, labels: &[&str]| -> u64 {
        let is_wanted = |line: &&str| {
            line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
        };
        let values =
            text.lines().filter(is_wanted).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum::<f64>() as u64
    };
    for model in ["narrow", "perceptron", "cached", "wide", "total", "all"] {
        let page = pages.get(model).copied().unwrap_or_default();
        let label = format!("model=\"{model}\"");
        let seen = (
            sum("nv_inference_request_success", &[&label]),
            sum("nv_inference_request_failure", &[&label]),
            sum("sardonyx_shed_total", &[&label, "reason=\"queue_full\""]),
        );
        assert_eq!(seen, (page.right, page.full + page.broken, page.full), "{model}");
    }
    assert_eq!(sum("nv_inference_count", &["model=\"left\""]), 0, "a request was run whose client had left");
}

/// Unloads all models and loads them again. Returns the bytes of resident memory, and those on the device with and without models.
async fn emptied(world: &World, service: &Service) -> [u64; 3] {
    let mut client = world.connected().await;
    let device = || {
        let device = service.devices().slots().first().and_then(|slot| slot.device_now());
        device.map_or(0, |device| device.memory_bytes())
    };
    for model in models::ALL.iter().rev() {
        faults::unload(&mut client, model).await.unwrap();
    }
    let without = device();
    for model in models::ALL {
        faults::load(&mut client, model).await.unwrap();
    }
    for question in world.questions.iter().filter(|question| question.model != "left") {
        assert!(clients::ask(world, &mut client, question).await);
    }
    let held = [resident(), device(), without];
    // The counts of the round begin with no request.
    for model in models::ALL.iter().rev() {
        faults::unload(&mut client, model).await.unwrap();
    }
    for model in models::ALL {
        faults::load(&mut client, model).await.unwrap();
    }
    world.books.take();
    held
}

/// Resident memory of this process, in bytes; 0 where the system has no `/proc`.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// The requests to `perceptron` that the server has answered.
fn successes(service: &Service) -> u64 {
    let served = service.served();
    let of_model = served.iter().filter(|served| served.config().name == "perceptron");
    of_model.map(|served| served.statistics().success.count()).sum()
}

/// Ends the server under load: a request is answered, or finds that nobody listens. Returns the number of answers.
async fn end(world: &Arc<World>, terminate: impl FnOnce()) -> u64 {
    let questions: Vec<_> =
        world.questions.iter().enumerate().filter(|(_, question)| question.model == "perceptron").collect();
    let clients = (0..16).map(|i| {
        let (world, place) = (world.clone(), questions[i % questions.len()].0);
        tokio::spawn(async move {
            let question = &world.questions[place];
            if i % 2 == 0 {
                until_refused_grpc(&world, question).await
            } else {
                until_refused_http(&world, question).await
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    terminate();
    let mut answers = 0;
    for client in clients {
        answers += client.await.unwrap();
    }
    answers
}

async fn until_refused_grpc(world: &World, question: &models::Question) -> u64 {
    let mut client = world.connected().await;
    let mut answers = 0;
    loop {
        let answer =
            tokio::time::timeout(clients::PATIENCE, client.model_infer(clients::message(question))).await;
        match answer {
            Ok(Ok(response)) => {
                let response = response.into_inner();
                let got = clients::numbers(&response.raw_output_contents[0]);
                answers += 1;
                if let Some(what) = question.difference(&response.model_version, &got) {
                    world.books.note("perceptron", Outcome::Wrong(what));
                }
            }
            Ok(Err(status)) => {
                // The server sends codes without a source; the client gives one to what became of the connection.
                if std::error::Error::source(&status).is_none() {
                    world.books.note("perceptron", Outcome::Wrong(format!("at the end: {status}")));
                }
                return answers;
            }
            Err(_) => {
                world.books.note("perceptron", Outcome::Unanswered);
                return answers;
            }
        }
    }
}

async fn until_refused_http(world: &World, question: &models::Question) -> u64 {
    let request = http::request(question, true);
    let mut answers = 0;
    while let Ok(mut connection) = http::Connection::open(world.http).await {
        loop {
            match tokio::time::timeout(clients::PATIENCE, connection.ask(&request)).await {
                // The server may close a connection that waits for a request.
                Ok(Err(_)) => break,
                Ok(Ok(answer)) => {
                    answers += 1;
                    let wrong = match answer.output() {
                        Ok((version, got)) if answer.status == 200 => question.difference(&version, &got),
                        _ => Some(format!("at the end: {}", answer.text())),
                    };
                    if let Some(what) = wrong {
                        world.books.note("perceptron", Outcome::Wrong(what));
                    }
                }
                Err(_) => {
                    world.books.note("perceptron", Outcome::Unanswered);
                    return answers;
                }
            }
        }
    }
    answers
}

//! `soak SECONDS [ADAPTER]`: sixteen threads use one device, with mixed models and sizes. Sessions come and go, futures and bindings are
//! dropped, and allocations fail at any moment. Every call must answer within a minute, with the reference's numbers or a typed
//! error, and memory must stay flat: ten times, all threads end and the sessions free what they keep. Resident memory and the
//! device's bytes may then grow by 2 % in the second half of the rounds.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use sardonyx::internals::let_allocations;
use sardonyx::{Device, DeviceOptions, Error, Model, Outputs, Session, SessionOptions, Tensor, Tolerance};
use sardonyx_testing::devices;
use sardonyx_testing::dice::Dice;
use sardonyx_testing::onnx::build::{FLOAT, INT64, bytes, graph, int, ints, model, node, value, weights};

const THREADS: u64 = 16;
/// A call that takes longer has no answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The rounds after each of which memory is measured, with no call at work: while sixteen threads run, it goes up and down
/// with the sizes that they draw.
const ROUNDS: u32 = 10;
/// The growth that is flat, as a share.
const FLAT: f64 = 1.02;

/// Sums of up to 100 products of numbers below 1, in another order.
const SUMS: Tolerance = Tolerance { relative: 1e-4, absolute: 1e-5 };

/// A model, with inputs of several sizes and the outputs of the reference.
struct Subject {
    model: Model,
    runs: Vec<(Tensor, Outputs)>,
}

fn numbers(dice: &mut Dice, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let numbers: Vec<f32> = (0..count).map(|_| dice.below(2000) as f32 / 1000.0 - 1.0).collect();
    Tensor::from_slice(shape, &numbers).unwrap()
}

fn subject(file: &[u8], inputs: impl IntoIterator<Item = Tensor>) -> Subject {
    let model = Model::from_bytes(file.to_vec()).unwrap();
    let reference = Session::new(&Device::reference(), &model, SessionOptions::new()).unwrap();
    let runs = inputs.into_iter().map(|x| {
        let outputs = reference.run(&[("x", &x)]).unwrap();
        (x, outputs)
    });
    Subject { runs: runs.collect(), model }
}

/// A perceptron, an embedding, a small convolutional network, and heads of attention.
fn subjects() -> Vec<Subject> {
    let mut dice = Dice(1);
    let mut weight = |name: &str, dims: &[usize]| {
        let values = numbers(&mut dice, dims).to_vec::<f32>().unwrap();
        weights(name, &dims.iter().map(|&d| d as i64).collect::<Vec<_>>(), &values)
    };
    let file = |nodes, input, initializer| {
        let mut main = graph(&[], nodes, &["y"]);
        (main.input, main.initializer) = (vec![input], initializer);
        bytes(&model(21, main)).to_vec()
    };
    let perceptron = file(
        vec![
            node("MatMul", &["x", "w"], &["h"]),
            node("Gelu", &["h"], &["g"]),
            node("MatMul", &["g", "v"], &["y"]),
        ],
        value("x", FLOAT, &["n", "48"]),
        vec![weight("w", &[48, 96]), weight("v", &[96, 24])],
    );
    let embedding = file(
        vec![node("Gather", &["w", "x"], &["h"]), node("ReduceSum", &["h"], &["y"]).with(int("keepdims", 1))],
        value("x", INT64, &["n"]),
        vec![weight("w", &[50, 16])],
    );
    let convolutions = file(
        vec![
            node("Conv", &["x", "w"], &["c"]).with(ints("pads", &[1, 1, 1, 1])),
            node("Relu", &["c"], &["r"]),
            node("Conv", &["r", "v"], &["d"]).with(ints("strides", &[2, 2])),
            node("Concat", &["d", "d"], &["e"]).with(int("axis", 1)),
            node("GlobalAveragePool", &["e"], &["y"]),
        ],
        value("x", FLOAT, &["1", "3", "h", "w"]),
        vec![weight("w", &[8, 3, 3, 3]), weight("v", &[6, 8, 1, 1])],
    );
    let attention = file(
        vec![
            node("Transpose", &["x"], &["t"]).with(ints("perm", &[0, 2, 1])),
            node("MatMul", &["x", "t"], &["s"]),
            node("Softmax", &["s"], &["p"]).with(int("axis", -1)),
            node("MatMul", &["p", "x"], &["y"]),
        ],
        value("x", FLOAT, &["b", "n", "32"]),
        Vec::new(),
    );
    let indices = |n: i64| Tensor::from_vec(&[n as usize], (0..n).map(|i| i * 7 % 50).collect()).unwrap();
    let sizes = [1, 2, 3, 5, 8, 16, 17, 33, 64, 100];
    vec![
        subject(&perceptron, sizes.map(|n| numbers(&mut dice, &[n, 48]))),
        subject(&embedding, sizes.map(|n| indices(n as i64))),
        subject(&convolutions, sizes.map(|n| numbers(&mut dice, &[1, 3, n + 2, 2 * n + 1]))),
        subject(&attention, sizes.map(|n| numbers(&mut dice, &[1 + n % 3, n, 32]))),
    ]
}

/// What the threads count.
#[derive(Default)]
struct Counts {
    right: AtomicU64,
    wrong: AtomicU64,
    /// Calls that ended in `Error::OutOfMemory`, which is what the faults are to cause.
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    fn count(&self, outcome: Result<Outputs, Error>, expected: &Outputs) {
        match outcome.map(|outputs| differs(&outputs, expected)) {
            Ok(None) => self.right.fetch_add(1, Relaxed),
            Err(Error::OutOfMemory { .. }) => self.failed.fetch_add(1, Relaxed),
            Ok(Some(what)) => self.report(&what),
            Err(error) => self.report(&error.to_string()),
        };
    }

    fn report(&self, what: &str) -> u64 {
        eprintln!("wrong: {what}");
        self.wrong.fetch_add(1, Relaxed)
    }
}

fn differs(outputs: &Outputs, expected: &Outputs) -> Option<String> {
    expected.iter().find_map(|(name, tensor)| match tensor.difference(&outputs[name], SUMS) {
        Ok(None) => None,
        Ok(Some(difference)) => Some(format!("{name}: {difference:?}")),
        Err(error) => Some(error.to_string()),
    })
}

/// One thread's work, until `stop`. `busy` holds the time in milliseconds at which its call began.
fn work(
    mut dice: Dice,
    device: &Device,
    subjects: &[Subject],
    shared: &[Session],
    counts: &Counts,
    busy: &dyn Fn(),
    stop: &AtomicBool,
) {
    while !stop.load(Relaxed) {
        busy();
        let chosen = dice.below(subjects.len());
        let subject = &subjects[chosen];
        let (x, expected) = &subject.runs[dice.below(subject.runs.len())];
        let inputs = [("x", x)];
        let session = &shared[chosen];
        match dice.below(20) {
            0 => {
                let own = Session::new(device, &subject.model, SessionOptions::new().plan_cache(2));
                counts.count(own.and_then(|own| own.run(&inputs)), expected);
            }
            1 => {
                let bound = session.bind().input("x", x).build().and_then(|mut binding| {
                    binding.run()?;
                    binding.read("y")
                });
                match bound.map(|y| expected["y"].difference(&y, SUMS)) {
                    Ok(Ok(None)) => drop(counts.right.fetch_add(1, Relaxed)),
                    Err(Error::OutOfMemory { .. }) => drop(counts.failed.fetch_add(1, Relaxed)),
                    other => drop(counts.report(&format!("binding: {other:?}"))),
                }
            }
            2 | 3 => {
                let mut future = Box::pin(session.run_async(&inputs));
                let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                counts.dropped.fetch_add(1, Relaxed);
            }
            4 => session.trim(),
            5..=9 => counts.count(pollster::block_on(session.run_async(&inputs)), expected),
            _ => counts.count(session.run(&inputs), expected),
        }
    }
}

/// Resident memory of this process, in bytes; 0 where the system has no `/proc`.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// What sixteen threads and the faults between them do in `time`. Ends the process if a call has no answer.
fn round(
    device: &Device,
    subjects: &[Subject],
    shared: &[Session],
    counts: &Counts,
    dice: &mut Dice,
    time: Duration,
) {
    let (stop, start) = (AtomicBool::new(false), Instant::now());
    let began: Vec<AtomicU64> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
    let now = || start.elapsed().as_millis() as u64;
    std::thread::scope(|scope| {
        for began in &began {
            let (own, stop) = (Dice(dice.below(usize::MAX) as u64 | 1), &stop);
            scope.spawn(move || {
                work(own, device, subjects, shared, counts, &|| began.store(now(), Relaxed), stop);
                began.store(u64::MAX, Relaxed);
            });
        }
        let mut unanswered = 0;
        while unanswered == 0 && start.elapsed() < time {
            std::thread::sleep(Duration::from_millis(100));
            let_allocations(device, dice.below(60));
            std::thread::sleep(Duration::from_millis(dice.below(20) as u64));
            let_allocations(device, usize::MAX);
            let late =
                |began: &&AtomicU64| began.load(Relaxed).saturating_add(PATIENCE.as_millis() as u64) <= now();
            unanswered = began.iter().filter(late).count();
        }
        stop.store(true, Relaxed);
        if unanswered > 0 {
            eprintln!("{unanswered} calls have no answer after {PATIENCE:?}");
            std::process::exit(1);
        }
    });
}

fn soak(adapter: &str, time: Duration) -> bool {
    let device = Device::new(DeviceOptions::new().select(sardonyx::Select::Name(adapter.into()))).unwrap();
    let subjects = subjects();
    let shared: Vec<Session> = subjects
        .iter()
        .map(|subject| Session::new(&device, &subject.model, SessionOptions::new()).unwrap())
        .collect();
    let (counts, mut dice, mut held) = (Counts::default(), Dice(7), Vec::new());
    for _ in 0..ROUNDS {
        round(&device, &subjects, &shared, &counts, &mut dice, time / ROUNDS);
        shared.iter().for_each(Session::trim);
        held.push([resident(), device.memory_bytes()]);
    }
    let (before, after) = held.split_at(held.len() / 2);
    let most = |held: &[[u64; 2]], i: usize| held.iter().map(|held| held[i]).max().unwrap_or(0);
    let growth = [0, 1].map(|i| most(after, i) as f64 / most(before, i).max(1) as f64);
    println!(
        "{adapter}: {} right, {} wrong, {} out of memory, {} dropped, 0 unanswered in {time:.0?}; resident {} MiB x{:.3}, \
         device {} KiB x{:.3}",
        counts.right.into_inner(),
        counts.wrong.load(Relaxed),
        counts.failed.into_inner(),
        counts.dropped.into_inner(),
        most(after, 0) >> 20,
        growth[0],
        most(after, 1) >> 10,
        growth[1],
    );
    counts.wrong.load(Relaxed) == 0 && growth.iter().all(|growth| *growth <= FLAT)
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let seconds: u64 =
        args.next().and_then(|text| text.parse().ok()).expect("the seconds that each adapter is used");
    let one = args.next();
    let adapters = devices::usable().into_iter().map(|adapter| adapter.name);
    let adapters = adapters.filter(|name| one.as_ref().is_none_or(|one| name.contains(one.as_str())));
    let passed: Vec<bool> = adapters.map(|name| soak(&name, Duration::from_secs(seconds))).collect();
    if !passed.is_empty() && passed.into_iter().all(|passed| passed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

//! Tests of the queue, of joining and separating, and of checks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sardonyx::Tensor;
use sardonyx_testing::onnx::build::{FLOAT, bytes, graph, model as onnx_model, node, value};
use tokio::sync::oneshot::{self, Receiver};

use super::batch::{join, split};
use super::check::Fit;
use super::held::Value;
use super::instance::{self, Instance};
use super::place::{Computes, Unrun};
use super::queue::{Queue, Refused};
use super::statistics::{Shed, Statistics};
use crate::config::{Batching, Config, QueuePolicy};
use crate::{Failure, Reason, Request, Response};

type Answered = Receiver<Result<Response, Failure>>;

struct Bench {
    queue: Queue,
    statistics: Arc<Statistics>,
}

impl Bench {
    fn new(batching: Batching, max_batch: usize) -> Bench {
        let statistics = Arc::new(Statistics::default());
        Bench { queue: Queue::new(batching, max_batch, 4, statistics.clone()), statistics }
    }

    fn push(&self, request: Request, rows: usize) -> Result<Answered, Refused> {
        let (answer, answered) = oneshot::channel();
        self.queue.push(request, fit(rows, Some(3), 3), answer).map(|()| answered)
    }

    fn add(&self, id: &str, rows: usize) -> Answered {
        self.push(named(id), rows).unwrap()
    }

    /// The ids of the next batch.
    fn take(&self) -> Vec<String> {
        let batch = self.queue.take().unwrap();
        batch.requests.into_iter().map(|waiting| waiting.request.id).collect()
    }
}

/// A request with so many elements in a row, or one that runs by itself.
fn fit(rows: usize, elements: Option<usize>, length: usize) -> Fit {
    Fit { rows, key: elements.map(|elements| vec![("x".into(), vec![elements])]), length }
}

fn named(id: &str) -> Request {
    Request { id: id.into(), model: "m".into(), ..Request::default() }
}

fn failure(mut answered: Answered) -> Failure {
    answered.try_recv().unwrap().unwrap_err()
}

#[test]
fn what_waits_together_is_a_batch() {
    let bench = Bench::new(Batching::default(), 4);
    let _kept = [bench.add("a", 1), bench.add("b", 2), bench.add("c", 2), bench.add("d", 1)];
    assert_eq!(bench.take(), ["a", "b", "d"], "c does not fit, d does");
    assert_eq!(bench.take(), ["c"]);
}

#[test]
fn only_equal_shapes_are_a_batch() {
    let bench = Bench::new(Batching::default(), 4);
    let _a = bench.add("a", 1);
    let (answer, _b) = oneshot::channel();
    bench.queue.push(named("b"), fit(1, Some(5), 5), answer).unwrap();
    let (answer, _c) = oneshot::channel();
    bench.queue.push(named("c"), fit(1, None, 0), answer).unwrap();
    let _d = bench.add("d", 1);
    assert_eq!(bench.take(), ["a", "d"]);
    assert_eq!(bench.take(), ["b"]);
    assert_eq!(bench.take(), ["c"]);
}

#[test]
fn equal_lengths_of_a_bucket_come_first() {
    let bench = Bench::new(Batching::default(), 2);
    let mut kept = Vec::new();
    for (id, length) in [("a", 5), ("b", 6), ("c", 5), ("d", 7)] {
        let (answer, answered) = oneshot::channel();
        bench.queue.push(named(id), fit(1, Some(8), length), answer).unwrap();
        kept.push(answered);
    }
    assert_eq!(bench.take(), ["a", "c"]);
    assert_eq!(bench.take(), ["b", "d"], "others of the bucket fill a batch");
}

#[test]
fn a_full_batch_or_a_preferred_one_waits_no_longer() {
    let delay = Duration::from_secs(60);
    let batching = Batching { delay, preferred: vec![2], ..Batching::default() };
    let bench = Bench::new(batching.clone(), 4);
    let _kept = [bench.add("a", 1), bench.add("b", 1), bench.add("c", 1)];
    assert_eq!(bench.take(), ["a", "b"], "two rows are preferred");
    let bench = Bench::new(Batching { preferred: vec![], ..batching }, 4);
    let _kept = [bench.add("a", 3), bench.add("b", 1)];
    assert_eq!(bench.take(), ["a", "b"], "four rows are the most");
}

#[test]
fn a_batch_waits_for_its_delay() {
    let delay = Duration::from_millis(80);
    let bench = Bench::new(Batching { delay, ..Batching::default() }, 4);
    let start = Instant::now();
    let _a = bench.add("a", 1);
    assert_eq!(bench.take(), ["a"]);
    assert!(start.elapsed() >= delay);
}

#[test]
fn a_full_queue_says_so_at_once() {
    let bench = Bench::new(Batching::default(), 1);
    let kept: Vec<_> = (0..4).map(|i| bench.add(&i.to_string(), 1)).collect();
    match bench.push(named("late"), 1) {
        Err(Refused::Shed(Shed::QueueFull, failure)) => assert_eq!(failure.reason, Reason::QueueFull),
        other => panic!("{other:?}"),
    }
    drop(kept);
    let _late = bench.push(named("late"), 1).unwrap();
    assert_eq!(bench.take(), ["late"], "those who have gone make room");
}

#[test]
fn nobody_s_request_is_run() {
    let bench = Bench::new(Batching::default(), 1);
    drop(bench.add("gone", 1));
    let soon = Instant::now() + Duration::from_millis(1);
    let late = bench.push(Request { deadline: Some(soon), ..named("late") }, 1).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let _here = bench.add("here", 1);
    assert_eq!(bench.take(), ["here"]);
    assert_eq!(failure(late).reason, Reason::Expired);
    assert_eq!(bench.statistics.shed_count(Shed::Cancelled), 1);
    assert_eq!(bench.statistics.shed_count(Shed::Deadline), 1);
}

#[test]
fn the_policy_of_a_level_ends_waiting() {
    let policy = QueuePolicy { timeout: Some(Duration::from_millis(1)), ..QueuePolicy::default() };
    let delays = QueuePolicy { delays: true, ..policy.clone() };
    let policies = BTreeMap::from([(2, delays)]);
    let bench =
        Bench::new(Batching { levels: 3, default_level: 3, policy, policies, ..Batching::default() }, 1);
    let rejected = bench.push(Request { priority: 1, ..named("rejected") }, 1).unwrap();
    let _delayed = bench.push(Request { priority: 2, ..named("delayed") }, 1).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let _fresh = bench.push(Request { priority: 3, ..named("fresh") }, 1).unwrap();
    assert_eq!(bench.take(), ["fresh"], "late requests are run after all others");
    assert_eq!(bench.take(), ["delayed"]);
    assert_eq!(failure(rejected).reason, Reason::Unavailable);
    assert_eq!(bench.statistics.shed_count(Shed::Timeout), 1);
}

#[test]
fn a_request_may_shorten_its_wait_but_not_lengthen_it() {
    let hour = Duration::from_secs(3600);
    let policy =
        QueuePolicy { timeout: Some(Duration::from_millis(1)), may_shorten: true, ..QueuePolicy::default() };
    let bench = Bench::new(Batching { policy, ..Batching::default() }, 1);
    let long = bench.push(Request { timeout: Some(hour), ..named("long") }, 1).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    bench.queue.close();
    assert!(bench.queue.take().is_none());
    assert_eq!(failure(long).reason, Reason::Unavailable);
}

#[test]
fn the_first_level_comes_first() {
    let bench = Bench::new(Batching { levels: 2, default_level: 2, ..Batching::default() }, 1);
    let _low = bench.add("low", 1);
    let _high = bench.push(Request { priority: 1, ..named("high") }, 1).unwrap();
    assert_eq!(bench.take(), ["high"]);
    assert_eq!(bench.take(), ["low"]);
}

#[test]
fn a_closed_queue_answers_those_who_wait() {
    let bench = Bench::new(Batching { delay: Duration::from_secs(60), ..Batching::default() }, 4);
    let _a = bench.add("a", 1);
    bench.queue.close();
    assert!(matches!(bench.push(named("b"), 1), Err(Refused::Closed(request)) if request.id == "b"));
    assert_eq!(bench.take(), ["a"], "without waiting for the delay");
    assert!(bench.queue.take().is_none());
}

fn rows(of: &[[f32; 2]]) -> Vec<(String, Tensor)> {
    vec![("x".into(), Tensor::from_slice(&[of.len(), 2], of.as_flattened()).unwrap())]
}

fn values(of: &[(String, Tensor)]) -> Vec<(String, Value)> {
    of.iter().map(|(name, tensor)| (name.clone(), Value::Host(tensor.clone()))).collect()
}

#[test]
fn joined_rows_are_separated_again() {
    let (a, b) = (rows(&[[1.0, 2.0]]), rows(&[[3.0, 4.0], [5.0, 6.0]]));
    let joined = join(vec![values(&a), values(&b)], 1).unwrap()[0].1.read().unwrap();
    assert_eq!(joined.shape(), [4, 2]);
    assert_eq!(joined.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0]);
    let parts = split(joined, &[1, 2]).unwrap();
    assert_eq!(parts, [a[0].1.clone(), b[0].1.clone()]);
    let strings = Tensor::from_strings(&[3], ["p", "q", "r"].map(String::from).into()).unwrap();
    let parts = split(strings, &[1, 2]).unwrap();
    assert_eq!(parts[1].strings().unwrap(), ["q", "r"]);
}

#[test]
fn an_output_without_rows_is_no_answer() {
    let one = Tensor::from_slice(&[1, 2], &[1.0f32, 2.0]).unwrap();
    assert!(split(one, &[1, 1]).unwrap_err().text.contains("1 rows for a batch of 2"));
    let none = Tensor::from_slice(&[], &[1.0f32]).unwrap();
    assert!(split(none, &[1]).is_err());
}

/// A model that answers what it is asked, and whose caller leaves meanwhile.
#[derive(Debug)]
struct Leaves(Mutex<Option<Answered>>);

impl Computes for Leaves {
    fn run(&self, inputs: &[(String, Value)], _: &[String]) -> Result<Vec<(String, Value)>, Unrun> {
        drop(self.0.lock().unwrap().take());
        Ok(inputs.to_vec())
    }

    fn device_time(&self) -> Option<Duration> {
        None
    }

    fn memory(&self) -> u64 {
        0
    }

    fn end(&self) {}
}

#[test]
fn who_leaves_during_the_run_is_counted() {
    let mut graph = graph(&[], vec![node("Identity", &["x"], &["y"])], &[]);
    graph.input = vec![value("x", FLOAT, &["N", "2"])];
    graph.output = vec![value("y", FLOAT, &["N", "2"])];
    let model = sardonyx::Model::from_bytes(bytes(&onnx_model(17, graph))).unwrap();
    let config = Config::complete(Default::default(), "m", Some(&model), &Nothing).unwrap();
    let bench = Bench::new(Batching::default(), 1);
    let Bench { queue, statistics } = bench;
    let (answer, answered) = oneshot::channel();
    let request = Request { inputs: rows(&[[1.0, 2.0]]), ..named("leaves") };
    queue.push(request, fit(1, Some(2), 0), answer).unwrap();
    queue.close();
    let instance = Arc::new(Instance {
        config: Arc::new(config),
        version: 1,
        batching: Batching::default(),
        queue: Arc::new(queue),
        place: Arc::new(Leaves(Mutex::new(Some(answered)))),
        statistics: statistics.clone(),
        order: None,
        busy_since: Mutex::default(),
    });
    let (count, mut running) = tokio::sync::watch::channel(0);
    instance::start(&instance, &Arc::new(count)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { running.wait_for(|&count| count == 0).await.map(|_| ()) }).unwrap();
    assert_eq!((statistics.shed_count(Shed::Abandoned), statistics.shed_count(Shed::Cancelled)), (1, 0));
}

/// No files.
struct Nothing;

impl crate::config::Files for Nothing {
    fn read(&self, _: &str) -> Result<Option<bytes::Bytes>, Failure> {
        Ok(None)
    }
}

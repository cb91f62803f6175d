//! Tests of what is watched of a model as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sardonyx::DType;
use serde_json::json;

use super::*;
use crate::config::from_pbtxt;

type Port<'a> = (&'a str, DType, &'a [Option<usize>]);

/// A configuration of a model with these inputs and outputs.
pub(super) fn config(
    max_batch: usize,
    inputs: &[Port],
    outputs: &[Port],
    parameters: &[(&str, &str)],
) -> Config {
    // An ensemble needs no ONNX file.
    let outputs = if outputs.is_empty() { &[("none", DType::I64, &[Some(1)][..])][..] } else { outputs };
    let port = |kind: &str, (name, dtype, dims): &Port| {
        let dtype = crate::datatype::name(*dtype).unwrap().replace("BYTES", "STRING");
        let dims: Vec<String> =
            dims.iter().map(|dim| dim.map_or("-1".into(), |dim| dim.to_string())).collect();
        format!("{kind} {{ name: \"{name}\" data_type: TYPE_{dtype} dims: [{}] }}\n", dims.join(", "))
    };
    let map = |kind: &str, ports: &[Port]| -> String {
        let entry = |(name, _, _): &Port| format!("{kind}_map {{ key: \"{name}\" value: \"{name}\" }}\n");
        ports.iter().map(entry).collect()
    };
    let mut text = format!("platform: \"ensemble\" max_batch_size: {max_batch}\n");
    inputs.iter().for_each(|of| text += &port("input", of));
    outputs.iter().for_each(|of| text += &port("output", of));
    text += "ensemble_scheduling { step { model_name: \"inner\" model_version: -1\n";
    text += &(map("input", inputs) + &map("output", outputs) + "} }\n");
    for (name, value) in parameters {
        text += &format!("parameters {{ key: \"{name}\" value {{ string_value: \"{value}\" }} }}\n");
    }
    Config::complete(from_pbtxt(&text).unwrap(), "m", None, &Beside::default()).unwrap()
}

#[derive(Default)]
struct Beside(BTreeMap<String, Bytes>);

impl Files for Beside {
    fn read(&self, path: &str) -> Result<Option<Bytes>, Failure> {
        Ok(self.0.get(path).cloned())
    }
}

const CLASSIFIER: (Port, Port) = (("x", DType::F32, &[Some(2)]), ("y", DType::F32, &[Some(3)]));

fn classifier(parameters: &[(&str, &str)]) -> Config {
    config(8, &[CLASSIFIER.0], &[CLASSIFIER.1], parameters)
}

fn watched(parameters: &[(&str, &str)], files: &Beside, file: PathBuf) -> Result<Option<Watched>, Failure> {
    Watching::open(None).unwrap().watch(&classifier(parameters), 1, files, file)
}

fn plan(parameters: &[(&str, &str)]) -> Result<Plan, String> {
    Plan::of(&classifier(parameters))
}

#[test]
fn nothing_is_watched_unless_it_is_asked_for() {
    assert!(watched(&[], &Beside::default(), PathBuf::new()).unwrap().is_none());
    let off = [("feedback", "false"), ("drift", "false"), ("payload_log", "0")];
    assert!(watched(&off, &Beside::default(), PathBuf::new()).unwrap().is_none());
    // No folder for payloads.
    assert!(watched(&[("payload_log", "1")], &Beside::default(), PathBuf::new()).unwrap().is_none());
}

#[test]
fn parameters_are_read_or_refused_in_words() {
    let given =
        plan(&[("feedback", "true"), ("feedback.top", "3"), ("drift", "true"), ("drift.sample", "0.5")]);
    let given = given.unwrap();
    let feedback = given.feedback.unwrap();
    assert_eq!((feedback.kind, feedback.top, feedback.kept), (plan::Kind::Scores, 3, 10_000));
    assert_eq!(given.drift, Some(plan::DriftPlan { sample: 0.5, learn: 1000, window: 1000 }));
    for (name, value, text) in [
        ("feedback", "yes", "'true' or 'false'"),
        ("feedback.colour", "red", "there is no parameter 'feedback.colour'"),
        ("drift.window", "1", "from 100 to"),
        ("drift.sample", "1.1", "a share from 0 to 1"),
        ("drift.sample", "NaN", "a share from 0 to 1"),
        ("feedback.output", "z", "no output has this name"),
        ("feedback.kind", "red", "'scores', 'label' or 'values'"),
        ("payload_log", "-1", "a share from 0 to 1"),
        ("payload_log.z", "keep", "neither an input nor an output"),
        ("payload_log.x", "show", "'keep', 'hash', 'summary' or 'drop'"),
    ] {
        let on = [("feedback", "true"), ("drift", "true")];
        let given: Vec<_> = on.into_iter().filter(|(of, _)| *of != name).chain([(name, value)]).collect();
        let refused = plan(&given).unwrap_err();
        assert!(refused.contains(text), "{name} = {value}: {refused}");
    }
}

#[test]
fn the_kind_of_an_output_is_known_by_its_type() {
    let kind = |dtype, dims: &[Option<usize>]| {
        let config = config(0, &[CLASSIFIER.0], &[("y", dtype, dims)], &[("feedback", "true")]);
        Plan::of(&config).map(|plan| plan.feedback.unwrap().kind)
    };
    assert_eq!(kind(DType::F32, &[None, Some(10)]), Ok(plan::Kind::Scores));
    assert_eq!(kind(DType::F32, &[None, Some(1)]), Ok(plan::Kind::Values));
    assert_eq!(kind(DType::F32, &[None]), Ok(plan::Kind::Values));
    assert_eq!(kind(DType::I64, &[None]), Ok(plan::Kind::Label));
    assert_eq!(kind(DType::String, &[None]), Ok(plan::Kind::Label));
    assert!(
        kind(DType::F32, &[None, Some(21), Some(64), Some(64)]).unwrap_err().contains("several dimensions")
    );
}

fn request(id: &str, x: [f32; 2]) -> Request {
    let x = Tensor::from_slice(&[1, 2], &x).unwrap();
    Request { model: "m".into(), id: id.into(), inputs: vec![("x".into(), x)], ..Request::default() }
}

/// Lets a request be answered with these scores. Returns its id.
fn serve(watched: &Watched, mut request: Request, y: [f32; 3]) -> String {
    let seen = watched.meet(&mut request);
    let outputs = vec![("y".into(), Tensor::from_slice(&[1, 3], &y).unwrap())];
    let response =
        Response { model: "m".into(), version: "1".into(), id: request.id, outputs, ..Response::default() };
    watched.answered(seen, &response);
    response.id
}

#[test]
fn a_request_without_an_id_gets_one_where_feedback_is_on() {
    let on = watched(&[("feedback", "true")], &Beside::default(), PathBuf::new()).unwrap().unwrap();
    let first = serve(&on, request("", [0.0; 2]), [0.0, 1.0, 0.0]);
    let second = serve(&on, request("", [0.0; 2]), [0.0, 1.0, 0.0]);
    assert!(first.len() == 32 && first != second);
    assert_eq!(serve(&on, request("mine", [0.0; 2]), [0.0, 1.0, 0.0]), "mine");
    let truth = Truth { id: first, rows: vec![Some(RowTruth::Class(1))] };
    assert_eq!(judge("m", [(1, &on), (2, &on)], None, &truth).unwrap(), [(1, 1), (2, 0)]);
    let missing = judge("m", [(1, &on)], None, &Truth { id: "x".into(), ..truth.clone() }).unwrap_err();
    assert_eq!(missing.reason, Reason::NotFound);
    assert_eq!(on.feedback().unwrap().unknown, 1);
    let off = watched(&[("drift", "true")], &Beside::default(), PathBuf::new()).unwrap().unwrap();
    assert_eq!(serve(&off, request("", [0.0; 2]), [0.0, 1.0, 0.0]), "");
    assert_eq!(judge("m", [(1, &off)], None, &truth).unwrap_err().reason, Reason::Invalid);
}

/// Waits until the thread aside has brought something about.
#[track_caller]
fn wait(until: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if until() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("nothing came about");
}

/// Numbers from -1 to 1.
fn noise(i: u64) -> f32 {
    (Random::new(i).next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

fn feed(watched: &Watched, count: u64, of: impl Fn(u64) -> ([f32; 2], [f32; 3])) {
    for i in 0..count {
        let (x, y) = of(i);
        let before = watched.watching.counts().drift_dropped;
        serve(watched, request("", x), y);
        // Nothing is dropped if the thread keeps up.
        if i % 100 == 99 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(before, watched.watching.counts().drift_dropped);
    }
}

#[test]
fn a_baseline_is_learned_written_read_and_compared_with() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(BASELINE);
    let parameters = [("drift", "true"), ("drift.learn", "500"), ("drift.window", "400")];
    let first = watched(&parameters, &Beside::default(), file.clone()).unwrap().unwrap();
    let usual = |i: u64| ([noise(i), noise(i + 5000)], [0.0, noise(i + 9000), 0.0]);
    assert_eq!(first.baseline().unwrap_err().reason, Reason::NotFound);
    feed(&first, 500, usual);
    wait(|| file.exists() && first.drift().unwrap().state == "collecting");
    assert_eq!(first.drift().unwrap().psi_max, None, "there is nothing to compare");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing unfinished is left");

    // The same model, loaded anew, finds the file.
    let json = Bytes::from(std::fs::read(&file).unwrap());
    let files = Beside(BTreeMap::from([("1/baseline.json".into(), json.clone())]));
    let again = watched(&parameters, &files, file.clone()).unwrap().unwrap();
    assert_eq!(again.baseline().unwrap(), first.baseline().unwrap());
    feed(&again, 400, |i| usual(i + 1000));
    wait(|| again.drift().unwrap().rows == 400);
    let shown = again.drift().unwrap();
    assert_eq!((shown.state, shown.baseline_rows, shown.series), ("watching", 500, 6));
    assert!(shown.psi_max.unwrap() < 0.1 && shown.ks_max.unwrap() < 0.12, "{shown:?}");

    // x[0] moves, and with it the class.
    feed(&again, 400, |i| ([noise(i) + 1.0, noise(i + 777)], [0.0, 0.0, 1.0]));
    wait(|| again.drift().unwrap().top.iter().any(|series| series.name == "x[0]" && series.psi > 1.0));
    wait(|| again.drift().unwrap().top.iter().any(|series| series.name == "y.class" && series.psi > 0.25));
    let shown = again.drift().unwrap();
    assert_eq!(shown.rows, 400, "the window has forgotten what came before");
    let of = |name: &str| shown.top.iter().find(|series| series.name == name).unwrap();
    assert!(of("x[0]").ks_probability.unwrap() < 1e-6 && of("x[0]").ks.unwrap() > 0.4);
    assert!(of("x[1]").psi < 0.1 && of("x[1]").ks_probability.unwrap() > 1e-4, "{:?}", of("x[1]"));
    assert_eq!(of("y.class").ks, None);
    assert_eq!(shown.psi_max, Some(shown.top[0].psi));

    // What is usual changes by command.
    assert!(again.learn_baseline(Some(1)).is_err());
    assert_eq!(again.learn_baseline(Some(200)).unwrap(), 200);
    assert_eq!(again.drift().unwrap().state, "learning");
    feed(&again, 200, |i| ([noise(i) + 1.0, noise(i + 777)], [0.0, 0.0, 1.0]));
    wait(|| again.drift().unwrap().state == "collecting");
    wait(|| std::fs::read(&file).is_ok_and(|now| now != json));
    assert!(watched(&[("feedback", "true")], &files, file).unwrap().unwrap().learn_baseline(None).is_err());
}

#[test]
fn a_baseline_that_is_none_is_refused() {
    for text in ["", "{}", r#"{"rows": 1, "series": {"x": {"bounds": [2, 1], "counts": [1, 1, 1, 1]}}}"#] {
        let files = Beside(BTreeMap::from([("baseline.json".into(), Bytes::from(text))]));
        let refused = watched(&[("drift", "true")], &files, PathBuf::new()).unwrap_err();
        assert!(refused.text.contains("baseline.json") && refused.text.contains("remove it"), "{refused}");
        assert!(watched(&[("feedback", "true")], &files, PathBuf::new()).is_ok(), "nothing reads it");
    }
    // Series of another model are passed over.
    let other = r#"{"rows": 1, "series": {"z": {"bounds": [1], "counts": [0, 1, 0]}, "y.class": {"bounds": [], "counts": [1, 0]}}}"#;
    let files = Beside(BTreeMap::from([("baseline.json".into(), Bytes::from(other))]));
    let watched = watched(&[("drift", "true")], &files, PathBuf::new()).unwrap().unwrap();
    feed(&watched, 1, |_| ([0.0; 2], [0.0; 3]));
    assert_eq!(watched.drift().unwrap().state, "collecting");
}

#[test]
fn a_folder_that_cannot_be_written_to_stops_nothing() {
    let file = PathBuf::from("/nonexistent/baseline.json");
    let parameters = [("drift", "true"), ("drift.learn", "100")];
    let watched = watched(&parameters, &Beside::default(), file).unwrap().unwrap();
    feed(&watched, 100, |i| ([noise(i); 2], [0.0; 3]));
    wait(|| watched.drift().unwrap().unwritten.is_some());
    assert_eq!(watched.drift().unwrap().state, "collecting");
}

#[test]
fn a_share_of_requests_is_sampled() {
    let count = (0..10_000).filter(|&number| is_sampled(number, 0.1)).count();
    // The standard deviation is 30.
    assert!((850..1150).contains(&count), "{count}");
    assert!((0..10_000).all(|number| is_sampled(number, 1.0) && !is_sampled(number, 0.0)));
}

#[test]
fn a_share_of_payloads_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let log = PayloadLog { folder: folder.path().into(), bytes: 1 << 20, age: Duration::from_secs(600) };
    let watching = Watching::open(Some(log)).unwrap();
    let parameters = [("payload_log", "0.5"), ("payload_log.x", "keep"), ("payload_log.y", "drop")];
    let watched = watching.watch(&classifier(&parameters), 1, &Beside::default(), PathBuf::new());
    let watched = watched.unwrap().unwrap();
    for i in 0..100u8 {
        serve(&watched, request("id", [f32::from(i), 0.5]), [0.0; 3]);
    }
    let expected = (0..100u64).filter(|number| is_sampled(!number, 0.5)).count();
    wait(|| watching.counts().payloads_written == expected as u64);
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(file).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() == expected && (30..70).contains(&expected));
    for line in lines {
        let data = &line["inputs"]["x"]["data"];
        assert_eq!((line["outputs"].as_object().unwrap().len(), &data[1]), (0, &json!(0.5)));
    }
    assert_eq!(watching.counts().payloads_failed + watching.counts().payloads_dropped, 0);
}

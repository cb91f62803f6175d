//! Accuracy in production: predictions are kept for a while, and compared with what clients say would have been right.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Map, Value};

use super::numbers::Numbers;
use super::plan::{FeedbackPlan, Kind};
use crate::classification::greatest;
use crate::{Failure, Reason, Response};

/// The elements of an output that is kept: it is looked at while the client waits.
const MOST_ELEMENTS: usize = 16_384;

/// The numbers and texts that are kept of a prediction.
const MOST_KEPT: usize = 256;

/// The bytes of an id, and of a text that is a label.
const LONGEST: usize = 256;

/// What would have been right for a request, as a client says afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// The request's id.
    pub id: String,
    /// For each row of the request; `None` for one of which nothing is known.
    pub rows: Vec<Option<RowTruth>>,
}

/// What would have been right for a row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowTruth {
    /// The class, by its number.
    Class(i64),
    /// The class, by its name.
    Name(String),
    /// The values.
    Values(Vec<f64>),
}

impl Truth {
    /// Reads `{"id": ..., "label": ...}`, or with `labels`, `value` or `values`: one for each row.
    ///
    /// # Errors
    /// [`Reason::Invalid`] with what is missing or of another type.
    pub fn from_json(mut members: Map<String, Value>) -> Result<Truth, Failure> {
        let Some(Value::String(id)) = members.remove("id") else {
            return Err(Failure::invalid("feedback needs 'id', the id of the request as a text"));
        };
        let one = |value| vec![value];
        let many = |value| match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        let mut rows = Vec::new();
        for (name, label, single) in
            [("label", true, true), ("labels", true, false), ("value", false, true), ("values", false, false)]
        {
            let Some(value) = members.remove(name) else { continue };
            if !rows.is_empty() {
                return Err(Failure::invalid("feedback has one of 'label', 'labels', 'value' and 'values'"));
            }
            let values = if single { one(value) } else { many(value) };
            let read = |value| if label { class(value) } else { numbers(value) };
            rows = values.into_iter().map(read).collect::<Result<_, _>>()?;
        }
        if let Some((name, _)) = members.iter().next() {
            return Err(Failure::invalid(format!("feedback has no member '{name:.80}'")));
        }
        match rows.is_empty() {
            true => Err(Failure::invalid("feedback needs 'label', 'labels', 'value' or 'values'")),
            false => Ok(Truth { id, rows }),
        }
    }
}

fn class(value: Value) -> Result<Option<RowTruth>, Failure> {
    match value {
        Value::Null => Ok(None),
        Value::String(name) => Ok(Some(RowTruth::Name(name))),
        Value::Number(number) if number.as_i64().is_some() => Ok(number.as_i64().map(RowTruth::Class)),
        _ => Err(Failure::invalid("a label is a whole number, a text, or null for a row without one")),
    }
}

fn numbers(value: Value) -> Result<Option<RowTruth>, Failure> {
    let wrong = || Failure::invalid("a value is a number, a list of numbers, or null for a row without one");
    let number = |value: &Value| value.as_f64().filter(|number| number.is_finite()).ok_or_else(wrong);
    let values = match &value {
        Value::Null => return Ok(None),
        Value::Array(values) => values.iter().map(number).collect::<Result<_, _>>()?,
        value => vec![number(value)?],
    };
    Ok(Some(RowTruth::Values(values)))
}

/// What was predicted for a row.
#[derive(Clone, Debug, PartialEq)]
enum Guess {
    /// The classes with the greatest scores, the greatest first.
    Classes(Vec<i64>),
    Name(String),
    Values(Vec<f64>),
}

/// Who asked, and the id: feedback of others finds nothing.
type Key = (Option<Arc<str>>, String);

#[derive(Debug)]
struct Prediction {
    /// The number among all predictions.
    number: u64,
    rows: Vec<Guess>,
    judged: bool,
}

/// Whether a row was right, or how far from it.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Class { first: bool, among: bool },
    Error(f64),
}

#[derive(Debug, Default)]
struct State {
    predictions: HashMap<Key, Prediction>,
    /// In the order in which they came.
    order: VecDeque<(Key, u64)>,
    number: u64,
    unkept: u64,
    unknown: u64,
    repeated: u64,
    all: Sums,
    window: VecDeque<Outcome>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    rows: u64,
    first: u64,
    among: u64,
    error: f64,
}

impl Sums {
    fn add(&mut self, outcome: Outcome) {
        self.rows += 1;
        match outcome {
            Outcome::Class { first, among } => {
                self.first += u64::from(first);
                self.among += u64::from(among);
            }
            Outcome::Error(error) => self.error += error,
        }
    }

    fn shown(&self, kind: Kind) -> Accuracy {
        let share = |of: f64| if self.rows == 0 { None } else { Some(of / self.rows as f64) };
        let classes = kind != Kind::Values;
        Accuracy {
            rows: self.rows,
            top1: share(self.first as f64).filter(|_| classes),
            top_k: share(self.among as f64).filter(|_| kind == Kind::Scores),
            mean_absolute_error: share(self.error).filter(|_| !classes),
        }
    }
}

/// How right a model was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// The rows that there was feedback on.
    pub rows: u64,
    /// The share of rows whose class was right; `None` for values, and without rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1: Option<f64>,
    /// The share of rows whose right class was among those with the greatest scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<f64>,
    /// The mean distance of a row's values from the right ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_absolute_error: Option<f64>,
}

/// What feedback has said of a version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeedbackShown {
    /// The output that feedback is about.
    pub output: String,
    /// The k of [`Accuracy::top_k`].
    pub k: usize,
    /// Over all feedback since the model was loaded.
    pub all: Accuracy,
    /// Over the last rows.
    pub window: Accuracy,
    /// The rows of the window at most.
    pub window_rows: usize,
    /// The predictions that are kept now.
    pub kept: usize,
    /// Predictions that could not be kept: large outputs, long ids, outputs that were not asked for.
    pub unkept: u64,
    /// Feedback whose id was not found.
    pub unknown: u64,
    /// Feedback that had come before.
    pub repeated: u64,
}

/// The predictions of a version, and what became of them.
#[derive(Debug)]
pub(super) struct Feedback {
    plan: FeedbackPlan,
    state: Mutex<State>,
}

impl Feedback {
    pub(super) fn new(plan: FeedbackPlan) -> Feedback {
        Feedback { plan, state: Mutex::default() }
    }

    /// Keeps what a response predicts.
    pub(super) fn keep(&self, tenant: Option<&Arc<str>>, response: &Response) {
        let rows = self.guesses(response).filter(|_| response.id.len() <= LONGEST);
        let mut state = self.state();
        let Some(rows) = rows else {
            state.unkept += 1;
            return;
        };
        while state.order.len() >= self.plan.kept {
            let Some((key, number)) = state.order.pop_front() else { break };
            // A later request may have had the same id.
            if state.predictions.get(&key).is_some_and(|prediction| prediction.number == number) {
                state.predictions.remove(&key);
            }
        }
        state.number += 1;
        let number = state.number;
        let key: Key = (tenant.cloned(), response.id.clone());
        state.order.push_back((key.clone(), number));
        state.predictions.insert(key, Prediction { number, rows, judged: false });
    }

    /// Compares the prediction of a request with what would have been right. Returns the number of rows that were counted: none, if
    /// there was feedback on the request before; `None` if the id is not known.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if the truth is of another kind than the output, or for another number of rows.
    pub(super) fn judge(&self, tenant: Option<&Arc<str>>, truth: &Truth) -> Result<Option<usize>, Failure> {
        let mut state = self.state();
        let key: Key = (tenant.cloned(), truth.id.clone());
        let Some(prediction) = state.predictions.get_mut(&key) else { return Ok(None) };
        if prediction.judged {
            state.repeated += 1;
            return Ok(Some(0));
        }
        if prediction.rows.len() != truth.rows.len() {
            return Err(Failure::invalid(format!(
                "the request had {} rows, and the feedback is for {}",
                prediction.rows.len(),
                truth.rows.len()
            )));
        }
        let pairs = prediction.rows.iter().zip(&truth.rows);
        let known = pairs.filter_map(|(guess, truth)| Some((guess, truth.as_ref()?)));
        let outcomes =
            known.map(|(guess, truth)| self.outcome(guess, truth)).collect::<Result<Vec<_>, _>>()?;
        prediction.judged = true;
        for outcome in &outcomes {
            state.all.add(*outcome);
            if state.window.len() >= self.plan.window {
                state.window.pop_front();
            }
            state.window.push_back(*outcome);
        }
        Ok(Some(outcomes.len()))
    }

    /// Counts feedback whose id no version knows.
    pub(super) fn count_unknown(&self) {
        self.state().unknown += 1;
    }

    /// The number of predictions that are kept at most.
    pub(super) fn most(&self) -> usize {
        self.plan.kept
    }

    fn outcome(&self, guess: &Guess, truth: &RowTruth) -> Result<Outcome, Failure> {
        let of = |classes: &[i64], class: i64| Outcome::Class {
            first: classes.first() == Some(&class),
            among: classes.contains(&class),
        };
        let wrong = |text: &str| Err(Failure::invalid(format!("output '{}' {text}", self.plan.output)));
        match (guess, truth) {
            (Guess::Classes(classes), RowTruth::Class(class)) => Ok(of(classes, *class)),
            (Guess::Classes(classes), RowTruth::Name(name)) => {
                match self.plan.labels.iter().position(|label| label == name) {
                    Some(class) => Ok(of(classes, class as i64)),
                    None => wrong("has no label of this name; send the number of the class"),
                }
            }
            (Guess::Name(guess), RowTruth::Name(name)) => {
                Ok(Outcome::Class { first: guess == name, among: guess == name })
            }
            (Guess::Name(_), RowTruth::Class(_)) => {
                wrong("has classes that are texts; send the text as 'label'")
            }
            (Guess::Values(guess), RowTruth::Values(values)) if guess.len() == values.len() => {
                let errors = guess.iter().zip(values).map(|(guess, value)| (guess - value).abs());
                Ok(Outcome::Error(errors.sum::<f64>() / guess.len().max(1) as f64))
            }
            (Guess::Values(guess), RowTruth::Values(_)) => {
                wrong(&format!("has {} values a row; send as many, in a list", guess.len()))
            }
            (Guess::Values(_), _) => wrong("has values; send 'value', or 'values' with one for each row"),
            (_, RowTruth::Values(_)) => wrong("has classes; send 'label', or 'labels' with one for each row"),
        }
    }

    /// What a response predicts; `None` if it cannot be kept.
    fn guesses(&self, response: &Response) -> Option<Vec<Guess>> {
        let (_, tensor) = response.outputs.iter().find(|(name, _)| *name == self.plan.output)?;
        if tensor.len() > MOST_ELEMENTS {
            return None;
        }
        let rows = match tensor.shape() {
            // Classes as texts have no dimension for rows where the model has no batch.
            [_] if tensor.strings().is_some() && self.plan.kind == Kind::Scores => 1,
            [rows, ..] if self.plan.rows => *rows,
            _ => 1,
        };
        if rows == 0 {
            return None;
        }
        let length = tensor.len() / rows;
        let guesses: Vec<Guess> = match (self.plan.kind, tensor.strings()) {
            (Kind::Label, Some(names)) => {
                names.iter().map(|name| (name.len() <= LONGEST).then(|| Guess::Name(name.clone()))).collect()
            }
            // The client wants classes, as `score:class:label`, in place of the scores.
            (Kind::Scores, Some(classes)) => {
                let class = |text: &String| text.split(':').nth(1)?.parse().ok();
                let row = |row: &[String]| {
                    row.iter().take(self.plan.top).map(class).collect::<Option<_>>().map(Guess::Classes)
                };
                classes.chunks_exact(length.max(1)).map(row).collect()
            }
            (Kind::Values, Some(_)) => None,
            (kind, None) => {
                let numbers = Numbers::of(tensor)?;
                let row = |row: usize| {
                    let values: Vec<f64> =
                        (row * length..(row + 1) * length).map(|i| numbers.get(i)).collect();
                    match kind {
                        Kind::Values => {
                            values.iter().all(|value| value.is_finite()).then_some(Guess::Values(values))
                        }
                        Kind::Label => Some(Guess::Classes(vec![*values.first()? as i64])),
                        Kind::Scores => {
                            let count = self.plan.top.min(values.len());
                            let classes = greatest(&values, count).into_iter().map(|class| class as i64);
                            Some(Guess::Classes(classes.collect()))
                        }
                    }
                };
                (0..rows).map(row).collect()
            }
        }?;
        let size = |guess: &Guess| match guess {
            Guess::Classes(classes) => classes.len(),
            Guess::Name(_) => LONGEST / 8,
            Guess::Values(values) => values.len(),
        };
        (guesses.iter().map(size).sum::<usize>() <= MOST_KEPT && guesses.len() == rows).then_some(guesses)
    }

    pub(super) fn shown(&self) -> FeedbackShown {
        let state = self.state();
        let mut window = Sums::default();
        state.window.iter().for_each(|outcome| window.add(*outcome));
        FeedbackShown {
            output: self.plan.output.clone(),
            k: self.plan.top,
            all: state.all.shown(self.plan.kind),
            window: window.shown(self.plan.kind),
            window_rows: self.plan.window,
            kept: state.predictions.len(),
            unkept: state.unkept,
            unknown: state.unknown,
            repeated: state.repeated,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That no prediction of an id is kept.
pub(super) fn unknown(model: &str, most: usize) -> Failure {
    Failure::new(
        Reason::NotFound,
        format!(
            "model '{model}' keeps no prediction with this id: the id is another, or was sent with another key, or {most} later requests \
             have taken its place; raise the parameter feedback.kept to keep more"
        ),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use sardonyx::Tensor;
    use serde_json::json;

    use super::*;

    fn plan(kind: Kind) -> FeedbackPlan {
        let labels = vec!["cat".into(), "dog".into()];
        FeedbackPlan { kept: 3, output: "y".into(), rows: true, kind, top: 2, window: 2, labels }
    }

    fn keep(feedback: &Feedback, id: &str, y: Tensor) {
        let response = Response {
            model: "m".into(),
            version: "1".into(),
            id: id.into(),
            outputs: vec![("y".into(), y)],
            ..Response::default()
        };
        feedback.keep(None, &response);
    }

    fn judge(feedback: &Feedback, truth: Value) -> Result<Option<usize>, Failure> {
        let Value::Object(members) = truth else { panic!() };
        feedback.judge(None, &Truth::from_json(members)?)
    }

    /// The best two classes of the rows are 2 and 1, and 0 and 2.
    fn scores() -> Tensor {
        Tensor::from_slice(&[2, 3], &[0.1f32, 0.3, 0.6, 0.5, 0.1, 0.4]).unwrap()
    }

    #[test]
    fn classes_are_counted_once() {
        let feedback = Feedback::new(plan(Kind::Scores));
        keep(&feedback, "a", scores());
        keep(&feedback, "b", scores());
        assert_eq!(judge(&feedback, json!({"id": "a", "labels": [2, 2]})).unwrap(), Some(2));
        assert_eq!(judge(&feedback, json!({"id": "a", "labels": [0, 0]})).unwrap(), Some(0));
        let all = feedback.shown().all;
        assert_eq!((all.rows, all.top1, all.top_k), (2, Some(0.5), Some(1.0)));
        assert_eq!(judge(&feedback, json!({"id": "b", "labels": ["dog", null]})).unwrap(), Some(1));
        let shown = feedback.shown();
        assert_eq!((shown.all.rows, shown.all.top1, shown.all.top_k), (3, Some(1.0 / 3.0), Some(1.0)));
        assert_eq!(
            (shown.window.rows, shown.window.top1),
            (2, Some(0.0)),
            "the first row has left the window"
        );
        assert_eq!((shown.repeated, shown.kept), (1, 2));
        assert_eq!(shown.all.mean_absolute_error, None);
    }

    #[test]
    fn what_does_not_fit_says_why_and_counts_nothing() {
        let feedback = Feedback::new(plan(Kind::Scores));
        keep(&feedback, "a", scores());
        for (truth, text) in [
            (json!({"id": "a", "label": 1}), "had 2 rows"),
            (json!({"id": "a", "values": [1.0, 2.0]}), "has classes"),
            (json!({"id": "a", "labels": ["cow", 1]}), "no label of this name"),
            (json!({"id": "a", "labels": [1.5, 1]}), "whole number"),
            (json!({"id": "a"}), "needs 'label'"),
            (json!({"label": 1}), "needs 'id'"),
            (json!({"id": "a", "label": 1, "value": 2}), "one of"),
            (json!({"id": "a", "label": 1, "colour": 2}), "no member 'colour'"),
        ] {
            let failure = judge(&feedback, truth).unwrap_err();
            assert!(failure.text.contains(text) && failure.reason == Reason::Invalid, "{failure}");
        }
        assert_eq!(feedback.shown().all.rows, 0);
        assert_eq!(judge(&feedback, json!({"id": "b", "label": 1})).unwrap(), None);
        assert_eq!(judge(&feedback, json!({"id": "a", "labels": [2, 0]})).unwrap(), Some(2));
    }

    #[test]
    fn the_oldest_predictions_are_forgotten() {
        let feedback = Feedback::new(plan(Kind::Scores));
        // The id "a" comes again: the later prediction is the one that is kept.
        for id in ["a", "b", "a", "c"] {
            keep(&feedback, id, scores());
        }
        for (id, counted) in [("a", Some(2)), ("b", Some(2)), ("c", Some(2))] {
            assert_eq!(judge(&feedback, json!({"id": id, "labels": [0, 0]})).unwrap(), counted, "{id}");
        }
        ["d", "e", "f"].into_iter().for_each(|id| keep(&feedback, id, scores()));
        assert_eq!(judge(&feedback, json!({"id": "a", "labels": [0, 0]})).unwrap(), None);
        assert_eq!(feedback.shown().kept, 3);
    }

    #[test]
    fn keys_are_apart() {
        let feedback = Feedback::new(plan(Kind::Label));
        let response = Response {
            model: "m".into(),
            version: "1".into(),
            id: "a".into(),
            outputs: vec![("y".into(), Tensor::from_slice(&[1], &[-1i64]).unwrap())],
            ..Response::default()
        };
        let shop: Arc<str> = "shop".into();
        feedback.keep(Some(&shop), &response);
        let truth = Truth { id: "a".into(), rows: vec![Some(RowTruth::Class(-1))] };
        assert_eq!(feedback.judge(None, &truth).unwrap(), None);
        assert_eq!(feedback.judge(Some(&"other".into()), &truth).unwrap(), None);
        assert_eq!(feedback.judge(Some(&shop), &truth).unwrap(), Some(1));
        assert_eq!(feedback.shown().all.top1, Some(1.0));
    }

    #[test]
    fn errors_of_values() {
        let feedback = Feedback::new(plan(Kind::Values));
        keep(&feedback, "a", Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap());
        keep(&feedback, "b", Tensor::from_slice(&[1], &[5.0f64]).unwrap());
        keep(&feedback, "c", Tensor::from_slice(&[1], &[f64::NAN]).unwrap());
        assert!(judge(&feedback, json!({"id": "a", "values": [1, 2]})).is_err());
        assert!(judge(&feedback, json!({"id": "a", "labels": [1, 2]})).is_err());
        assert_eq!(judge(&feedback, json!({"id": "a", "values": [[2, 4], [3, 4]]})).unwrap(), Some(2));
        assert_eq!(feedback.shown().all.mean_absolute_error, Some(0.75));
        assert_eq!(judge(&feedback, json!({"id": "b", "value": 2})).unwrap(), Some(1));
        assert_eq!(feedback.shown().all.mean_absolute_error, Some(1.5));
        assert_eq!(feedback.shown().window.mean_absolute_error, Some(1.5));
        assert_eq!(feedback.shown().unkept, 1, "a prediction that is no number has no error");
    }

    #[test]
    fn classes_as_texts_and_names() {
        let feedback = Feedback::new(plan(Kind::Scores));
        let texts = ["0.600000:2", "0.300000:1:dog", "0.500000:0:cat", "0.400000:2"].map(String::from);
        keep(&feedback, "a", Tensor::from_strings(&[2, 2], texts.into()).unwrap());
        assert_eq!(judge(&feedback, json!({"id": "a", "labels": [2, "cat"]})).unwrap(), Some(2));
        assert_eq!(feedback.shown().all.top1, Some(1.0));
        let feedback = Feedback::new(plan(Kind::Label));
        keep(&feedback, "a", Tensor::from_strings(&[1], vec!["setosa".into()]).unwrap());
        assert!(judge(&feedback, json!({"id": "a", "label": 1})).is_err());
        assert_eq!(judge(&feedback, json!({"id": "a", "label": "setosa"})).unwrap(), Some(1));
        assert_eq!(feedback.shown().all.top1, Some(1.0));
    }

    #[test]
    fn only_small_predictions_are_kept() {
        let feedback = Feedback::new(plan(Kind::Values));
        keep(&feedback, "a", Tensor::zeros(sardonyx::DType::F32, &[1, 257]).unwrap());
        keep(&feedback, "b", Tensor::zeros(sardonyx::DType::F32, &[0, 2]).unwrap());
        keep(&feedback, &"x".repeat(257), Tensor::zeros(sardonyx::DType::F32, &[1, 1]).unwrap());
        let shown = feedback.shown();
        assert_eq!((shown.kept, shown.unkept), (0, 3));
    }
}

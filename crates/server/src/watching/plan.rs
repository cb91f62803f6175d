//! `Plan`: what is watched of a model, as the parameters of its configuration say.

use std::collections::BTreeMap;

use super::payloads::Form;
use crate::config::{Config, Port};

/// `true`: predictions are kept for a while, so that clients can say what would have been right.
pub const FEEDBACK: &str = "feedback";
/// The number of predictions that are kept; 10000 if it is not given.
pub const FEEDBACK_KEPT: &str = "feedback.kept";
/// The output that feedback is about; the first if it is not given.
pub const FEEDBACK_OUTPUT: &str = "feedback.output";
/// What the output is: `scores` of classes, a `label`, or `values`. If it is not given: floating-point numbers are scores where a
/// row has several, and else values; whole numbers and texts are labels.
pub const FEEDBACK_KIND: &str = "feedback.kind";
/// A prediction is also counted as right among so many classes with the greatest scores; 5 if it is not given.
pub const FEEDBACK_TOP: &str = "feedback.top";
/// The rows of the sliding window of accuracy; 1000 if it is not given.
pub const FEEDBACK_WINDOW: &str = "feedback.window";

/// `true`: inputs and outputs are compared with those of a baseline.
pub const DRIFT: &str = "drift";
/// The share of requests that is looked at; 1 if it is not given.
pub const DRIFT_SAMPLE: &str = "drift.sample";
/// The rows that a baseline is learned from, where there is none; 1000 if it is not given.
pub const DRIFT_LEARN: &str = "drift.learn";
/// The rows that are compared with the baseline; 1000 if it is not given.
pub const DRIFT_WINDOW: &str = "drift.window";

/// The share of requests that the payload log of the server takes; 0, none, if it is not given.
pub const PAYLOAD_LOG: &str = "payload_log";
/// Begins the parameter of an input or an output, as in `payload_log.text`: `keep`, `hash`, `summary` or `drop`. Those that are not
/// named are summarised.
pub const PAYLOAD_LOG_OF: &str = "payload_log.";

/// What is watched of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) feedback: Option<FeedbackPlan>,
    pub(super) drift: Option<DriftPlan>,
    pub(super) payloads: Option<PayloadPlan>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct FeedbackPlan {
    pub(super) kept: usize,
    pub(super) output: String,
    /// Whether the first dimension counts rows.
    pub(super) rows: bool,
    pub(super) kind: Kind,
    pub(super) top: usize,
    pub(super) window: usize,
    /// The names of the output's classes.
    pub(super) labels: Vec<String>,
}

/// What an output says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A score for each class.
    Scores,
    /// The class itself.
    Label,
    /// Numbers.
    Values,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct DriftPlan {
    pub(super) sample: f64,
    pub(super) learn: usize,
    pub(super) window: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct PayloadPlan {
    pub(super) share: f64,
    pub(super) forms: BTreeMap<String, Form>,
}

impl Plan {
    /// # Errors
    /// A parameter that is wrong, or that nothing reads.
    pub(super) fn of(config: &Config) -> Result<Plan, String> {
        let given = &config.parameters;
        let known = [
            FEEDBACK,
            FEEDBACK_KEPT,
            FEEDBACK_OUTPUT,
            FEEDBACK_KIND,
            FEEDBACK_TOP,
            FEEDBACK_WINDOW,
            DRIFT,
            DRIFT_SAMPLE,
            DRIFT_LEARN,
            DRIFT_WINDOW,
        ];
        let ours =
            |key: &&String| ["feedback", "drift"].iter().any(|room| key.split('.').next() == Some(room));
        if let Some(key) = given.keys().filter(ours).find(|key| !known.contains(&key.as_str())) {
            return Err(format!(
                "there is no parameter '{}'; there are {}",
                key.escape_default(),
                known.join(", ")
            ));
        }
        Ok(Plan {
            feedback: truth(given, FEEDBACK)?.then(|| FeedbackPlan::of(config)).transpose()?,
            drift: match truth(given, DRIFT)? {
                false => None,
                true => Some(DriftPlan {
                    sample: share(given, DRIFT_SAMPLE, 1.0)?,
                    learn: count(given, DRIFT_LEARN, 1000, 100..=10_000_000)?,
                    window: count(given, DRIFT_WINDOW, 1000, 100..=10_000_000)?,
                }),
            },
            payloads: PayloadPlan::of(config)?,
        })
    }
}

impl FeedbackPlan {
    fn of(config: &Config) -> Result<FeedbackPlan, String> {
        let given = &config.parameters;
        let name = given.get(FEEDBACK_OUTPUT).map(String::as_str);
        let port = match name {
            None => config.outputs.first().ok_or("the model has no outputs to give feedback on")?,
            Some(name) => config.outputs.iter().find(|port| port.name == name).ok_or_else(|| {
                format!(
                    "the parameter {FEEDBACK_OUTPUT} is '{}', and no output has this name",
                    name.escape_default()
                )
            })?,
        };
        let length = row_length(port, config.max_batch > 0);
        let kind = match given.get(FEEDBACK_KIND).map(String::as_str) {
            Some("scores") => Kind::Scores,
            Some("label") => Kind::Label,
            Some("values") => Kind::Values,
            Some(other) => {
                let other = other.escape_default();
                return Err(format!(
                    "the parameter {FEEDBACK_KIND} is '{other}'; it is 'scores', 'label' or 'values'"
                ));
            }
            None if !port.dtype.is_float() => Kind::Label,
            None if length == Some(1) => Kind::Values,
            None => Kind::Scores,
        };
        let dims = row_dims(port, config.max_batch > 0);
        if kind != Kind::Values && dims.iter().filter(|dim| **dim != Some(1)).count() > 1 {
            return Err(format!(
                "feedback needs an output with one class a row, and '{}' has several dimensions; name another by the parameter \
                 {FEEDBACK_OUTPUT}, or set {FEEDBACK_KIND} to 'values'",
                port.name
            ));
        }
        Ok(FeedbackPlan {
            kept: count(given, FEEDBACK_KEPT, 10_000, 1..=1_000_000)?,
            output: port.name.clone(),
            rows: has_rows(port, config.max_batch > 0),
            kind,
            top: count(given, FEEDBACK_TOP, 5, 1..=100)?,
            window: count(given, FEEDBACK_WINDOW, 1000, 1..=1_000_000)?,
            labels: port.labels.clone(),
        })
    }
}

impl PayloadPlan {
    fn of(config: &Config) -> Result<Option<PayloadPlan>, String> {
        let given = &config.parameters;
        let mut forms = BTreeMap::new();
        for (key, form) in given {
            let Some(name) = key.strip_prefix(PAYLOAD_LOG_OF) else { continue };
            if !config.inputs.iter().chain(&config.outputs).any(|port| port.name == name) {
                return Err(format!(
                    "the parameter '{}' names neither an input nor an output",
                    key.escape_default()
                ));
            }
            let form = match form.as_str() {
                "keep" => Form::Keep,
                "hash" => Form::Hash,
                "summary" => Form::Summary,
                "drop" => Form::Drop,
                other => {
                    return Err(format!(
                        "the parameter '{}' is '{}'; it is 'keep', 'hash', 'summary' or 'drop'",
                        key.escape_default(),
                        other.escape_default()
                    ));
                }
            };
            forms.insert(name.to_string(), form);
        }
        let share = share(given, PAYLOAD_LOG, 0.0)?;
        Ok((share > 0.0).then_some(PayloadPlan { share, forms }))
    }
}

/// Whether the first dimension of a port counts rows: there is a batch, or each request chooses it.
pub(super) fn has_rows(port: &Port, batch: bool) -> bool {
    batch || port.dims.first() == Some(&None)
}

/// The dimensions of a row.
pub(super) fn row_dims(port: &Port, batch: bool) -> &[Option<usize>] {
    if has_rows(port, batch) && !batch { &port.dims[1..] } else { &port.dims }
}

/// The number of elements of a row, if it is fixed.
pub(super) fn row_length(port: &Port, batch: bool) -> Option<usize> {
    row_dims(port, batch).iter().try_fold(1usize, |product, dim| product.checked_mul((*dim)?))
}

type Given = BTreeMap<String, String>;

fn truth(given: &Given, name: &str) -> Result<bool, String> {
    match given.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => {
            Err(format!("the parameter {name} is '{}'; it is 'true' or 'false'", other.escape_default()))
        }
    }
}

fn count(
    given: &Given,
    name: &str,
    default: usize,
    allowed: std::ops::RangeInclusive<usize>,
) -> Result<usize, String> {
    let Some(text) = given.get(name) else { return Ok(default) };
    text.parse().ok().filter(|number| allowed.contains(number)).ok_or_else(|| {
        let (least, most) = allowed.into_inner();
        format!(
            "the parameter {name} is '{}'; it is a whole number from {least} to {most}",
            text.escape_default()
        )
    })
}

fn share(given: &Given, name: &str, default: f64) -> Result<f64, String> {
    let Some(text) = given.get(name) else { return Ok(default) };
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| {
        format!("the parameter {name} is '{}'; it is a share from 0 to 1", text.escape_default())
    })
}

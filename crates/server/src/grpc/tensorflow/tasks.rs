//! The tasks of `MultiInference`: what is wanted of a model's answer to one input.

use super::Target;
use crate::proto::tensorflow::serving::InferenceTask;
use crate::{Failure, Reason};

/// The tasks of a request at most: each has an answer of its own.
const MOST: usize = 16;

/// What a task wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Classify,
    Regress,
}

/// The tasks, of which there is one at least, for one version of one model.
///
/// # Errors
/// [`Reason::Invalid`]; [`Reason::Unimplemented`] for a task of another method.
pub(super) fn read(tasks: Vec<InferenceTask>) -> Result<Vec<(Target, Method)>, Failure> {
    match tasks.len() {
        0 => return Err(Failure::invalid("the request has no tasks")),
        1..=MOST => {}
        count => return Err(Failure::invalid(format!("the request has {count} tasks; send {MOST} at most"))),
    }
    let read = |InferenceTask { model_spec, method_name }| {
        let method = match method_name.as_str() {
            "tensorflow/serving/classify" => Method::Classify,
            "tensorflow/serving/regress" => Method::Regress,
            other => {
                let text = format!(
                    "a task has the method '{other:.80}'; it is 'tensorflow/serving/classify' or 'tensorflow/serving/regress'"
                );
                return Err(Failure::new(Reason::Unimplemented, text));
            }
        };
        Ok((Target::of(model_spec)?, method))
    };
    let tasks = tasks.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let of = |(target, _): &(Target, Method)| (target.model.clone(), target.version.clone());
    match tasks.windows(2).all(|pair| of(&pair[0]) == of(&pair[1])) {
        true => Ok(tasks),
        false => Err(Failure::invalid("the tasks name several models or versions; send a request for each")),
    }
}

//! The inputs of `Classify` and `Regress`: examples, each with the values of a model's only input under the input's name.

use std::collections::BTreeMap;

use sardonyx::Tensor;

use crate::config::Config;
use crate::http::tensorflow::refuse_unless_one_of_each;
use crate::proto::tensorflow::feature::Kind;
use crate::proto::tensorflow::serving::{Input, input};
use crate::proto::tensorflow::{Example, Feature};
use crate::{Failure, Reason};

/// The model's only input, with a row for each example. An example without the feature has that of the context.
///
/// # Errors
/// [`Reason::Unimplemented`] if the model has other inputs or outputs; [`Reason::Invalid`].
pub(super) fn inputs(given: Option<Input>, config: &Config) -> Result<Vec<(String, Tensor)>, Failure> {
    refuse_unless_one_of_each(config)?;
    let Some(port) = config.inputs.first() else { return Ok(Vec::new()) };
    let (examples, context) = match given.and_then(|input| input.kind) {
        Some(input::Kind::ExampleList(list)) => (list.examples, None),
        Some(input::Kind::ExampleListWithContext(list)) => (list.examples, list.context),
        None => return Err(Failure::invalid("the request has no input; send an example_list")),
    };
    if examples.is_empty() {
        return Err(Failure::invalid("the input has no examples"));
    }
    let shared = context.and_then(|mut context| take(&mut context, &port.name));
    let rows = examples.len();
    let mut values = Vec::new();
    let mut size = None;
    for (at, mut example) in examples.into_iter().enumerate() {
        let feature = take(&mut example, &port.name).or_else(|| shared.clone()).ok_or_else(|| {
            Failure::invalid(format!(
                "example {at} has no feature '{}', which is the model's input",
                port.name
            ))
        })?;
        let Some(Kind::FloatList(list)) = feature.kind else {
            return Err(Failure::invalid(format!(
                "feature '{}' of example {at} is no float_list",
                port.name
            )));
        };
        if *size.get_or_insert(list.value.len()) != list.value.len() {
            return Err(Failure::invalid(format!(
                "example {at} has another number of values than the first"
            )));
        }
        values.extend(list.value);
    }
    let size = size.unwrap_or(0);
    let inner = if config.max_batch > 0 { &port.dims[..] } else { port.dims.get(1..).unwrap_or_default() };
    // The size that the configuration leaves open, if it leaves one open, follows from the number of values.
    let known: usize = inner.iter().flatten().product();
    let open = inner.iter().filter(|dim| dim.is_none()).count();
    if open > 1 {
        let text = format!("input '{}' has several sizes that no example tells; use Predict", port.name);
        return Err(Failure::new(Reason::Unimplemented, text));
    }
    let rest = if open == 1 && known > 0 { size / known } else { 1 };
    if known * rest != size {
        return Err(Failure::invalid(format!(
            "an example has {size} values of '{}', and the model takes {}",
            port.name,
            if open == 1 { format!("a multiple of {known}") } else { known.to_string() }
        )));
    }
    let shape: Vec<usize> = [rows].into_iter().chain(inner.iter().map(|dim| dim.unwrap_or(rest))).collect();
    Ok(vec![(port.name.clone(), Tensor::from_vec(&shape, values)?)])
}

fn take(example: &mut Example, name: &str) -> Option<Feature> {
    let features: &mut BTreeMap<String, Feature> = &mut example.features.as_mut()?.feature;
    features.remove(name)
}

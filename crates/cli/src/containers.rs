//! Inputs and outputs that are no tensors: as arrays of a file, in a line, and in JSON.

use serde_json::{Value, json};

use super::Failure;
use super::outputs::json_of as json_of_tensor;
use sardonyx::{Datum, Outputs, Tensor, shown};

/// The arrays that stand for outputs that are no tensors. Maps with the same keys are the rows of a matrix with a column for each key,
/// and `NAME.keys`; the tensors of a sequence are `NAME.0`, `NAME.1`, ...
pub(super) fn arrays(outputs: &Outputs<Datum>) -> Result<Vec<(String, Tensor)>, Failure> {
    let mut arrays = Vec::new();
    for (name, value) in outputs {
        let refused = |why: &str| {
            Failure::from(format!(
                "output '{}' is a {} {why}; leave out --outputs",
                shown(name),
                value.kind()
            ))
        };
        match value {
            Datum::Sequence(elements) if elements.iter().any(|each| each.kind() == "map") => {
                let Some((keys, table)) = table(elements)? else {
                    return Err(refused("of maps with different keys, which no array holds"));
                };
                arrays.extend([(name.to_string(), table), (format!("{name}.keys"), keys)]);
            }
            Datum::Sequence(elements) => {
                for (i, element) in elements.iter().enumerate() {
                    let tensor =
                        element.tensor().ok_or_else(|| refused("of containers, which no array holds"))?;
                    arrays.push((format!("{name}.{i}"), tensor.clone()));
                }
            }
            Datum::Map { keys, values, .. } => {
                arrays.extend([(name.to_string(), values.clone()), (format!("{name}.keys"), keys.clone())]);
            }
            Datum::Optional(Some(content)) if content.tensor().is_some() => {
                arrays.extend(content.tensor().map(|tensor| (name.to_string(), tensor.clone())));
            }
            _ => return Err(refused("that no array holds")),
        }
    }
    Ok(arrays)
}

/// The keys that all maps have, and a row of values for each map; `None` where the keys differ.
fn table(maps: &[Datum]) -> Result<Option<(Tensor, Tensor)>, Failure> {
    let Some(Datum::Map { keys: first, values, .. }) = maps.first() else { return Ok(None) };
    let (dtype, mut bytes) = (values.dtype(), Vec::new());
    for map in maps {
        let Datum::Map { keys, values, .. } = map else { return Ok(None) };
        if keys != first || values.dtype() != dtype || values.strings().is_some() {
            return Ok(None);
        }
        bytes.extend_from_slice(values.bytes());
    }
    let shape = [maps.len(), first.len()];
    Ok(Some((first.clone(), Tensor::from_raw(dtype, &shape, bytes)?)))
}

/// A line on a value that is no tensor.
pub(super) fn line(name: &str, value: &Datum) -> String {
    format!("{}: {} {value}", shown(name), value.kind())
}

/// An input or an output in JSON: what it is, and its tensors.
pub(super) fn json_of(name: &str, value: &Datum) -> Value {
    let content = match value {
        Datum::Tensor(tensor) => return json_of_tensor(name, tensor),
        Datum::Sequence(elements) => elements.iter().take(MOST).map(|each| json_of(name, each)).collect(),
        Datum::Optional(content) => content.iter().map(|each| json_of(name, each)).collect(),
        _ => Vec::new(),
    };
    let length = value.sequence().map(<[Datum]>::len);
    json!({ "name": name, "kind": value.kind(), "length": length, "content": content, "text": value.to_string() })
}

/// The most elements of a sequence that are listed.
const MOST: usize = 1000;

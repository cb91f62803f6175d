//! Archives of PyTorch: a pickle that describes tensors, and a file for each storage.

use std::collections::HashMap;
use std::io::Cursor;

use super::pickle::{self, Global, Pickle, Shape, Value};
use super::{Element, Weight, malformed, shown};
use crate::{Error, Result};

/// Where a checkpoint may have its state dictionary.
const WITHIN: [&str; 3] = ["state_dict", "model_state_dict", "model"];

pub(super) fn read(file: &[u8]) -> Result<Vec<Weight<'_>>> {
    let files = files(file)?;
    let mut pickles = files.keys().filter(|name| name.ends_with("/data.pkl"));
    let (Some(pickle), None) = (pickles.next(), pickles.next()) else {
        return Err(malformed("the archive is none of PyTorch: it holds no data.pkl, or several"));
    };
    let folder = &pickle[..pickle.len() - "data.pkl".len()];
    if files.get(&format!("{folder}byteorder")).is_some_and(|order| *order != b"little") {
        return Err(malformed(
            "the archive has its numbers in big-endian order; save it again on another machine",
        ));
    }
    let pickle = pickle::read(files[pickle])?;
    let mut weights = Vec::new();
    for pair in dictionary(&pickle)?.chunks_exact(2) {
        if let (Some(name), Value::Tensor(_)) = (pickle.text(pair[0]), pair[1]) {
            // After the hooks: that the elements are to be negated when they are read.
            let properties =
                pickle.values(pair[1]).and_then(|arguments| arguments.get(6..)).unwrap_or_default();
            if properties
                .iter()
                .any(|each| of_dictionary(&pickle, *each).is_some_and(|held| !held.is_empty()))
            {
                return Err(malformed(format!(
                    "the weight '{}' is a view that changes signs; save its resolve_neg()",
                    shown(name)
                )));
            }
            let weight = tensor(&pickle, pair[1], name, &files, folder);
            weights.push(weight.ok_or_else(|| {
                malformed(format!("the weight '{}' is wrong or not in the archive", shown(name)))
            })?);
        }
    }
    Ok(weights)
}

/// The contents of the archive, where they lie in the file.
fn files(file: &[u8]) -> Result<HashMap<String, &[u8]>> {
    let wrong = |error: zip::result::ZipError| malformed(format!("the archive is wrong: {error}"));
    let mut archive = zip::ZipArchive::new(Cursor::new(file)).map_err(wrong)?;
    if archive.file_names().flatten().any(|name| name.ends_with("/constants.pkl")) {
        return Err(malformed(
            "this is a program of TorchScript; load it with torch.jit.load, and torch.save its state_dict()",
        ));
    }
    let mut files = HashMap::new();
    for at in 0..archive.len() {
        let entry = archive.by_index_raw(at).map_err(wrong)?;
        let name = entry.name().map_err(wrong)?.to_string();
        if entry.is_dir() {
            continue;
        }
        if entry.compression() != zip::CompressionMethod::Stored || entry.encrypted() {
            return Err(malformed(format!(
                "'{}' in the archive is compressed, and PyTorch writes none so; load it there, and save it again",
                shown(&name)
            )));
        }
        let begin = entry.data_start().and_then(|begin| usize::try_from(begin).ok());
        let range = begin.zip(usize::try_from(entry.size()).ok());
        let contents = range.and_then(|(begin, size)| file.get(begin..begin.checked_add(size)?));
        let contents =
            contents.ok_or_else(|| malformed(format!("'{}' is not in the archive", shown(&name))))?;
        files.insert(name, contents);
    }
    Ok(files)
}

/// The keys and values of a dictionary.
fn of_dictionary<'a>(pickle: &'a Pickle, value: Value) -> Option<&'a [Value]> {
    match value {
        Value::Many(Shape::Dictionary, _) => pickle.values(value),
        _ => None,
    }
}

/// The keys and values of the state dictionary.
fn dictionary<'a>(pickle: &'a Pickle) -> Result<&'a [Value]> {
    let of = |value| of_dictionary(pickle, value);
    let none = || -> Error { malformed("the archive holds no state dictionary; save `model.state_dict()`") };
    let root = of(pickle.root).ok_or_else(none)?;
    let has_tensors =
        |values: &&[Value]| values.chunks_exact(2).any(|pair| matches!(pair[1], Value::Tensor(_)));
    // Before the tensors of the root: a checkpoint may have its loss there.
    let within: Vec<(&str, &[Value])> = root
        .chunks_exact(2)
        .filter_map(|pair| Some((pickle.text(pair[0])?, of(pair[1]).filter(has_tensors)?)))
        .collect();
    if let Some(named) = WITHIN.iter().find_map(|name| within.iter().find(|each| each.0 == *name)) {
        return Ok(named.1);
    }
    if has_tensors(&root) {
        return Ok(root);
    }
    match within[..] {
        [] => Err(none()),
        [(_, only)] => Ok(only),
        [(first, _), (second, _), ..] => Err(malformed(format!(
            "the archive holds several state dictionaries, as '{}' and '{}'; save the one of the model by itself",
            shown(first),
            shown(second)
        ))),
    }
}

/// A tensor: a storage, an offset, sizes, and the distances of elements.
fn tensor<'f>(
    pickle: &Pickle,
    value: Value,
    name: &str,
    files: &HashMap<String, &'f [u8]>,
    folder: &str,
) -> Option<Weight<'f>> {
    let arguments = pickle.values(value)?;
    let [storage, offset, sizes, strides, ..] = *arguments else { return None };
    let Value::Storage(_) = storage else { return None };
    let [kind, of, key, ..] = *pickle.values(storage)? else { return None };
    let of = match (pickle.text(kind)?, of, arguments.get(6)) {
        ("storage", Value::Global(Global::Storage(of)), _) => of,
        ("storage", Value::Global(Global::Untyped), Some(Value::Global(Global::Type(of)))) => of,
        _ => return None,
    };
    let element = Element::named(of)?;
    let memory: &'f [u8] = files.get(&format!("{folder}data/{}", pickle.text(key)?))?;
    let number = |value: &Value| match value {
        Value::Number(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let numbers = |value| pickle.values(value)?.iter().map(number).collect::<Option<Vec<u64>>>();
    let (shape, strides) = (numbers(sizes)?, numbers(strides)?);
    if shape.len() != strides.len() {
        return None;
    }
    // The last element must be within the storage.
    let offset = number(&offset)?;
    let mut elements = 1u64;
    for (size, stride) in shape.iter().zip(&strides) {
        elements = elements.checked_add(size.saturating_sub(1).checked_mul(*stride)?)?;
    }
    if shape.contains(&0) {
        elements = 0;
    }
    let bytes = element.bytes as u64;
    let begin = usize::try_from(offset.checked_mul(bytes)?).ok()?;
    let end = usize::try_from(offset.checked_add(elements)?.checked_mul(bytes)?).ok()?;
    let memory = memory.get(begin..end)?;
    let mut dense = vec![1u64; shape.len()];
    for at in (1..shape.len()).rev() {
        dense[at - 1] = dense[at].checked_mul(shape[at].max(1))?;
    }
    let is_dense =
        shape.iter().zip(strides.iter().zip(&dense)).all(|(size, (own, dense))| *size <= 1 || own == dense);
    let strides = (!is_dense && elements > 0).then_some(strides);
    Some(Weight { name: name.into(), element, shape, memory, strides })
}

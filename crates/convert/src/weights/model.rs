//! A model file with other elements in its initializers. What is not replaced is copied as it stands, known or not.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use prost::Message;
use prost::encoding::{decode_varint, encode_varint};

use super::{ELEMENTS, Weight, WeightReport, count, shown};
use crate::proto::TensorProto;
use crate::{Error, Result};

/// The fields of ONNX's messages that hold what is replaced.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;

/// A field of a message: its number, the bytes that it takes with its key, and its contents if it has a length.
struct Field {
    number: u64,
    whole: Bytes,
    contents: Option<Bytes>,
}

fn fields(message: &Bytes) -> Result<Vec<Field>> {
    let wrong = || Error::Model("the model is no ONNX file".into());
    let (mut rest, mut fields) = (message.clone(), Vec::new());
    while !rest.is_empty() {
        let before = rest.clone();
        let key = decode_varint(&mut rest).map_err(|_| wrong())?;
        let mut contents = None;
        let length = match key & 7 {
            0 => {
                decode_varint(&mut rest).map_err(|_| wrong())?;
                0
            }
            1 => 8,
            2 => {
                let length = decode_varint(&mut rest).map_err(|_| wrong())?;
                let length =
                    usize::try_from(length).ok().filter(|&length| length <= rest.len()).ok_or_else(wrong)?;
                contents = Some(rest.slice(..length));
                length
            }
            5 => 4,
            _ => return Err(wrong()),
        };
        if length > rest.len() {
            return Err(wrong());
        }
        rest = rest.slice(length..);
        let whole = before.slice(..before.len() - rest.len());
        fields.push(Field { number: key >> 3, whole, contents });
    }
    Ok(fields)
}

fn initializer(contents: Bytes) -> Result<TensorProto> {
    TensorProto::decode(contents).map_err(|error| Error::Model(format!("the model is no ONNX file: {error}")))
}

/// The names of a model's initializers.
pub(super) fn names(model: &Bytes) -> Result<HashSet<String>> {
    let mut names = HashSet::new();
    for graph in fields(model)?.into_iter().filter(|field| field.number == GRAPH) {
        for field in fields(&graph.contents.unwrap_or_default())? {
            if let Some(contents) = field.contents.filter(|_| field.number == INITIALIZER) {
                names.insert(initializer(contents)?.name);
            }
        }
    }
    Ok(names)
}

/// Appends a field that has a length.
fn append(to: &mut Vec<u8>, number: u64, contents: &[u8]) {
    encode_varint(number << 3 | 2, to);
    encode_varint(contents.len() as u64, to);
    to.extend(contents);
}

/// Replaces the initializers that have a weight; the new elements may take so many bytes.
pub(super) fn replace(
    model: &Bytes,
    weights: &BTreeMap<String, Weight>,
    most: usize,
) -> Result<(Vec<u8>, WeightReport)> {
    let (mut made, mut report, mut wrong) = (Vec::new(), WeightReport::default(), Vec::new());
    let (mut room, mut has_graph) = (most, false);
    for field in fields(model)? {
        let Some(graph) = field.contents.filter(|_| field.number == GRAPH) else {
            made.extend(&field.whole);
            continue;
        };
        has_graph = true;
        let mut changed = Vec::new();
        for field in fields(&graph)? {
            let Some(contents) = field.contents.filter(|_| field.number == INITIALIZER) else {
                changed.extend(&field.whole);
                continue;
            };
            let tensor = initializer(contents)?;
            match weights.get(&tensor.name) {
                None => {
                    report.kept.push(tensor.name);
                    changed.extend(&field.whole);
                }
                Some(weight) => {
                    report.replaced.push(tensor.name.clone());
                    match differs(&tensor, weight) {
                        Some(what) => wrong.push(what),
                        None => append(
                            &mut changed,
                            INITIALIZER,
                            &with(tensor, weight, &mut room, most)?.encode_to_vec(),
                        ),
                    }
                }
            }
        }
        append(&mut made, GRAPH, &changed);
    }
    if !has_graph {
        return Err(Error::Model("the model is no ONNX file: it has no graph".into()));
    }
    if !wrong.is_empty() {
        let more = wrong.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        wrong.truncate(SHOWN);
        return Err(Error::Mismatch(format!("{}{more}", wrong.join("; "))));
    }
    let is_used = |name: &String| report.replaced.contains(name);
    report.unused = weights.keys().filter(|name| !is_used(name)).cloned().collect();
    if report.replaced.is_empty() {
        return Err(Error::Mismatch(format!(
            "no weight has the name of an initializer: the file has {}, and the model {}",
            some(&report.unused),
            some(&report.kept)
        )));
    }
    if made.len() > MOST_MODEL {
        return Err(Error::TooLarge {
            limit: MOST_MODEL,
            of: "bytes, the most of an ONNX file without external data",
        });
    }
    Ok((made, report))
}

/// How many names or complaints a message has.
const SHOWN: usize = 5;
/// Protobuf's limit.
const MOST_MODEL: usize = i32::MAX as usize;

fn some(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        names => {
            let quoted: Vec<String> =
                names.iter().take(SHOWN).map(|name| format!("'{}'", shown(name))).collect();
            quoted.join(", ") + if names.len() > SHOWN { ", ..." } else { "" }
        }
    }
}

/// How a weight differs from the initializer whose name it has.
fn differs(tensor: &TensorProto, weight: &Weight) -> Option<String> {
    let name = shown(&tensor.name);
    let known = ELEMENTS.iter().find(|element| element.number == tensor.data_type);
    if known != Some(&weight.element) {
        let own =
            known.map_or_else(|| format!("type {}", tensor.data_type), |element| element.name.to_string());
        return Some(format!("'{name}' is {own} in the model, and {} in the file", weight.element.name));
    }
    let is_same = tensor
        .dims
        .iter()
        .map(|&size| u64::try_from(size).ok())
        .eq(weight.shape.iter().map(|&size| Some(size)));
    (!is_same)
        .then(|| format!("'{name}' is {:?} in the model, and {:?} in the file", tensor.dims, weight.shape))
}

/// The tensor with the elements of the weight.
fn with(tensor: TensorProto, weight: &Weight, room: &mut usize, most: usize) -> Result<TensorProto> {
    let too_large = || Error::TooLarge { limit: most, of: "bytes of weights" };
    let bytes = count(&weight.shape)
        .and_then(|count| count.checked_mul(weight.element.bytes))
        .ok_or_else(too_large)?;
    *room = room.checked_sub(bytes).ok_or_else(too_large)?;
    let raw = match &weight.strides {
        None => Bytes::copy_from_slice(&weight.memory[..bytes]),
        Some(strides) => in_order(weight, strides, bytes).into(),
    };
    Ok(TensorProto {
        name: tensor.name,
        dims: tensor.dims,
        data_type: tensor.data_type,
        doc_string: tensor.doc_string,
        metadata_props: tensor.metadata_props,
        raw_data: Some(raw),
        ..TensorProto::default()
    })
}

/// The elements one after the other. `Weight` was made of strides that stay within its memory.
fn in_order(weight: &Weight, strides: &[u64], bytes: usize) -> Vec<u8> {
    let size = weight.element.bytes;
    let mut raw = Vec::with_capacity(bytes);
    let mut at = vec![0u64; weight.shape.len()];
    while raw.len() < bytes {
        let place: u64 = at.iter().zip(strides).map(|(at, stride)| at * stride).sum();
        let begin = place as usize * size;
        raw.extend_from_slice(&weight.memory[begin..begin + size]);
        for axis in (0..at.len()).rev() {
            at[axis] += 1;
            if at[axis] < weight.shape[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    raw
}

//! From `SequenceProto`, `OptionalProto` and `MapProto` to `Datum`, and back.

use bytes::Bytes;
use prost::Message;

use super::proto::{MapProto, OptionalProto, SequenceProto, TensorProto};
use super::{decode_tensor, encode_tensor, tensor, undecodable};
use crate::array::Array;
use crate::error::Why;
use crate::{DType, Datum, Error, Kind, Result, Tensor, ValueInfo, heap};

/// The element types of sequences and optionals in a file.
const TENSOR: i32 = 1;
const SEQUENCE: i32 = 3;
const MAP: i32 = 4;

/// The most bytes in memory for a byte of a file: an empty message takes two bytes there.
const MESSAGE: u64 = size_of::<TensorProto>() as u64;

impl Datum {
    /// Reads the bytes of a protobuf-encoded value of the kind that the model declares for `info`: a `TensorProto`, `SequenceProto`,
    /// `OptionalProto` or `MapProto`, like the test data beside a published model.
    ///
    /// # Errors
    /// [`Error::Decode`] if the bytes are no such message, [`Error::InvalidModel`] if it contradicts itself.
    ///
    /// ```
    /// # fn f(model: &sardonyx::Model, bytes: &[u8]) -> sardonyx::Result<()> {
    /// let value = sardonyx::Datum::from_onnx(bytes, &model.inputs()[0])?;
    /// # Ok(()) }
    /// ```
    pub fn from_onnx(bytes: &[u8], info: &ValueInfo) -> Result<Datum> {
        heap::ask("the messages of a value", (bytes.len() as u64).saturating_mul(MESSAGE))?;
        match &info.container {
            None | Some(Kind::Tensor(_)) => Ok(Datum::Tensor(decode_tensor(bytes)?)),
            Some(Kind::Sequence(_)) => sequence(SequenceProto::decode(bytes).map_err(undecodable)?),
            Some(Kind::Optional(_)) => optional(OptionalProto::decode(bytes).map_err(undecodable)?),
            Some(Kind::Map) => map(MapProto::decode(bytes).map_err(undecodable)?),
        }
    }

    /// The value as the bytes of the protobuf message that [`Datum::from_onnx`] reads, called `name`.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the value is nested deeper than ONNX's messages are.
    ///
    /// ```
    /// use sardonyx::{Datum, Tensor};
    /// let value = Datum::from(Tensor::from_slice(&[1], &[1i64])?);
    /// assert!(!value.to_onnx("x")?.is_empty());
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn to_onnx(&self, name: &str) -> Result<Vec<u8>> {
        Ok(match self {
            Datum::Tensor(tensor) => encode_tensor(tensor, name),
            Datum::Sequence(elements) => export_sequence(elements, name)?.encode_to_vec(),
            Datum::Optional(content) => {
                let mut proto = OptionalProto { name: name.into(), ..OptionalProto::default() };
                match content.as_deref() {
                    None => {}
                    Some(Datum::Tensor(value)) => {
                        (proto.elem_type, proto.tensor_value) = (TENSOR, Some(tensor::export(value, "")));
                    }
                    Some(Datum::Sequence(elements)) => {
                        let value = export_sequence(elements, "")?;
                        (proto.elem_type, proto.sequence_value) = (SEQUENCE, Some(value));
                    }
                    Some(other) => return Err(nested(other)),
                }
                proto.encode_to_vec()
            }
            Datum::Map { keys, values } => export_map(keys, values, name)?.encode_to_vec(),
        })
    }
}

fn nested(datum: &Datum) -> Error {
    Error::Tensor(format!("a {} stands in another container, which no message of ONNX holds", datum.kind()))
}

fn sequence(proto: SequenceProto) -> Result<Datum> {
    if !(proto.sequence_values.is_empty()
        && proto.optional_values.is_empty()
        && proto.sparse_tensor_values.is_empty())
    {
        return Err(Error::invalid("a sequence of other things than tensors and maps is not supported"));
    }
    let tensors = proto.tensor_values.iter().map(|value| Ok(Datum::Tensor(tensor::alone(value)?)));
    let maps = proto.map_values.into_iter().map(map);
    Ok(tensors.chain(maps).collect::<Result<Vec<Datum>>>()?.into())
}

fn optional(proto: OptionalProto) -> Result<Datum> {
    let content = match (proto.tensor_value, proto.sequence_value, proto.map_value) {
        (Some(value), None, None) => Some(Datum::Tensor(tensor::alone(&value)?)),
        (None, Some(value), None) => Some(sequence(value)?),
        (None, None, Some(value)) => Some(map(value)?),
        (None, None, None) => None,
        _ => return Err(Error::invalid("an optional has more than one value")),
    };
    Ok(Datum::Optional(content.map(Into::into)))
}

fn map(proto: MapProto) -> Result<Datum> {
    let keys = match proto.string_keys.is_empty() {
        true => Tensor::from_slice(&[proto.keys.len()], &proto.keys)?,
        false => {
            let texts = proto.string_keys.iter().map(|key| std::str::from_utf8(key).map(String::from));
            let texts: Vec<String> = texts
                .collect::<Result<_, _>>()
                .map_err(|_| Error::invalid("a map has a key that is not UTF-8"))?;
            Tensor::from_strings(&[texts.len()], texts)?
        }
    };
    let values = proto.values.unwrap_or_default().tensor_values;
    let arrays = values.iter().map(|value| Array::from_tensor(&tensor::alone(value)?));
    let joined = arrays.collect::<Result<Vec<Array>, Why>>().and_then(|arrays| match arrays.is_empty() {
        true => Ok(Array::float(DType::F32, &[0], Vec::new())),
        false => Array::joined(&arrays.iter().collect::<Vec<_>>()),
    });
    let refused = |why: Why| why.error("the values of a map", Error::invalid);
    Datum::map(keys, joined.and_then(|array| array.to_tensor()).map_err(refused)?)
}

fn export_sequence(elements: &[Datum], name: &str) -> Result<SequenceProto> {
    let mut proto = SequenceProto { name: name.into(), elem_type: TENSOR, ..SequenceProto::default() };
    for element in elements {
        match element {
            Datum::Tensor(value) => proto.tensor_values.push(tensor::export(value, "")),
            Datum::Map { keys, values } => {
                proto.elem_type = MAP;
                proto.map_values.push(export_map(keys, values, "")?);
            }
            other => return Err(nested(other)),
        }
    }
    Ok(proto)
}

fn export_map(keys: &Tensor, values: &Tensor, name: &str) -> Result<MapProto> {
    let refused = |why: Why| why.error("the values of a map", Error::Tensor);
    let array = Array::from_tensor(values).map_err(refused)?;
    let mut each = SequenceProto { elem_type: TENSOR, ..SequenceProto::default() };
    for i in 0..values.len() {
        let value = array.gather(&[], |_| Some(i), None).to_tensor().map_err(refused)?;
        each.tensor_values.push(tensor::export(&value, ""));
    }
    let texts = keys.strings().unwrap_or_default().iter();
    Ok(MapProto {
        name: name.into(),
        key_type: keys.dtype().onnx(),
        keys: if keys.dtype() == DType::I64 { keys.to_vec()? } else { Vec::new() },
        string_keys: texts.map(|text| Bytes::copy_from_slice(text.as_bytes())).collect(),
        values: Some(each),
    })
}

//! The format safetensors: the length of a header, the header in JSON, and the elements.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{Element, Weight, count, malformed, shown};
use crate::Result;

/// The format's own limit of a header.
const MOST_HEADER: u64 = 100_000_000;

const TYPES: [(&str, &str); 15] = [
    ("F64", "float64"),
    ("F32", "float32"),
    ("F16", "float16"),
    ("BF16", "bfloat16"),
    ("I64", "int64"),
    ("I32", "int32"),
    ("I16", "int16"),
    ("I8", "int8"),
    ("U64", "uint64"),
    ("U32", "uint32"),
    ("U16", "uint16"),
    ("U8", "uint8"),
    ("BOOL", "bool"),
    ("F8_E4M3", "float8e4m3fn"),
    ("F8_E5M2", "float8e5m2"),
];

/// What the header says of a tensor.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The tensors of a header, without its metadata.
struct Header(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Header, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object that describes tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }
        from.deserialize_map(Entries)
    }
}

pub(super) fn read(file: &[u8]) -> Result<Vec<Weight<'_>>> {
    let unknown = || match file.starts_with(&[0x80]) {
        true => malformed(
            "this is a pickle by itself, as PyTorch wrote before 1.6: load it in Python, and torch.save its state dictionary again",
        ),
        false => malformed(
            "the file is neither of safetensors nor a zip archive of PyTorch, which torch.save(model.state_dict(), FILE) writes",
        ),
    };
    let length: [u8; 8] = file.get(..8).and_then(|length| length.try_into().ok()).ok_or_else(unknown)?;
    let length = u64::from_le_bytes(length);
    let rest = &file[8..];
    // A header's length may begin as a pickle does; a pickle's first bytes are no length of a header.
    if length > MOST_HEADER || length > rest.len() as u64 {
        return Err(unknown());
    }
    let (header, data) = rest.split_at(length as usize);
    let header: Header = serde_json::from_slice(header)
        .map_err(|error| malformed(format!("the header of safetensors is wrong: {error}")))?;
    let mut weights = Vec::new();
    let mut ranges = Vec::new();
    for (name, entry) in header.0 {
        let what = |what: String| malformed(format!("the weight '{}': {what}", shown(&name)));
        let named =
            TYPES.iter().find(|known| known.0 == entry.dtype).and_then(|known| Element::named(known.1));
        let element = named
            .ok_or_else(|| what(format!("the type {} has no counterpart in ONNX", shown(&entry.dtype))))?;
        let [begin, end] = entry.data_offsets;
        let range = usize::try_from(begin).ok().zip(usize::try_from(end).ok());
        let memory = range.and_then(|(begin, end)| data.get(begin..end));
        let memory = memory.ok_or_else(|| what(format!("bytes {begin} to {end} are not in the file")))?;
        let bytes = count(&entry.shape).and_then(|count| count.checked_mul(element.bytes));
        if bytes != Some(memory.len()) {
            return Err(what(format!("{:?} elements do not take {} bytes", entry.shape, memory.len())));
        }
        ranges.push((begin, end, weights.len()));
        weights.push(Weight { name, element, shape: entry.shape, memory, strides: None });
    }
    ranges.sort_unstable();
    if let Some(pair) = ranges.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        let [a, b] = [pair[0].2, pair[1].2].map(|at| shown(&weights[at].name));
        return Err(malformed(format!("the weights '{a}' and '{b}' overlap")));
    }
    Ok(weights)
}

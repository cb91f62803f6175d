//! ai.onnx.ml DictVectorizer and CastMap: the values of a map as a row.
//!
//! History: 1.
//!
//! DictVectorizer: the values of the keys that a vocabulary lists, in its order. CastMap, whose keys are integers: all values in the
//! order of their keys (DENSE), or each at the place that its key says, up to a length (SPARSE).

use std::collections::HashMap;

use super::scores::ml;
use super::{
    Array, DType, Datum, HostOperator, HostValue, Kind, NodeDef, Op, Operator, Row, Types, Why, Work, refuse,
    required, types,
};
use crate::array::{Numbers, number};
use crate::facts::{Fact, check_sizes};

/// DictVectorizer or CastMap.
#[derive(Clone, Debug)]
pub(crate) enum MapVector {
    /// The keys: integers or strings.
    Vocabulary(Array),
    Cast {
        to: DType,
        /// The length of the row; `None` for DENSE.
        length: Option<usize>,
    },
}

const CAST_MAP: Types = types![T1 -> T2; T1: CONTAINERS, T2: STRING F32 I64];
const DICT: Types = types![T1 -> T2; T1: CONTAINERS, T2: STRING I64 F32 F64];

pub(crate) const ROWS: &[Row] = &[
    ml("CastMap", 1, CAST_MAP, parse_cast, Vec::new),
    ml("DictVectorizer", 1, DICT, parse_vocabulary, Vec::new),
];

fn parse_cast(def: &NodeDef) -> Result<Op, Why> {
    let to = match def.attributes.string_or("cast_to", "TO_FLOAT")?.as_str() {
        "TO_FLOAT" => DType::F32,
        "TO_INT64" => DType::I64,
        "TO_STRING" => DType::String,
        other => refuse!("cast_to is '{other}', and must be TO_FLOAT, TO_INT64 or TO_STRING"),
    };
    let length = match def.attributes.string_or("map_form", "DENSE")?.as_str() {
        "DENSE" => None,
        "SPARSE" => match usize::try_from(def.attributes.int_or("max_map", 1)?) {
            Ok(length @ 1..) => Some(length),
            _ => refuse!("max_map must be positive"),
        },
        other => refuse!("map_form is '{other}', and must be DENSE or SPARSE"),
    };
    Ok(MapVector::Cast { to, length }.into())
}

fn parse_vocabulary(def: &NodeDef) -> Result<Op, Why> {
    let ints = def.attributes.ints("int64_vocabulary")?.unwrap_or_default();
    let texts = def.attributes.strings("string_vocabulary")?.unwrap_or_default();
    let keys = match (ints.is_empty(), texts.is_empty()) {
        (false, true) => Array::int(DType::I64, &[ints.len()], ints.into_iter().map(i128::from).collect()),
        (true, false) => Array::text(&[texts.len()], texts),
        _ => refuse!("either 'string_vocabulary' or 'int64_vocabulary' must list the keys"),
    };
    Ok(MapVector::Vocabulary(keys).into())
}

/// The bytes that a key and its place take in a hash map, twice as many as it needs at most, and in an order.
const ENTRY: usize = 128;

/// The element of an array that holds 0, or an empty text.
fn nothing(dtype: DType) -> Array {
    match dtype {
        DType::String => Array::text(&[1], vec![String::new()]),
        dtype if dtype.is_float() => Array::float(dtype, &[1], vec![0.0]),
        dtype => Array::int(dtype, &[1], vec![0]),
    }
}

impl MapVector {
    /// The values of the vocabulary's keys.
    fn listed(vocabulary: &Array, keys: &Array, values: &Array) -> Result<Array, Why> {
        let count = vocabulary.len();
        let gathered = |place: &dyn Fn(usize) -> Option<usize>| {
            values.gather(&[1, count], place, Some(&nothing(values.dtype)))
        };
        Ok(match (&vocabulary.data, &keys.data) {
            (Numbers::Text(listed), Numbers::Text(keys)) => {
                let places: HashMap<&str, usize> = keys.iter().map(String::as_str).zip(0..).collect();
                gathered(&|i| places.get(listed[i].as_str()).copied())
            }
            (Numbers::Int(listed), Numbers::Int(keys)) => {
                let places: HashMap<i128, usize> = keys.iter().copied().zip(0..).collect();
                gathered(&|i| places.get(&listed[i]).copied())
            }
            _ => refuse!(
                "the keys of the map are {}, and those of the vocabulary {}",
                keys.dtype,
                vocabulary.dtype
            ),
        })
    }

    fn cast(to: DType, length: Option<usize>, keys: &Array, values: &Array) -> Result<Array, Why> {
        let Numbers::Int(keys) = &keys.data else { refuse!("the keys of the map must be integers") };
        let values = match to {
            // The text of a number has six digits after the point.
            DType::String if values.dtype.is_float() => {
                let texts = values.floats()?.iter().map(|value| format!("{value:.6}")).collect();
                Array::text(&values.shape, texts)
            }
            _ => number::cast(values, to, true)?,
        };
        let mut places: HashMap<usize, usize> = HashMap::with_capacity(keys.len());
        match length {
            None => {
                let mut order: Vec<usize> = (0..keys.len()).collect();
                order.sort_by_key(|&i| keys[i]);
                places.extend(order.into_iter().enumerate());
            }
            Some(length) => {
                for (i, &key) in keys.iter().enumerate() {
                    match usize::try_from(key) {
                        Ok(place) if place < length => drop(places.insert(place, i)),
                        // ONNX Runtime leaves out what lies beyond the length.
                        Ok(_) => {}
                        Err(_) => refuse!("the key {key} is negative, and is the place of a value"),
                    }
                }
            }
        }
        let shape = [1, length.unwrap_or(keys.len())];
        check_sizes(&[Fact::new(to, shape)])?;
        // As in ONNX Runtime, the text for no number has this form.
        let fill = if to == DType::String { Array::text(&[1], vec!["0.f".into()]) } else { nothing(to) };
        Ok(values.gather(&shape, |i| places.get(&i).copied(), Some(&fill)))
    }
}

impl HostOperator for MapVector {
    fn kinds(&self, _: &[Option<&Kind>]) -> Vec<Kind> {
        vec![Kind::Tensor(match self {
            MapVector::Vocabulary(_) => None,
            MapVector::Cast { to, .. } => Some(*to),
        })]
    }

    fn apply(&self, inputs: &[Option<&HostValue>]) -> Result<Vec<HostValue>, Why> {
        let input = required(inputs, 0)?;
        let Datum::Map { keys, values } = input else {
            refuse!("the input is a {}, and must be a map", input.kind())
        };
        let (keys, values) = (keys.array()?, values.array()?);
        let row = match self {
            MapVector::Vocabulary(vocabulary) => MapVector::listed(vocabulary, &keys, &values)?,
            MapVector::Cast { to, length } => MapVector::cast(*to, *length, &keys, &values)?,
        };
        Ok(vec![row.into()])
    }

    fn reads_elements(&self, _: usize) -> bool {
        true
    }

    fn work(&self, inputs: &[Option<&HostValue>]) -> Result<Work, Why> {
        let keys = match required(inputs, 0)? {
            Datum::Map { keys, .. } => keys.shape().iter().product(),
            _ => 0usize,
        };
        let row = match self {
            MapVector::Vocabulary(vocabulary) => vocabulary.len(),
            MapVector::Cast { length, .. } => length.unwrap_or(keys),
        };
        Ok(Work::array(DType::String, &[row.max(keys)]).temporary(keys, ENTRY))
    }
}

impl Operator for MapVector {
    fn host(&self) -> Option<&dyn HostOperator> {
        Some(self)
    }

    fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        refuse!("it takes a map")
    }

    fn eval(&self, _: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        refuse!("it takes a map")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> [Array; 2] {
        let keys = Array::int(DType::I64, &[3], vec![3, 1, 7]);
        [keys, Array::float(DType::F32, &[3], vec![1.5, -2.7, 9.0])]
    }

    /// What onnxruntime 1.31.1 gives.
    #[test]
    fn values_stand_where_keys_say() {
        let [keys, values] = map();
        let row = |to, length| MapVector::cast(to, length, &keys, &values).unwrap();
        assert_eq!(row(DType::F32, None), Array::float(DType::F32, &[1, 3], vec![-2.7, 1.5, 9.0]));
        assert_eq!(row(DType::I64, Some(4)), Array::int(DType::I64, &[1, 4], vec![0, -2, 0, 1]));
        let texts = ["0.f", "-2.700000"].map(String::from).to_vec();
        assert_eq!(row(DType::String, Some(2)), Array::text(&[1, 2], texts));
        let negative = Array::int(DType::I64, &[3], vec![-1, 1, 2]);
        assert!(MapVector::cast(DType::F32, Some(4), &negative, &values).is_err());
    }

    #[test]
    fn a_vocabulary_lists_the_columns() {
        let [keys, values] = map();
        let listed = Array::int(DType::I64, &[4], vec![7, 2, 3, 7]);
        let row = MapVector::listed(&listed, &keys, &values).unwrap();
        assert_eq!(row, Array::float(DType::F32, &[1, 4], vec![9.0, 0.0, 1.5, 9.0]));
        assert!(MapVector::listed(&Array::text(&[0], vec![]), &keys, &values).is_err());
    }
}

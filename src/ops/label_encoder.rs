//! ai.onnx.ml LabelEncoder and CategoryMapper: each element is a key, and becomes the value that belongs to it, or a default.
//!
//! History: LabelEncoder 1 (strings and their places), 2 (keys and values), 4 (tensors; NaN is a key like others);
//! CategoryMapper 1. Of equal keys the first counts.

use std::collections::HashMap;

use super::case::{self, Case, Tolerance};
use super::forest::{order_key, order_key_of_double};
use super::scores::{ml, ml_case};
use super::{
    Array, Attr, DType, Kind, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, refuse, required,
    types,
};
use crate::Tensor;
use crate::array::Numbers;
use crate::facts::Fact;
use crate::kernels::gather::groups;
use crate::kernels::lookup::Lookup;
use crate::kernels::{double_words, words};
use crate::plan::Lower;

/// Tables, of which that applies whose keys have the input's dtype.
#[derive(Clone, Debug)]
pub(crate) struct LabelEncoder(Vec<KeyTable>);

/// Values for keys.
#[derive(Clone, Debug)]
struct KeyTable {
    keys: Array,
    values: Array,
    /// One element: the value for all other keys.
    default: Array,
    /// Whether NaN is a key like others; otherwise it is none.
    nan_is_key: bool,
}

const TYPES: Types = types![T1 -> T2; T1 T2: STRING I64 F32@2 I32@4 I16@4 F64@4];

pub(crate) const ROWS: &[Row] = &[
    ml("LabelEncoder", 1, TYPES, parse, || cases("LabelEncoder")),
    ml("CategoryMapper", 1, types![T1 -> T2; T1 T2: STRING I64], parse_mapper, || cases("CategoryMapper")),
];

fn numbers(values: Vec<i64>) -> Array {
    Array::int(DType::I64, &[values.len()], values.into_iter().map(i128::from).collect())
}

fn texts(values: Vec<String>) -> Array {
    Array::text(&[values.len()], values)
}

fn floats(values: Vec<f32>) -> Array {
    Array::float(DType::F32, &[values.len()], values.into_iter().map(f64::from).collect())
}

/// Both ways between strings and whole numbers.
fn both_ways(def: &NodeDef, names: Vec<String>, ids: Vec<i64>) -> Result<Op, Why> {
    if names.len() != ids.len() {
        refuse!("there are {} strings and {} numbers", names.len(), ids.len());
    }
    let (names, ids) = (texts(names), numbers(ids));
    let default_int = numbers(vec![def.attributes.int_or("default_int64", -1)?]);
    let default_text = texts(vec![def.attributes.string_or("default_string", "_Unused")?]);
    let table = |keys: &Array, values: &Array, default: Array| KeyTable {
        keys: keys.clone(),
        values: values.clone(),
        default,
        nan_is_key: false,
    };
    Ok(LabelEncoder(vec![table(&names, &ids, default_int), table(&ids, &names, default_text)]).into())
}

fn parse_mapper(def: &NodeDef) -> Result<Op, Why> {
    let names = def.attributes.strings("cats_strings")?.unwrap_or_default();
    both_ways(def, names, def.attributes.ints("cats_int64s")?.unwrap_or_default())
}

fn parse(def: &NodeDef) -> Result<Op, Why> {
    if def.opset < 2 {
        let names = def.attributes.strings("classes_strings")?.unwrap_or_default();
        let ids = (0..names.len() as i64).collect();
        return both_ways(def, names, ids);
    }
    let (keys, values) = (attribute(def, "keys")?, attribute(def, "values")?);
    if keys.len() != values.len() {
        refuse!("there are {} keys and {} values", keys.len(), values.len());
    }
    let default = match (def.attributes.tensor("default_tensor")?, values.dtype) {
        (Some(tensor), _) => Array::from_tensor(&tensor)?,
        (None, DType::String) => texts(vec![def.attributes.string_or("default_string", "_Unused")?]),
        (None, dtype) if dtype.is_float() => {
            Array::float(dtype, &[1], vec![def.attributes.float_or("default_float", -0.0)?.into()])
        }
        (None, dtype) => Array::int(dtype, &[1], vec![def.attributes.int_or("default_int64", -1)?.into()]),
    };
    if default.len() != 1 || default.dtype != values.dtype {
        refuse!("the default is {} of {}, and must be one {}", default.len(), default.dtype, values.dtype);
    }
    Ok(LabelEncoder(vec![KeyTable { keys, values, default, nan_is_key: def.opset >= 4 }]).into())
}

/// The keys or the values: the only attribute of those for each dtype that is given.
fn attribute(def: &NodeDef, kind: &str) -> Result<Array, Why> {
    let of = |name: &str| format!("{kind}_{name}");
    let given = [
        def.attributes.ints(&of("int64s"))?.map(numbers),
        def.attributes.floats(&of("floats"))?.map(floats),
        def.attributes.strings(&of("strings"))?.map(texts),
        def.attributes.tensor(&of("tensor"))?.map(|tensor| Array::from_tensor(&tensor)).transpose()?,
    ];
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(array), None) => Ok(array),
        (None, _) => refuse!("has no {kind}"),
        _ => refuse!("has {kind} of more than one dtype"),
    }
}

/// A key that equal elements have in common.
#[derive(PartialEq, Eq, Hash)]
enum LabelKey<'a> {
    Number(i128),
    /// The bits of a float; of any NaN and any zero the same.
    Float(u64),
    Text(&'a str),
}

fn key(array: &Array, i: usize) -> LabelKey<'_> {
    match &array.data {
        Numbers::Int(values) => LabelKey::Number(values[i]),
        Numbers::Float(values) if values[i].is_nan() => LabelKey::Float(f64::NAN.to_bits()),
        Numbers::Float(values) => LabelKey::Float((values[i] + 0.0).to_bits()),
        Numbers::Text(values) => LabelKey::Text(&values[i]),
    }
}

impl KeyTable {
    fn is_key(&self, key: &LabelKey) -> bool {
        self.nan_is_key || *key != LabelKey::Float(f64::NAN.to_bits())
    }

    /// The words for the device, and the number of keys: sorted keys, their values, and the default.
    fn words(&self) -> Result<(usize, Vec<u32>), Why> {
        let value = |array: &Array, i: usize, words: &mut Vec<u32>| {
            match &array.data {
                Numbers::Float(values) if array.dtype == DType::F64 => words.extend(double_words(values[i])),
                Numbers::Float(values) => words.push((values[i] as f32).to_bits()),
                Numbers::Int(values) => match i32::try_from(values[i]) {
                    Ok(value) => words.push(value as u32),
                    Err(_) => return Err(Why::too_wide(values[i])),
                },
                Numbers::Text(_) => refuse!("the device does not compute with strings"),
            }
            Ok(())
        };
        let double = self.keys.dtype == DType::F64;
        let nan = if double { i64::MAX } else { i32::MAX.into() };
        let key = |i: usize| match &self.keys.data {
            Numbers::Float(keys) if keys[i].is_nan() => self.nan_is_key.then_some(nan),
            Numbers::Float(keys) if double => Some(order_key_of_double(keys[i])),
            Numbers::Float(keys) => Some(order_key(keys[i] as f32).into()),
            // A device's elements fit 32 bits, so that none is equal to a key that does not.
            Numbers::Int(keys) => i32::try_from(keys[i]).ok().map(i64::from),
            Numbers::Text(_) => None,
        };
        let mut places: Vec<(i64, usize)> = (0..self.keys.len()).filter_map(|i| Some((key(i)?, i))).collect();
        places.sort_unstable();
        places.dedup_by_key(|place| place.0);
        let mut words = Vec::new();
        for &(key, _) in &places {
            words.push(key as u32);
            words.extend(double.then_some((key >> 32) as u32));
        }
        for &(_, i) in &places {
            value(&self.values, i, &mut words)?;
        }
        value(&self.default, 0, &mut words)?;
        Ok((places.len(), words))
    }
}

impl LabelEncoder {
    fn table(&self, dtype: DType) -> Result<&KeyTable, Why> {
        match self.0.iter().find(|table| table.keys.dtype == dtype) {
            Some(table) => Ok(table),
            None => refuse!("the keys are {}, and the input is {dtype}", self.0[0].keys.dtype),
        }
    }
}

impl Operator for LabelEncoder {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        Ok(vec![Fact::new(self.table(x.dtype)?.values.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let table = self.table(x.dtype)?;
        let mut places = HashMap::with_capacity(table.keys.len());
        for i in 0..table.keys.len() {
            let key = key(&table.keys, i);
            if table.is_key(&key) {
                places.entry(key).or_insert(i);
            }
        }
        let place = |i: usize| places.get(&key(x, i)).copied();
        Ok(vec![table.values.gather(&x.shape, place, Some(&table.default))])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let table = self.table(required(inputs, 0)?.dtype)?;
        let longest = table.values.longest_text().max(table.default.longest_text());
        let made = outputs.iter().map(Fact::count).sum::<usize>();
        // A hash map has room for up to 16 entries where it holds 7.
        let entry = size_of::<(LabelKey, usize)>() + 1;
        let keys = of_elements(inputs, outputs).temporary(table.keys.len(), entry * 16 / 7);
        Ok(keys.temporary(made, longest))
    }

    fn kinds(&self, inputs: &[Option<&Kind>]) -> Option<Vec<Kind>> {
        let dtype = match inputs.first().copied().flatten() {
            Some(Kind::Tensor(Some(dtype))) => self.table(*dtype).ok(),
            _ => None,
        };
        let values = dtype.or(self.0.first().filter(|_| self.0.len() == 1));
        Some(vec![Kind::Tensor(values.map(|table| table.values.dtype))])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        let x = cx.fact(0)?;
        let (keys, words_of_table) = self.table(x.dtype)?.words()?;
        let table = cx.words(words_of_table.len(), || words_of_table)?;
        let (input, output) = (cx.input(0)?, cx.output(0)?);
        let lookup = Lookup { from: cx.scalar(input), to: cx.scalar(output) };
        cx.call(lookup, vec![input, table, output], words([x.count(), keys])?, groups(x.count()));
        Ok(())
    }
}

fn cases(name: &'static str) -> Vec<Case> {
    let new = |case: &str| ml_case(name, case).tolerance(Tolerance::EXACT).opset(4);
    if name == "CategoryMapper" {
        return vec![];
    }
    let ints = |keys: &[i64]| new("").ints("keys_int64s", keys);
    let named = |name: &str, case: Case| Case { name: format!("LabelEncoder/{name}"), ..case };
    let x = || case::integers(&[4, 5], -3, 4);
    let special = [f32::NAN, 0.0, -0.0, 1.5, f32::INFINITY, f32::NEG_INFINITY, -1.5, 1e-40];
    let of_floats = |opset: i64| {
        let keys = vec![1.5, f32::NAN, -0.0, f32::NEG_INFINITY, 1.5, -1.5];
        let case = new("").opset(opset).attr("keys_floats", Attr::Floats(keys));
        case.attr("values_floats", Attr::Floats(vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
            .float("default_float", 7.5)
    };
    let tensor = |values: Tensor| Attr::Tensor(values);
    let of_tensors = |from: DType, to: DType| {
        new("")
            .attr("keys_tensor", tensor(case::converted(&case::list(&[2, -1, 0]), from)))
            .attr("values_tensor", tensor(case::converted(&case::list(&[7, 8, -9]), to)))
            .attr("default_tensor", tensor(case::converted(&case::list(&[3]), to)))
            .input(case::converted(&x(), from))
    };
    vec![
        named("int64", ints(&[3, -2, 0]).ints("values_int64s", &[10, 20, -30]).input(x())),
        named("default", ints(&[3]).ints("values_int64s", &[10]).int("default_int64", 5).input(x())),
        named("twice", ints(&[3, 3, 3]).ints("values_int64s", &[10, 20, 30]).input(x())),
        named("no keys that fit", ints(&[1 << 40]).ints("values_int64s", &[10]).input(x())),
        named("to floats", ints(&[1, 2]).attr("values_floats", Attr::Floats(vec![0.5, 0.25])).input(x())),
        named("floats", of_floats(4).input(case::values(&[2, 4], &special))),
        named("floats, opset 2", of_floats(2).input(case::values(&[2, 4], &special))),
        named("int32 to int16", of_tensors(DType::I32, DType::I16)),
        named("int16 to float32", of_tensors(DType::I16, DType::F32)),
        named("float32 to int32", of_tensors(DType::F32, DType::I32)),
        named("empty", ints(&[3]).ints("values_int64s", &[10]).input(case::integers(&[0, 2], 0, 3))),
        named("scalar", ints(&[3]).ints("values_int64s", &[10]).input(case::values(&[], &[3i64]))),
        named("many", {
            let keys: Vec<i64> = (0..500).map(|i| i * 7919 % 1000 - 500).collect();
            ints(&keys).ints("values_int64s", &(0..500).collect::<Vec<_>>()).input(case::integers(
                &[999],
                -600,
                600,
            ))
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str, opset: i64, attributes: &[(&str, Attr)]) -> Op {
        let attributes = attributes.iter().map(|(name, attr)| (*name, attr.clone())).collect();
        let def = NodeDef {
            op_type: name,
            opset,
            attributes: &attributes,
            inputs: &[true],
            listed: &[true],
            outputs: &[true],
        };
        super::super::row_of("ai.onnx.ml", name, def.opset).and_then(|row| (row.parse)(&def).ok()).unwrap()
    }

    #[test]
    fn strings_and_numbers_both_ways() {
        let names = || Attr::Strings(["a", "b"].map(String::from).to_vec());
        let ids = Attr::Ints(vec![5, 7]);
        let encoder = parsed("LabelEncoder", 1, &[("classes_strings", names())]);
        let mapper = parsed("CategoryMapper", 1, &[("cats_strings", names()), ("cats_int64s", ids)]);
        let text = |values: &[&str]| texts(values.iter().map(|value| value.to_string()).collect());
        let eval = |op: &Op, x: &Array| op.operator().eval(&[Some(x)]).unwrap().remove(0);
        assert_eq!(eval(&encoder, &text(&["b", "z", "a"])), numbers(vec![1, -1, 0]));
        assert_eq!(eval(&encoder, &numbers(vec![1, 9])), text(&["b", "_Unused"]));
        assert_eq!(eval(&mapper, &text(&["b", "z"])), numbers(vec![7, -1]));
        assert_eq!(eval(&mapper, &numbers(vec![5, 1])), text(&["a", "_Unused"]));
    }
}

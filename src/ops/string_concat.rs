//! StringConcat: the texts of two tensors, each pair one after the other.
//!
//! History: 20. The operands broadcast.

use super::broadcast::broadcast;
use super::case::{self, Case};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, onnx, product, required, types,
};
use crate::array::{broadcast_index, unravel};
use crate::facts::Fact;

/// StringConcat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StringConcat;

const TYPES: Types = types![T T -> T; T: STRING];

pub(crate) const ROWS: &[Row] = &[onnx("StringConcat", 20, TYPES, parse, cases)];

fn parse(_: &NodeDef) -> Result<Op, Why> {
    Ok(StringConcat.into())
}

impl Operator for StringConcat {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        Ok(vec![Fact::new(DType::String, broadcast([a.shape.as_slice(), &b.shape])?)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        let shape = broadcast([a.shape.as_slice(), &b.shape])?;
        let (left, right) = (a.texts()?, b.texts()?);
        let pair = |i: usize| {
            let at = unravel(i, &shape);
            let (left, right) =
                (&left[broadcast_index(&at, &a.shape)], &right[broadcast_index(&at, &b.shape)]);
            [left.as_str(), right].concat()
        };
        Ok(vec![Array::text(&shape, (0..product(&shape)).map(pair).collect())])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let longest = inputs.iter().flatten().filter_map(|fact| fact.value.as_ref());
        let longest = longest.map(|known| known.array.longest_text()).max().unwrap_or(0);
        let made = outputs.iter().map(Fact::count).sum();
        Ok(of_elements(inputs, outputs).temporary(made, longest))
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("StringConcat", name);
    let list = |texts: &[&str]| case::texts(&[texts.len()], texts);
    vec![
        new("pairs").input(list(&["a", "", "\u{1f980}"])).input(list(&["b", "c", "é"])),
        new("broadcast").input(case::texts(&[2, 1], &["a", "b"])).input(list(&["x", "y", "z"])),
        new("scalar").input(case::texts(&[], &["a"])).input(case::texts(&[], &["b"])),
        new("empty").input(case::texts(&[0, 2], &[])).input(list(&["b"])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stand_one_after_the_other() {
        let list = |texts: &[&str]| Array::from_tensor(&case::texts(&[texts.len()], texts)).unwrap();
        let all = StringConcat.eval(&[Some(&list(&["a", "", "ß"])), Some(&list(&["-"]))]).unwrap();
        assert_eq!(all[0], list(&["a-", "-", "ß-"]));
    }
}

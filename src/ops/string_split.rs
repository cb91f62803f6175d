//! StringSplit: each text in parts.
//!
//! History: 20. Without a delimiter, the parts are what stands between white space. Shorter lists are filled up with empty texts.

use super::case::{self, Case};
use super::non_zero::known_facts;
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, onnx, refuse, required, types,
};
use crate::facts::{Fact, check_sizes};
use crate::heap;

/// StringSplit.
#[derive(Clone, Debug)]
pub(crate) struct StringSplit {
    /// Empty for white space.
    delimiter: String,
    /// The greatest number of splits.
    most: usize,
}

const TYPES: Types = types![T1 -> T2 T3; T1: STRING, T2: STRING, T3: I64];

pub(crate) const ROWS: &[Row] = &[onnx("StringSplit", 20, TYPES, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let most = def.attributes.int("maxsplit")?.and_then(|most| usize::try_from(most).ok());
    Ok(StringSplit {
        delimiter: def.attributes.string_or("delimiter", "")?,
        most: most.unwrap_or(usize::MAX),
    }
    .into())
}

impl StringSplit {
    fn parts<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let most = self.most.saturating_add(1);
        if self.delimiter.is_empty() {
            return self.words(text.trim_matches(is_space), most);
        }
        if text.is_empty() { Vec::new() } else { text.splitn(most, &self.delimiter).collect() }
    }

    /// What stands between white space; the last of `most` parts is the rest.
    fn words<'t>(&self, mut text: &'t str, most: usize) -> Vec<&'t str> {
        let mut words = Vec::new();
        while !text.is_empty() {
            let end = if words.len() + 1 == most { None } else { text.find(is_space) };
            let (word, rest) = text.split_at(end.unwrap_or(text.len()));
            words.push(word);
            text = rest.trim_start_matches(is_space);
        }
        words
    }
}

/// White space as in Python, which has four separators besides Unicode's.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

impl Operator for StringSplit {
    fn shapes_depend_on_data(&self) -> bool {
        true
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        known_facts(self, inputs)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let texts = x.texts()?;
        let lists: Vec<Vec<&str>> = texts.iter().map(|text| self.parts(text)).collect();
        let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
        let shape = [&x.shape[..], &[longest]].concat();
        check_sizes(&[Fact::new(DType::String, shape.as_slice())])?;
        let Some(count) = lists.len().checked_mul(longest) else { refuse!("there are too many parts") };
        let mut parts: Vec<String> = heap::reserved("the parts of strings", count)?;
        for list in &lists {
            parts.extend((0..longest).map(|i| list.get(i).copied().unwrap_or("").to_string()));
        }
        let counts = lists.iter().map(|list| list.len() as i128).collect();
        Ok(vec![Array::text(&shape, parts), Array::int(DType::I64, &x.shape, counts)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let known = required(inputs, 0)?.value.as_ref().and_then(|known| known.array.texts().ok());
        let bytes = known.map_or(0, |texts| texts.iter().map(|text| text.len() + 1).sum());
        Ok(of_elements(inputs, outputs).temporary(bytes, size_of::<&str>() + 1))
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("StringSplit", name).outputs(2);
    let list = |texts: &[&str]| case::texts(&[texts.len()], texts);
    vec![
        new("white space").constant(list(&[" a  b\tc ", "", "d\u{2003}e"])),
        new("delimiter").string("delimiter", "--").constant(list(&["a--b---c", "--", "d"])),
        new("most").int("maxsplit", 1).constant(list(&["a b  c", "d"])),
        new("unlimited").int("maxsplit", -1).string("delimiter", ",").constant(list(&["a,,b"])),
        new("empty").constant(case::texts(&[2, 0], &[])),
        new("scalar").constant(case::texts(&[], &["a b"])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(delimiter: &str, most: usize, text: &str) -> Vec<String> {
        let operator = StringSplit { delimiter: delimiter.into(), most };
        operator.parts(text).into_iter().map(String::from).collect()
    }

    /// The examples of the specification, and the edges on which onnxruntime 1.31.1 agrees with it.
    #[test]
    fn parts_of_texts() {
        assert_eq!(split("", usize::MAX, "  hello \t world "), ["hello", "world"]);
        assert_eq!(split(".", usize::MAX, "hello..world."), ["hello", "", "world", ""]);
        assert_eq!(split("", 1, "  a  b  c  "), ["a", "b  c"]);
        assert_eq!(split("", 0, "  a b "), ["a b"]);
        assert_eq!(split(",", 1, "a,b,,c"), ["a", "b,,c"]);
        assert!(split(",", usize::MAX, "").is_empty() && split("", 3, "  ").is_empty());
    }

    #[test]
    fn shorter_lists_are_filled_up() {
        let operator = StringSplit { delimiter: ",".into(), most: usize::MAX };
        let x = Array::text(&[2], vec!["a,b,c".into(), "d".into()]);
        let outputs = operator.eval(&[Some(&x)]).unwrap();
        let parts = ["a", "b", "c", "d", "", ""].map(String::from).to_vec();
        assert_eq!(outputs[0], Array::text(&[2, 3], parts));
        assert_eq!(outputs[1], Array::int(DType::I64, &[2], vec![3, 1]));
    }
}

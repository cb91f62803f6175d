//! StringNormalizer: leaves out some texts, and changes the case of the others.
//!
//! History: 10. Case is that of Unicode, character by character, whatever the locale, as in ONNX Runtime with its locale: `ß` stays.
//! Where nothing is left, one empty text is.

use std::collections::BTreeSet;

use super::case::{self, Case};
use super::non_zero::known_facts;
use super::{
    Array, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, onnx, refuse, required, types,
};
use crate::facts::Fact;

/// StringNormalizer.
#[derive(Clone, Debug)]
pub(crate) struct StringNormalizer {
    change: CaseChange,
    is_case_sensitive: bool,
    /// What is left out; in lower case, if the case does not matter.
    stopwords: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum CaseChange {
    None,
    Lower,
    Upper,
}

const TYPES: Types = types![string -> string];

pub(crate) const ROWS: &[Row] = &[onnx("StringNormalizer", 10, TYPES, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let change = match def.attributes.string_or("case_change_action", "NONE")?.as_str() {
        "NONE" => CaseChange::None,
        "LOWER" => CaseChange::Lower,
        "UPPER" => CaseChange::Upper,
        other => refuse!("case_change_action is '{other}', and must be NONE, LOWER or UPPER"),
    };
    let is_case_sensitive = def.attributes.flag("is_case_sensitive", false)?;
    let words = def.attributes.strings("stopwords")?.unwrap_or_default().into_iter();
    let stopwords = words.map(|word| if is_case_sensitive { word } else { CaseChange::Lower.of(&word) });
    Ok(StringNormalizer { change, is_case_sensitive, stopwords: stopwords.collect() }.into())
}

impl CaseChange {
    /// Each character becomes one: those whose capitals are several stay as they are, and the capital i with a dot becomes `i`.
    fn of(self, text: &str) -> String {
        let upper = |c: char| {
            let mut capitals = c.to_uppercase();
            match (capitals.next(), capitals.next()) {
                (Some(capital), None) => capital,
                _ => c,
            }
        };
        match self {
            CaseChange::None => text.into(),
            CaseChange::Lower => text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect(),
            CaseChange::Upper => text.chars().map(upper).collect(),
        }
    }
}

impl StringNormalizer {
    fn is_left_out(&self, text: &str) -> bool {
        match (self.stopwords.is_empty(), self.is_case_sensitive) {
            (true, _) => false,
            (_, true) => self.stopwords.contains(text),
            (_, false) => self.stopwords.contains(&CaseChange::Lower.of(text)),
        }
    }
}

impl Operator for StringNormalizer {
    fn shapes_depend_on_data(&self) -> bool {
        true
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        known_facts(self, inputs)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let before: &[usize] = match &x.shape[..] {
            [columns] if *columns > 0 => &[],
            [1, columns] if *columns > 0 => &[1],
            other => refuse!("the input has shape {other:?}, and must be [C] or [1, C] with elements"),
        };
        let kept = x.texts()?.iter().filter(|text| !self.is_left_out(text));
        let mut texts: Vec<String> = kept.map(|text| self.change.of(text)).collect();
        if texts.is_empty() {
            texts.push(String::new());
        }
        Ok(vec![Array::text(&[before, &[texts.len()]].concat(), texts)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let known = required(inputs, 0)?.value.as_ref().and_then(|known| known.array.texts().ok());
        let bytes = known.map_or(0, |texts| texts.iter().map(String::len).sum());
        // Another case takes at most three times as many bytes, and the word is looked up in lower case.
        Ok(of_elements(inputs, outputs).temporary(bytes, 6))
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("StringNormalizer", name);
    let words = || case::texts(&[4], &["monday", "Tuesday", "MONDAY", "Éclair"]);
    let stop =
        |case: Case| case.attr("stopwords", super::Attr::Strings(vec!["Monday".into(), "éclair".into()]));
    vec![
        new("upper").string("case_change_action", "UPPER").constant(words()),
        new("lower").string("case_change_action", "LOWER").constant(case::texts(&[1, 2], &["ÀB", "straße"])),
        stop(new("stop")).constant(words()),
        stop(new("stop, case matters").int("is_case_sensitive", 1)).constant(words()),
        stop(new("nothing left")).constant(case::texts(&[1, 1], &["MONDAY"])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalizer(change: CaseChange, is_case_sensitive: bool, stopwords: &[&str]) -> StringNormalizer {
        StringNormalizer {
            change,
            is_case_sensitive,
            stopwords: stopwords.iter().map(|s| s.to_string()).collect(),
        }
    }

    fn of(operator: &StringNormalizer, shape: &[usize], texts: &[&str]) -> Result<Vec<Array>, Why> {
        operator.eval(&[Some(&Array::from_tensor(&case::texts(shape, texts)).unwrap())])
    }

    /// What onnxruntime 1.31.1 gives in the locale C.UTF-8.
    #[test]
    fn characters_stay_single() {
        assert_eq!(CaseChange::Upper.of("ß É ŉ ﬁ İ ǅ"), "ß É ŉ ﬁ İ Ǆ");
        assert_eq!(CaseChange::Lower.of("ẞ É İ ǅ Σ ΑΣ"), "ß é i ǆ σ ασ");
    }

    #[test]
    fn words_are_left_out_and_changed() {
        let upper = normalizer(CaseChange::Upper, false, &["monday"]);
        let left = of(&upper, &[1, 3], &["Monday", "tüe", "ß"]).unwrap().remove(0);
        assert_eq!(left, Array::text(&[1, 2], vec!["TÜE".into(), "ß".into()]));
        let sensitive = normalizer(CaseChange::None, true, &["monday"]);
        assert_eq!(
            of(&sensitive, &[2], &["Monday", "monday"]).unwrap()[0],
            Array::text(&[1], vec!["Monday".into()])
        );
        assert_eq!(of(&sensitive, &[1], &["monday"]).unwrap()[0], Array::text(&[1], vec![String::new()]));
    }

    #[test]
    fn other_shapes_are_refused() {
        let operator = normalizer(CaseChange::None, false, &[]);
        for (shape, texts) in [(&[2, 1][..], &["a", "b"][..]), (&[], &["a"]), (&[0], &[]), (&[1, 0], &[])] {
            assert!(of(&operator, shape, texts).is_err(), "{shape:?}");
        }
    }
}

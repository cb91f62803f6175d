//! RegexFullMatch: whether each text as a whole matches a pattern of RE2.
//!
//! History: 20. The `regex` crate has RE2's language but for a few points: classes such as `\d` are of ASCII in RE2, `\Q...\E` quotes,
//! and in brackets `[`, `&` and `~` mean themselves.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::case::{self, Case};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, refuse, required, types,
};
use crate::facts::Fact;

/// RegexFullMatch.
#[derive(Clone, Debug)]
pub(crate) struct RegexFullMatch(Arc<Regex>);

pub(crate) const ROWS: &[Row] =
    &[onnx("RegexFullMatch", 20, types![T1 -> T2; T1: STRING, T2: BOOL], parse, cases)];

/// The most bytes of a compiled pattern: a short pattern that repeats others may take gigabytes.
pub(super) const MOST_BYTES: usize = 8 << 20;

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let Some(pattern) = def.attributes.string("pattern")? else { refuse!("attribute 'pattern' is required") };
    Ok(RegexFullMatch(Arc::new(compiled(&pattern)?)).into())
}

fn compiled(pattern: &str) -> Result<Regex, Why> {
    let own = translated(pattern)?;
    // By itself first: a parenthesis too many must not close the group around the pattern.
    built(&own, pattern)?;
    built(&format!("^(?:{own})$"), pattern)
}

/// The expression `own` of the `regex` crate, which `pattern` became.
pub(super) fn built(own: &str, pattern: &str) -> Result<Regex, Why> {
    let regex = RegexBuilder::new(own).size_limit(MOST_BYTES).dfa_size_limit(MOST_BYTES).build();
    regex.map_err(|error| {
        let last = error.to_string().lines().last().unwrap_or_default().trim().to_string();
        format!("the pattern '{pattern}' is no pattern of RE2 that is supported: {last}").into()
    })
}

/// The pattern in the language of the `regex` crate.
pub(super) fn translated(pattern: &str) -> Result<String, Why> {
    let (mut own, mut rest, mut in_brackets) = (String::with_capacity(pattern.len()), pattern, false);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let (taken, text) = match (c, after.chars().next()) {
            ('\\', Some('Q')) => {
                let quoted = &after[1..];
                let end = quoted.find("\\E").unwrap_or(quoted.len());
                let skipped = if end == quoted.len() { 0 } else { 2 };
                (2 + end + skipped, regex::escape(&quoted[..end]))
            }
            ('\\', Some(class)) => match of_class(class, in_brackets) {
                Some(text) => (2, text.into()),
                None if class == 'C' => {
                    refuse!("the pattern has \\C, a byte of a text, which is not supported")
                }
                None => (1 + class.len_utf8(), rest[..1 + class.len_utf8()].into()),
            },
            ('[', Some(':')) if in_brackets && after.contains(":]") => {
                let end = after.find(":]").map_or(after.len(), |end| end + 2);
                (1 + end, rest[..1 + end].into())
            }
            ('[' | '&' | '~', _) if in_brackets => (1, format!("\\{c}")),
            ('[', next) => {
                in_brackets = true;
                // A bracket that closes right behind one that opens means itself.
                let negated = next == Some('^');
                let first = &after[usize::from(negated)..];
                let text = if negated { "[^" } else { "[" };
                match first.starts_with(']') {
                    true => (text.len() + 1, format!("{text}\\]")),
                    false => (text.len(), text.into()),
                }
            }
            (']', _) => {
                in_brackets = false;
                (1, "]".into())
            }
            (c, _) => (c.len_utf8(), c.into()),
        };
        own += &text;
        rest = &rest[taken..];
    }
    Ok(own)
}

/// What RE2 means by an escaped letter that the `regex` crate takes for a class of Unicode.
fn of_class(letter: char, in_brackets: bool) -> Option<&'static str> {
    Some(match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        's' => "[\\t\\n\\f\\r ]",
        'S' => "[^\\t\\n\\f\\r ]",
        'b' if !in_brackets => "(?-u:\\b)",
        'B' if !in_brackets => "(?-u:\\B)",
        _ => return None,
    })
}

impl Operator for RegexFullMatch {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        Ok(vec![Fact::new(DType::Bool, required(inputs, 0)?.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let matches = x.texts()?.iter().map(|text| self.0.is_match(text)).collect();
        Ok(vec![Array::bools(&x.shape, matches)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let texts = required(inputs, 0)?.value.as_ref();
        let bytes =
            texts.map_or(0, |known| known.array.texts().map_or(0, |all| all.iter().map(String::len).sum()));
        // A step for each byte and each of the pattern's states that may be active, a few as a rule.
        Ok(of_elements(inputs, outputs).steps(&[bytes, self.0.as_str().len()]))
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str, pattern: &str| Case::new("RegexFullMatch", name).string("pattern", pattern);
    let words = || case::texts(&[2, 2], &["abc", "www.google.com", "ABC", ""]);
    vec![
        new("site", r"www\.[\w.-]+\.\bcom\b").input(words()),
        new("any", ".*").input(words()),
        new("empty", "x").input(case::texts(&[0, 2], &[])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What onnxruntime 1.31.1 says, which uses RE2.
    #[test]
    fn patterns_are_those_of_re2() {
        let yes: &[(&str, &str)] = &[
            ("abc", "abc"),
            ("a|b", "b"),
            (".", "é"),
            ("", ""),
            (r"\Aa\z", "a"),
            ("(?P<n>a)", "a"),
            ("(?<n>a)", "a"),
            ("(?i)AX", "ax"),
            (r"\pL", "a"),
            ("(?i)k", "\u{212a}"),
            ("a.b", "a\0b"),
            (r"\Qa.\E", "a."),
            ("[[:alpha:]]", "a"),
            ("[[:word:]]", "a"),
            (r"\d", "3"),
            ("a$", "a"),
            ("[]a]", "]"),
            ("[^]a]", "b"),
            ("[a[]", "["),
            ("[a&&b]", "&"),
            (r"[\d~]+", "4~"),
            (r"[^\d]", "x"),
            (r"www\.[\w.-]+\.\bcom\b", "www.google.com"),
        ];
        for (pattern, text) in yes {
            assert!(compiled(pattern).unwrap().is_match(text), "{pattern} {text}");
        }
        let no: &[(&str, &str)] = &[
            ("abc", "xabc"),
            ("abc", "abc\n"),
            ("abc", "ABC"),
            ("a.b", "a\nb"),
            ("a|b", "ab"),
            (r"\w", "é"),
            (r"\d", "٣"),
            ("", "a"),
            (r"\s", "\u{b}"),
            ("a$\n", "a\n"),
            (r"\Qa.\E", "ab"),
            ("[a&&b]", "c"),
        ];
        for (pattern, text) in no {
            assert!(!compiled(pattern).unwrap().is_match(text), "{pattern} {text}");
        }
        for pattern in [r"(a)\1", "(", "a)(b", "(?=a)a", r"a\Z", r"\C", "(a{1000}){1000}", "["] {
            assert!(compiled(pattern).is_err(), "{pattern}");
        }
    }
}

//! com.microsoft.Tokenizer: the tokens of each text, which are what stands between separators, what matches an expression, or
//! characters.
//!
//! History: com.microsoft 1. As in onnxruntime 1.31.1: where several matches begin at one place, the longest counts, also where the
//! expression names a shorter one first; an expression beside separators is not looked at; a match of `tokenexp` that is too
//! short is left by one character, and not as a whole; and no tokens at all get no marks.

use std::sync::Arc;

use regex::Regex;
use regex_automata::nfa::thompson::{self, pikevm};
use regex_automata::{Anchored, Input, MatchKind};

use super::case::{self, Case};
use super::non_zero::known_facts;
use super::regex_full_match::{MOST_BYTES, built, translated};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, microsoft, of_elements, refuse, required, types,
};
use crate::facts::{Fact, check_sizes};
use crate::heap;

/// Tokenizer.
#[derive(Clone, Debug)]
pub(crate) struct Tokenizer {
    way: Tokenization,
    /// The fewest characters of a token; at least 1.
    least: usize,
    /// Whether the tokens of each text stand between two marks.
    mark: bool,
    /// What fills up shorter lists.
    pad: String,
}

#[derive(Clone, Debug)]
enum Tokenization {
    Characters,
    /// What stands between matches of the first expression is divided by the second, and so on.
    Separators(Vec<Expression>),
    Matches(Expression),
}

/// An expression of RE2, of which the longest of the first matches counts.
#[derive(Clone, Debug)]
struct Expression {
    /// It finds where the first match begins.
    first: Regex,
    /// It finds where the longest match ends that begins at a place.
    longest: Arc<pikevm::PikeVM>,
}

pub(crate) const ROWS: &[Row] = &[microsoft("Tokenizer", types![string -> string], parse, cases)];

/// The marks before and behind the tokens of a text.
const MARKS: [&str; 2] = ["\u{2}", "\u{3}"];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let a = def.attributes;
    let least = match a.int("mincharnum")?.map(usize::try_from) {
        Some(Ok(least @ 1..)) => least,
        Some(_) => refuse!("mincharnum must be positive"),
        None => refuse!("attribute 'mincharnum' is required"),
    };
    let Some(mark) = a.int("mark")? else { refuse!("attribute 'mark' is required") };
    let Some(pad) = a.string("pad_value")? else { refuse!("attribute 'pad_value' is required") };
    let separators = a.strings("separators")?.unwrap_or_default();
    let way = match (&separators[..], a.string_or("tokenexp", "")?.as_str()) {
        ([], "") => refuse!("needs separators or a tokenexp"),
        ([only], _) if only.is_empty() => Tokenization::Characters,
        ([], ".") => Tokenization::Characters,
        ([], matches) => Tokenization::Matches(Expression::new(matches)?),
        (separators, _) => Tokenization::Separators(
            separators.iter().map(|text| Expression::new(text)).collect::<Result<_, _>>()?,
        ),
    };
    if matches!(way, Tokenization::Characters) && least > 1 {
        refuse!("mincharnum is {least}, and no character has as many");
    }
    Ok(Tokenizer { way, least, mark: mark != 0, pad }.into())
}

impl Expression {
    fn new(pattern: &str) -> Result<Expression, Why> {
        let own = translated(pattern)?;
        let first = built(&own, pattern)?;
        let longest = pikevm::PikeVM::builder()
            .configure(pikevm::PikeVM::config().match_kind(MatchKind::All))
            .thompson(thompson::Config::new().nfa_size_limit(Some(MOST_BYTES)))
            .build(&own);
        match longest {
            Ok(longest) => Ok(Expression { first, longest: Arc::new(longest) }),
            Err(error) => refuse!("the pattern '{pattern}' is not supported: {error}"),
        }
    }

    /// The first match from `start` on, in bytes: where it begins and where it ends.
    fn next(&self, cache: &mut pikevm::Cache, text: &str, start: usize) -> Option<(usize, usize)> {
        if start > text.len() {
            return None;
        }
        let begin = self.first.find_at(text, start)?.start();
        let input = Input::new(text).range(begin..).anchored(Anchored::Yes);
        self.longest.find(cache, input).map(|found| (found.start(), found.end()))
    }

    /// What stands between the matches. An empty match takes the character behind it away.
    fn between<'t>(&self, text: &'t str, least: usize) -> Vec<&'t str> {
        let (mut cache, mut start, mut parts) = (self.longest.create_cache(), 0, Vec::new());
        while let Some((begin, end)) = self.next(&mut cache, text, start) {
            parts.push(&text[start..begin]);
            start = if end > begin { end } else { after_character(text, begin) };
        }
        parts.extend(text.get(start..));
        parts.retain(|part| is_long(part, least));
        parts
    }

    /// The matches.
    fn matches<'t>(&self, text: &'t str, least: usize) -> Vec<&'t str> {
        let (mut cache, mut start, mut matches) = (self.longest.create_cache(), 0, Vec::new());
        while let Some((begin, end)) = self.next(&mut cache, text, start) {
            start = if is_long(&text[begin..end], least) {
                matches.push(&text[begin..end]);
                end
            } else {
                after_character(text, begin)
            };
        }
        matches
    }
}

/// Where the character at `at` ends; behind the text, if there is none.
fn after_character(text: &str, at: usize) -> usize {
    at + text[at..].chars().next().map_or(1, char::len_utf8)
}

fn is_long(token: &str, least: usize) -> bool {
    token.chars().nth(least - 1).is_some()
}

impl Tokenizer {
    fn tokens<'t>(&self, text: &'t str) -> Vec<&'t str> {
        match &self.way {
            Tokenization::Characters => {
                text.char_indices().map(|(i, _)| &text[i..after_character(text, i)]).collect()
            }
            Tokenization::Separators(all) => all.iter().fold(vec![text], |parts, separator| {
                parts.into_iter().flat_map(|part| separator.between(part, self.least)).collect()
            }),
            Tokenization::Matches(expression) => expression.matches(text, self.least),
        }
    }
}

impl Operator for Tokenizer {
    fn shapes_depend_on_data(&self) -> bool {
        true
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        known_facts(self, inputs)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let texts = x.texts()?;
        let shape = match &x.shape[..] {
            [0] => return Ok(vec![Array::text(&[0], vec![])]),
            &[rows, _] if texts.is_empty() => return Ok(vec![Array::text(&[rows, 0], vec![])]),
            [_] | [_, _] => &x.shape,
            other => refuse!("the input has shape {other:?}, and must be [C] or [N, C]"),
        };
        let lists: Vec<Vec<&str>> = texts.iter().map(|text| self.tokens(text)).collect();
        let longest = match lists.iter().map(Vec::len).max().unwrap_or(0) {
            0 => 0,
            longest if self.mark => longest + MARKS.len(),
            longest => longest,
        };
        let shape = [&shape[..], &[longest]].concat();
        check_sizes(&[Fact::new(DType::String, shape.as_slice())])?;
        let Some(count) = lists.len().checked_mul(longest) else { refuse!("there are too many tokens") };
        let mut tokens: Vec<String> = heap::reserved("the tokens of strings", count)?;
        for list in &lists {
            let marks = if self.mark { MARKS.map(Some) } else { [None; 2] };
            let marked = marks[0].into_iter().chain(list.iter().copied()).chain(marks[1]);
            let filled = marked.chain(std::iter::repeat(self.pad.as_str()));
            tokens.extend(filled.take(longest).map(String::from));
        }
        Ok(vec![Array::text(&shape, tokens)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let known = required(inputs, 0)?.value.as_ref().and_then(|known| known.array.texts().ok());
        let lengths = || known.into_iter().flatten().map(String::len);
        let (bytes, longest) = (lengths().sum(), lengths().max().unwrap_or(0));
        let states = match &self.way {
            Tokenization::Characters => {
                return Ok(of_elements(inputs, outputs).temporary(bytes, size_of::<&str>() + 1));
            }
            Tokenization::Separators(all) => all.iter().map(|one| one.longest.get_nfa().states().len()).sum(),
            Tokenization::Matches(one) => one.longest.get_nfa().states().len(),
        };
        // From each place, a match may be looked for up to the end of the text.
        let work = of_elements(inputs, outputs).steps(&[bytes, longest, states]);
        Ok(work.temporary(bytes, size_of::<&str>() + 1))
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str, mark: i64| {
        let case = Case::new("Tokenizer", name).of_microsoft().int("mincharnum", 1).int("mark", mark);
        case.string("pad_value", "#")
    };
    let words = || case::texts(&[2], &["Hello World", "I love computer science !"]);
    let strings = |list: &[&str]| super::Attr::Strings(list.iter().map(|text| text.to_string()).collect());
    vec![
        new("separators", 0).attr("separators", strings(&[" ", "[ou]+"])).constant(words()),
        new("marks", 1).attr("separators", strings(&[" "])).constant(case::texts(&[1, 3], &["a b", "", "c"])),
        new("matches", 0).string("tokenexp", "[a-z]+").constant(words()),
        new("characters", 1).attr("separators", strings(&[""])).constant(case::texts(&[2], &["aébc", ""])),
        new("nothing", 1).attr("separators", strings(&[" "])).constant(case::texts(&[2], &["", "  "])),
        new("no_texts", 0).attr("separators", strings(&[" "])).constant(case::texts(&[2, 0], &[])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Attr;

    /// What the tokenizer makes of one text, with `#` around an empty list.
    fn tokens(separators: &[&str], matches: &str, least: i64, text: &str) -> String {
        let mut case = Case::new("Tokenizer", "").of_microsoft().int("mincharnum", least).int("mark", 0);
        case = case.string("pad_value", "#");
        if !separators.is_empty() {
            let list = separators.iter().map(|text| text.to_string()).collect();
            case = case.attr("separators", Attr::Strings(list));
        }
        if !matches.is_empty() {
            case = case.string("tokenexp", matches);
        }
        let array = case::evaluated(&case.constant(case::texts(&[1], &[text]))).unwrap().remove(0);
        array.texts().unwrap().join("|")
    }

    /// What onnxruntime 1.31.1 makes of these.
    #[test]
    fn tokens_are_those_of_onnxruntime() {
        let divided: &[(&[&str], i64, &str, &str)] = &[
            (&[" "], 3, "I love computer science !", "love|computer|science"),
            (&["1", "12"], 1, "a12b1", "a|2b"),
            (&["12", "1"], 1, "a12b1", "a|b"),
            (&["aa", "ab"], 1, "aabbaaabaab", "bb|b"),
            (&["b|bc"], 1, "abcabc", "a|a"),
            (&["b|bc"], 2, "abcabc", ""),
            (&["(a)(b)"], 1, "abcabc", "c|c"),
            (&["^a"], 1, "aab", "ab"),
            (&["b", "^ "], 1, "a b c d", "a |c d"),
            (&["b$"], 1, "abab b", "abab "),
            (&[r"\bb"], 1, "abab b", "abab "),
            (&["x*"], 1, "abxxc", ""),
            (&["a*"], 1, "aab", ""),
            (&["", " "], 1, "a b c d", ""),
            (&["B|b"], 2, "éébaébé", "éé|aé"),
        ];
        for (separators, least, text, wanted) in divided {
            assert_eq!(tokens(separators, "", *least, text), *wanted, "{separators:?} {text}");
        }
        let matched = [
            ("a|ab", 1, "abab", "ab|ab"),
            ("a*?b|aa", 1, "aaab", "aaab"),
            ("l*", 1, "Hello World", "ll|l"),
            ("ab|bcd", 3, "abcd", "bcd"),
            ("^a", 1, "aab", "a"),
            ("$", 1, "ab", ""),
            (".+", 1, "ab\ncd", "ab|cd"),
            (".", 1, "ab\nc", "a|b|\n|c"),
            (r"\w+", 1, "ÀÉ x", "x"),
            (r"\pL+", 1, "ÀÉ x", "ÀÉ|x"),
            ("x*", 1, "éàb", ""),
        ];
        for (expression, least, text, wanted) in matched {
            assert_eq!(tokens(&[], expression, least, text), wanted, "{expression} {text}");
        }
        assert_eq!(tokens(&[","], "q", 1, "a,b"), "a|b");
    }

    fn shape(mark: i64, shape: &[usize], texts: &[&str]) -> Vec<usize> {
        let case = Case::new("Tokenizer", "").of_microsoft().int("mincharnum", 1).int("mark", mark);
        let case = case.string("pad_value", "#").string("tokenexp", "[a-z]+");
        case::evaluated(&case.constant(case::texts(shape, texts))).unwrap()[0].shape.to_vec()
    }

    /// Likewise.
    #[test]
    fn shapes_are_those_of_onnxruntime() {
        assert_eq!(shape(0, &[1, 2], &["a b c", ""]), [1, 2, 3]);
        assert_eq!(shape(1, &[2], &["a b c", ""]), [2, 5]);
        assert_eq!(shape(1, &[2], &["", " "]), [2, 0]);
        assert_eq!(shape(1, &[0], &[]), [0]);
        assert_eq!(shape(0, &[3, 0], &[]), [3, 0]);
        assert_eq!(shape(0, &[0, 3], &[]), [0, 0]);
    }

    #[test]
    fn what_onnxruntime_refuses() {
        let new = |least: i64| {
            let case = Case::new("Tokenizer", "").of_microsoft().string("pad_value", "").int("mark", 0);
            case.int("mincharnum", least).input(case::texts(&[1], &["a"]))
        };
        let why = |case: &Case| case::evaluated(case).unwrap_err();
        assert!(why(&new(1)).contains("needs separators or a tokenexp"));
        assert!(why(&new(0).string("tokenexp", "a")).contains("must be positive"));
        assert!(why(&new(2).string("tokenexp", ".")).contains("no character"));
        assert!(why(&new(1).string("tokenexp", "(")).contains("no pattern"));
        let mut cube = new(1).string("tokenexp", "a");
        cube.inputs = vec![Some(case::texts(&[1, 1, 1], &["a"]))];
        assert!(why(&cube).contains("[N, C]"));
    }
}

//! Elements of a PMML file, and complaints that name them.

use std::str::FromStr;

use crate::{Error, Result};

/// The deepest nesting of elements: converting follows it by recursion.
pub(super) const MAX_DEPTH: usize = 400;

/// An element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Element<'x>(pub(super) roxmltree::Node<'x, 'x>);

impl<'x> Element<'x> {
    /// The name, without a namespace.
    pub(super) fn name(self) -> &'x str {
        self.0.tag_name().name()
    }

    /// The elements below, but for those of other vendors.
    pub(super) fn children(self) -> impl Iterator<Item = Element<'x>> {
        self.0
            .children()
            .filter(|node| node.is_element())
            .map(Element)
            .filter(|child| child.name() != "Extension")
    }

    pub(super) fn all(self, name: &'static str) -> impl Iterator<Item = Element<'x>> {
        self.children().filter(move |child| child.name() == name)
    }

    pub(super) fn child(self, name: &'static str) -> Option<Element<'x>> {
        self.all(name).next()
    }

    pub(super) fn needs(self, name: &'static str) -> Result<Element<'x>> {
        self.child(name).ok_or_else(|| self.wrong(format!("it needs the element {name}")))
    }

    pub(super) fn attribute(self, name: &str) -> Option<&'x str> {
        self.0.attribute(name)
    }

    pub(super) fn required(self, name: &str) -> Result<&'x str> {
        self.attribute(name).ok_or_else(|| self.wrong(format!("it needs the attribute {name}")))
    }

    /// The number that an attribute holds.
    pub(super) fn number<T: FromStr>(self, name: &str) -> Result<Option<T>> {
        self.attribute(name).map(|text| self.parsed(text)).transpose()
    }

    pub(super) fn parsed<T: FromStr>(self, text: &str) -> Result<T> {
        let known = match text.trim() {
            "INF" => "inf",
            "-INF" => "-inf",
            text => text,
        };
        known.parse().map_err(|_| self.wrong(format!("'{}' is no number", short(text))))
    }

    /// The text within.
    pub(super) fn text(self) -> String {
        self.0.children().filter(|node| node.is_text()).filter_map(|node| node.text()).collect()
    }

    /// The values of an `Array` element, or of one below that ends so (`REAL-SparseArray` is another thing).
    pub(super) fn array(self) -> Result<Vec<String>> {
        let text = self.text();
        let values = quoted(&text).ok_or_else(|| self.wrong("a quotation mark is not closed"))?;
        match self.number::<usize>("n")? {
            Some(n) if n != values.len() => {
                Err(self.wrong(format!("it has {} values, and says that it has {n}", values.len())))
            }
            _ => Ok(values),
        }
    }

    /// The numbers of an `Array` element.
    pub(super) fn numbers(self) -> Result<Vec<f64>> {
        self.array()?.iter().map(|text| self.parsed(text)).collect()
    }

    /// The complaint that something about this element is wrong.
    pub(super) fn wrong(self, what: impl Into<String>) -> Error {
        let line = self.0.document().text_pos_at(self.0.range().start).row;
        Error::Element { element: self.name().into(), line, what: what.into() }
    }

    /// The complaint that an attribute has an unknown value.
    pub(super) fn unknown(self, attribute: &str, value: &str) -> Error {
        self.wrong(format!("{attribute}=\"{}\" is not supported", short(value)))
    }
}

/// Text in a message: not more than a line of it.
pub(super) fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The words of a text; one in quotation marks may hold spaces, and `\"`.
fn quoted(text: &str) -> Option<Vec<String>> {
    let (mut words, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let mut word = String::new();
        if first == '"' {
            let mut chars = rest.char_indices().skip(1);
            loop {
                match chars.next()?.1 {
                    '"' => break,
                    '\\' => word.push(chars.next()?.1),
                    other => word.push(other),
                }
            }
            rest = chars.next().map_or("", |(at, _)| &rest[at..]);
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            word.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        words.push(word);
        rest = rest.trim_start();
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_may_be_quoted() {
        assert_eq!(quoted(r#" ab "c d" "e\"f" "" g"#).unwrap(), ["ab", "c d", "e\"f", "", "g"]);
        assert_eq!(quoted(r#"a "b"#), None);
    }
}

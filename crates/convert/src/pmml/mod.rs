//! PMML: a document becomes a graph whose values are float64 columns, one row for each example.
//!
//! A number that is missing is NaN, truth is 1, 0 or missing, and a text is the place of its value in a list (`value.rs`); so all
//! that the standard says of missing values is arithmetic. Trees walk in one TreeEnsemble to the number of a leaf, and tables give
//! what stands at the leaf (`forest.rs`).

mod clustering;
mod converter;
mod expression;
mod forest;
mod function;
mod general;
mod mining;
mod model;
mod neural;
mod norm;
mod output;
mod predicate;
mod regression;
mod schema;
mod scope;
mod scorecard;
mod several;
mod svm;
mod target;
mod tree;
mod value;
mod xml;

use std::borrow::Cow;

use crate::{Error, Result};
use xml::{Element, MAX_DEPTH};

/// The ONNX model of a PMML document: the bytes of the file that holds it.
///
/// Each active field of the model is an input of shape [n, 1] with its name: a string for `string`, float64 for `double`, float32 for
/// `float`, int64 for `integer`, bool for `boolean`. A missing value is NaN, or the text "". Outputs:
///
/// * classification: `label` [n, 1] of the target's type, and `probabilities`, float64 [n, classes]; the model's metadata has
///   the classes in this order (`classes`, separated by newlines). Support vector machines have no probabilities.
/// * regression: `prediction` [n, 1] of the target's type. Clustering: `label`, and `affinities`, float64 [n, clusters].
/// * each `OutputField` of the model: [n, 1] under its name, which takes the place of an equal name above.
///
/// A missing result is NaN, "", false or the least int64. A result of an invalid value is missing where the model says nothing else.
/// Computation is in float64, and in float32 where the document casts to it.
///
/// # Errors
///
/// [`Error::Malformed`] if the file is no PMML; [`Error::Element`] for an element that is wrong or not supported;
/// [`Error::TooLarge`] if the model would be out of proportion to the file.
pub fn from_pmml(file: &[u8]) -> Result<Vec<u8>> {
    let text = decoded(file)?;
    let text = text.trim_start_matches('\u{feff}');
    let nodes = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let options = roxmltree::ParsingOptions { nodes_limit: nodes.max(16), ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text, options).map_err(|error| match error {
        roxmltree::Error::DtdDetected => {
            Error::Malformed("a DOCTYPE is not supported; take it out of the file".into())
        }
        error => Error::Malformed(format!("the file is no XML: {error}")),
    })?;
    check_depth(&document)?;
    let root = Element(document.root_element());
    if root.name() != "PMML" {
        return Err(root.wrong("this is no PMML document; its first element is PMML"));
    }
    converter::convert(root, text.len())
}

/// The text of a file: UTF-8, UTF-16 with a byte order mark, or ISO-8859-1 where the file says so.
fn decoded(file: &[u8]) -> Result<Cow<'_, str>> {
    let unknown =
        || Error::Malformed("the file is no text of UTF-8, UTF-16 or ISO-8859-1; save it as UTF-8".into());
    if let [0xff, 0xfe, rest @ ..] | [0xfe, 0xff, rest @ ..] = file {
        let from = if file[0] == 0xff { u16::from_le_bytes } else { u16::from_be_bytes };
        let units: Vec<u16> =
            rest.chunks(2).map(|pair| from([pair[0], *pair.get(1).unwrap_or(&0)])).collect();
        return String::from_utf16(&units).map(Cow::Owned).map_err(|_| unknown());
    }
    if let Ok(text) = std::str::from_utf8(file) {
        return Ok(Cow::Borrowed(text));
    }
    let first = file.split(|&byte| byte == b'>').next().unwrap_or_default();
    match String::from_utf8_lossy(first).to_ascii_lowercase().contains("iso-8859-1") {
        true => Ok(Cow::Owned(file.iter().map(|&byte| char::from(byte)).collect())),
        false => Err(unknown()),
    }
}

/// Refuses elements so deep in each other that recursion could exhaust the stack.
fn check_depth(document: &roxmltree::Document) -> Result<()> {
    let (mut node, mut depth) = (document.root_element(), 0);
    loop {
        if depth > MAX_DEPTH {
            return Err(Element(node).wrong(format!("elements are nested deeper than {MAX_DEPTH}")));
        }
        if let Some(child) = node.first_element_child() {
            (node, depth) = (child, depth + 1);
            continue;
        }
        loop {
            if let Some(next) = node.next_sibling_element() {
                node = next;
                break;
            }
            match node.parent_element() {
                Some(parent) => (node, depth) = (parent, depth - 1),
                None => return Ok(()),
            }
        }
    }
}

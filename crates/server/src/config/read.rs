//! A configuration as it is written: `config.pbtxt`, `sardonyx.toml`, or the JSON of a load request.

use miette::Diagnostic;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Map, Value};

use super::Files;
use crate::proto::{ModelConfig, descriptors};
use crate::{Failure, Reason};

/// The name of a configuration in Triton's form.
pub const PBTXT: &str = "config.pbtxt";

/// The name of a configuration in TOML.
pub const TOML: &str = "sardonyx.toml";

/// The bytes of a configuration at most.
const LONGEST: usize = 1 << 20;

/// How deep messages may lie in one another: `ModelConfig` needs 6.
const DEEPEST: usize = 32;

/// Reads the configuration of a model's folder; one that says nothing, where the folder has none.
///
/// # Errors
/// If it cannot be read, or is not what its name says, with the line and the column.
pub fn read(files: &dyn Files) -> Result<ModelConfig, Failure> {
    match (files.read(PBTXT)?, files.read(TOML)?) {
        (None, None) => Ok(ModelConfig::default()),
        (Some(bytes), None) => from_pbtxt(text(PBTXT, &bytes)?),
        (None, Some(bytes)) => from_toml(text(TOML, &bytes)?),
        (Some(_), Some(_)) => {
            Err(Failure::invalid(format!("the model has both {PBTXT} and {TOML}; keep one of them")))
        }
    }
}

/// Reads a configuration in protobuf's text form.
///
/// ```
/// let config = sardonyx_server::config::from_pbtxt("max_batch_size: 8 dynamic_batching { }")?;
/// assert_eq!(config.max_batch_size, 8);
/// let failure = sardonyx_server::config::from_pbtxt("max_batch_size: 8\nbatching { }").unwrap_err();
/// assert_eq!(failure.text, "config.pbtxt:2:1: field 'batching' not found for message 'inference.ModelConfig'");
/// # Ok::<(), sardonyx_server::Failure>(())
/// ```
///
/// # Errors
/// If it is none, with the line and the column.
pub fn from_pbtxt(text: &str) -> Result<ModelConfig, Failure> {
    refuse_long(PBTXT, text)?;
    if depth(text) > DEEPEST {
        return Err(Failure::invalid(format!("{PBTXT}: messages lie more than {DEEPEST} deep")));
    }
    let text = &with_colons(text);
    let message = DynamicMessage::parse_text_format(descriptor()?, text).map_err(|error| {
        let start =
            error.labels().and_then(|mut labels| labels.next()).map_or(text.len(), |label| label.offset());
        let (line, column) = position(text, start);
        Failure::invalid(format!("{PBTXT}:{line}:{column}: {error}"))
    })?;
    typed(&message)
}

/// Reads a configuration in TOML. Its keys are the fields of `config.pbtxt`; parameters may be written as texts, numbers and
/// truth values.
///
/// ```
/// let config = sardonyx_server::config::from_toml(
///     r#"
///     max_batch_size = 8
///     dynamic_batching = { preferred_batch_size = [4, 8], max_queue_delay_microseconds = 500 }
///     input = [{ name = "x", data_type = "TYPE_FP32", dims = [3, -1] }]
///     parameters = { pad_to_preferred = true, version_labels = "stable=3,canary=4" }
///     "#,
/// )?;
/// assert_eq!(config.input[0].dims, [3, -1]);
/// assert_eq!(config.parameters["pad_to_preferred"].string_value, "true");
/// # Ok::<(), sardonyx_server::Failure>(())
/// ```
///
/// # Errors
/// If it is none, with the line and the column.
pub fn from_toml(text: &str) -> Result<ModelConfig, Failure> {
    refuse_long(TOML, text)?;
    let table: Map<String, Value> = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(text.len(), |span| span.start);
        let (line, column) = position(text, start);
        Failure::invalid(format!("{TOML}:{line}:{column}: {}", error.message()))
    })?;
    let mut value = Value::Object(table);
    if let Some(parameters) = value.get_mut("parameters").and_then(Value::as_object_mut) {
        for parameter in parameters.values_mut() {
            let text = match parameter {
                Value::String(text) => std::mem::take(text),
                Value::Number(_) | Value::Bool(_) => parameter.to_string(),
                _ => continue,
            };
            *parameter = serde_json::json!({ "string_value": text });
        }
    }
    let message = DynamicMessage::deserialize(descriptor()?, value);
    typed(&message.map_err(|error| Failure::invalid(format!("{TOML}: {error}")))?)
}

/// Reads a configuration in protobuf's JSON form, as a load request carries it in its parameter `config`.
///
/// ```
/// let config = sardonyx_server::config::from_json(r#"{"max_batch_size": 8, "dynamic_batching": {}}"#)?;
/// assert_eq!(config.max_batch_size, 8);
/// # Ok::<(), sardonyx_server::Failure>(())
/// ```
///
/// # Errors
/// If it is none, with the line and the column.
pub fn from_json(text: &str) -> Result<ModelConfig, Failure> {
    refuse_long("config", text)?;
    let wrong = |error: serde_json::Error| {
        Failure::invalid(format!("the parameter 'config' of the load request: {error}"))
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize(descriptor()?, &mut deserializer).map_err(wrong)?;
    deserializer.end().map_err(wrong)?;
    typed(&message)
}

/// The descriptor of `ModelConfig`.
pub(super) fn descriptor() -> Result<MessageDescriptor, Failure> {
    let descriptor = descriptors().get_message_by_name("inference.ModelConfig");
    descriptor.ok_or_else(|| {
        Failure::new(Reason::Internal, "the program has no descriptor of a model's configuration")
    })
}

fn typed(message: &DynamicMessage) -> Result<ModelConfig, Failure> {
    let config = ModelConfig::decode(message.encode_to_vec().as_slice());
    config.map_err(|error| {
        Failure::new(Reason::Internal, format!("the configuration is lost on its way: {error}"))
    })
}

fn text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Failure> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let (line, column) = position(&before, before.len());
        Failure::invalid(format!("{name}:{line}:{column}: it is no UTF-8 text"))
    })
}

fn refuse_long(name: &str, text: &str) -> Result<(), Failure> {
    match text.len() {
        0..=LONGEST => Ok(()),
        bytes => {
            Err(Failure::invalid(format!("{name} has {bytes} bytes; a configuration has at most {LONGEST}")))
        }
    }
}

/// The line and the column of the byte at `offset`, from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// How deep messages lie in one another, at least: the parser calls itself for each, and needs a stack for them.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'<' => depth += 1,
            b'}' | b'>' => depth = depth.saturating_sub(1),
            b'#' => while bytes.next().is_some_and(|byte| byte != b'\n') {},
            quote @ (b'"' | b'\'') => {
                while let Some(byte) = bytes.next().filter(|byte| *byte != quote && *byte != b'\n') {
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The text with a colon before each list: `input [ ... ]` becomes `input:[ ... ]`. Protobuf's text format lets the colon away before
/// a list of messages, and most configurations do; prost-reflect 0.16 wants it. Columns stay as they are where there was a space.
fn with_colons(text: &str) -> String {
    let mut written = String::with_capacity(text.len() + 16);
    let mut rest = text;
    // Whether the last token is a name.
    let mut named = false;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => string_length(rest),
            _ if is_of_name(first) => rest.find(|c| !is_of_name(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        if first == '[' && named {
            if written.ends_with([' ', '\t']) {
                written.pop();
            }
            written.push(':');
        }
        if !first.is_whitespace() && first != '#' {
            named = is_of_name(first);
        }
        written.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    written
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// The length of the string with which `text` begins, quotes included.
fn string_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'\n' => return at,
            _ if byte == bytes[0] => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use super::*;

    #[test]
    fn a_colon_before_each_list() {
        assert_eq!(with_colons("input [ { dims: [ 1 ] } ]"), "input:[ { dims: [ 1 ] } ]");
        assert_eq!(with_colons("input[]"), "input:[]");
        assert_eq!(with_colons("input # why [ not\n  [ ]"), "input # why [ not\n :[ ]");
        assert_eq!(
            with_colons(r#"name: "a [" name: 'it\'s [' [x.y] { }"#),
            r#"name: "a [" name: 'it\'s [' [x.y] { }"#
        );
        assert_eq!(with_colons("\"\\"), "\"\\");
        let config =
            from_pbtxt("input [ { name: \"x\" }, { name: \"y\" } ] instance_group [ { count: 2 } ]").unwrap();
        assert_eq!(config.input[1].name, "y");
        assert_eq!(config.instance_group[0].count, 2);
    }
}

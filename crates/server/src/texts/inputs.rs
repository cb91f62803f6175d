//! Tokens as the inputs `input_ids`, `attention_mask` and `token_type_ids`, in batches of texts of about one length.

use std::ops::Range;

use sardonyx::{DType, Tensor};

use super::{Tokens, fixed, takes};
use crate::Failure;
use crate::config::{Config, Port};

/// Padding makes a text at most so many tokens longer, or an eighth of it.
const STEP: usize = 8;

/// Entries of a request that are one run.
#[derive(Debug)]
pub(crate) struct Part {
    /// Which entries of the request the rows are.
    pub(crate) entries: Vec<usize>,
    /// The tokens of each row, without padding.
    pub(crate) tokens: Vec<Range<usize>>,
    pub(crate) inputs: Vec<(String, Tensor)>,
}

pub(crate) fn is_of_tokens(port: &Port) -> bool {
    matches!(port.name.as_str(), "input_ids" | "attention_mask" | "token_type_ids")
        && matches!(port.dtype, DType::I64 | DType::I32)
}

/// Refuses a model that takes anything else.
pub(crate) fn takes_tokens(config: &Config) -> Result<(), Failure> {
    let fits = config.inputs.iter().any(|port| port.name == "input_ids")
        && config.inputs.iter().all(|port| port.optional || is_of_tokens(port));
    match fits {
        true => Ok(()),
        false => Err(Failure::invalid(format!(
            "model '{}' gives no embeddings over this protocol: it takes neither one text nor 'input_ids', 'attention_mask' and \
             'token_type_ids' alone; use /v2/models/{}/infer",
            config.name, config.name
        ))),
    }
}

/// The runs for all entries. Texts of about one length are rows of one run, padded to the same length, by which requests of other
/// clients can be rows of it too. Without `attention_mask` there is no padding.
///
/// # Errors
/// If a token is no INT32 where the model takes these.
pub(crate) fn parts(config: &Config, entries: &[Tokens]) -> Result<Vec<Part>, Failure> {
    let padded = |entry: &usize| {
        let length = entries[*entry].ids.len();
        match fixed(config) {
            _ if !takes(config, "attention_mask") => length,
            Some(fixed) => fixed.max(length),
            None => {
                let step = (length.next_power_of_two() / STEP).max(STEP);
                // Up to the longest text, and no further: a model may have no more positions.
                config
                    .texts
                    .longest
                    .map_or(usize::MAX, |longest| longest.max(length))
                    .min(length.next_multiple_of(step))
            }
        }
    };
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|entry| (padded(entry), *entry));
    let same = order.chunk_by(|a, b| padded(a) == padded(b));
    let chunks = same.flat_map(|same| same.chunks(config.max_batch.max(1)));
    chunks.map(|rows| part(config, entries, rows, rows.first().map_or(0, padded))).collect()
}

/// The run for one text, which is padded only if the model takes no other length than its own.
///
/// # Errors
/// As [`parts`].
pub(crate) fn single(config: &Config, tokens: &Tokens) -> Result<Part, Failure> {
    let length = fixed(config).unwrap_or(0).max(tokens.ids.len());
    part(config, std::slice::from_ref(tokens), &[0], length)
}

fn part(config: &Config, entries: &[Tokens], rows: &[usize], length: usize) -> Result<Part, Failure> {
    let ports = config.inputs.iter().filter(|port| !port.optional || is_of_tokens(port));
    let tensor = |port: &Port| {
        let mut values: Vec<i64> = Vec::with_capacity(rows.len() * length);
        for tokens in rows.iter().map(|&row| &entries[row]) {
            let own = tokens.ids.len();
            let padding = match port.name.as_str() {
                "input_ids" => config.texts.pad,
                _ => 0,
            };
            let padding = std::iter::repeat_n(padding, length - own);
            if config.texts.pad_left {
                values.extend(padding.clone());
            }
            match port.name.as_str() {
                "input_ids" => values.extend(&tokens.ids),
                "token_type_ids" if tokens.types.len() == own => values.extend(&tokens.types),
                "attention_mask" => values.extend(std::iter::repeat_n(1, own)),
                _ => values.extend(std::iter::repeat_n(0, own)),
            }
            if !config.texts.pad_left {
                values.extend(padding);
            }
        }
        let shape = match port.dims.len() + usize::from(config.max_batch > 0) {
            1 => vec![length],
            _ => vec![rows.len(), length],
        };
        let tensor = match port.dtype {
            DType::I32 => {
                let narrow = |&value: &i64| {
                    i32::try_from(value).map_err(|_| Failure::invalid(format!("token {value} is no INT32")))
                };
                Tensor::from_vec(&shape, values.iter().map(narrow).collect::<Result<Vec<i32>, Failure>>()?)?
            }
            _ => Tensor::from_vec(&shape, values)?,
        };
        Ok((port.name.clone(), tensor))
    };
    let tokens = rows.iter().map(|&row| {
        let own = entries[row].ids.len();
        let first = if config.texts.pad_left { length - own } else { 0 };
        first..first + own
    });
    Ok(Part {
        entries: rows.to_vec(),
        tokens: tokens.collect(),
        inputs: ports.map(tensor).collect::<Result<_, Failure>>()?,
    })
}

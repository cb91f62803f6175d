//! `Tokenizer`: a `tokenizer.json` of Hugging Face's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::{PaddingDirection, TruncationParams};

use super::Tokens;
use super::files::Most;

/// What texts become tokens by. A file that is made to do harm may let the library panic; that is an error here.
pub(super) struct Tokenizer(tokenizers::Tokenizer);

/// A tokenizer, and what its file says.
pub(super) struct Read {
    pub(super) tokenizer: Tokenizer,
    pub(super) longest: Option<usize>,
    pub(super) pad: i64,
    pub(super) pad_left: bool,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokenizer")
    }
}

/// Texts that any tokenizer must take.
const SAMPLES: [&str; 4] = ["", "a word", "\u{e9}\u{4e2d}\u{1f642}", "\u{10fffd} \r\n\u{0}"];

/// Reads a file. A text gets `most` tokens at most, and no more than `fixed`; longer ones are cut if `truncate` says so.
pub(super) fn read(
    json: &[u8],
    most: Most,
    fixed: Option<usize>,
    truncate: bool,
) -> Result<Option<Read>, String> {
    let mut inner = caught(|| tokenizers::Tokenizer::from_bytes(json))?;
    let of_file = inner.get_truncation().cloned();
    let (pad, pad_left) = match inner.get_padding() {
        Some(padding) => (padding.pad_id, matches!(padding.direction, PaddingDirection::Left)),
        None => {
            let named = ["[PAD]", "<pad>"].iter().find_map(|name| inner.token_to_id(name));
            (named.unwrap_or(0), false)
        }
    };
    // The texts of a batch are padded where the batch is made.
    inner.with_padding(None);
    caught(|| inner.with_truncation(None).map(|_| ()))?;
    let mut added = 0;
    for (at, sample) in SAMPLES.iter().enumerate() {
        let sample = caught(|| inner.encode_fast(*sample, true));
        let sample = sample.map_err(|text| format!("it has no tokens for some texts: {text}"))?;
        if at == 0 {
            added = sample.len();
        }
    }
    let longest = most.decided.or(of_file.as_ref().map(|given| given.max_length)).or(most.usual);
    let longest = longest.into_iter().chain(fixed).min();
    if let Some(longest) = longest.filter(|&longest| longest <= added) {
        return Err(format!(
            "each text has {added} tokens beside its own, and {longest} in all are allowed; the parameter {} allows more",
            crate::config::parameters::EMBEDDINGS_MAX_TOKENS
        ));
    }
    if let Some(max_length) = longest.filter(|_| truncate) {
        let direction = of_file.map(|given| given.direction).unwrap_or_default();
        let given = TruncationParams { direction, max_length, ..TruncationParams::default() };
        caught(|| inner.with_truncation(Some(given)).map(|_| ()))?;
    }
    Ok(Some(Read { tokenizer: Tokenizer(inner), longest, pad: pad.into(), pad_left }))
}

impl Tokenizer {
    pub(super) fn tokens(&self, text: &str) -> Result<Tokens, String> {
        let encoding = caught(|| self.0.encode_fast(text, true))?;
        let numbers = |of: &[u32]| of.iter().map(|&number| number.into()).collect();
        let own = |part: &tokenizers::Encoding| {
            part.get_special_tokens_mask().iter().filter(|&&special| special == 0).count()
        };
        Ok(Tokens {
            ids: numbers(encoding.get_ids()),
            types: numbers(encoding.get_type_ids()),
            left_out: encoding.get_overflowing().iter().map(own).sum(),
        })
    }
}

fn caught<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the file contradicts itself".into()),
    }
}

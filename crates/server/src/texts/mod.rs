//! `Texts`: how texts become the inputs of a model of tokens, and how its outputs become embeddings.
//!
//! What is here is read from the files that models of Hugging Face's have beside them, in the folder of the version or in that of the
//! model: `tokenizer.json`; `sentence_bert_config.json` and `tokenizer_config.json`, for the most tokens of a text; `modules.json` and
//! `1_Pooling/config.json` of sentence-transformers, for what comes after the model. Parameters of the configuration come before them.

mod files;
mod inputs;
mod pooling;
#[cfg(test)]
#[cfg(feature = "tokenizers")]
mod tests;
#[cfg_attr(not(feature = "tokenizers"), path = "no_tokenizer.rs")]
mod tokenizer;

use sha2::{Digest, Sha256};

use crate::config::{Config, Files, Port, parameters};
use crate::{Failure, Reason};

pub(crate) use inputs::{Part, parts, single, takes_tokens};
pub use pooling::Pooling;
pub(crate) use pooling::WHOLE;
use tokenizer::Tokenizer;

/// The files of a model that are about texts, beside the ONNX file.
pub(crate) const FILES: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "sentence_bert_config.json",
    "modules.json",
    "1_Pooling/config.json",
];

/// The bytes of a text at most: more than any model reads.
pub(crate) const LONGEST_TEXT: usize = 1 << 20;

/// The bytes of texts that become tokens on the reactor.
const FEW: usize = 4 << 10;

/// The bytes of texts that become tokens in one go, so that work stops soon after its client has gone.
const SOME: usize = 1 << 20;

/// How a version of a model takes texts and gives embeddings.
#[derive(Debug, Default)]
pub struct Texts {
    tokenizer: Option<Tokenizer>,
    /// The digest of the tokenizer's file.
    file: Option<[u8; 32]>,
    /// Whether the end of a text of too many tokens is left out.
    truncate: bool,
    /// Of the vectors of tokens.
    pub(crate) pooling: Pooling,
    /// Whether an embedding has the length 1.
    pub(crate) normalize: bool,
    /// The tokens of a text at most.
    longest: Option<usize>,
    /// The number of the token of which padding is.
    pad: i64,
    /// Whether padding comes before the tokens.
    pad_left: bool,
}

/// A text, or a part of it, as a model takes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tokens {
    pub(crate) ids: Vec<i64>,
    /// The kind of each token, where the tokenizer tells kinds; all are 0 otherwise.
    pub(crate) types: Vec<i64>,
    /// The tokens that were left out, as the text is too long.
    pub(crate) left_out: usize,
}

impl Texts {
    /// Reads the files of version `version` of the model of `config`.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if one of them, or a parameter of the configuration, is not as it should be, or asks for what is not computed
    /// here.
    pub(crate) fn read(config: &Config, version: u64, files: &dyn Files) -> Result<Texts, Failure> {
        let files = files::Beside::new(files, version);
        let given = |name: &str| config.parameters.get(name).map(String::as_str);
        let truth = |name: &str| match given(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Failure::invalid(format!("the parameter {name} is neither 'true' nor 'false'"))),
        };
        let modules = files.modules()?;
        let named = match given(parameters::EMBEDDINGS_POOLING) {
            Some(name) => Some(Pooling::named(name).ok_or_else(|| {
                Failure::invalid(format!(
                    "the parameter {} is '{}'; it is 'mean', 'cls', 'last' or 'max'",
                    parameters::EMBEDDINGS_POOLING,
                    name.escape_default()
                ))
            })?),
            None => None,
        };
        let normalize = truth(parameters::EMBEDDINGS_NORMALIZE)?.unwrap_or(modules.normalize);
        let pooling = named.or(modules.pooling).unwrap_or_default();
        let truncate = truth(parameters::EMBEDDINGS_TRUNCATE)?.unwrap_or(true);
        let most = match given(parameters::EMBEDDINGS_MAX_TOKENS) {
            None => None,
            Some(text) => Some(text.parse().ok().filter(|&most: &usize| most > 0).ok_or_else(|| {
                Failure::invalid(format!(
                    "the parameter {} is no number of tokens",
                    parameters::EMBEDDINGS_MAX_TOKENS
                ))
            })?),
        };
        let texts = Texts {
            pooling,
            normalize,
            truncate,
            longest: most.into_iter().chain(fixed(config)).min(),
            ..Texts::default()
        };
        let Some(json) = files.tokenizer()? else { return Ok(texts) };
        if takes_tokens(config).is_err() {
            tracing::warn!(
                model = config.name,
                "tokenizer.json has no effect: the model takes other inputs than those of tokens"
            );
            return Ok(texts);
        }
        let most = match most {
            None => files.most_tokens()?,
            decided => files::Most { decided, usual: None },
        };
        let read = tokenizer::read(&json, most, fixed(config), truncate);
        let read = read.map_err(|text| Failure::invalid(format!("tokenizer.json: {text}")))?;
        let Some(read) = read else {
            tracing::warn!(
                model = config.name,
                "tokenizer.json has no effect: this server is built without the feature 'tokenizers'"
            );
            return Ok(texts);
        };
        if fixed(config).is_some() && !takes(config, "attention_mask") {
            return Err(Failure::invalid(
                "the model takes a fixed number of tokens and no 'attention_mask', so that shorter texts cannot be told from their \
                 padding; export it with an open dimension, or with the mask",
            ));
        }
        Ok(Texts {
            file: Some(Sha256::digest(&json).into()),
            longest: read.longest,
            pad: read.pad,
            pad_left: read.pad_left,
            tokenizer: Some(read.tokenizer),
            ..texts
        })
    }

    /// Texts as tokens, in the order of the texts.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if there is no tokenizer, or a text is too long.
    pub(crate) async fn tokens(config: &Config, texts: Vec<String>) -> Result<Vec<Tokens>, Failure> {
        let this = &config.texts;
        if this.tokenizer.is_none() {
            let how = match cfg!(feature = "tokenizers") {
                true => "put its tokenizer.json beside the ONNX file, or send lists of the numbers of tokens",
                false => "this server is built without tokenizers; send lists of the numbers of tokens",
            };
            return Err(Failure::invalid(format!(
                "model '{}' takes tokens and has no tokenizer: {how}",
                config.name
            )));
        }
        if let Some(text) = texts.iter().find(|text| text.len() > LONGEST_TEXT) {
            return Err(Failure::invalid(format!(
                "a text has {} bytes; send {LONGEST_TEXT} at most in one text",
                text.len()
            )));
        }
        let mut tokens = Vec::with_capacity(texts.len());
        let mut texts = texts.into_iter().peekable();
        while texts.peek().is_some() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while let Some(text) = texts.next_if(|text| some.is_empty() || bytes + text.len() <= SOME) {
                bytes += text.len();
                some.push(text);
            }
            let this = this.clone();
            let work = move || some.iter().map(|text| this.of(text)).collect::<Result<Vec<_>, _>>();
            tokens.extend(crate::http::off_the_reactor(bytes > FEW, work).await?);
        }
        Ok(tokens)
    }

    fn of(&self, text: &str) -> Result<Tokens, Failure> {
        let tokenizer = self.tokenizer.as_ref();
        let tokenizer = tokenizer.ok_or_else(|| Failure::new(Reason::Internal, "there is no tokenizer"))?;
        let tokens = tokenizer
            .tokens(text)
            .map_err(|text| Failure::invalid(format!("a text cannot be made tokens: {text}")))?;
        self.refuse_long(tokens.ids.len())?;
        match tokens.ids.is_empty() {
            true => Err(Failure::invalid("a text has no tokens; send one that is not blank")),
            false => Ok(tokens),
        }
    }

    /// Refuses more tokens than the model takes.
    pub(crate) fn refuse_long(&self, tokens: usize) -> Result<(), Failure> {
        match self.longest {
            Some(longest) if tokens > longest => Err(Failure::invalid(format!(
                "an entry has {tokens} tokens, and the model takes {longest} at most; send it in parts"
            ))),
            _ => Ok(()),
        }
    }
}

/// What of two models lets the same text have another answer, beside the models themselves; `None` if nothing does.
pub(crate) fn difference(one: &Config, other: &Config) -> Option<&'static str> {
    let output = |config: &Config| config.parameters.get(parameters::EMBEDDINGS_OUTPUT).cloned();
    let (a, b) = (&one.texts, &other.texts);
    let differ = [
        (a.file != b.file, "tokenizer.json"),
        (a.longest != b.longest, parameters::EMBEDDINGS_MAX_TOKENS),
        (a.truncate != b.truncate, parameters::EMBEDDINGS_TRUNCATE),
        (a.pooling != b.pooling, parameters::EMBEDDINGS_POOLING),
        (a.normalize != b.normalize, parameters::EMBEDDINGS_NORMALIZE),
        (output(one) != output(other), parameters::EMBEDDINGS_OUTPUT),
    ];
    differ.into_iter().find_map(|(differs, what)| differs.then_some(what))
}

/// The number of tokens that the model takes, where it takes no other.
fn fixed(config: &Config) -> Option<usize> {
    config.inputs.iter().find(|port| port.name == "input_ids")?.dims.last().copied().flatten()
}

fn takes(config: &Config, name: &str) -> bool {
    config.inputs.iter().any(|port: &Port| port.name == name)
}

//! The files of Hugging Face's beside a model.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Pooling;
use crate::Failure;
use crate::config::Files;

/// The bytes of `tokenizer.json` at most: those of large vocabularies have 30 MB.
const LARGEST_TOKENIZER: usize = 64 << 20;

/// The bytes of another file at most.
const LARGEST: usize = 1 << 20;

/// From here on, `model_max_length` says that nobody knows: 10^30 is usual.
const UNKNOWN: f64 = 1e6;

/// The files of one version: in its folder, or in that of the model.
pub(super) struct Beside<'a> {
    files: &'a dyn Files,
    version: u64,
}

/// What comes after a model, as sentence-transformers has it.
#[derive(Debug, Default)]
pub(super) struct Modules {
    pub(super) pooling: Option<Pooling>,
    pub(super) normalize: bool,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct SentenceBert {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Deserialize)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
}

impl<'a> Beside<'a> {
    pub(super) fn new(files: &'a dyn Files, version: u64) -> Beside<'a> {
        Beside { files, version }
    }

    fn file(&self, name: &str, largest: usize) -> Result<Option<Bytes>, Failure> {
        let found = match self.files.read(&format!("{}/{name}", self.version))? {
            None => self.files.read(name)?,
            found => found,
        };
        match found {
            Some(bytes) if bytes.len() > largest => Err(Failure::invalid(format!(
                "{name} has {} bytes, and at most {largest} are read",
                bytes.len()
            ))),
            found => Ok(found),
        }
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let Some(bytes) = self.file(name, LARGEST)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| Failure::invalid(format!("{name}: {error}")))
    }

    pub(super) fn tokenizer(&self) -> Result<Option<Bytes>, Failure> {
        self.file("tokenizer.json", LARGEST_TOKENIZER)
    }

    /// The tokens of a text at most, where `tokenizer.json` does not have the last word.
    pub(super) fn most_tokens(&self) -> Result<Most, Failure> {
        let sentence: Option<SentenceBert> = self.json("sentence_bert_config.json")?;
        if sentence.as_ref().is_some_and(|sentence| sentence.do_lower_case) {
            return Err(Failure::invalid(
                "sentence_bert_config.json has do_lower_case, which is not done here: let the normalizer of tokenizer.json do it",
            ));
        }
        let config: Option<TokenizerConfig> = self.json("tokenizer_config.json")?;
        let usual = config.and_then(|config| config.model_max_length);
        let usual = usual.filter(|&most| (1.0..UNKNOWN).contains(&most)).map(|most| most as usize);
        let decided = sentence.and_then(|sentence| sentence.max_seq_length).filter(|&most| most > 0);
        Ok(Most { decided, usual })
    }

    pub(super) fn modules(&self) -> Result<Modules, Failure> {
        let pooling: Option<super::pooling::Described> = self.json("1_Pooling/config.json")?;
        let pooling = pooling.map(|described| described.pooling()).transpose()?;
        let Some(modules) = self.json::<Vec<Module>>("modules.json")? else {
            return Ok(Modules { pooling, normalize: false });
        };
        let mut normalize = false;
        for module in &modules {
            match module.kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Pooling" if pooling.is_some() => {}
                "Pooling" => {
                    return Err(Failure::invalid(
                        "modules.json has a Pooling, and there is no 1_Pooling/config.json; copy it too",
                    ));
                }
                "Normalize" => normalize = true,
                _ => {
                    return Err(Failure::invalid(format!(
                        "modules.json has the module '{:.100}', which is not computed here: export it into the ONNX file, and leave \
                         modules.json out",
                        module.kind
                    )));
                }
            }
        }
        Ok(Modules { pooling, normalize })
    }
}

/// The tokens of a text at most.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(not(feature = "tokenizers"), allow(dead_code))] // A tokenizer reads them.
pub(super) struct Most {
    /// Whatever `tokenizer.json` says.
    pub(super) decided: Option<usize>,
    /// Where `tokenizer.json` says nothing.
    pub(super) usual: Option<usize>,
}

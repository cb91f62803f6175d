#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::collections::BTreeMap;

use bytes::Bytes;
use sardonyx_testing::onnx::build::*;
use serde_json::{Value, json};

use super::*;
use crate::config;

/// The files of a model's folder.
struct Given(BTreeMap<&'static str, Vec<u8>>);

impl Files for Given {
    fn read(&self, path: &str) -> Result<Option<Bytes>, Failure> {
        Ok(self.0.get(path).cloned().map(Bytes::from))
    }
}

/// Words and parts of words, in the form of BERT's: `[PAD]` 0, `[UNK]` 1, `[CLS]` 2, `[SEP]` 3, and the rest.
fn word_piece() -> Value {
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "##s", "sat", "\u{e9}t\u{e9}"];
    let vocab: BTreeMap<&str, usize> = words.iter().enumerate().map(|(id, word)| (*word, id)).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": (0..4).map(|id| json!({"id": id, "content": words[id], "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})).collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": false, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

/// The configuration of a model with these inputs, and `last_hidden_state`.
fn config(inputs: &[&str], dims: &[&str], parameters: &[(&str, &str)]) -> Config {
    let nodes = vec![
        node("Cast", &["input_ids"], &["a"]).with(int("to", FLOAT.into())),
        node("Unsqueeze", &["a"], &["last_hidden_state"]).with(ints("axes", &[2])),
    ];
    let mut graph = graph(&[], nodes, &[]);
    graph.input = inputs.iter().map(|name| value(name, INT64, dims)).collect();
    graph.output = vec![value("last_hidden_state", FLOAT, &[dims[0], dims[1], "1"])];
    let model = sardonyx::Model::from_bytes(prost::Message::encode_to_vec(&model(11, graph))).unwrap();
    let mut given = config::from_pbtxt("max_batch_size: 2").unwrap();
    for (name, value) in parameters {
        let value = crate::proto::ModelParameter { string_value: value.to_string() };
        given.parameters.insert(name.to_string(), value);
    }
    Config::complete(given, "m", Some(&model), &Given(BTreeMap::new())).unwrap()
}

const INPUTS: [&str; 2] = ["input_ids", "attention_mask"];
const DIMS: [&str; 2] = ["batch", "n"];

fn read(config: &mut Config, files: &[(&'static str, Value)]) -> Result<(), Failure> {
    let files = files.iter().map(|(name, json)| (*name, json.to_string().into_bytes())).collect();
    config.texts = Texts::read(config, 1, &Given(files))?.into();
    Ok(())
}

fn refused(files: &[(&'static str, Value)]) -> String {
    read(&mut config(&INPUTS, &DIMS, &[]), files).unwrap_err().text
}

async fn ids(config: &Config, text: &str) -> Result<Tokens, Failure> {
    Ok(Texts::tokens(config, vec![text.into()]).await?.remove(0))
}

#[tokio::test]
async fn texts_become_tokens() {
    let mut config = config(&INPUTS, &DIMS, &[]);
    read(&mut config, &[("tokenizer.json", word_piece())]).unwrap();
    for (text, expected) in [
        ("A cats SAT", vec![2, 4, 5, 6, 7, 3]),
        ("sat\r\n\t sat", vec![2, 7, 7, 3]),
        ("\u{c9}t\u{e9}!", vec![2, 8, 1, 3]),
        ("\u{1f642}", vec![2, 1, 3]),
        ("", vec![2, 3]),
    ] {
        assert_eq!(ids(&config, text).await.unwrap().ids, expected, "{text:?}");
    }
    assert_eq!(ids(&config, &"a ".repeat(10_000)).await.unwrap().ids.len(), 10_002);
    let long = "a".repeat(LONGEST_TEXT + 1);
    assert!(ids(&config, &long).await.unwrap_err().text.contains("at most in one text"));
}

#[tokio::test]
async fn long_texts_are_cut_or_refused() {
    let tokenizer = word_piece();
    let mut cut = config(&INPUTS, &DIMS, &[("embeddings.max_tokens", "4")]);
    read(&mut cut, &[("tokenizer.json", tokenizer.clone())]).unwrap();
    let tokens = ids(&cut, "a cat sat a").await.unwrap();
    assert_eq!((tokens.ids, tokens.left_out), (vec![2, 4, 5, 3], 2));
    assert_eq!(ids(&cut, "a cat").await.unwrap().left_out, 0);
    let parameters = [("embeddings.max_tokens", "4"), ("embeddings.truncate", "false")];
    let mut refuse = config(&INPUTS, &DIMS, &parameters);
    read(&mut refuse, &[("tokenizer.json", tokenizer.clone())]).unwrap();
    assert_eq!(ids(&refuse, "a cat").await.unwrap().ids.len(), 4);
    let text = ids(&refuse, "a cat sat a").await.unwrap_err().text;
    assert!(text.contains("6 tokens") && text.contains("4 at most"), "{text}");

    // The files of the model, the first of which decides.
    let mut with = tokenizer.clone();
    with["truncation"] =
        json!({"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0});
    let sentence = ("sentence_bert_config.json", json!({"max_seq_length": 3, "do_lower_case": false}));
    let usual = ("tokenizer_config.json", json!({"model_max_length": 7}));
    let unknown = ("tokenizer_config.json", json!({"model_max_length": 1e30}));
    for (files, longest) in [
        (vec![("tokenizer.json", with.clone()), sentence, usual.clone()], 3),
        (vec![("1/tokenizer.json", with), usual.clone()], 5),
        (vec![("tokenizer.json", tokenizer.clone()), usual], 7),
        (vec![("tokenizer.json", tokenizer), unknown], 12),
    ] {
        let mut config = config(&INPUTS, &DIMS, &[]);
        read(&mut config, &files).unwrap();
        assert_eq!(ids(&config, "a a a a a a a a a a").await.unwrap().ids.len(), longest);
    }
}

#[tokio::test]
async fn texts_of_one_length_are_one_run() {
    let mut config = config(&INPUTS, &DIMS, &[]);
    let mut tokenizer = word_piece();
    read(&mut config, &[("tokenizer.json", tokenizer.clone())]).unwrap();
    let texts = ["a", &"a ".repeat(20), "cat sat", "sat"].map(str::to_string).to_vec();
    let tokens = Texts::tokens(&config, texts).await.unwrap();
    let made = parts(&config, &tokens).unwrap();
    let entries: Vec<&[usize]> = made.iter().map(|part| part.entries.as_slice()).collect();
    assert_eq!(entries, [&[0, 2][..], &[3], &[1]]);
    assert_eq!(made[0].tokens, [0..3, 0..4]);
    let [(_, ids), (_, mask)] = made[0].inputs.as_slice() else { panic!() };
    assert_eq!(ids.to_vec::<i64>().unwrap(), [2, 4, 3, 0, 0, 0, 0, 0, 2, 5, 7, 3, 0, 0, 0, 0]);
    assert_eq!(mask.to_vec::<i64>().unwrap(), [1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]);
    assert_eq!(made[2].inputs[0].1.shape(), [1, 24]);

    tokenizer["padding"] = json!({"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": null,
        "pad_id": 9, "pad_type_id": 0, "pad_token": "[PAD]"});
    read(&mut config, &[("tokenizer.json", tokenizer.clone())]).unwrap();
    let left = parts(&config, &tokens[..1]).unwrap().remove(0);
    assert_eq!(left.tokens.as_slice(), std::slice::from_ref(&(5..8)));
    assert_eq!(left.inputs[0].1.to_vec::<i64>().unwrap(), [9, 9, 9, 9, 9, 2, 4, 3]);

    // Without a mask the model cannot tell padding from tokens.
    let mut config = self::config(&INPUTS[..1], &DIMS, &[]);
    read(&mut config, &[("tokenizer.json", tokenizer.clone())]).unwrap();
    let made = parts(&config, &tokens).unwrap();
    assert_eq!(
        made.iter().map(|part| part.inputs[0].1.shape()).collect::<Vec<_>>(),
        [[2, 3], [1, 4], [1, 22]]
    );

    let mut config = self::config(&INPUTS, &["batch", "6"], &[]);
    read(&mut config, &[("tokenizer.json", tokenizer.clone())]).unwrap();
    assert_eq!(parts(&config, &tokens[..1]).unwrap()[0].inputs[0].1.shape(), [1, 6]);
    assert_eq!(Texts::tokens(&config, vec!["a ".repeat(20)]).await.unwrap()[0].ids.len(), 6);
    let mut config = self::config(&INPUTS[..1], &["batch", "6"], &[]);
    let text = read(&mut config, &[("tokenizer.json", tokenizer)]).unwrap_err().text;
    assert!(text.contains("no 'attention_mask'"), "{text}");
}

#[test]
fn what_comes_after_the_model() {
    let module = |kind: &str| json!({"idx": 0, "name": "0", "path": "", "type": kind});
    let transformer = module("sentence_transformers.models.Transformer");
    let pooling = module("sentence_transformers.models.Pooling");
    let normalize = module("sentence_transformers.models.Normalize");
    let cls = ("1_Pooling/config.json", json!({"pooling_mode_cls_token": true}));
    let modules = ("modules.json", json!([transformer, pooling, normalize]));
    let mut config = config(&INPUTS, &DIMS, &[]);
    read(&mut config, &[modules.clone(), cls.clone()]).unwrap();
    assert_eq!((config.texts.pooling, config.texts.normalize), (Pooling::Cls, true));
    let parameters = [("embeddings.pooling", "last"), ("embeddings.normalize", "false")];
    let mut config = self::config(&INPUTS, &DIMS, &parameters);
    read(&mut config, &[modules.clone(), cls]).unwrap();
    assert_eq!((config.texts.pooling, config.texts.normalize), (Pooling::Last, false));
    assert!(refused(&[modules]).contains("no 1_Pooling/config.json"));
    let dense = ("modules.json", json!([transformer, module("sentence_transformers.models.Dense")]));
    assert!(refused(&[dense]).contains("Dense"));
    for (name, value) in [("pooling", "sum"), ("normalize", "yes"), ("truncate", "1"), ("max_tokens", "0")] {
        let name = format!("embeddings.{name}");
        let mut config = self::config(&INPUTS, &DIMS, &[(&name, value)]);
        assert!(read(&mut config, &[]).unwrap_err().text.contains(&name), "{name}");
    }
}

#[test]
fn hostile_files_are_refused() {
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut tokenizer = word_piece();
        change(&mut tokenizer);
        refused(&[("tokenizer.json", tokenizer)])
    };
    let no_unknown = changed(&|json| {
        json["model"]["vocab"].as_object_mut().unwrap().remove("[UNK]");
    });
    assert!(no_unknown.contains("no tokens for some texts"), "{no_unknown}");
    let pattern = changed(&|json| {
        json["pre_tokenizer"] =
            json!({"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": false});
    });
    assert!(pattern.starts_with("tokenizer.json: "), "{pattern}");
    let kind = changed(&|json| json["model"]["type"] = "Magic".into());
    assert!(kind.starts_with("tokenizer.json: "), "{kind}");
    let special = changed(&|json| {
        json["truncation"] = json!({"max_length": 2, "strategy": "LongestFirst", "stride": 0});
    });
    assert!(special.contains("2 tokens beside its own"), "{special}");
    // The library calls this impossible.
    let precompiled = changed(&|json| {
        json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "////////"});
    });
    assert!(precompiled.starts_with("tokenizer.json: "), "{precompiled}");
    let unigram =
        changed(&|json| json["model"] = json!({"type": "Unigram", "unk_id": 7, "vocab": [["a", -1.0]]}));
    assert!(unigram.starts_with("tokenizer.json: "), "{unigram}");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let mut config = config(&INPUTS, &DIMS, &[]);
    for bytes in [deep.into_bytes(), b"{}".to_vec(), Vec::new(), vec![b' '; (64 << 20) + 1]] {
        let files = Given(BTreeMap::from([("tokenizer.json", bytes)]));
        let text = Texts::read(&config, 1, &files).unwrap_err().text;
        assert!(text.starts_with("tokenizer.json"), "{text}");
    }
    // A model of other inputs has no use for it.
    config.inputs[0].name = "x".into();
    read(&mut config, &[("tokenizer.json", json!({}))]).unwrap();
}

#[test]
fn what_lets_texts_say_something_else() {
    let of = |tokenizer: Value, parameters: &[(&str, &str)]| {
        let mut config = config(&INPUTS, &DIMS, parameters);
        read(&mut config, &[("tokenizer.json", tokenizer)]).unwrap();
        config
    };
    let (mut other, plain) = (word_piece(), of(word_piece(), &[]));
    other["model"]["vocab"]["cat"] = json!(4);
    other["model"]["vocab"]["a"] = json!(5);
    assert_eq!(difference(&plain, &of(word_piece(), &[])), None);
    assert_eq!(difference(&plain, &of(other, &[])), Some("tokenizer.json"));
    assert_eq!(difference(&plain, &config(&INPUTS, &DIMS, &[])), Some("tokenizer.json"));
    for (name, value) in [
        (parameters::EMBEDDINGS_MAX_TOKENS, "5"),
        (parameters::EMBEDDINGS_TRUNCATE, "false"),
        (parameters::EMBEDDINGS_POOLING, "cls"),
        (parameters::EMBEDDINGS_NORMALIZE, "true"),
        (parameters::EMBEDDINGS_OUTPUT, "last_hidden_state"),
    ] {
        assert_eq!(difference(&of(word_piece(), &[(name, value)]), &plain), Some(name));
    }
}

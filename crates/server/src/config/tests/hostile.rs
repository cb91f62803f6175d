//! Configurations that nobody means well with: they end in an error or a configuration, and never in a panic.

use sardonyx_testing::dice::Dice;

use super::*;

const WELL_FORMED: [&str; 4] = [
    "name: 'm' max_batch_size: 16 input [ { name: \"x\" data_type: TYPE_FP32 dims: [ 3, -1 ] reshape { shape: [ 3 ] } } ]
     output { name: 'y' label_filename: 'l' } version_policy { latest { num_versions: 2 } } parameters { key: 'sha256.1' value { } }",
    "dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 priority_levels: 2
     default_priority_level: 1 priority_queue_policy { key: 1 value { timeout_action: DELAY } } } instance_group { gpus: [ 0 ] }",
    "sequence_batching { oldest { max_candidate_sequences: 4 } control_input { name: 'x' control { kind: CONTROL_SEQUENCE_END
     int32_false_true: [ 0, 1 ] } } state { input_name: 'x' output_name: 'y' initial_state { dims: [ 3, 5 ] zero_data: true } } }",
    "platform: 'ensemble' input { name: 'a' data_type: TYPE_INT8 } output { name: 'b' data_type: TYPE_INT8 } ensemble_scheduling {
     step { model_name: 'p' input_map { key: 'x' value: 'a' } output_map { key: 'y' value: 'b' } } } model_warmup { batch_size: 3
     inputs { key: 'x' value { data_type: TYPE_FP32 dims: [ 3, 9 ] random_data: true } } }",
];

const PIECES: [&str; 22] = [
    "{",
    "}",
    "[",
    "]",
    "<",
    ">",
    ":",
    "-",
    "'",
    "\"",
    "\\",
    "#",
    "-1",
    "0",
    "9223372036854775807",
    "-9223372036854775808",
    "2147483647",
    "4294967295",
    "18446744073709551615",
    "1e400",
    "[a/inference.ModelConfig] {",
    "ä",
];

fn try_all(text: &str, models: &[Model]) {
    for given in [from_pbtxt(text), from_toml(text), from_json(text)].into_iter().flatten() {
        for model in models {
            if let Ok(config) = Config::complete(given.clone(), "m", Some(model), &Memory::default()) {
                config.to_json().unwrap();
            }
        }
    }
}

#[test]
fn mutated_texts_end_in_words() {
    let (mut dice, models) = (Dice(7), [batched(), single()]);
    for turn in 0..4000 {
        let mut text = WELL_FORMED[turn % WELL_FORMED.len()].as_bytes().to_vec();
        for _ in 0..1 + dice.below(4) {
            let at = dice.below(text.len());
            let piece = dice.of(&PIECES).as_bytes();
            match dice.below(4) {
                0 => drop(text.splice(at..at, piece.iter().copied())),
                1 => drop(text.splice(at..text.len().min(at + piece.len()), piece.iter().copied())),
                2 => drop(text.drain(at..text.len().min(at + 1 + dice.below(20)))),
                _ => text[at] = dice.below(256) as u8,
            }
            if text.is_empty() {
                text.push(b' ');
            }
        }
        try_all(&String::from_utf8_lossy(&text), &models);
    }
}

#[test]
fn random_bytes_end_in_words() {
    let mut dice = Dice(11);
    for _ in 0..2000 {
        let length = dice.below(200);
        let text: Vec<u8> = (0..length).map(|_| dice.below(256) as u8).collect();
        try_all(&String::from_utf8_lossy(&text), &[]);
        let text: String = (0..length / 4).map(|_| dice.of(&PIECES)).collect();
        try_all(&text, &[]);
    }
}

/// Numbers of fields as a client may send them in JSON, and no text of protobuf has.
#[test]
fn numbers_end_in_words() {
    let (mut dice, models) = (Dice(13), [batched(), single()]);
    let numbers = [i64::MIN, i64::from(i32::MIN), -2, -1, 0, 1, 3, 1024, i64::from(i32::MAX), i64::MAX];
    let forms: [fn(i64) -> String; 7] = [
        |n| format!(r#"{{"max_batch_size": {n}, "dynamic_batching": {{"preferred_batch_size": [{n}]}}}}"#),
        |n| format!(r#"{{"input": [{{"name": "x", "data_type": {n}, "dims": [{n}, {n}]}}]}}"#),
        |n| format!(r#"{{"instance_group": [{{"kind": {n}, "count": {n}, "gpus": [{n}]}}]}}"#),
        |n| format!(r#"{{"version_policy": {{"specific": {{"versions": [{n}, {n}]}}}}}}"#),
        |n| {
            format!(
                r#"{{"dynamic_batching": {{"max_queue_delay_microseconds": {n}, "priority_levels": {n}}}}}"#
            )
        },
        |n| {
            format!(
                r#"{{"model_warmup": [{{"count": {n}, "inputs": {{"x": {{"data_type": 11, "dims": [3, {n}]}}}}}}]}}"#
            )
        },
        |n| {
            format!(
                r#"{{"sequence_batching": {{"oldest": {{"max_candidate_sequences": {n}}}, "state": [{{"input_name": "x",
                "output_name": "y", "initial_state": [{{"dims": [3, {n}]}}]}}]}}}}"#
            )
        },
    ];
    for _ in 0..400 {
        try_all(&dice.of(&forms)(dice.of(&numbers)), &models);
    }
}

#[test]
fn messages_in_one_another_take_no_stack() {
    let any = "[a/inference.ModelConfig] {".repeat(20_000);
    assert!(from_pbtxt(&any).unwrap_err().text.contains("deep"));
    for text in [
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
        "a = [".repeat(100_000),
        format!("a = {}", "[".repeat(100_000)),
    ] {
        assert!(from_pbtxt(&text).is_err() && from_toml(&text).is_err() && from_json(&text).is_err());
    }
    // Braces in texts and comments count for nothing.
    let text = format!("# {0}\nname: '{0}\\'' # {0}", "{".repeat(100));
    assert!(from_pbtxt(&text).is_ok());
    assert!(from_pbtxt(&"x".repeat((1 << 20) + 1)).unwrap_err().text.contains("bytes"));
}

//! Requests of different lengths, as configurations speak of them.

use super::*;

/// `ids: int64[batch, n]`, `mask: float32[batch, n]` to `tokens: float32[batch, n, 2]`, `pooled: float32[batch, 2]`.
fn tokens() -> Model {
    ports(
        vec![value("ids", INT64, &["batch", "n"]), value("mask", FLOAT, &["batch", "n"])],
        vec![value("tokens", FLOAT, &["batch", "n", "2"]), value("pooled", FLOAT, &["batch", "2"])],
    )
}

/// The parameters `given` and those of a good configuration, unless they are empty.
fn of(given: &[(&str, &str)]) -> Result<Config, String> {
    let good = [
        ("length_buckets", "4, 16"),
        ("length_inputs", "ids/0=-1, mask/0=0"),
        ("length_mask", "mask"),
        ("length_outputs", "tokens/0"),
    ];
    let mut all = BTreeMap::from(good);
    all.extend(given.iter().copied());
    let shown = all.iter().filter(|(_, value)| !value.is_empty());
    let shown = shown
        .map(|(key, value)| format!("parameters {{ key: '{key}' value {{ string_value: '{value}' }} }}"));
    let kind = if all.contains_key("single") { "" } else { "dynamic_batching { }" };
    complete(&format!("max_batch_size: 4 {kind} {}", shown.collect::<String>()), &tokens())
}

#[test]
fn lengths_are_read() {
    let lengths = of(&[]).unwrap().lengths.unwrap();
    assert_eq!(
        (&lengths.buckets[..], lengths.outputs["tokens"], lengths.outputs.len()),
        (&[4, 16][..], 0, 1)
    );
    let ids = lengths.input("ids").unwrap();
    assert_eq!((ids.axis, ids.pad.as_slice()), (0, &(-1i64).to_le_bytes()[..]));
    assert_eq!(lengths.input("mask").unwrap().pad, 0f32.to_le_bytes());
    let buckets = [0, 1, 4, 5, 16, 17].map(|length| lengths.bucket(length));
    assert_eq!(buckets, [None, Some(4), Some(4), Some(16), Some(16), None]);
    let none = ["length_buckets", "length_inputs", "length_mask", "length_outputs"].map(|key| (key, ""));
    assert_eq!(of(&none).unwrap().lengths, None);
}

#[test]
fn what_is_not_said_is_not_guessed() {
    for (given, part) in [
        (("length_buckets", ""), "length_inputs is given, and no length_buckets"),
        (("length_inputs", ""), "no length_inputs"),
        (("length_mask", ""), "length_mask must name the input"),
        (("length_mask", "pooled"), "length_mask must name the input"),
        (("length_outputs", ""), "'tokens/none'"),
        (("length_buckets", "16, 4"), "ascending"),
        (("length_buckets", "0, 4"), "ascending"),
        (("length_buckets", "x"), "ascending"),
        (("length_inputs", "ids, mask/0=0"), "such as input_ids/0=0"),
        (("length_inputs", "ids/0=0.5, mask/0=0"), "no int64"),
        (("length_inputs", "ids/1=0, mask/0=0"), "dimension 1"),
        (("length_inputs", "other/0=0, mask/0=0"), "none of this name"),
        (("length_inputs", "ids/0=0, ids/0=1, mask/0=0"), "twice"),
        (("length_outputs", "tokens/1"), "dimension 1"),
        (("length_outputs", "tokens"), "such as last_hidden_state/0"),
        (("single", "yes"), "joins no requests"),
    ] {
        let text = of(&[given]).map(|_| ()).unwrap_err();
        assert!(text.contains(part), "{given:?}: {text}");
    }
}

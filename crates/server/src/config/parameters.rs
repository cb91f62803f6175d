//! The parameters of a configuration that this server gives a meaning.

use std::collections::BTreeMap;

use super::check_name;

/// `true`: a batch is filled up with rows of zeros to the next preferred size.
pub const PAD_TO_PREFERRED: &str = "pad_to_preferred";

/// Labels of versions, such as `stable=3,canary=4`.
pub const VERSION_LABELS: &str = "version_labels";

/// `sha256.3` is the digest of version 3's ONNX file, and `sha256.3/weights.bin` that of another file in its folder, in
/// hexadecimal.
pub const SHA256: &str = "sha256.";

/// The bytes that the model may take on each of its devices, such as `900000000`, `512MiB` or `2GiB`.
pub const DEVICE_MEMORY_LIMIT: &str = "device_memory_limit";

/// `true`: embeddings over OpenAI's protocol have the length 1.
pub const EMBEDDINGS_NORMALIZE: &str = "embeddings.normalize";

/// The output with the embedding, for OpenAI's protocol.
pub const EMBEDDINGS_OUTPUT: &str = "embeddings.output";

/// The variants that share the requests that name no version, with their weights: `3=90,4=10`, `stable=9,canary=1`, or other models,
/// `resnet/=1,resnet-int8/2=1`.
pub const TRAFFIC: &str = "traffic";

/// The variant that gets copies of requests.
pub const SHADOW: &str = "shadow";

/// The share of requests that are copied, up to 1.
pub const SHADOW_SHARE: &str = "shadow_share";

/// By how much an answer of the shadow may differ.
pub const SHADOW_TOLERANCE: &str = "shadow_tolerance";

/// The copies that may wait or run at once.
pub const SHADOW_IN_FLIGHT: &str = "shadow_in_flight";

/// Lengths to which requests are padded, so that they are one batch: `16,32,64`.
pub const LENGTH_BUCKETS: &str = "length_buckets";

/// The inputs that have the length, their dimension without that of the batch, and what is put there: `input_ids/0=0`.
pub const LENGTH_INPUTS: &str = "length_inputs";

/// The one of them that tells the model what is padding.
pub const LENGTH_MASK: &str = "length_mask";

/// The outputs that have the length, and their dimension: `last_hidden_state/0`; or `logits/none`.
pub const LENGTH_OUTPUTS: &str = "length_outputs";

/// How the vectors of tokens become one: `mean`, `cls`, `last` or `max`.
pub const EMBEDDINGS_POOLING: &str = "embeddings.pooling";

/// The tokens of a text at most.
pub const EMBEDDINGS_MAX_TOKENS: &str = "embeddings.max_tokens";

/// `false`: a text of more tokens is refused; otherwise it loses its end.
pub const EMBEDDINGS_TRUNCATE: &str = "embeddings.truncate";

type Given = BTreeMap<String, String>;

pub(super) fn pad(given: &Given) -> Result<bool, String> {
    match given.get(PAD_TO_PREFERRED).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!("the parameter {PAD_TO_PREFERRED} is '{other}'; it is 'true' or 'false'")),
    }
}

pub(super) fn version_labels(given: &Given) -> Result<BTreeMap<String, u64>, String> {
    let mut labels = BTreeMap::new();
    let Some(text) = given.get(VERSION_LABELS) else { return Ok(labels) };
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let wrong = || {
            format!(
                "the parameter {VERSION_LABELS} has '{}'; it is a list of labels and versions such as 'stable=3,canary=4', and \
                 a label is no number",
                pair.escape_default()
            )
        };
        let (label, version) = pair.split_once('=').ok_or_else(wrong)?;
        let (label, version) = (label.trim(), version.trim());
        let version = version.parse().ok().filter(|&version: &u64| version > 0).ok_or_else(wrong)?;
        if check_name(label).is_err() || label.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        if labels.insert(label.to_string(), version).is_some() {
            return Err(format!("the parameter {VERSION_LABELS} has the label '{label}' twice"));
        }
    }
    Ok(labels)
}

/// The digests of files, by their path in the model's folder; `file` is the name of the ONNX files.
pub(super) fn sha256(given: &Given, file: &str) -> Result<BTreeMap<String, String>, String> {
    let pinned = given.iter().filter_map(|(key, digest)| Some((key, key.strip_prefix(SHA256)?, digest)));
    let entry = |(key, of, digest): (&String, &str, &String)| {
        if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("the parameter {key} is no sha256: it has 64 hexadecimal digits"));
        }
        let (version, name) = of.split_once('/').unwrap_or((of, file));
        match version.parse::<u64>() {
            Ok(number) if number > 0 && number.to_string() == version && !name.is_empty() => {}
            _ => return Err(format!("the parameter {key} names no version; write {SHA256}3 for version 3")),
        }
        Ok((format!("{version}/{name}"), digest.to_ascii_lowercase()))
    };
    pinned.map(entry).collect()
}

pub(super) fn device_memory_limit(given: &Given) -> Result<Option<u64>, String> {
    let Some(text) = given.get(DEVICE_MEMORY_LIMIT) else { return Ok(None) };
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
    let bytes = units.into_iter().find_map(|(unit, bits)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(1 << bits)
    });
    bytes.map(Some).ok_or_else(|| {
        format!(
            "the parameter {DEVICE_MEMORY_LIMIT} is '{}'; write bytes, or a number with KiB, MiB or GiB",
            text.escape_default()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(key: &str, value: &str) -> Given {
        Given::from([(key.to_string(), value.to_string())])
    }

    #[test]
    fn labels_name_versions() {
        let labels = version_labels(&given(VERSION_LABELS, "stable=3, canary=4,")).unwrap();
        assert_eq!(labels, BTreeMap::from([("stable".into(), 3), ("canary".into(), 4)]));
        for bad in ["stable", "stable=0", "stable=x", "=3", "7=3", "a=1,a=2", "a/b=1", "a=-1"] {
            assert!(version_labels(&given(VERSION_LABELS, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_have_units() {
        for (text, bytes) in [("123", 123), ("2 KiB", 2048), ("3MiB", 3 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(device_memory_limit(&given(DEVICE_MEMORY_LIMIT, text)), Ok(Some(bytes)));
        }
        for bad in ["", "-1", "1GB", "99999999999999999999", "18446744073709551615KiB"] {
            assert!(device_memory_limit(&given(DEVICE_MEMORY_LIMIT, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn digests_belong_to_files() {
        let digest = "AB".repeat(32);
        let of = |key: &str| sha256(&given(key, &digest), "model.onnx");
        assert_eq!(of("sha256.3").unwrap(), BTreeMap::from([("3/model.onnx".into(), "ab".repeat(32))]));
        assert!(of("sha256.3/w.bin").unwrap().contains_key("3/w.bin"));
        for bad in ["sha256.", "sha256.0", "sha256.x", "sha256.03", "sha256.1/"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(sha256(&given("sha256.1", "abc"), "model.onnx").is_err());
    }
}

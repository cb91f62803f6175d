//! Changed requests, of which none may panic, hang or take memory beyond what it has sent. `MUTATIONS=10000000` tries longer.

use bytes::Bytes;

use crate::config;
use crate::http::Limits;
use crate::http::v2::request::decode;
use crate::shared_memory::SharedMemory;

/// Numbers without pattern (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % count.max(1)
    }

    /// `text`, with one to eight changes.
    fn changed(&mut self, text: &[u8], words: &[&str]) -> Vec<u8> {
        let mut text = text.to_vec();
        for _ in 0..=self.below(8) {
            let at = self.below(text.len() + 1);
            let end = (at + self.below(16)).min(text.len());
            match self.below(7) {
                0 if at < text.len() => text[at] ^= 1 << self.below(8),
                1 => drop(text.drain(at..end)),
                2 => text.insert(at, self.below(256) as u8),
                3 => {
                    let word = words[self.below(words.len())];
                    text.splice(at..at, word.bytes());
                }
                4 => {
                    let word = words[self.below(words.len())];
                    text.splice(at..end, word.bytes());
                }
                5 => {
                    let part = text[at..end].to_vec();
                    let place = self.below(text.len() + 1);
                    text.splice(place..place, part);
                }
                _ => text.truncate(at.max(1)),
            }
        }
        text
    }
}

fn count() -> usize {
    std::env::var("MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(3000)
}

const REQUESTS: [&str; 4] = [
    r#"{"id":"a","inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1.5,-2],[3e2,4]]}],"outputs":[{"name":"y","parameters":{"binary_data":true,"classification":2}}],"parameters":{"priority":1,"sequence_id":"s","sequence_start":true,"timeout":5}}"#,
    r#"{"inputs":[{"name":"x","shape":[3],"datatype":"BYTES","data":["a","\u00e9\n",""]},{"name":"b","shape":[1,2],"datatype":"BOOL","data":[true,false]}]}"#,
    r#"{"inputs":[{"name":"x","shape":[2],"datatype":"INT64","parameters":{"binary_data_size":16}},{"name":"s","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":11}}],"parameters":{"binary_data_output":true}}"#,
    r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"UINT8","parameters":{"shared_memory_region":"r","shared_memory_byte_size":4,"shared_memory_offset":1}}]}"#,
];

const JSON: [&str; 22] = [
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "true",
    "1e999",
    "-0",
    "NaN",
    "[[[[[[[[",
    "-1",
    "9223372036854775807",
    "18446744073709551615",
    "4294967296",
    "\"shape\":[0,9223372036854775807]",
    "\"BYTES\"",
    "\"FP16\"",
    "\\ud800",
];

#[test]
fn requests_in_json_with_binary_tensors() {
    let (mut random, limits, memory) = (Random(1), Limits::default(), SharedMemory::new(vec!["/".into()]));
    let binary = b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x02\0\0\0ab\x01\0\0\0c";
    let (mut good, mut tried) = (0, 0);
    for i in 0..count() {
        let text = REQUESTS[i % REQUESTS.len()].as_bytes();
        let text = if i < REQUESTS.len() { text.to_vec() } else { random.changed(text, &JSON) };
        let length = match random.below(8) {
            0 => None,
            1 => Some(random.below(2 * text.len())),
            _ => Some(text.len()),
        };
        let mut body = text;
        let binary = match i {
            2 => binary.to_vec(),
            _ if random.below(2) == 0 => Vec::new(),
            _ => random.changed(binary, &["\u{0}", "\u{7f}\u{7f}\u{7f}\u{7f}"]),
        };
        body.extend(binary);
        tried += 1;
        match decode(&Bytes::from(body), length, &limits, &memory) {
            Ok((request, _)) => {
                good += 1;
                let bytes: usize = request.inputs.iter().map(|(_, tensor)| tensor.bytes().len()).sum();
                assert!(bytes < 100_000, "{bytes} bytes of a request of less than a thousand");
            }
            Err(failure) => assert!(failure.text.len() < 2000, "{}", failure.text),
        }
    }
    assert!(good > 0 && good < tried);
}

const CONFIG: &str = r#"name: "cat" max_batch_size: 8 input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] reshape { shape: [ ] } } ]
output { name: 'y' data_type: TYPE_STRING dims: [ 1 ] label_filename: "labels.txt" }
instance_group [ { count: 2 kind: KIND_GPU gpus: [ 0 ] } ] # words
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100
  priority_levels: 2 default_queue_policy { max_queue_size: 4 timeout_action: DELAY } }
version_policy: { specific { versions: [ 1, 3 ] } } parameters { key: "k" value: { string_value: "v\"\n\x41" } }
model_warmup [ { name: "w" batch_size: 1 inputs { key: "x" value: { data_type: TYPE_FP32 dims: 3 zero_data: true } } } ]"#;

const PBTXT: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    "<",
    ">",
    ":",
    "\"",
    "'",
    "\\",
    "#",
    "-9223372036854775808",
    "1e999",
    "nan",
    "ensemble_scheduling { step [ { model_name: \"cat\" } ] }",
    "sequence_batching { oldest { } }",
];

#[test]
fn configurations() {
    let mut random = Random(2);
    let read = |text: &[u8]| {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        config::from_pbtxt(text)
            .map_err(|failure| assert!(failure.text.len() < 5000, "{}", failure.text))
            .is_ok()
    };
    assert!(read(CONFIG.as_bytes()));
    let good = (0..count() / 4).filter(|_| read(&random.changed(CONFIG.as_bytes(), &PBTXT))).count();
    assert!(good > 0);
}

//! `Fields`: how many fields a message has, counted as its bytes come. A field of two bytes becomes a struct of a hundred and more, so
//! that a message of many empty tensors would take far more memory than its limit.

/// The fields of a message at most, those of its tensors with it. Values of a tensor are one field, or several in strings.
pub(super) const FIELDS: usize = 1 << 15;

/// What is expected next.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The rest of a tag, of which some bits are known.
    Tag(u64, u32),
    /// The rest of the length of a field that is `descended` into.
    Length(u64, u32, bool),
    /// The rest of a number.
    Number,
    /// So many bytes of no interest.
    Skip(u64),
}

/// The fields of one message.
#[derive(Debug)]
pub(super) struct Fields {
    next: Next,
    count: usize,
    /// Whether the tensors of a `ModelInferRequest` are messages too.
    infers: bool,
    /// The bytes left of the tensor that is being read.
    tensor: Option<u64>,
}

/// `inputs` and `outputs` of `ModelInferRequest`.
const TENSORS: [u64; 2] = [5, 6];

impl Fields {
    pub(super) fn new(infers: bool) -> Fields {
        Fields { next: Next::Tag(0, 0), count: 0, infers, tensor: None }
    }

    /// Reads on. False if there are too many fields. What is no message is for the decoder to refuse.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let Next::Skip(length) = self.next {
                let skipped = length.min(bytes.len() as u64);
                self.take(skipped);
                self.next = if skipped == length { Next::Tag(0, 0) } else { Next::Skip(length - skipped) };
                bytes = &bytes[skipped as usize..];
                continue;
            }
            bytes = rest;
            // A tag has to know whether it is one of a tensor, before its last byte is taken.
            let of_tensor = self.tensor.is_some();
            self.take(1);
            let (more, bits) = (byte & 0x80 != 0, u64::from(byte & 0x7f));
            let add = |number: u64, shift: u32| number | bits.checked_shl(shift).unwrap_or(0);
            self.next = match self.next {
                Next::Tag(number, shift) if more => Next::Tag(add(number, shift), shift + 7),
                Next::Tag(number, shift) => {
                    self.count += 1;
                    let tag = add(number, shift);
                    match tag & 7 {
                        0 => Next::Number,
                        1 => Next::Skip(8),
                        2 => Next::Length(0, 0, self.infers && !of_tensor && TENSORS.contains(&(tag >> 3))),
                        5 => Next::Skip(4),
                        // The decoder passes over groups, and refuses what there is not.
                        3 | 4 => Next::Tag(0, 0),
                        _ => Next::Skip(u64::MAX),
                    }
                }
                Next::Length(number, shift, descended) if more => {
                    Next::Length(add(number, shift), shift + 7, descended)
                }
                Next::Length(number, shift, true) => {
                    self.tensor = Some(add(number, shift)).filter(|length| *length > 0);
                    Next::Tag(0, 0)
                }
                Next::Length(number, shift, false) => Next::Skip(add(number, shift)),
                Next::Number if more => Next::Number,
                Next::Number | Next::Skip(_) => Next::Tag(0, 0),
            };
            if let Next::Skip(0) = self.next {
                self.next = Next::Tag(0, 0);
            }
            if self.count > FIELDS {
                return false;
            }
        }
        true
    }

    /// Counts bytes of the tensor that is being read.
    fn take(&mut self, bytes: u64) {
        self.tensor = self.tensor.and_then(|left| left.checked_sub(bytes)).filter(|left| *left > 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;

    use super::*;
    use crate::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
    use crate::proto::{InferParameter, InferTensorContents, ModelInferRequest};

    fn count(message: &[u8], infers: bool, step: usize) -> usize {
        let mut fields = Fields::new(infers);
        for part in message.chunks(step) {
            fields.read(part);
        }
        fields.count
    }

    #[test]
    fn fields_of_a_message_and_its_tensors() {
        let input = InferInputTensor {
            name: "x".repeat(300),
            datatype: "FP32".into(),
            shape: vec![1, 300, -1],
            parameters: BTreeMap::from([("a".into(), InferParameter::default())]),
            contents: Some(InferTensorContents { fp32_contents: vec![1.0; 1000], ..Default::default() }),
        };
        let message = ModelInferRequest {
            model_name: "cat".into(),
            inputs: vec![input.clone(), InferInputTensor::default(), input],
            outputs: vec![InferRequestedOutputTensor { name: "y".into(), ..Default::default() }],
            raw_input_contents: vec![vec![5u8; 1000].into(), bytes::Bytes::new()],
            ..Default::default()
        };
        let bytes = message.encode_to_vec();
        for step in [1, 2, 3, 7, bytes.len()] {
            // The name, three inputs, an output, two contents; and within the tensors five, none, five and one.
            assert_eq!(count(&bytes, true, step), 7 + 11, "{step}");
            assert_eq!(count(&bytes, false, step), 7, "{step}");
        }
    }

    #[test]
    fn too_many() {
        assert!(Fields::new(true).read(&[0x2a, 0].repeat(FIELDS)));
        assert!(!Fields::new(true).read(&[0x2a, 0].repeat(FIELDS + 1)));
        // Empty parameters in one tensor.
        let mut tensor = vec![0x2a];
        prost::encoding::encode_varint(2 * FIELDS as u64, &mut tensor);
        tensor.extend([0x22, 0].repeat(FIELDS));
        assert!(!Fields::new(true).read(&tensor) && Fields::new(false).read(&tensor));
        // No panic, whatever it is.
        for byte in 0..=255 {
            Fields::new(true).read(&[byte; 100]);
        }
        Fields::new(true).read(&[[0x2a].as_slice(), &[0xff; 20]].concat());
    }
}

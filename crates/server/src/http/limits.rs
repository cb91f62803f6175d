//! `Limits`: how much of a request the server takes in.

use std::time::Duration;

use crate::budget::Budget;

/// How much of a request the server takes in. What is above a limit is refused before it is kept in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The bytes of a body, as they are sent.
    pub body_bytes: usize,
    /// The bytes that a compressed body may become.
    pub decompressed_bytes: usize,
    /// How many times larger than its compressed form a body may be. The first 16 MiB are free, since zeros compress well.
    pub decompression_ratio: usize,
    /// How long a client may send nothing of a body.
    pub body_pause: Duration,
    /// The inputs of a request, and the outputs that it wants.
    pub tensors: usize,
    /// The parameters of a request, and of each of its tensors.
    pub parameters: usize,
    /// The bytes of all requests together.
    pub in_all: Budget,
}

impl Limits {
    /// These limits, for a body that has `bytes` at most, compressed or not.
    pub(super) fn at_most(&self, bytes: usize) -> Limits {
        let (body_bytes, decompressed_bytes) =
            (self.body_bytes.min(bytes), self.decompressed_bytes.min(bytes));
        Limits { body_bytes, decompressed_bytes, ..self.clone() }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes: 256 << 20,
            decompressed_bytes: 256 << 20,
            decompression_ratio: 100,
            body_pause: Duration::from_secs(30),
            tensors: 1024,
            parameters: 256,
            in_all: Budget::new(4 << 30),
        }
    }
}

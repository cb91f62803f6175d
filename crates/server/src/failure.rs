//! `Failure`: why a request has no answer, in one form for every protocol.

use std::time::Duration;

/// Why a request has no answer. A text says what is wrong and what to do, and names nothing of the server's inside (no paths, no
/// names of shared memory that the caller did not send).
///
/// ```
/// use sardonyx_server::{Failure, Reason};
/// let failure = Failure::new(Reason::NotFound, "model 'cat' is not found");
/// assert_eq!(failure.to_string(), "model 'cat' is not found");
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The kind, from which each protocol takes its code.
    pub reason: Reason,
    /// What is wrong, and what to do.
    pub text: String,
    /// When the caller may try again, where the server can tell.
    pub retry_after: Option<Duration>,
}

/// The kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request is wrong: 400, INVALID_ARGUMENT.
    Invalid,
    /// Nobody has said who asks: 401, UNAUTHENTICATED.
    Unauthenticated,
    /// Who asks may not: 403, PERMISSION_DENIED.
    Forbidden,
    /// There is no such model, version or path: 404, NOT_FOUND.
    NotFound,
    /// The body, or what it decompresses to, is above the server's limit: 413, RESOURCE_EXHAUSTED.
    TooLarge,
    /// The caller asks for more than its quota: 429, RESOURCE_EXHAUSTED.
    OverQuota,
    /// The model's queue is full: 503, UNAVAILABLE.
    QueueFull,
    /// The model or the server cannot answer now: 503, UNAVAILABLE.
    Unavailable,
    /// The time that the caller or the model's queue allows is over: 504, DEADLINE_EXCEEDED.
    Expired,
    /// The caller has gone: 499, CANCELLED.
    Cancelled,
    /// The server does not do this: 501, UNIMPLEMENTED.
    Unimplemented,
    /// The model or the server is broken: 500, INTERNAL.
    Internal,
}

impl Reason {
    /// The reason in capitals, as the access log has it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Invalid => "INVALID",
            Reason::Unauthenticated => "UNAUTHENTICATED",
            Reason::Forbidden => "FORBIDDEN",
            Reason::NotFound => "NOT_FOUND",
            Reason::TooLarge => "TOO_LARGE",
            Reason::OverQuota => "OVER_QUOTA",
            Reason::QueueFull => "QUEUE_FULL",
            Reason::Unavailable => "UNAVAILABLE",
            Reason::Expired => "EXPIRED",
            Reason::Cancelled => "CANCELLED",
            Reason::Unimplemented => "UNIMPLEMENTED",
            Reason::Internal => "INTERNAL",
        }
    }
}

/// The bytes of a text that are sent.
const LONGEST: usize = 2000;

impl Failure {
    /// A failure of kind `reason`.
    pub fn new(reason: Reason, text: impl Into<String>) -> Failure {
        Failure { reason, text: text.into(), retry_after: None }
    }

    /// The text as it is sent: what repeats a client's long names is cut off. Clients of gRPC take no more than 8 KiB of it, percent-encoded.
    pub(crate) fn sent(&self) -> &str {
        &self.text[..self.text.floor_char_boundary(LONGEST)]
    }

    /// A fault of the request.
    pub fn invalid(text: impl Into<String>) -> Failure {
        Failure::new(Reason::Invalid, text)
    }
}

impl From<sardonyx::Error> for Failure {
    fn from(error: sardonyx::Error) -> Failure {
        use sardonyx::Error;
        let reason = match error {
            Error::Input(_)
            | Error::Node { .. }
            | Error::Output { .. }
            | Error::TooWide { .. }
            | Error::Tensor(_) => Reason::Invalid,
            Error::DeviceLost(_) => {
                return Failure::new(
                    Reason::Unavailable,
                    "the device was lost and is made anew; try again in a moment",
                );
            }
            Error::OutOfMemory { .. } | Error::MemoryLimit { .. } | Error::Interrupted => Reason::Unavailable,
            Error::Limit { .. } => Reason::Invalid,
            Error::Io { .. } | Error::FileChanged { .. } => {
                return Failure::new(
                    Reason::Internal,
                    "the model's files cannot be read; see the server's log",
                );
            }
            _ => Reason::Internal,
        };
        Failure::new(reason, error.to_string())
    }
}

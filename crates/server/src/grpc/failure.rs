//! The status that gRPC has for a `Failure`.

use tonic::{Code, Status};

use crate::{Failure, Reason};

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        let code = match failure.reason {
            Reason::Invalid => Code::InvalidArgument,
            Reason::Unauthenticated => Code::Unauthenticated,
            Reason::Forbidden => Code::PermissionDenied,
            Reason::NotFound => Code::NotFound,
            Reason::TooLarge | Reason::OverQuota => Code::ResourceExhausted,
            Reason::QueueFull | Reason::Unavailable => Code::Unavailable,
            Reason::Expired => Code::DeadlineExceeded,
            Reason::Cancelled => Code::Cancelled,
            Reason::Unimplemented => Code::Unimplemented,
            Reason::Internal => Code::Internal,
        };
        Status::new(code, failure.text)
    }
}

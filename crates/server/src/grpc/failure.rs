//! The status that gRPC has for a `Failure`.

use std::time::Duration;

use tonic::{Code, Status};

use crate::{Failure, Reason, exchange};

/// The times that are written, at most: clients read milliseconds as 32 bits.
const LONGEST: Duration = Duration::from_secs(2_000_000);

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        exchange::note(|notes| notes.reason = Some(failure.reason));
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
        let mut status = Status::new(code, failure.sent());
        if let Some(time) = failure.retry_after {
            let time = time.min(LONGEST);
            let seconds = (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1);
            let millis = time.as_nanos().div_ceil(1_000_000) as u64;
            status.metadata_mut().insert("retry-after", seconds.into());
            // Where a client has a policy of retries, it follows this (gRPC's proposal A6).
            status.metadata_mut().insert("grpc-retry-pushback-ms", millis.into());
        }
        status
    }
}

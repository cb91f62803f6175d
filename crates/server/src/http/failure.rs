//! The answer that HTTP has for a [`Failure`].

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::json;
use crate::{Failure, Reason, exchange};

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        exchange::note(|notes| notes.reason = Some(self.reason));
        let status = match self.reason {
            Reason::Invalid => StatusCode::BAD_REQUEST,
            Reason::Unauthenticated => StatusCode::UNAUTHORIZED,
            Reason::Forbidden => StatusCode::FORBIDDEN,
            Reason::NotFound => StatusCode::NOT_FOUND,
            Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Reason::OverQuota => StatusCode::TOO_MANY_REQUESTS,
            Reason::QueueFull | Reason::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Reason::Expired => StatusCode::GATEWAY_TIMEOUT,
            // As nginx has it, and after it many: the client has closed the connection.
            Reason::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Reason::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = error(status, self.sent());
        let soon = matches!(self.reason, Reason::QueueFull | Reason::OverQuota).then_some(1);
        let whole_seconds = self.retry_after.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0));
        if let Some(seconds) = whole_seconds.or(soon) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.reason == Reason::Unauthenticated {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// `{"error": text}`.
pub(super) fn error(status: StatusCode, text: &str) -> Response {
    let body = json(&serde_json::json!({ "error": text }));
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.into_body()).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn shown(failure: Failure) -> (u16, Option<String>, String) {
        let response = failure.into_response();
        let retry = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        (status, retry, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn statuses_and_bodies() {
        let wrong = shown(Failure::invalid("a \"b\"")).await;
        assert_eq!(wrong, (400, None, r#"{"error":"a \"b\""}"#.into()));
        let full = shown(Failure::new(Reason::QueueFull, "x")).await;
        assert_eq!((full.0, full.1), (503, Some("1".into())));
        let later = Failure {
            retry_after: Some(Duration::from_millis(2100)),
            ..Failure::new(Reason::Unavailable, "x")
        };
        let later = shown(later).await;
        assert_eq!((later.0, later.1), (503, Some("3".into())));
        assert_eq!(shown(Failure::new(Reason::Cancelled, "x")).await.0, 499);
        assert_eq!(shown(Failure::new(Reason::Expired, "x")).await.0, 504);
    }
}

//! Bodies: those of requests as bytes, those of answers in parts.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use super::compression::Coding;
use super::{Limits, off_the_reactor};
use crate::{Failure, Reason};

/// What is set aside for a body before it comes.
const FIRST: usize = 1 << 20;

/// What is taken of a body before other requests have their turn, however fast it comes.
const TURN: usize = 1 << 20;

/// The whole body of a request, decompressed.
///
/// # Errors
/// [`Reason::TooLarge`] if it is above a limit; [`Reason::Invalid`] if it is not compressed as its header says, breaks off, or
/// stops for too long.
pub(super) async fn read(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Bytes, Failure> {
    let coding = match headers.get(CONTENT_ENCODING) {
        None => None,
        Some(value) => Coding::of_content(value.to_str().unwrap_or("?"))?,
    };
    let body = collected(headers, body, limits).await?;
    let Some(coding) = coding else { return Ok(body) };
    let limits = limits.clone();
    off_the_reactor(true, move || coding.decompressed(&body, &limits)).await
}

/// The body as it was sent, charged to the server's budget.
async fn collected(headers: &HeaderMap, mut body: Body, limits: &Limits) -> Result<Bytes, Failure> {
    let mut charge = limits.in_all.charge();
    let most = limits.body_bytes;
    let too_large = || {
        Failure::new(
            Reason::TooLarge,
            format!("the body is larger than {most} bytes, which is this server's limit"),
        )
    };
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let mut bytes = BytesMut::with_capacity(length.unwrap_or(0).min(FIRST));
    let mut turn = 0;
    loop {
        let next = tokio::time::timeout(limits.body_pause, body.frame()).await;
        let frame = next
            .map_err(|_| Failure::invalid(format!("no more of the body came for {:?}", limits.body_pause)))?;
        let Some(frame) = frame else { return Ok(charge.of(bytes)) };
        let frame = frame.map_err(|_| Failure::invalid("the body breaks off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(too_large());
        }
        charge.grow(data.len())?;
        bytes.extend_from_slice(&data);
        turn += data.len();
        if turn >= TURN {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// A body in parts that follow each other, none of which is copied.
#[derive(Debug)]
pub(super) struct Parts {
    parts: VecDeque<Bytes>,
}

impl Parts {
    pub(super) fn new(parts: impl IntoIterator<Item = Bytes>) -> Parts {
        Parts { parts: parts.into_iter().filter(|part| !part.is_empty()).collect() }
    }
}

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.parts.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.parts.iter().map(|part| part.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn bodies_and_their_limits() {
        let limits = Limits { body_bytes: 5, body_pause: Duration::from_millis(20), ..Limits::default() };
        let parts = |parts: &[&'static str]| {
            Body::new(Parts::new(parts.iter().map(|part| Bytes::from_static(part.as_bytes()))))
        };
        let mut headers = HeaderMap::new();
        assert_eq!(read(&headers, parts(&["ab", "", "cde"]), &limits).await.unwrap(), "abcde");
        let reason = read(&headers, parts(&["abc", "def"]), &limits).await.unwrap_err().reason;
        assert_eq!(reason, Reason::TooLarge);
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("6"));
        assert_eq!(read(&headers, Body::empty(), &limits).await.unwrap_err().reason, Reason::TooLarge);
        let silent = Body::new(http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<Frame<Bytes>, Infallible>,
        >()));
        let stopped = read(&HeaderMap::new(), silent, &limits).await.unwrap_err();
        assert_eq!(stopped.text, "no more of the body came for 20ms");
    }

    /// On the only thread, a body that is there already lets another task in.
    #[tokio::test]
    async fn others_have_their_turn() {
        let body = Body::new(Parts::new(vec![Bytes::from(vec![0; TURN / 4]); 16]));
        let other = tokio::spawn(async {});
        read(&HeaderMap::new(), body, &Limits::default()).await.unwrap();
        assert!(other.is_finished());
    }
}

//! The messages of a call before tonic reads them: none is larger than the server's limits, none inflates beyond them, none is broken off
//! by a client that says nothing for long, and all together fit the server's budget. tonic bounds only what a message becomes, and
//! decompresses on the reactor.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::BodyExt;
use tonic::Status;

use super::fields::{FIELDS, Fields};
use crate::budget::Charge;
use crate::http::{Coding, Limits, off_the_reactor};

/// The layer before all calls.
pub(super) async fn guard(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let coding = coding(request.headers());
    let path = request.uri().path();
    let many = path.ends_with("/ModelStreamInfer") || path.ends_with("/ServerReflectionInfo");
    let infers = path.ends_with("/ModelStreamInfer") || path.ends_with("/ModelInfer");
    // What a call has sent is held until it is answered; of a stream, the message that comes now.
    let whole = if many { None } else { Some(Arc::new(Mutex::new(limits.in_all.charge()))) };
    let held = whole.clone();
    let request = request.map(|body| {
        let charge = limits.in_all.charge();
        let messages = Messages {
            body,
            chunk: Bytes::new(),
            left: 0,
            coding,
            many,
            limits,
            charge,
            infers,
            fields: Fields::new(infers),
            whole,
        };
        Body::from_stream(stream::try_unfold(messages, Messages::next))
    });
    let response = next.run(request).await;
    drop(held);
    response
}

fn coding(headers: &HeaderMap) -> Option<Coding> {
    match headers.get("grpc-encoding")?.as_bytes() {
        b"gzip" => Some(Coding::Gzip),
        b"deflate" => Some(Coding::Deflate),
        _ => None,
    }
}

struct Messages {
    body: Body,
    /// What has come, and is not passed on yet.
    chunk: Bytes,
    /// The bytes of a message that are still to be passed on.
    left: usize,
    coding: Option<Coding>,
    /// Whether there may be pauses between messages.
    many: bool,
    limits: Limits,
    /// What the message that comes now takes.
    charge: Charge,
    /// Whether the messages are requests for inference.
    infers: bool,
    fields: Fields,
    /// What the call takes, if it has one message.
    whole: Option<Arc<Mutex<Charge>>>,
}

/// A flag, and the length of what follows.
const HEADER: usize = 5;

impl Messages {
    async fn next(mut self) -> Result<Option<(Bytes, Messages)>, Status> {
        if self.left > 0 {
            if self.chunk.is_empty() && !self.receive(false).await? {
                return Ok(None);
            }
            let part = self.chunk.split_to(self.left.min(self.chunk.len()));
            self.left -= part.len();
            self.hold(part.len())?;
            self.count(&part)?;
            return Ok(Some((part, self)));
        }
        let mut header = BytesMut::with_capacity(HEADER);
        while header.len() < HEADER {
            if self.chunk.is_empty() && !self.receive(self.many && header.is_empty()).await? {
                // What is cut off is for tonic to refuse.
                return Ok((!header.is_empty()).then(|| (header.freeze(), self)));
            }
            header.extend_from_slice(&self.chunk.split_to((HEADER - header.len()).min(self.chunk.len())));
        }
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let most = self.limits.body_bytes.min(self.limits.decompressed_bytes);
        if length > most {
            let text =
                format!("a message of {length} bytes is larger than {most}, which is this server's limit");
            return Err(Status::resource_exhausted(text));
        }
        self.charge = self.limits.in_all.charge();
        self.fields = Fields::new(self.infers);
        let Some(coding) = self.coding.filter(|_| header[0] == 1) else {
            let now = self.chunk.split_to(length.min(self.chunk.len()).min(SMALL));
            header.extend_from_slice(&now);
            self.left = length - now.len();
            self.hold(now.len())?;
            self.count(&now)?;
            return Ok(Some((header.freeze(), self)));
        };
        let mut message = BytesMut::new();
        while message.len() < length {
            if self.chunk.is_empty() && !self.receive(false).await? {
                return Err(Status::invalid_argument("the message breaks off"));
            }
            let part = self.chunk.split_to((length - message.len()).min(self.chunk.len()));
            self.hold(part.len())?;
            message.extend_from_slice(&part);
        }
        let (limits, large) = (self.limits.clone(), length > SMALL / 16);
        let plain = off_the_reactor(large, move || coding.decompressed(&message, &limits)).await?;
        self.hold(plain.len())?;
        self.count(&plain)?;
        // A message of this length was refused above.
        let length = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        let mut whole = BytesMut::with_capacity(HEADER + plain.len());
        whole.put_u8(0);
        whole.put_u32(length);
        whole.extend_from_slice(&plain);
        Ok(Some((whole.freeze(), self)))
    }

    /// Waits for more to come; for ever with `patient`. False if there is no more.
    async fn receive(&mut self, patient: bool) -> Result<bool, Status> {
        while self.chunk.is_empty() {
            let frame = match patient {
                true => self.body.frame().await,
                false => {
                    tokio::time::timeout(self.limits.body_pause, self.body.frame()).await.map_err(|_| {
                        let pause = self.limits.body_pause;
                        Status::deadline_exceeded(format!("no more of the message came for {pause:?}"))
                    })?
                }
            };
            let Some(frame) = frame else { return Ok(false) };
            let frame = frame.map_err(|_| Status::cancelled("the message breaks off"))?;
            self.chunk = frame.into_data().unwrap_or_default();
        }
        Ok(true)
    }

    fn count(&mut self, part: &[u8]) -> Result<(), Status> {
        match self.fields.read(part) {
            true => Ok(()),
            false => Err(Status::resource_exhausted(format!(
                "the message has more than {FIELDS} tensors, parameters and other fields"
            ))),
        }
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Status> {
        match &self.whole {
            Some(whole) => whole.lock().unwrap_or_else(PoisonError::into_inner).grow(bytes)?,
            None => self.charge.grow(bytes)?,
        }
        Ok(())
    }
}

/// The bytes that are copied rather than passed on for themselves.
const SMALL: usize = 16 << 10;

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;

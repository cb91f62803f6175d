use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt;
use hyper::body::Frame;

use super::*;
use crate::budget::Budget;
use tonic::Code;

fn message(flag: u8, content: &[u8]) -> Vec<u8> {
    [&[flag], (content.len() as u32).to_be_bytes().as_slice(), content].concat()
}

/// What comes of a body that arrives in `parts`, and then goes on for ever if it does not end.
async fn passed(
    parts: Vec<Vec<u8>>,
    coding: Option<Coding>,
    limits: &Limits,
    ends: bool,
) -> Result<Vec<u8>, Status> {
    let frames = parts.into_iter().map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from(part))));
    let frames = stream::iter(frames);
    let body = match ends {
        true => Body::new(http_body_util::StreamBody::new(frames)),
        false => Body::new(http_body_util::StreamBody::new(frames.chain(stream::pending()))),
    };
    let (charge, limits) = (limits.in_all.charge(), limits.clone());
    let messages = Messages {
        body,
        chunk: Bytes::new(),
        left: 0,
        coding,
        many: false,
        limits,
        charge,
        infers: false,
        fields: Fields::new(false),
        whole: None,
    };
    let mut out = Vec::new();
    let mut parts = Box::pin(stream::try_unfold(messages, Messages::next));
    while let Some(part) = parts.next().await {
        out.extend_from_slice(&part?);
    }
    Ok(out)
}

#[tokio::test]
async fn messages_pass_however_they_are_cut() {
    let limits = Limits::default();
    let body = [message(0, b""), message(0, &[7; 40_000]), message(0, b"end")].concat();
    for size in [1, 2, 5, 6, 1000, 39_999, body.len()] {
        let parts = body.chunks(size).map(<[u8]>::to_vec).collect();
        assert_eq!(passed(parts, Some(Coding::Gzip), &limits, true).await.unwrap(), body, "{size}");
    }
    // What tonic is to refuse.
    for odd in [&body[..3], &body[..body.len() - 1], &message(9, b"x")] {
        assert_eq!(passed(vec![odd.to_vec()], None, &limits, true).await.unwrap(), odd);
    }
    assert_eq!(limits.in_all.held(), 0);
}

#[tokio::test]
async fn messages_are_decompressed() {
    for coding in [Coding::Gzip, Coding::Deflate] {
        let content = vec![b'a'; 100_000];
        let body = [message(1, &coding.compressed(&[content.clone().into()])), message(0, b"b")].concat();
        for size in [1, 7, body.len()] {
            let parts = body.chunks(size).map(<[u8]>::to_vec).collect();
            let plain = passed(parts, Some(coding), &Limits::default(), true).await.unwrap();
            assert_eq!(plain, [message(0, &content), message(0, b"b")].concat(), "{size}");
        }
        let wrong = passed(vec![message(1, b"not compressed")], Some(coding), &Limits::default(), true).await;
        assert_eq!(wrong.unwrap_err().code(), Code::InvalidArgument);
        let cut = passed(vec![body[..20].to_vec()], Some(coding), &Limits::default(), true).await;
        assert_eq!(cut.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn bombs_and_giants() {
    let zeros = vec![0u8; (16 << 20) + 1];
    let bomb = message(1, &Coding::Gzip.compressed(&[zeros.into()]));
    let failure = passed(vec![bomb], Some(Coding::Gzip), &Limits::default(), true).await.unwrap_err();
    assert_eq!((failure.code(), failure.message().contains("16777216")), (Code::ResourceExhausted, true));
    let small = Limits { body_bytes: 100, ..Limits::default() };
    for flag in [0, 1] {
        // The length is refused before what it counts comes.
        let lie = vec![flag, 0xff, 0xff, 0xff, 0xff];
        let failure = passed(vec![lie], Some(Coding::Gzip), &small, false).await.unwrap_err();
        assert_eq!(failure.code(), Code::ResourceExhausted);
    }
    let limits = Limits { in_all: Budget::new(1000), ..Limits::default() };
    let failure = passed(vec![message(0, &[0; 2000])], None, &limits, true).await.unwrap_err();
    assert_eq!((failure.code(), limits.in_all.held(), limits.in_all.refused()), (Code::Unavailable, 0, 1));
}

#[tokio::test]
async fn a_client_that_says_nothing() {
    let limits = Limits { body_pause: Duration::from_millis(20), ..Limits::default() };
    for begun in [vec![], vec![0], message(0, b"abc")[..6].to_vec(), message(0, b"abc")] {
        let failure = passed(vec![begun], None, &limits, false).await.unwrap_err();
        assert_eq!(failure.code(), Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn many_fields() {
    let empty = message(0, &[0x2a, 0].repeat(FIELDS + 1));
    let failure = passed(vec![empty], None, &Limits::default(), true).await.unwrap_err();
    assert_eq!(failure.code(), Code::ResourceExhausted);
}

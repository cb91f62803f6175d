#!/usr/bin/env bash
# h2 0.4.20 (under hyper and tonic) ends a whole HTTP/2 connection with ENHANCE_YOUR_CALM when small frames of data wait to be read
# beyond a budget, which is half of the connection's window and at least 25,600 bytes. A request of gRPC is one small frame. With the
# window of 64 KiB that HTTP/2 begins with, and that hyper's adaptive window begins with too, 100 requests of 100 bytes at once pass and
# 300 do not, although the peer allows more streams and their bytes are half of the window; with a window of 4 MiB they pass.
# hyper 1.12 has no option for the budget itself.
# Consequence: a server of gRPC asks for a large window of the connection, and not for the adaptive one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/probe/src"
cat > "$folder/probe/Cargo.toml" <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
bytes = "1"
h2 = "=0.4.20"
http = "1"
tokio = { version = "1", features = ["io-util", "macros", "rt", "time"] }

[workspace]
TOML
cat > "$folder/probe/src/main.rs" <<'RUST'
use std::time::Duration;

use bytes::Bytes;

/// Sends requests of 100 bytes each, none of them ended, which the server keeps unread. Returns how many it has seen, and how the
/// connection ended, if it did.
async fn converse(window: u32, requests: usize) -> (usize, Option<h2::Reason>) {
    let (client, server) = tokio::io::duplex(1 << 20);
    let sending = tokio::spawn(async move {
        let (mut send, connection) = h2::client::handshake(client).await.unwrap();
        tokio::spawn(connection);
        let mut kept = Vec::new();
        for _ in 0..requests {
            let Ok(ready) = send.ready().await else { break };
            send = ready;
            let request = http::Request::post("http://server/").body(()).unwrap();
            let Ok((response, mut body)) = send.send_request(request, false) else { break };
            if body.send_data(Bytes::from_static(&[7; 100]), false).is_err() {
                break;
            }
            kept.push((response, body));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    let mut connection = h2::server::Builder::new()
        .initial_connection_window_size(window)
        .handshake::<_, Bytes>(server)
        .await
        .unwrap();
    let mut kept = Vec::new();
    let end = loop {
        match tokio::time::timeout(Duration::from_secs(2), connection.accept()).await {
            Err(_) | Ok(None) => break None,
            Ok(Some(Ok(stream))) => kept.push(stream),
            Ok(Some(Err(error))) => break error.reason(),
        }
    };
    sending.abort();
    (kept.len(), end)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for (window, requests) in [(65_535, 100), (65_535, 300), (4 << 20, 300)] {
        let (seen, end) = converse(window, requests).await;
        println!("a window of {window} bytes, {requests} requests of 100 bytes: {seen} seen, the end is {end:?}");
        let expected = (window == 65_535 && requests == 300).then_some(h2::Reason::ENHANCE_YOUR_CALM);
        assert_eq!(end, expected, "the budget changed");
    }
}
RUST
CARGO_TARGET_DIR="$folder/target" cargo run --quiet --manifest-path "$folder/probe/Cargo.toml"

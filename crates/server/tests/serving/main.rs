//! The server as its clients meet it. One binary: each would link the whole server. `soak` is apart, for it measures its own process,
//! and so is `proto`, which needs no server.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod deploy;
mod http;
mod protocols;
mod scheduling;
mod server;
mod setup;

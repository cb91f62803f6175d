//! The program as its users meet it. One binary: each would link the whole runtime, and one of them the server.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod commands;
mod convert;
mod load;
mod messages;
mod npy;
#[cfg(feature = "object-store")]
mod object_store;
mod program;
#[cfg(unix)]
mod trouble;

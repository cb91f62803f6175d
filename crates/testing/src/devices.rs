//! Every adapter of this machine that models can run on.

pub use sardonyx::internals::devices::{each, open, usable};

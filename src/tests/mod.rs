//! Tests that look at several rooms at once, and the random graphs that tests of all rooms take.

mod hostile;
pub(crate) mod open;
mod passes;
pub(crate) mod random;
mod readme;
mod rooms;
mod sizes;
mod text;

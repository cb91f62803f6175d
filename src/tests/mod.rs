//! Tests that look at several rooms at once.

mod appending;
mod attention;
mod casts;
mod divided;
mod float64;
mod growing;
mod host;
mod hostile;
mod int64;
mod limits;
mod memory;
mod names;
mod packed;
mod passes;
mod random;
mod readme;
mod rooms;
mod rows;
mod segments;
mod sizes;
mod types;
mod why;
mod work;
mod wraps;

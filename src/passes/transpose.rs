//! Merges transposes that follow each other.

use crate::Result;
use crate::graph::Graph;

pub(super) fn run(_graph: &mut Graph) -> Result<bool> {
    Ok(false)
}

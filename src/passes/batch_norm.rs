//! Scales a convolution's weights by the batch normalisation behind it.

use crate::Result;
use crate::graph::Graph;

pub(super) fn run(_graph: &mut Graph) -> Result<bool> {
    Ok(false)
}

//! Sorting by ranks: the place of an element is the number of elements that come before it. Blocks are sorted by comparing all
//! pairs. Sorted runs are then merged two by two, and each is cut to the `k` elements that can still matter. There are no
//! barriers and no workgroup memory, and equal elements keep their order.
//!
//! Elements are compared by keys: u32 words, and the greater word comes first. NaN counts as the greatest number.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Slot, Spec, element, template};

/// Elements of a block, and invocations per workgroup.
pub(crate) const BLOCK: usize = 64;

/// One step of a sort of rows, which are the elements of a tensor along one axis. Kernels keep at most `k` elements of each
/// run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TopK {
    /// Sorts blocks, one workgroup each. Tensors: the input, keys, positions. Params: `count` (rows x blocks), `blocks` (of
    /// a row), `length`, `inner` (the axis' stride), `k`, `pitch` (of a row of keys and positions).
    Block { scalar: Scalar, largest: bool },
    /// Merges neighbouring runs, one element per invocation. Tensors: keys, positions, merged keys, merged positions.
    /// Params: `count` (rows x pitch), `pitch`, `run` (elements of each run but the last), `merged_pitch`, `merged_run`.
    Merge,
    /// Fetches the elements at the first positions of each row. Tensors: the input, positions, and the results that are
    /// wanted. Params: `count` (rows x k), `k`, `length`, `inner`, `pitch`.
    Fetch { scalar: Scalar, values: bool, positions: bool },
}

impl Spec for TopK {
    fn label(&self) -> String {
        match self {
            TopK::Block { .. } => "sort_block".into(),
            TopK::Merge => "sort_merge".into(),
            TopK::Fetch { .. } => "sort_fetch".into(),
        }
    }

    fn slots(&self) -> Vec<Slot> {
        match self {
            TopK::Block { scalar, .. } => vec![
                Slot::read("x", element(*scalar, false)),
                Slot::write("keys", Scalar::U32),
                Slot::write("positions", Scalar::U32),
            ],
            TopK::Merge => vec![
                Slot::read("keys", Scalar::U32),
                Slot::read("positions", Scalar::U32),
                Slot::write("merged_keys", Scalar::U32),
                Slot::write("merged_positions", Scalar::U32),
            ],
            TopK::Fetch { scalar, values, positions } => {
                let mut slots =
                    vec![Slot::read("x", element(*scalar, false)), Slot::read("positions", Scalar::U32)];
                slots.extend(values.then(|| Slot::write("y", element(*scalar, false))));
                slots.extend(positions.then(|| Slot::write("places", Scalar::I32)));
                slots
            }
        }
    }

    fn params(&self) -> Vec<String> {
        let names: &[&str] = match self {
            TopK::Block { .. } => &["count", "blocks", "length", "inner", "k", "pitch"],
            TopK::Merge => &["count", "pitch", "run", "merged_pitch", "merged_run"],
            TopK::Fetch { .. } => &["count", "k", "length", "inner", "pitch"],
        };
        names.iter().map(|name| name.to_string()).collect()
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let (step, scalar, largest) = match self {
            TopK::Block { scalar, largest } => ("block", *scalar, *largest),
            TopK::Merge => ("merge", Scalar::U32, true),
            TopK::Fetch { scalar, .. } => ("fetch", *scalar, true),
        };
        if step == "block" && scalar == Scalar::F32 {
            used.insert("is_nan");
        }
        let (values, places) = match self {
            TopK::Fetch { values, positions, .. } => (*values, *positions),
            _ => (false, false),
        };
        template::render(
            "top_k",
            context!(step, block => BLOCK, word => scalar.word(), largest, values, places),
        )
    }
}

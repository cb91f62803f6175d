//! Sorting by ranks: the place of an element is the number of elements that come before it. Blocks are sorted by comparing all
//! pairs. Sorted runs are then merged two by two, and each is cut to the `k` elements that can still matter. There are no
//! barriers and no workgroup memory, and equal elements keep their order.
//!
//! Elements are compared by keys: whole numbers of 32 bits, or of 64 for elements of 64, and the greater comes first. NaN counts as
//! the greatest number.

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
    /// Merges neighbouring runs, one element per invocation; the keys have 64 bits if they are `wide`. Tensors: keys, positions,
    /// merged keys, merged positions.
    /// Params: `count` (rows x pitch), `pitch`, `run` (elements of each run but the last), `merged_pitch`, `merged_run`.
    Merge { wide: bool },
    /// Fetches the elements at the first positions of each row. Tensors: the input, positions, and the results that are
    /// wanted; positions are of the type that is given. Params: `count` (rows x k), `k`, `length`, `inner`, `pitch`.
    Fetch { scalar: Scalar, values: bool, positions: Option<Scalar> },
}

/// The type of keys; `wide`: of elements of 64 bits.
pub(crate) fn key(wide: bool) -> Scalar {
    if wide { Scalar::U64 } else { Scalar::U32 }
}

impl Spec for TopK {
    fn label(&self) -> String {
        match self {
            TopK::Block { .. } => "sort_block".into(),
            TopK::Merge { .. } => "sort_merge".into(),
            TopK::Fetch { .. } => "sort_fetch".into(),
        }
    }

    fn slots(&self) -> Vec<Slot> {
        match self {
            TopK::Block { scalar, .. } => vec![
                Slot::read("x", element(*scalar, false)),
                Slot::write("keys", key(scalar.is_wide())),
                Slot::write("positions", Scalar::U32),
            ],
            TopK::Merge { wide } => vec![
                Slot::read("keys", key(*wide)),
                Slot::read("positions", Scalar::U32),
                Slot::write("merged_keys", key(*wide)),
                Slot::write("merged_positions", Scalar::U32),
            ],
            TopK::Fetch { scalar, values, positions } => {
                let mut slots =
                    vec![Slot::read("x", element(*scalar, false)), Slot::read("positions", Scalar::U32)];
                slots.extend(values.then(|| Slot::write("y", element(*scalar, false))));
                slots.extend(positions.map(|scalar| Slot::write("places", scalar)));
                slots
            }
        }
    }

    fn params(&self) -> Vec<String> {
        let names: &[&str] = match self {
            TopK::Block { .. } => &["count", "blocks", "length", "inner", "k", "pitch"],
            TopK::Merge { .. } => &["count", "pitch", "run", "merged_pitch", "merged_run"],
            TopK::Fetch { .. } => &["count", "k", "length", "inner", "pitch"],
        };
        names.iter().map(|name| name.to_string()).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let (step, scalar, largest) = match self {
            TopK::Block { scalar, largest } => ("block", *scalar, *largest),
            TopK::Merge { wide } => ("merge", key(*wide), true),
            TopK::Fetch { scalar, .. } => ("fetch", *scalar, true),
        };
        let wide = scalar.is_wide();
        match scalar {
            Scalar::F32 if step == "block" => used.extend(["is_nan"]),
            Scalar::F64 if step == "block" => used.extend(["order_key_f64", "pair_of_u64"]),
            _ => {}
        }
        if wide && step != "fetch" {
            used.extend(["less_u64", "equal_64"]);
        }
        let (values, places) = match self {
            TopK::Fetch { values, positions, .. } => (*values, *positions),
            _ => (false, None),
        };
        template::render(
            "top_k",
            context!(
                step, block => BLOCK, word => scalar.word(), key => key(wide).word(), wide,
                signed => matches!(scalar, Scalar::I32 | Scalar::I64), largest, values,
                places => places.is_some(), wide_places => places.is_some_and(Scalar::is_wide),
            ),
        )
    }
}

//! Attention: one kernel computes the scores, the softmax and the weighted values of a query row, and no matrix of scores is
//! stored. A second variant computes that matrix, where a model asks for it.

use crate::error::Why;
use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Slot, Spec, element, given, template};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// One attention. Tensors: queries, keys, values (absent for scores), mask and lengths if there are any, `stats` (absent for
/// scores before the softmax, and where one call covers all keys), the result. `stats` holds each row's greatest score and its sum
/// of exponentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attention {
    /// The type of queries, keys, values, scores, and masks of numbers.
    pub(crate) scalar: Scalar,
    pub(crate) mask: Mask,
    /// Whether the number of keys differs from batch to batch.
    pub(crate) lengths: bool,
    pub(crate) softcap: bool,
    /// Whether rows are whole vec4s; depths and strides are then counted in vec4s.
    pub(crate) vector: bool,
    /// `Some` where the result is the matrix of scores.
    pub(crate) scores: Option<Scores>,
    /// Other than [`Unseen::Zeros`] with [`AttentionTile::Lanes`] alone.
    pub(crate) unseen: Unseen,
    pub(crate) tile: AttentionTile,
}

/// Which invocations compute the result of a query row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AttentionTile {
    /// One invocation computes it alone, and takes `keys` keys in one step: their scores share one load of the query, their values
    /// one load of the accumulator.
    Row {
        keys: usize,
    },
    /// For GPUs: [`AttentionTile::LANES`] invocations share the row through workgroup memory. Each keeps `kept` vectors of it:
    /// a row of 80 floats is 20 vectors, and 16 invocations keep 2 each.
    Shared {
        kept: usize,
    },
    Lanes(AttentionLanes),
}

/// For software devices with a known subgroup size: a subgroup computes `rows` rows together, and takes `lanes * keys` keys in
/// one step. Each lane keeps `vectors` vectors of each row: a row of 64 floats is 16 vectors, and 8 lanes keep 2 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttentionLanes {
    pub(crate) lanes: usize,
    pub(crate) rows: usize,
    pub(crate) keys: usize,
    pub(crate) vectors: usize,
    /// Whether all query rows have one row of the mask.
    pub(crate) mask_row: bool,
}

impl AttentionTile {
    /// Rows of a workgroup, invocations that share a row, and the most vectors that each may keep: what fits 16 KiB.
    const ROWS: usize = 8;
    const LANES: usize = 16;
    const KEPT: usize = 2;

    /// The tile of any device. The functions of float64 are long, and a driver would compile many copies of them.
    pub(crate) fn row(scalar: Scalar) -> AttentionTile {
        AttentionTile::Row { keys: if scalar == Scalar::F64 { 1 } else { 8 } }
    }

    /// The tile of GPUs for rows of `vectors` vectors, if 16 invocations can keep them.
    pub(crate) fn shared(vectors: usize) -> Option<AttentionTile> {
        let kept = vectors.div_ceil(AttentionTile::LANES).max(1);
        (kept <= AttentionTile::KEPT).then_some(AttentionTile::Shared { kept })
    }

    /// The tile of software devices whose subgroups have this size, if a subgroup can keep rows of `depth_v` vectors. `single`: whether
    /// there is one query row in every plan. Else 16 rows of 32 keys: with 8 rows, or 16 keys, more is loaded than
    /// computed, and 32 rows take a driver twice as long to compile.
    pub(crate) fn lanes(lanes: usize, depth_v: usize, single: bool, mask_row: bool) -> Option<AttentionTile> {
        let vectors = depth_v.div_ceil(lanes.max(1)).max(1);
        let rows = if single { 1 } else { 16 };
        let tile = AttentionLanes { lanes, rows, keys: 4, vectors, mask_row };
        (matches!(lanes, 4 | 8) && vectors <= 4).then_some(AttentionTile::Lanes(tile))
    }

    /// Keys that one call may cover so that no invocation does more than `iterations` iterations; 0 if not even one key fits. A
    /// key has `depth` elements, or vectors, and a value `depth_v`.
    pub(crate) fn keys_per_call(self, (depth, depth_v): (usize, usize), iterations: usize) -> usize {
        let (block, per_block, others) = match self {
            AttentionTile::Row { keys } => (keys, 1 + depth + depth_v, depth_v),
            AttentionTile::Shared { .. } => (AttentionTile::LANES, 1 + depth + 2 * AttentionTile::LANES, 0),
            AttentionTile::Lanes(tile) => (tile.lanes * tile.keys, 1 + depth + tile.keys, tile.rows),
        };
        iterations.saturating_sub(others) / per_block * block
    }

    fn rows(self) -> usize {
        match self {
            AttentionTile::Row { .. } => WORKGROUP,
            AttentionTile::Shared { .. } => AttentionTile::ROWS,
            AttentionTile::Lanes(tile) => tile.rows,
        }
    }

    /// Whether results and sums pass from one call to the next.
    pub(crate) fn continues(self) -> bool {
        !matches!(self, AttentionTile::Lanes(_))
    }
}

/// What the mask holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mask {
    None,
    /// Whether the query may see the key.
    Bool,
    /// A number that is added to the score.
    Float,
}

/// The weights of a row that sees no key, or has a score that is NaN or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Unseen {
    /// 0 where it sees no key, as ONNX's Attention says. What follows from such scores is up to the driver.
    #[default]
    Zeros,
    /// NaN, as Softmax gives.
    Nan,
    /// 0 where Softmax gives NaN.
    Guarded,
}

/// A stage of the matrix of scores, in the order of ONNX's `qk_matmul_output_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scores {
    Raw,
    Capped,
    Biased,
    Softmax,
}

/// The params of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AttentionParams {
    pub(crate) batches: usize,
    pub(crate) heads: usize,
    /// Query heads per key head.
    pub(crate) group: usize,
    pub(crate) rows: usize,
    pub(crate) keys: usize,
    /// The length of a key and of a value, in elements, or in vec4s if the kernel is a `vector` one.
    pub(crate) depth: usize,
    pub(crate) depth_v: usize,
    /// Strides of batch, head and row, in the unit of `depth`.
    pub(crate) q: [usize; 3],
    pub(crate) k: [usize; 3],
    pub(crate) v: [usize; 3],
    pub(crate) y: [usize; 3],
    /// Strides of batch, head and row in elements (0 where the mask broadcasts), and the length of a row.
    pub(crate) mask: [usize; 4],
    pub(crate) scale: f32,
    pub(crate) softcap: f32,
    /// Keys that stand before the first query's own key.
    pub(crate) past: usize,
    /// What a mask of bools adds to a score where it is true, and where it is false. A number other than 0 replaces the score.
    pub(crate) set: f32,
    pub(crate) unset: f32,
    /// How many keys before, and after, its own key a query sees.
    pub(crate) left: usize,
    pub(crate) right: usize,
    /// The keys `start..end` of this call. Several calls cover all keys in order, and `stats` and the result carry what they
    /// have accumulated from one call to the next.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Names of [`AttentionParams::words`].
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "batches", "heads", "group", "rows", "keys", "depth", "depth_v", "q_batch", "q_head", "q_row", "k_batch", "k_head",
    "k_row", "v_batch", "v_head", "v_row", "y_batch", "y_head", "y_row", "mask_batch", "mask_head", "mask_row",
    "mask_keys", "scale", "softcap", "when_set", "when_unset", "past", "left", "right", "start", "end",
];

impl AttentionParams {
    /// For `left` and `right`: the query sees all keys.
    pub(crate) const UNBOUNDED: usize = 1 << 30;

    pub(crate) fn words(&self) -> Result<Vec<u32>, Why> {
        let sizes = [self.batches, self.heads, self.group, self.rows, self.keys, self.depth, self.depth_v];
        let strides = [self.q, self.k, self.v, self.y].concat();
        let mut words = super::words(sizes.into_iter().chain(strides).chain(self.mask))?;
        words.extend([self.scale, self.softcap, self.set, self.unset].map(f32::to_bits));
        words.extend(super::words([self.past, self.left, self.right, self.start, self.end])?);
        Ok(words)
    }

    /// Workgroups of a call for the values.
    pub(crate) fn groups(&self, tile: AttentionTile) -> usize {
        self.batches * self.heads * self.rows.div_ceil(tile.rows())
    }

    /// Workgroups of a call for the matrix of scores.
    pub(crate) fn score_groups(&self) -> usize {
        (self.batches * self.heads * self.rows * self.keys).div_ceil(WORKGROUP)
    }
}

impl Spec for Attention {
    fn label(&self) -> String {
        match (self.scores, self.tile) {
            (Some(_), _) => "attention-scores".into(),
            (None, AttentionTile::Row { .. }) => "attention".into(),
            (None, AttentionTile::Shared { .. }) => "attention_shared".into(),
            (None, AttentionTile::Lanes(tile)) => {
                format!("attention{}x{}", tile.rows, tile.lanes * tile.keys)
            }
        }
    }

    fn slots(&self) -> Vec<Slot> {
        let element = element(self.scalar, self.vector);
        let mut slots = vec![Slot::read("q", element), Slot::read("k", element)];
        if self.scores.is_none() {
            slots.push(Slot::read("v", element));
        }
        match self.mask {
            Mask::None => {}
            Mask::Bool => slots.push(Slot::read("mask", Scalar::U32)),
            Mask::Float => slots.push(Slot::read("mask", self.scalar)),
        }
        if self.lengths {
            slots.push(Slot::read("lengths", Scalar::I32));
        }
        match self.scores {
            None => {
                slots.extend(self.tile.continues().then(|| Slot::write("stats", self.scalar)));
                slots.push(Slot::write("y", element));
            }
            Some(Scores::Softmax) => {
                slots.extend([Slot::read("stats", self.scalar), Slot::write("y", self.scalar)])
            }
            Some(_) => slots.push(Slot::write("y", self.scalar)),
        }
        slots
    }

    fn params(&self) -> Vec<String> {
        NAMES.iter().map(|name| name.to_string()).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn fits(&self, params: &[u32]) -> Result<(), &'static str> {
        const MASK_ROW: usize = 21;
        let one_row = matches!(self.tile, AttentionTile::Lanes(tile) if tile.mask_row);
        given("one row of the mask for all queries", !one_row || params.get(MASK_ROW) == Some(&0))
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let double = self.scalar == Scalar::F64;
        let [infinity, tanh, exp] = match double {
            true => ["infinity_f64", "tanh_f64", "exp_f64"],
            false => ["infinity", "tanh_full", "exp"],
        };
        used.extend([infinity, exp]);
        if self.unseen == Unseen::Nan {
            used.insert("nan");
        }
        if self.softcap {
            used.insert(tanh);
        }
        let (word, suffix) = (self.scalar.word(), if double { "lf" } else { "" });
        let [scale, softcap, set, unset] =
            ["scale", "softcap", "when_set", "when_unset"].map(|name| match double {
                true => format!("f64(bitcast<f32>(p.{name}))"),
                false => format!("bitcast<f32>(p.{name})"),
            });
        let mask = match self.mask {
            Mask::None => "none",
            Mask::Bool => "bool",
            Mask::Float => "float",
        };
        let scores = match self.scores {
            None => "none",
            Some(Scores::Raw) => "raw",
            Some(Scores::Capped) => "capped",
            Some(Scores::Biased) => "biased",
            Some(Scores::Softmax) => "softmax",
        };
        let unseen = match self.unseen {
            Unseen::Zeros => "zeros",
            Unseen::Nan => "nan",
            Unseen::Guarded => "guarded",
        };
        let bias = template::render(
            "attention_bias",
            context!(
                mask, lengths => self.lengths, softcap => self.softcap.then_some(softcap), scale, word, suffix, double,
                infinity, tanh, set, unset, unseen, values => self.scores.is_none(), element => element(self.scalar, self.vector).wgsl(),
            ),
        );
        let main = match (self.scores, self.tile) {
            (None, AttentionTile::Shared { kept }) => {
                let (rows, lanes, lengths) = (AttentionTile::ROWS, AttentionTile::LANES, self.lengths);
                template::render("attention_shared", context!(rows, lanes, kept, lengths))
            }
            (None, AttentionTile::Lanes(AttentionLanes { lanes, rows, keys, vectors, mask_row })) => {
                let context = context!(lanes, rows, keys, vectors, mask_row, lengths => self.lengths, unseen);
                template::render("attention_lanes", context)
            }
            _ => {
                let vector = self.vector;
                let element = element(self.scalar, vector).wgsl();
                let block = if let AttentionTile::Row { keys } = self.tile { keys } else { 0 };
                let context = context!(
                    workgroup => WORKGROUP, block, vector, element, scores, scale, suffix, double, exp,
                );
                template::render("attention", context)
            }
        };
        bias + &main
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_rows_have_no_shared_tile() {
        assert_eq!(
            [1, 16, 17, 32, 33].map(AttentionTile::shared).map(|tile| tile.map(AttentionTile::rows)),
            [Some(8), Some(8), Some(8), Some(8), None]
        );
        assert_eq!(AttentionTile::shared(17), Some(AttentionTile::Shared { kept: 2 }));
    }
}

//! Linear attention: each head has a matrix of state, and every step adds to the state and then reads from it.

use crate::error::Why;
use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::{Slot, Spec, template};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// Tensors: queries, keys, values, the state before, decay and update rate if there are any, the state, the result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LinearAttention {
    pub(crate) past: bool,
    pub(crate) decay: bool,
    /// Whether the delta rule holds: a step subtracts from the value what the state returns for the key, and adds the
    /// difference, times the update rate, to the state.
    pub(crate) delta: bool,
}

/// The params of a call. Several calls cover the steps in order, and the state carries over from one to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearAttentionParams {
    pub(crate) batches: usize,
    pub(crate) steps: usize,
    pub(crate) heads: usize,
    /// Query heads per key head.
    pub(crate) group: usize,
    pub(crate) depth: usize,
    pub(crate) depth_v: usize,
    /// Columns of the decay, and the strides of head and depth in it.
    pub(crate) decay: [usize; 3],
    /// Columns of the update rate, and the stride of head in it.
    pub(crate) beta: [usize; 2],
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) scale: f32,
}

impl LinearAttentionParams {
    pub(crate) fn words(&self) -> Result<Vec<u32>, Why> {
        let mut words = vec![self.batches, self.steps, self.heads, self.group, self.depth, self.depth_v];
        words.extend(self.decay);
        words.extend(self.beta);
        words.extend([self.start, self.end]);
        let mut words = super::words(words)?;
        words.push(self.scale.to_bits());
        Ok(words)
    }

    pub(crate) fn groups(&self) -> usize {
        (self.batches * self.heads * self.depth_v).div_ceil(WORKGROUP)
    }

    /// Steps that one call may take so that no invocation does more than `iterations` iterations.
    pub(crate) fn steps_per_call(&self, iterations: usize) -> usize {
        let per_step = 2 + self.group + self.depth * (2 + self.group);
        iterations.saturating_sub(2 * self.depth) / per_step
    }
}

impl Spec for LinearAttention {
    fn label(&self) -> String {
        "linear-attention".into()
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots =
            vec![Slot::read("q", Scalar::F32), Slot::read("k", Scalar::F32), Slot::read("v", Scalar::F32)];
        slots.extend(self.past.then(|| Slot::read("past", Scalar::F32)));
        slots.extend(self.decay.then(|| Slot::read("decay", Scalar::F32)));
        slots.extend(self.delta.then(|| Slot::read("beta", Scalar::F32)));
        slots.extend([Slot::write("state", Scalar::F32), Slot::write("y", Scalar::F32)]);
        slots
    }

    fn params(&self) -> Vec<String> {
        let names = [
            "batches",
            "steps",
            "heads",
            "group",
            "depth",
            "depth_v",
            "decay_columns",
            "decay_head",
            "decay_depth",
            "beta_columns",
            "beta_head",
            "start",
            "end",
            "scale",
        ];
        names.map(String::from).to_vec()
    }

    fn body(&self, _used: &mut BTreeSet<&'static str>) -> String {
        let context =
            context!(workgroup => WORKGROUP, past => self.past, decay => self.decay, delta => self.delta);
        template::render("linear_attention", context)
    }
}

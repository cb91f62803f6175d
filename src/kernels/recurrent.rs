//! Recurrent layers: one time step of an LSTM, GRU or plain RNN. The products with the inputs of all steps have been computed
//! before.

use crate::error::Why;
use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Slot, Spec, template};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// Tensors: the inputs' products `[step and batch][direction][gate][unit]`, recurrence weights `[direction][unit
/// before][gate][unit]`, bias, peepholes and lengths if there are any, `gated` (for a GRU in two kernels), the cell state
/// (LSTM), all hidden states if they are wanted, the hidden state before and after.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Recurrent {
    pub(crate) scalar: Scalar,
    pub(crate) cell: Cell,
    /// Functions of one number each, which ONNX calls f, g and h.
    pub(crate) activations: Vec<Fused>,
    pub(crate) bias: bool,
    pub(crate) clip: bool,
    pub(crate) lengths: bool,
    pub(crate) y: bool,
}

/// What a unit computes, and which part of it this kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cell {
    Lstm {
        /// Whether the forget gate is 1 minus the input gate.
        coupled: bool,
        peephole: bool,
    },
    /// The reset gate multiplies the product with the hidden state.
    Gru,
    /// The reset gate multiplies the hidden state: all reset gates have to be complete before a candidate begins.
    GruGates,
    GruCandidate,
    Rnn,
}

/// The params of a call, before the activations'.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecurrentParams {
    pub(crate) steps: usize,
    pub(crate) step: usize,
    pub(crate) batches: usize,
    pub(crate) hidden: usize,
    /// Columns of the inputs' products.
    pub(crate) columns: usize,
    /// The first direction of this call, the number of directions, and for each direction a bit that is set if it runs
    /// backward.
    pub(crate) direction: usize,
    pub(crate) directions: usize,
    pub(crate) backward: usize,
    /// Strides of step and batch in the inputs' products, in rows.
    pub(crate) x: [usize; 2],
    /// Strides of step, direction and batch in the tensor of all hidden states.
    pub(crate) y: [usize; 3],
    /// Strides of direction and batch in a state.
    pub(crate) h: [usize; 2],
    /// The first elements of the hidden states before and after, in their tensor.
    pub(crate) h_in: usize,
    pub(crate) h_out: usize,
    /// Whether there are states before the first step.
    pub(crate) has_h: bool,
    pub(crate) has_c: bool,
    /// The first element of the gated hidden state in `gated`.
    pub(crate) gated: usize,
    pub(crate) clip: f32,
}

/// Names of [`RecurrentParams::words`].
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "steps", "step", "batches", "hidden", "columns", "direction", "directions", "backward", "x_step", "x_batch", "y_step",
    "y_direction", "y_batch", "h_direction", "h_batch", "h_in", "h_out", "has_h", "has_c", "gated", "clip",
];

impl RecurrentParams {
    pub(crate) fn words(&self) -> Result<Vec<u32>, Why> {
        let mut words = vec![self.steps, self.step, self.batches, self.hidden, self.columns];
        words.extend([self.direction, self.directions, self.backward]);
        words.extend(self.x);
        words.extend(self.y);
        words.extend(self.h);
        words.extend([self.h_in, self.h_out, usize::from(self.has_h), usize::from(self.has_c), self.gated]);
        let mut words = super::words(words)?;
        words.push(self.clip.to_bits());
        Ok(words)
    }

    pub(crate) fn groups(&self) -> usize {
        self.directions * self.batches * self.hidden.div_ceil(WORKGROUP)
    }
}

impl Cell {
    /// The number of gates in the weights, and the gates that this kernel computes.
    fn gates(self) -> (usize, std::ops::Range<usize>) {
        match self {
            Cell::Lstm { .. } => (4, 0..4),
            Cell::Gru => (3, 0..3),
            Cell::GruGates => (3, 0..2),
            Cell::GruCandidate => (3, 2..3),
            Cell::Rnn => (1, 0..1),
        }
    }
}

impl Spec for Recurrent {
    fn label(&self) -> String {
        let name = match self.cell {
            Cell::Lstm { .. } => "lstm-step",
            Cell::Gru | Cell::GruGates | Cell::GruCandidate => "gru-step",
            Cell::Rnn => "rnn-step",
        };
        name.into()
    }

    fn slots(&self) -> Vec<Slot> {
        let float = self.scalar;
        let mut slots = vec![Slot::read("x", float), Slot::read("r", float)];
        let mut add = |wanted: bool, name: &str, scalar: Scalar, written: bool| {
            if wanted {
                slots.push(Slot { name: name.into(), element: scalar.into(), written });
            }
        };
        let gates = self.cell == Cell::GruGates;
        let lstm = matches!(self.cell, Cell::Lstm { .. });
        add(self.bias, "bias", float, false);
        add(matches!(self.cell, Cell::Lstm { peephole: true, .. }), "peephole", float, false);
        add(self.lengths, "lengths", Scalar::I32, false);
        add(self.cell == Cell::GruCandidate, "gated", float, false);
        add(lstm, "c", float, true);
        add(self.y, "y", float, true);
        add(true, "h", float, !gates);
        add(gates, "gated", float, true);
        slots
    }

    fn params(&self) -> Vec<String> {
        let functions = self.activations.iter().enumerate().flat_map(|(k, f)| f.params(&format!("f{k}")));
        NAMES.iter().map(|name| name.to_string()).chain(functions).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let functions = self.activations.iter().enumerate();
        let functions: String =
            functions.map(|(k, f)| f.function(&format!("f{k}"), &format!("f{k}"), used)).collect();
        let cell = match self.cell {
            Cell::Lstm { .. } => "lstm",
            Cell::Gru => "gru",
            Cell::GruGates => "gru_gates",
            Cell::GruCandidate => "gru_candidate",
            Cell::Rnn => "rnn",
        };
        let (coupled, peephole) = match self.cell {
            Cell::Lstm { coupled, peephole } => (coupled, peephole),
            _ => (false, false),
        };
        let (gates, own) = self.cell.gates();
        let (clip, suffix) = match self.scalar {
            Scalar::F64 => ("f64(bitcast<f32>(p.clip))", "lf"),
            _ => ("bitcast<f32>(p.clip)", ""),
        };
        let clip = self.clip.then_some(clip);
        let context = context!(
            workgroup => WORKGROUP, cell, coupled, peephole, gates, own => own.collect::<Vec<_>>(),
            bias => self.bias, clip, lengths => self.lengths, y => self.y,
            activations => self.activations.len(), word => self.scalar.word(), suffix,
        );
        functions + "\n" + &template::render("recurrent", context)
    }
}

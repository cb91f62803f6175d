//! Causal depthwise convolution. The last inputs of a call are its state: the next call reads them before its own inputs.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Slot, Spec, template};

/// Invocations per workgroup.
const WORKGROUP: usize = 64;

/// Tensors: the input, weights, bias and earlier inputs if there are any, the new state if it is wanted, the result. Params:
/// `rows` (of all batches and channels), `channels`, `length`, `taps`, `dilation`, `before` (inputs of earlier calls that a call
/// reads), then the epilogue's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CausalConv {
    pub(crate) bias: bool,
    pub(crate) past: bool,
    pub(crate) state: bool,
    /// Has no operands of its own.
    pub(crate) epilogue: Fused,
}

/// Workgroups for `count` elements, those of the result and of the state together.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(WORKGROUP)
}

impl Spec for CausalConv {
    fn label(&self) -> String {
        "causal-conv".into()
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::read("x", Scalar::F32), Slot::read("w", Scalar::F32)];
        slots.extend(self.bias.then(|| Slot::read("bias", Scalar::F32)));
        slots.extend(self.past.then(|| Slot::read("past", Scalar::F32)));
        slots.extend(self.state.then(|| Slot::write("state", Scalar::F32)));
        slots.push(Slot::write("y", Scalar::F32));
        slots
    }

    fn params(&self) -> Vec<String> {
        let own = ["rows", "channels", "length", "taps", "dilation", "before"].map(String::from);
        own.into_iter().chain(self.epilogue.params("e")).collect()
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let context =
            context!(workgroup => WORKGROUP, bias => self.bias, past => self.past, state => self.state);
        self.epilogue.function("epilogue", "e", used) + "\n" + &template::render("causal_conv", context)
    }
}

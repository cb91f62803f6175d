//! Resize: each element of the result is a weighted sum of input elements, which a table names axis by axis.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::{Kernel, Slot, Spec, each, element, template};

/// Tensors: input, table if some axis is resized, the epilogue's, output. Params: `count`, `extrapolation` (bits), `low` and
/// `high` (the range of an integer result, as f32), then for each dimension its `size` in the result and `stride` in the
/// input, and, if it is resized, the `base` and length (`row`) of its rows in the table; then the epilogue's. A row holds a
/// source coordinate, or, if `weighted`, a number of taps, and a coordinate and a weight for each tap: a word, or two if elements are float64.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resize {
    pub(crate) from: Scalar,
    pub(crate) to: Scalar,
    pub(crate) weighted: bool,
    /// Whether elements without a source take the extrapolation value.
    pub(crate) crop: bool,
    /// For each dimension, whether it is resized.
    pub(crate) resized: Vec<bool>,
    pub(crate) epilogue: Option<Fused>,
    /// Whether an invocation stores neighbours together.
    pub(crate) runs: bool,
}

impl Spec for Resize {
    fn label(&self) -> String {
        let axes = self.resized.iter().filter(|&&resized| resized).count();
        format!("{}{axes}d", if self.weighted { "resize" } else { "resize_nearest" })
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::read("x", element(self.from, false))];
        slots.extend(self.resized.contains(&true).then(|| Slot::read("table", Scalar::U32)));
        slots.extend(self.epilogue.iter().flat_map(|e| e.slots("e")));
        let result = self.epilogue.as_ref().map_or(self.to, |e| e.output());
        slots.push(Slot::write("y", each::stored(result, self.runs)));
        slots
    }

    fn in_runs(&self) -> Option<Kernel> {
        // A sum of taps is code that should stand in a kernel once.
        (!self.weighted).then(|| Resize { runs: true, ..self.clone() }.into())
    }

    fn params(&self) -> Vec<String> {
        let mut names = ["count", "extrapolation", "low", "high"].map(String::from).to_vec();
        for (d, &resized) in self.resized.iter().enumerate() {
            names.extend([format!("size{d}"), format!("stride{d}")]);
            if resized {
                names.extend([format!("base{d}"), format!("row{d}")]);
            }
        }
        names.extend(self.epilogue.iter().flat_map(|e| e.params("e")));
        names
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let function = self.epilogue.as_ref().map(|e| e.function("finish", "e", used)).unwrap_or_default();
        let whole = "clamp(round(result), bitcast<f32>(p.low), bitcast<f32>(p.high))";
        let result = match (self.weighted, self.to) {
            (true, Scalar::I32) => {
                used.insert("f32_to_i32");
                format!("f32_to_i32({whole})")
            }
            (true, Scalar::U32 | Scalar::Bool) => {
                used.insert("f32_to_u32");
                format!("f32_to_u32({whole})")
            }
            _ => "result".into(),
        };
        let double = self.from == Scalar::F64;
        if double && self.weighted {
            used.insert("f64_of_words");
        }
        let stored = self.epilogue.as_ref().map_or(self.to, |e| e.output()).word();
        let context = context!(
            resized => self.resized,
            weighted => self.weighted,
            crop => self.crop,
            word => if self.weighted && !double { "f32" } else { self.from.word() },
            step => if double { 3 } else { 2 },
            store => each::store(self.runs),
            result => if self.epilogue.is_some() { format!("finish({result}, o, 0u, 0u)") } else { result },
        );
        function + &each::kernel(stored, self.runs, &template::render("resize", context))
    }
}

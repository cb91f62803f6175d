//! The text of each stage of a model on its way to the device: for people, and for comparing what two versions of Sardonyx
//! make of a model.

use crate::{Error, Model, Result, Session, Tensor};

/// A stage of a model on its way to the device.
///
/// ```
/// use sardonyx::{Model, Stage};
/// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
/// let model = Model::from_bytes(bytes)?;
/// assert!(model.explain(Stage::Graph)?.contains("Relu"));
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// What the file declares.
    Model,
    /// The graph as it was imported.
    Graph,
    /// The graph after the passes.
    Passes,
    /// Kernel calls in the order of dispatch.
    Program,
    /// The place of each tensor in the arena, and the calls during which it is alive.
    Memory,
    /// The shaders.
    Wgsl,
}

impl Model {
    /// The text of a stage that comes before shapes and devices are known: [`Stage::Model`], [`Stage::Graph`] or
    /// [`Stage::Passes`].
    ///
    /// # Errors
    /// [`Error::Gpu`] for a later stage, whose text [`Session::explain`] gives. Otherwise the errors of the passes.
    pub fn explain(&self, stage: Stage) -> Result<String> {
        match stage {
            Stage::Model => Ok(declarations(self)),
            Stage::Graph => Ok(self.graph().to_string()),
            Stage::Passes => Ok(self.optimized()?.to_string()),
            _ => Err(misplaced(stage, "depends on shapes and the device: ask a session")),
        }
    }
}

impl Session {
    /// The text of a stage that depends on the inputs' shapes and the device: [`Stage::Program`], [`Stage::Memory`] or
    /// [`Stage::Wgsl`] of what a run on these inputs would dispatch. Nothing is created on the device.
    ///
    /// # Errors
    /// As [`Session::plan`]; [`Error::Gpu`] for an earlier stage, whose text [`Model::explain`] gives.
    ///
    /// ```
    /// use sardonyx::{Device, Model, Session, SessionOptions, Stage, Tensor};
    /// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
    /// let session = Session::new(&Device::noop(), &Model::from_bytes(bytes)?, SessionOptions::default())?;
    /// let x = Tensor::from_slice(&[2], &[-1.0f32, 2.0])?;
    /// assert!(session.explain(Stage::Wgsl, &[("x", &x)])?.contains("@compute"));
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn explain(&self, stage: Stage, inputs: &[(&str, &Tensor)]) -> Result<String> {
        let given = self.given(inputs)?;
        let plan = self.plan_of(&given)?;
        match stage {
            Stage::Program => Ok(plan.program.text(&given.entry.graph)),
            Stage::Memory => Ok(plan.memory.text(&plan.program)),
            Stage::Wgsl => Ok(plan.program.wgsl(given.target()?)),
            _ => Err(misplaced(stage, "is the model's alone: ask the model")),
        }
    }
}

fn misplaced(stage: Stage, why: &str) -> Error {
    Error::Gpu(format!("stage {stage:?} {why}"))
}

fn declarations(model: &Model) -> String {
    let opsets = model
        .opsets()
        .iter()
        .map(|(domain, version)| format!("{} {version}", if domain.is_empty() { "ai.onnx" } else { domain }));
    let opsets = opsets.collect::<Vec<_>>().join(", ");
    let mut text = format!("format    IR {}, opsets {opsets}\n", model.ir_version());
    if !model.producer().is_empty() {
        text += &format!("producer  {}\n", model.producer());
    }
    for (key, value) in model.metadata() {
        let first = value.lines().next().unwrap_or_default();
        let more = if first.len() < value.len() || first.chars().count() > 60 { " ..." } else { "" };
        text += &format!("metadata  {key}: {}{more}\n", first.chars().take(60).collect::<String>());
    }
    model.inputs().iter().for_each(|info| text += &format!("input     {info}\n"));
    model.outputs().iter().for_each(|info| text += &format!("output    {info}\n"));
    text
}

//! The text of each stage of a model on its way to the device: for people, and for comparing what two versions of Sardonyx
//! make of a model.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::error::shown;
use crate::graph::{GraphReport, NodeId};
use crate::ops::Graph;
use crate::plan::{MemoryReport, ProgramReport, ShaderReport};
use crate::{Error, Explanation, Model, Result, Session, Tensor, ValueInfo};

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

impl Stage {
    /// All stages, in the order in which a model reaches them.
    pub const ALL: &[Stage] =
        &[Stage::Model, Stage::Graph, Stage::Passes, Stage::Program, Stage::Memory, Stage::Wgsl];

    /// The name of the stage on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Model => "model",
            Stage::Graph => "graph",
            Stage::Passes => "passes",
            Stage::Program => "program",
            Stage::Memory => "memory",
            Stage::Wgsl => "wgsl",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The stage with this name.
impl FromStr for Stage {
    type Err = String;

    fn from_str(name: &str) -> Result<Stage, String> {
        Stage::ALL.iter().copied().find(|stage| stage.name() == name).ok_or_else(|| {
            let all: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).collect();
            format!("no stage is called '{name}'; there are {}", all.join(", "))
        })
    }
}

/// What a stage consists of, as values for programs. [`Model::report`] and [`Session::report`] make it.
///
/// ```
/// use sardonyx::{Model, Stage, report::StageReport};
/// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
/// let model = Model::from_bytes(bytes)?;
/// let StageReport::Graph(graph) = model.report(Stage::Graph)? else { panic!() };
/// assert_eq!((graph.nodes[0].operator.as_str(), graph.nodes[0].opset), ("Relu", 21));
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Clone, Debug, serde::Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum StageReport {
    /// Of [`Stage::Model`].
    Declarations {
        /// The format's version.
        ir_version: i64,
        /// Each imported operator set and its version.
        opsets: Vec<(String, i64)>,
        /// The program that wrote the model; empty if it does not say.
        producer: String,
        /// Further entries, by key.
        metadata: BTreeMap<String, String>,
        /// The inputs.
        inputs: Vec<ValueInfo>,
        /// The outputs.
        outputs: Vec<ValueInfo>,
    },
    /// Of [`Stage::Graph`] and [`Stage::Passes`].
    Graph(GraphReport),
    /// Of [`Stage::Program`].
    Program(ProgramReport),
    /// Of [`Stage::Memory`].
    Memory(MemoryReport),
    /// Of [`Stage::Wgsl`].
    Wgsl {
        /// The shaders, each once, in the order of first use.
        shaders: Vec<ShaderReport>,
    },
    /// Of a stage after the passes, where a run has several plans, or plans that only a run can make.
    Segments {
        /// The stage of each plan that is known before a run, in the order of the run. A subgraph that runs several times has one.
        segments: Vec<StageReport>,
        /// The number of those that only a run can make.
        unplanned: usize,
    },
}

impl Model {
    /// What [`Model::explain`] prints of the same stage, as values.
    ///
    /// # Errors
    /// As [`Model::explain`].
    pub fn report(&self, stage: Stage) -> Result<StageReport> {
        match stage {
            Stage::Model => Ok(StageReport::Declarations {
                ir_version: self.ir_version(),
                opsets: self.opsets().to_vec(),
                producer: self.producer().into(),
                metadata: self.metadata().clone(),
                inputs: self.inputs().to_vec(),
                outputs: self.outputs().to_vec(),
            }),
            Stage::Graph => Ok(StageReport::Graph(self.graph().report())),
            Stage::Passes => Ok(StageReport::Graph(self.optimized()?.report())),
            _ => Err(misplaced(stage, "depends on shapes and the device: ask a session")),
        }
    }

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
    /// What [`Session::explain`] prints of the same stage, as values.
    ///
    /// # Errors
    /// As [`Session::explain`].
    ///
    /// ```
    /// use sardonyx::{Device, Model, Session, SessionOptions, Stage, Tensor, report::StageReport};
    /// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
    /// let session = Session::new(&Device::noop(), &Model::from_bytes(bytes)?, SessionOptions::default())?;
    /// let x = Tensor::from_slice(&[2], &[-1.0f32, 2.0])?;
    /// let StageReport::Program(program) = session.report(Stage::Program, &[("x", &x)])? else { panic!() };
    /// assert_eq!(program.calls[0].grid, [1, 1, 1]);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn report(&self, stage: Stage, inputs: &[(&str, &Tensor)]) -> Result<StageReport> {
        let mut reports = Vec::new();
        let summary = self.plans_of(&self.planned(inputs)?, &mut |given, plan| {
            reports.push(match stage {
                Stage::Program => StageReport::Program(plan.program.report(plan.graph(&given.entry.graph))),
                Stage::Memory => StageReport::Memory(plan.memory.report(&plan.program)),
                Stage::Wgsl => StageReport::Wgsl { shaders: plan.program.shaders(given.target()?) },
                _ => return Err(misplaced(stage, "is the model's alone: ask the model")),
            });
            Ok(())
        })?;
        match (reports.len(), summary.unplanned_segments) {
            (1, 0) => reports.pop().ok_or_else(|| Error::Gpu("a run has no plan".into())),
            (_, unplanned) => Ok(StageReport::Segments { segments: reports, unplanned }),
        }
    }

    /// The text of a stage that depends on the inputs' shapes and the device: [`Stage::Program`], [`Stage::Memory`] or
    /// [`Stage::Wgsl`] of what a run on these inputs would dispatch. Nothing is created on the device. Where a run has several
    /// plans, each has a heading, and those that only a run can make are counted at the end.
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
        let mut texts: Vec<String> = Vec::new();
        let summary = self.plans_of(&self.planned(inputs)?, &mut |given, plan| {
            texts.push(match stage {
                Stage::Program => plan.program.report(plan.graph(&given.entry.graph)).to_string(),
                Stage::Memory => plan.memory.report(&plan.program).to_string(),
                Stage::Wgsl => {
                    plan.program.shaders(given.target()?).iter().map(ToString::to_string).collect()
                }
                _ => return Err(misplaced(stage, "is the model's alone: ask the model")),
            });
            Ok(())
        })?;
        let unplanned = summary.unplanned_segments;
        if let (1, 0) = (texts.len(), unplanned) {
            return Ok(texts.concat());
        }
        let parts = texts.iter().enumerate().map(|(i, text)| format!("segment {}\n{text}\n", i + 1));
        let mut text: String = parts.collect();
        if unplanned > 0 {
            text += &format!("{unplanned} more: planned by each run, for the sizes that it finds\n");
        }
        Ok(text)
    }
}

impl Session {
    /// How a plan of a run on these inputs computes a node: the nodes that its kernel computes, and for everything that was
    /// not fused, not viewed or not computed in place, the rule that refused. The node is one of the graph after the passes
    /// ([`Stage::Passes`]), and `node` is its name, or the name of one of its results.
    ///
    /// # Errors
    /// [`Error::NoNode`] if there is no node of this name, with similar names; otherwise as [`Session::plan`].
    ///
    /// ```
    /// use sardonyx::{Device, Model, Saving, Session, SessionOptions, Tensor};
    /// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
    /// let session = Session::new(&Device::noop(), &Model::from_bytes(bytes)?, SessionOptions::default())?;
    /// let x = Tensor::from_slice(&[2], &[-1.0f32, 2.0])?;
    /// let relu = session.why("y", &[("x", &x)])?;
    /// // The caller's inputs are never written.
    /// assert!(relu.findings.iter().any(|f| f.saving == Saving::InPlace && !f.saved && f.rule.as_deref() == Some("NotInArena")));
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn why(&self, node: &str, inputs: &[(&str, &Tensor)]) -> Result<Explanation> {
        let given = self.planned(inputs)?;
        let mut found = None;
        self.plans_of(&given, &mut |given, _| {
            if let (None, Some(id)) = (&found, named(&given.entry.graph, node)) {
                found = Some(given.why(id)?);
            }
            Ok(())
        })?;
        let graph = &given.entry.graph;
        found.ok_or_else(|| Error::NoNode { name: node.into(), reason: self.no_node(graph, node) })
    }

    fn no_node(&self, graph: &Graph, name: &str) -> String {
        if named(graph, name).is_some() {
            return "no plan that is known before a run has it: the host runs it, or a run plans it for sizes that it finds".into();
        }
        if named(self.core.listed(), name).is_some() {
            return "the passes folded, merged or dropped it; `inspect --stage passes` prints what is left"
                .into();
        }
        let mut near: Vec<(usize, &str)> =
            graph.nodes.iter().map(|node| (distance(&node.name, name), node.name.as_str())).collect();
        near.sort();
        let near: Vec<&str> = near.into_iter().map(|(_, name)| name).take(3).collect();
        format!("the plan has no node of this name; names like it: {}", near.join(", "))
    }
}

/// The node with this name, or the node that computes a value with this name.
fn named(graph: &Graph, name: &str) -> Option<NodeId> {
    let makes = |id: &crate::graph::ValueId| graph.value(*id).name == name;
    let by_name = graph.nodes.iter().position(|node| node.name == name);
    let by_value = || graph.nodes.iter().position(|node| node.outputs.iter().flatten().any(makes));
    by_name.or_else(by_value).map(|at| NodeId(at as u32))
}

/// The number of characters that must be added, removed or replaced to turn `a` into `b` (Levenshtein's distance).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, of_a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, of_b) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(of_a != of_b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}

fn misplaced(stage: Stage, why: &str) -> Error {
    Error::Gpu(format!("stage {stage} {why}"))
}

fn declarations(model: &Model) -> String {
    let opsets = model.opsets().iter().map(|(domain, version)| {
        format!("{} {version}", shown(if domain.is_empty() { "ai.onnx" } else { domain }))
    });
    let opsets = opsets.collect::<Vec<_>>().join(", ");
    let mut text = format!("format    IR {}, opsets {opsets}\n", model.ir_version());
    if !model.producer().is_empty() {
        text += &format!("producer  {}\n", shown(model.producer()));
    }
    for (key, value) in model.metadata() {
        let first = value.lines().next().unwrap_or_default();
        let more = if first.len() < value.len() || first.chars().count() > 60 { " ..." } else { "" };
        let first: String = first.chars().take(60).collect();
        text += &format!("metadata  {}: {}{more}\n", shown(key), shown(&first));
    }
    model.inputs().iter().for_each(|info| text += &format!("input     {info}\n"));
    model.outputs().iter().for_each(|info| text += &format!("output    {info}\n"));
    text
}

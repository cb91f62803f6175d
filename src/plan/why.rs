//! Why a node was not fused, not viewed, or not computed in place. Planning runs once more and notes its decisions, and those
//! about one node become an explanation.

use std::fmt;
use std::sync::Arc;

use super::fusion::{Unit, Units};
use super::program::{Program, TensorId};
use super::refusal::Refusal;
use super::{Options, Specialisation, lower, memory};
use crate::Result;
use crate::error::{sentence, shown};
use crate::facts::Facts;
use crate::graph::{NodeId, ValueId};
use crate::kernels::Target;
use crate::ops::Graph;

/// A decision about a node, a value or a tensor.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// Fused code cannot hold the node.
    Alone { node: NodeId, why: Refusal },
    /// `reader` is not fused with the node that makes `value`.
    Apart { value: ValueId, reader: NodeId, why: Refusal },
    /// Two nodes that read `value` are not fused.
    Siblings { value: ValueId, nodes: [NodeId; 2], why: Refusal },
    /// The tensor of a value.
    Tensor { value: ValueId, tensor: TensorId },
    /// A kernel of its own computes a prologue that another kernel cannot have.
    ComputedFirst { tensor: TensorId, why: Refusal },
    /// The value is no view of tensor `of`: readers find it there at strides.
    Strided { value: ValueId, of: TensorId, why: Refusal },
    /// A value that could be read at strides is copied for a unit.
    Copied { value: ValueId, reader: Arc<str>, why: Refusal },
    /// Whether a view or a part shares the memory of tensor `with`.
    Shared { tensor: TensorId, with: TensorId, shared: Result<(), Refusal> },
    /// Whether a result takes the place of operand `with`.
    InPlace { tensor: TensorId, with: TensorId, shared: Result<(), Refusal> },
}

/// The decisions so far, in order; `None` if nobody asks for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Option<Vec<Note>>);

impl Notes {
    pub(super) fn new(wanted: bool) -> Notes {
        Notes(wanted.then(Vec::new))
    }

    pub(super) fn wanted(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn add(&mut self, note: impl FnOnce() -> Note) {
        if let Some(notes) = &mut self.0 {
            notes.push(note());
        }
    }

    /// Whether `reader` is fused with the node that makes `value`.
    pub(super) fn apart(&mut self, value: ValueId, reader: NodeId, fused: Result<(), Refusal>) {
        if let Err(why) = fused {
            self.add(|| Note::Apart { value, reader, why });
        }
    }

    /// Notes the decision for each of `nodes` that is among `readers`.
    pub(super) fn apart_in(
        &mut self,
        nodes: &[NodeId],
        readers: &[NodeId],
        value: ValueId,
        fused: Result<(), Refusal>,
    ) {
        if self.wanted() {
            readers.iter().filter(|n| nodes.contains(n)).for_each(|&n| self.apart(value, n, fused));
        }
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = &Note> {
        self.0.iter().flatten()
    }
}

/// What planning tries to save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Saving {
    /// A kernel: one kernel computes two nodes.
    Fused,
    /// A copy: a value is read in the memory of another.
    View,
    /// Memory: a result takes the place of an operand.
    InPlace,
}

/// Whether a plan saves a kernel, a copy or memory, and if not, the rule that refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What could be saved.
    pub saving: Saving,
    /// Whether it is saved.
    pub saved: bool,
    /// The value in question: the value that one node computes and the other reads, or the view, or the result.
    pub value: String,
    /// The other node, or the other value in memory; `None` if the rule refuses all of them.
    pub other: Option<String>,
    /// The name of the rule that refused, as one word; `None` if no rule did.
    pub rule: Option<String>,
    /// A sentence.
    pub reason: String,
}

/// How a plan computes a node. See [`Session::why`](crate::Session::why).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The node's name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// The names of all nodes that its kernel computes, in the graph's order. The list is empty if no kernel computes the
    /// node, because planning knows its results, or because only their shapes are needed.
    pub kernel: Vec<String>,
    /// The decision about each possible saving.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = match self.kernel.is_empty() {
            true => "none: its results are known while planning, or only their shapes are needed".into(),
            false => self.kernel.iter().map(|name| shown(name).to_string()).collect::<Vec<_>>().join(", "),
        };
        writeln!(f, "node      {} ({})\nkernel    {kernel}", shown(&self.node), shown(&self.op))?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = match self.saving {
            Saving::Fused => "fused",
            Saving::View => "view",
            Saving::InPlace => "in place",
        };
        let relation = match self.saving {
            Saving::Fused => "with",
            Saving::View => "of",
            Saving::InPlace => "over",
        };
        write!(f, "{label:<9} %{}", shown(&self.value))?;
        write!(f, "{}", if self.saved { "" } else { " not" })?;
        if let Some(other) = &self.other {
            write!(f, " {relation} {}", shown(other))?;
        }
        write!(f, ": {}", sentence(&self.reason))?;
        self.rule.iter().try_for_each(|rule| write!(f, " [{rule}]"))
    }
}

/// Explains a node in a plan that is made now. `specialisation` is a copy of the planner's.
pub(super) fn explain(
    graph: &Graph,
    facts: &Facts,
    target: &Target,
    options: &Options,
    mut specialisation: Specialisation,
    node: NodeId,
) -> Result<Explanation> {
    let options = Options { notes: true, ..options.clone() };
    let asked = Units::of(graph, facts, target, &options, specialisation.attention()).notes;
    let units = specialisation.units(graph, facts, target, &options);
    let program = memory::shared(lower(graph, facts, target, &options, &mut specialisation)?, target);
    let told = Told { graph, units: &units.all, asked, names: program.names(), program, options };
    Ok(told.about(node))
}

/// A plan, with the decisions that were made for it.
struct Told<'a> {
    graph: &'a Graph,
    units: &'a [Unit],
    /// The decisions of fusion for these sizes, even if units that were fused for other sizes are kept.
    asked: Notes,
    program: Program,
    names: Vec<String>,
    options: Options,
}

impl Told<'_> {
    fn about(&self, id: NodeId) -> Explanation {
        let node = &self.graph.nodes[id.index()];
        let (mut kernel, mut findings) = (Vec::new(), Vec::new());
        if let Some(unit) = self.unit(id) {
            let mut nodes: Vec<NodeId> = unit.nodes().copied().collect();
            nodes.sort();
            kernel = nodes.into_iter().map(|node| self.node(node)).collect();
            findings.extend(self.alone(id));
            findings.extend(self.edges(id).map(|(value, other)| self.fused(id, value, other)));
            findings.extend(self.siblings(id));
            for &value in node.outputs.iter().flatten() {
                findings.extend(self.strided(value));
                if let Some(tensor) = self.tensor(value) {
                    findings.extend(self.placed(value, tensor));
                }
            }
        }
        Explanation { node: node.name.clone(), op: node.op_type.clone(), kernel, findings }
    }

    fn node(&self, id: NodeId) -> String {
        self.graph.nodes[id.index()].name.clone()
    }

    fn unit(&self, id: NodeId) -> Option<&Unit> {
        self.units.iter().find(|unit| unit.nodes().any(|node| *node == id))
    }

    /// The tensor that the value got last.
    fn tensor(&self, id: ValueId) -> Option<TensorId> {
        self.program.notes.iter().rev().find_map(|note| match note {
            Note::Tensor { value, tensor } if *value == id => Some(*tensor),
            _ => None,
        })
    }

    /// The name of the tensor in the program's text, without the `%`.
    fn tensor_name(&self, id: TensorId) -> String {
        self.names[id.index()].clone()
    }

    fn found(
        &self,
        saving: Saving,
        value: ValueId,
        other: Option<String>,
        saved: Result<&str, Refusal>,
    ) -> Finding {
        let value = self.graph.value(value).name.clone();
        let (rule, reason) = match saved {
            Ok(text) => (None, text.to_string()),
            Err(why) => (Some(why.name()), why.to_string()),
        };
        Finding { saving, saved: rule.is_none(), value, other, rule, reason }
    }

    /// Why fused code cannot hold the node.
    fn alone(&self, id: NodeId) -> Option<Finding> {
        let value = self.graph.nodes[id.index()].outputs.iter().copied().flatten().next()?;
        self.asked.iter().find_map(|note| match note {
            Note::Alone { node, why } if *node == id => {
                Some(self.found(Saving::Fused, value, None, Err(*why)))
            }
            _ => None,
        })
    }

    /// The values that the node passes to another node, or reads from one, with the other node.
    fn edges(&self, id: NodeId) -> impl Iterator<Item = (ValueId, NodeId)> {
        let producers = self.graph.producers();
        let node = &self.graph.nodes[id.index()];
        let before =
            node.data_inputs().flatten().filter_map(|value| Some((value, producers[value.index()]?)));
        let reads = |value: ValueId| {
            let all = self.graph.nodes.iter().enumerate();
            all.filter(move |(_, node)| node.data_inputs().flatten().any(|read| read == value))
        };
        let after = node.outputs.iter().copied().flatten();
        let after = after.flat_map(|value| reads(value).map(move |(n, _)| (value, NodeId(n as u32))));
        let mut edges: Vec<_> =
            before.chain(after).filter(|(_, other)| self.unit(*other).is_some()).collect();
        edges.dedup();
        edges.into_iter()
    }

    /// Whether the node is fused with another that makes or reads `value`.
    fn fused(&self, id: NodeId, value: ValueId, other: NodeId) -> Finding {
        let (reader, name) = (id.max(other), Some(self.node(other)));
        let together = self.unit(id).is_some_and(|unit| unit.nodes().any(|node| *node == other));
        let saved = match together {
            true => self.in_one_kernel(value, reader),
            false if self.options.no_fusion => Err(Refusal::FusionOff),
            false => Err(self.apart(value, reader).unwrap_or(Refusal::FusedBefore)),
        };
        self.found(Saving::Fused, value, name, saved)
    }

    /// How one kernel computes both `reader` and the node that computes `value`.
    fn in_one_kernel(&self, value: ValueId, reader: NodeId) -> Result<&'static str, Refusal> {
        let Some(unit) = self.unit(reader) else { return Ok("one kernel computes both") };
        let first = self.tensor(value).and_then(|own| {
            self.program.notes.iter().find_map(|note| match note {
                Note::ComputedFirst { tensor, why } if *tensor == own => Some(*why),
                _ => None,
            })
        });
        match unit.anchor {
            _ if unit.attention.is_some() => Ok("an attention's kernel computes both"),
            Some(anchor) if anchor == reader => {
                first.map_or(Ok("the kernel computes it while it loads"), Err)
            }
            Some(_) if !unit.prologue.contains(&reader) => {
                Ok("the kernel computes it before it stores its result")
            }
            _ => Ok("one kernel computes both"),
        }
    }

    /// The rule that was the last to refuse.
    fn apart(&self, of: ValueId, by: NodeId) -> Option<Refusal> {
        self.asked.iter().rev().find_map(|note| match note {
            Note::Apart { value, reader, why } if (*value, *reader) == (of, by) => Some(*why),
            _ => None,
        })
    }

    /// Why nodes that read the same value are not fused.
    fn siblings(&self, id: NodeId) -> Vec<Finding> {
        let is_own = |node: NodeId| self.unit(id).is_some_and(|unit| unit.nodes().any(|own| *own == node));
        let told = |note: &Note| match note {
            Note::Siblings { why: Refusal::OwnKernel, .. } => None,
            Note::Siblings { value, nodes: [a, b], why } if is_own(*a) != is_own(*b) => {
                let other = if is_own(*a) { *b } else { *a };
                Some(self.found(Saving::Fused, *value, Some(self.node(other)), Err(*why)))
            }
            _ => None,
        };
        self.asked.iter().filter_map(told).collect()
    }

    /// How a value is read whose node only moves elements, and which is no view.
    fn strided(&self, of: ValueId) -> Vec<Finding> {
        let notes = || self.program.notes.iter();
        let Some((tensor, why)) = notes().find_map(|note| match note {
            Note::Strided { value, of: tensor, why } if *value == of => Some((*tensor, *why)),
            _ => None,
        }) else {
            return Vec::new();
        };
        let other = Some(self.tensor_name(tensor));
        if self.tensor(of).is_none() {
            return vec![self.found(
                Saving::View,
                of,
                other,
                Ok("its readers find its elements there, by strides"),
            )];
        }
        let refused = notes().filter_map(|note| match note {
            Note::Copied { value, reader, why } if *value == of => Some((reader, *why)),
            _ => None,
        });
        let refused: Vec<_> = refused.collect();
        let copied_for =
            refused.iter().find(|(_, why)| *why == Refusal::ReadWhole).map(|(reader, _)| *reader);
        let first = refused.iter().find(|(reader, _)| Some(*reader) == copied_for);
        let copy = first.map(|(reader, why)| {
            let finding = self.found(Saving::View, of, None, Err(*why));
            Finding { reason: format!("it is copied for {reader}: {}", finding.reason), ..finding }
        });
        std::iter::once(self.found(Saving::View, of, other, Err(why))).chain(copy).collect()
    }

    /// Whether a value's tensor shares the memory of another tensor. One is enough; after the first, the others do not matter.
    fn placed(&self, value: ValueId, own: TensorId) -> Vec<Finding> {
        let told = |note: &Note| match note {
            Note::Shared { tensor, with, shared } if *tensor == own => {
                Some((Saving::View, *with, shared.map(|()| "it lies there")))
            }
            Note::InPlace { tensor, with, shared } if *tensor == own => {
                Some((Saving::InPlace, *with, shared.map(|()| "nothing reads that afterwards")))
            }
            _ => None,
        };
        let found = |(saving, with, saved)| self.found(saving, value, Some(self.tensor_name(with)), saved);
        let all: Vec<Finding> = self.program.notes.iter().filter_map(told).map(found).collect();
        let saves = |saving| all.iter().any(|finding| finding.saving == saving && finding.saved);
        all.iter().filter(|finding| finding.saved || !saves(finding.saving)).cloned().collect()
    }
}

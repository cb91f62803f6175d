//! `Planner`: what all plans of one graph share, and how each plan is made.

use std::sync::{Arc, Mutex, PoisonError};

use super::probe::{Probes, first_plan};
use super::why::{self, Explanation};
use super::{Options, Plan, Specialisation, attention, divide, fusion, lower, placed};
use crate::budget::Budget;
use crate::facts::{FactBase, Facts, InputFact};
use crate::graph::{NodeId, ValueId};
use crate::kernels::Target;
use crate::ops::Graph;
use crate::{Error, Result};

/// Plans runs of one graph for one kind of device.
///
/// The first plan settles which variants of kernels serve all sizes of the graph's open dimensions, and later plans use these.
/// A plan therefore follows from the graph, the target, the options, and the inputs of this and all earlier calls of
/// [`Planner::plan`], and from nothing else.
#[derive(Debug)]
pub(crate) struct Planner {
    graph: Arc<Graph>,
    base: FactBase,
    target: Target,
    options: Options,
    /// `None` before the first plan.
    specialisation: Mutex<Option<Specialisation>>,
}

impl Planner {
    /// # Errors
    ///
    /// None at present. The function reads the graph's constants, and may check them in future.
    pub(crate) fn new(graph: Arc<Graph>, target: Target, options: Options) -> Result<Planner> {
        let base = FactBase::new(&graph, &options.limits)?;
        Ok(Planner { graph, base, target, options, specialisation: Mutex::default() })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The plan of a run on these inputs, which are in the graph's order.
    pub(crate) fn plan(&self, inputs: &[InputFact]) -> Result<Plan> {
        self.plan_within(inputs, self.base.budget())
    }

    /// As `plan`, where several plans share what they may cost.
    pub(crate) fn plan_within(&self, inputs: &[InputFact], budget: Arc<Budget>) -> Result<Plan> {
        match self.undivided(inputs, budget.clone()) {
            Err(error @ Error::Limit { in_bytes: true, .. }) => self.divided(inputs, budget)?.ok_or(error),
            plan => plan,
        }
    }

    /// The plan of the graph in which large tensors are computed in parts; `None` if some tensor stays too large for a binding.
    fn divided(&self, inputs: &[InputFact], budget: Arc<Budget>) -> Result<Option<Plan>> {
        let Planner { graph, base, target, options, .. } = self;
        let facts = base.bind(graph, inputs, &budget)?;
        let Some(divided) = divide::divided(graph, &facts, target, options)? else { return Ok(None) };
        let planner = Planner::new(divided.graph.clone(), target.clone(), options.clone())?;
        match planner.undivided(inputs, budget) {
            Ok(mut plan) => {
                divided.name_origins(&mut plan.program);
                Ok(Some(Plan { divided: Some(divided), ..plan }))
            }
            Err(Error::Limit { in_bytes: true, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn undivided(&self, inputs: &[InputFact], budget: Arc<Budget>) -> Result<Plan> {
        let facts = self.base.bind(&self.graph, inputs, &budget)?;
        let Planner { graph, base, target, options, .. } = self;
        let mut specialisation = self.specialisation.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(specialisation) = specialisation.as_mut() {
            return placed(lower(graph, &facts, target, options, specialisation)?, target);
        }
        let probes = Probes::new(graph, base, inputs, budget);
        let mut chosen = Specialisation::of(graph, &facts, target, options);
        let plan = first_plan(&probes, facts, target, options, &mut chosen)?;
        *specialisation = Some(chosen);
        Ok(plan)
    }

    /// What became of a node in a plan of a run on these inputs, as it would be made after those before.
    pub(crate) fn why(&self, inputs: &[InputFact], node: NodeId) -> Result<Explanation> {
        let facts = self.facts(inputs)?;
        let Planner { graph, base, target, options, .. } = self;
        let specialisation = self.specialisation.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let specialisation = match specialisation {
            Some(specialisation) => specialisation,
            None => {
                let mut first = Specialisation::of(graph, &facts, target, options);
                first_plan(
                    &Probes::new(graph, base, inputs, base.budget()),
                    self.facts(inputs)?,
                    target,
                    options,
                    &mut first,
                )?;
                first
            }
        };
        why::explain(graph, &facts, target, options, specialisation, node)
    }

    /// Dtype and shape of every value of a run on these inputs.
    pub(crate) fn facts(&self, inputs: &[InputFact]) -> Result<Facts> {
        self.base.bind(&self.graph, inputs, &self.base.budget())
    }

    /// The numbers of the inputs whose values decide shapes. Those values are part of a plan's signature.
    pub(crate) fn shape_inputs(&self) -> impl Iterator<Item = usize> {
        self.base.shape_inputs(&self.graph)
    }

    /// Whether the value of input `i` decides shapes.
    pub(crate) fn decides_shapes(&self, i: usize) -> bool {
        self.graph.inputs.get(i).is_some_and(|id| self.base.is_demanded(*id))
    }

    /// The values that one kernel writes and another reads: what can be seen of a run whose operators are fused.
    pub(crate) fn handed_on(&self, inputs: &[InputFact]) -> Result<Vec<ValueId>> {
        let Planner { graph, target, options, .. } = self;
        let facts = self.facts(inputs)?;
        let pays = attention::pays(graph, &facts, target, options);
        let mut unit_of = vec![None; graph.nodes.len()];
        for (i, unit) in fusion::Units::of(graph, &facts, target, options, pays).all.iter().enumerate() {
            unit.nodes().for_each(|node| unit_of[node.index()] = Some(i));
        }
        let producers = graph.producers();
        let made_in = |id: ValueId| producers[id.index()].and_then(|node| unit_of[node.index()]);
        let mut values = Vec::new();
        for (node, unit) in graph.nodes.iter().zip(&unit_of).filter(|(_, unit)| unit.is_some()) {
            let others = |&id: &ValueId| made_in(id).is_some_and(|made| Some(made) != *unit);
            values.extend(node.data_inputs().flatten().filter(others));
        }
        values.sort();
        values.dedup();
        Ok(values)
    }
}

#[cfg(any(test, feature = "internals"))]
impl Planner {
    /// The probe sizes of the graph's open dimensions, starting from the sizes of `inputs`.
    pub(crate) fn probes<'a>(&'a self, inputs: &'a [InputFact]) -> Probes<'a> {
        Probes::new(&self.graph, &self.base, inputs, self.base.budget())
    }
}

//! `Entry`: a graph to run, what planning knows of it, and inputs that fit it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::decided::Decided;
use super::segmented::{PlanFor, RunValue, Segmented, Survey, placed_on_host};
use super::{Core, SessionOptions, no_plans};
use crate::budget::Budget;
use crate::facts::{self, InputFact, Signature};
use crate::gpu::{DeviceTensor, Gpu, Input, Weights};
use crate::graph::{NodeId, ValueId};
use crate::ops::{Graph, composed};
use crate::plan::{Appended, Explanation, Options, Plan, Planner};
use crate::segments::{self, Lent};
use crate::shape::MAX_RANK;
use crate::{DType, Datum, Device, Dim, Error, InputError, PlanSummary, Result, Tensor};

/// A graph, with the plans and uploads that were made for it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) graph: Arc<Graph>,
    /// The names by which the caller knows the outputs.
    pub(crate) names: Vec<Arc<str>>,
    /// The numbers of the graph's inputs, by name.
    numbers: HashMap<String, usize>,
    same_sizes: Vec<SameSize>,
    /// The outputs that are an input with rows appended.
    appended: Vec<Appended>,
    way: Way,
}

/// How a graph is run.
#[derive(Debug)]
enum Way {
    /// Node by node on the CPU reference.
    Reference,
    /// By one plan for each signature.
    Planned(Box<Compiled>),
    /// By several plans, between which the host looks at values.
    Segmented(Segmented),
    /// As another graph is, which planning chooses.
    Decided(Box<Decided>),
}

#[derive(Debug)]
pub(super) struct Compiled {
    planner: Planner,
    pub(super) weights: Weights,
    /// The last plan that was made only to be looked at. A run with its signature uses it, because the first plan of a graph
    /// settles more than later plans of the same sizes.
    looked_at: Mutex<Option<(Signature, Plan)>>,
}

impl Compiled {
    /// The plan of this signature, to be made ready on the device.
    /// `budget`: what it may cost, if it shares that with other plans.
    pub(super) fn plan(
        &self,
        known: &[InputFact],
        signature: &Signature,
        budget: Option<Arc<Budget>>,
    ) -> Result<Plan> {
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        match looked_at.take_if(|(of, _)| of == signature) {
            Some((_, plan)) => Ok(plan),
            None => match budget {
                Some(budget) => self.planner.plan_within(known, budget),
                None => self.planner.plan(known),
            },
        }
    }

    /// A plan of its own for these inputs.
    pub(super) fn plan_anew(&self, known: &[InputFact]) -> Result<Plan> {
        self.planner.plan(known)
    }

    /// The plan of this signature, to be looked at: nothing is created on the device.
    fn look_at(
        &self,
        known: &[InputFact],
        signature: Signature,
        budget: Option<Arc<Budget>>,
    ) -> Result<Plan> {
        let plan = self.plan(known, &signature, budget)?;
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        *looked_at = Some((signature, plan.clone()));
        Ok(plan)
    }
}

/// Inputs that fit the graph of `entry`, in its order.
pub(crate) struct Ordered<G> {
    pub(crate) entry: Arc<Entry>,
    pub(crate) inputs: Vec<G>,
}

/// What the host computes in a device's place.
fn lent(gpu: &Gpu) -> Lent {
    match (gpu.strict, gpu.target.computes_f64) {
        (true, _) => Lent::Nothing,
        (false, true) => Lent::Missing,
        (false, false) => Lent::All,
    }
}

impl Entry {
    pub(super) fn new(
        graph: Arc<Graph>,
        names: Vec<Arc<str>>,
        device: &Device,
        session: &SessionOptions,
        keep: &[ValueId],
    ) -> Result<Entry> {
        Entry::within(graph, names, device, session, keep, &Budget::new(&session.limits))
    }

    /// As `new`, where the graph shares what its passes may cost with the graph around it.
    pub(super) fn within(
        graph: Arc<Graph>,
        names: Vec<Arc<str>>,
        device: &Device,
        session: &SessionOptions,
        keep: &[ValueId],
        budget: &Budget,
    ) -> Result<Entry> {
        let graph = if device.gpu().is_some() { composed::expanded(graph)? } else { graph };
        let same_sizes = same_sizes(&graph);
        let named = graph.inputs.iter().enumerate();
        let numbers = named.map(|(i, id)| (graph.value(*id).name.clone(), i)).collect();
        let limits = session.limits.clone();
        let integers = session.bits.held_in();
        let options =
            Options { no_fusion: !session.fusion, keep: keep.to_vec(), notes: false, limits, integers };
        let way = match device.gpu() {
            None => Way::Reference,
            Some(gpu) => match segments::choices(&graph, lent(gpu)) {
                Some(choices) => {
                    Way::Decided(Box::new(Decided::new(&graph, choices, session, keep, budget)?))
                }
                None => match segments::cut(&graph, keep, lent(gpu)) {
                    Some(cut) => Way::Segmented(Segmented::new(&graph, cut, device, session, keep, budget)?),
                    None => Way::Planned(Box::new(Compiled {
                        planner: Planner::new(graph.clone(), gpu.target.clone(), options)?,
                        weights: Weights::default(),
                        looked_at: Mutex::default(),
                    })),
                },
            },
        };
        let appended = Appended::all(&graph);
        Ok(Entry { graph, names, numbers, same_sizes, appended, way })
    }

    pub(super) fn compiled(&self) -> Result<&Compiled> {
        match &self.way {
            Way::Planned(compiled) => Ok(compiled),
            Way::Reference => Err(no_plans()),
            Way::Segmented(segmented) => Err(segmented.no_single_plan()),
            Way::Decided(decided) => Err(decided.undecided(&self.graph)),
        }
    }

    /// The outputs that are an input with rows appended.
    pub(super) fn appended(&self) -> &[Appended] {
        &self.appended
    }

    /// What chooses the graph that runs, if that depends on the inputs.
    pub(super) fn decided(&self) -> Option<&Decided> {
        match &self.way {
            Way::Decided(decided) => Some(decided),
            _ => None,
        }
    }

    /// The graph's segments, if one plan does not compute it.
    pub(super) fn segmented(&self) -> Option<&Segmented> {
        match &self.way {
            Way::Segmented(segmented) => Some(segmented),
            _ => None,
        }
    }

    /// The most plans that a run has.
    pub(super) fn plans_of_a_run(&self) -> usize {
        self.segmented().map_or(1, Segmented::plans_of_a_run)
    }

    /// The graph itself, and those of its segments.
    pub(super) fn all(self: &Arc<Entry>) -> Vec<Arc<Entry>> {
        let inner = match &self.way {
            Way::Segmented(segmented) => segmented.entries().flat_map(Entry::all).collect(),
            Way::Planned(_) | Way::Reference | Way::Decided(_) => Vec::new(),
        };
        [self.clone()].into_iter().chain(inner).collect()
    }

    /// The weights that the graph has on the device, besides its plans.
    pub(super) fn weights(&self) -> Option<&Weights> {
        match &self.way {
            Way::Planned(compiled) => Some(&compiled.weights),
            _ => None,
        }
    }

    /// The number of the graph's input with this name.
    pub(crate) fn number(&self, input: &str) -> Option<usize> {
        self.numbers.get(input).copied()
    }

    /// Whether the value of input `i` is part of a plan's signature.
    pub(crate) fn decides_shapes(&self, i: usize) -> bool {
        matches!(&self.way, Way::Planned(of) if of.planner.decides_shapes(i))
    }

    /// The error of an input that is no tensor, where one plan computes the graph.
    pub(crate) fn takes_tensors(&self, i: usize) -> Error {
        let name = self.graph.inputs.get(i).map_or("?", |id| self.graph.value(*id).name.as_str());
        let reason = "it is no tensor, and the graph takes a tensor; declare its type in the model".into();
        InputError::Value { name: name.into(), reason }.into()
    }

    /// Refuses inputs where two dimensions with one name in the model have different sizes.
    pub(super) fn check_names(&self, inputs: &[impl Given]) -> Result<()> {
        let size = |place: InputAxis| inputs.get(place.input)?.shape().get(place.axis).copied();
        let input = |place: InputAxis| self.graph.value(self.graph.inputs[place.input]).name.clone();
        for SameSize { first, other, name } in &self.same_sizes {
            let (Some(expected), Some(size)) = (size(*first), size(*other)) else { continue };
            if size != expected {
                let (axis, other_axis, dimension) = (other.axis, first.axis, name.clone());
                let (name, other) = (input(*other), input(*first));
                let given = size;
                let error =
                    InputError::Dimension { name, axis, given, other, other_axis, expected, dimension };
                return Err(error.into());
            }
        }
        Ok(())
    }
}

impl Given for InputFact {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn value(&self) -> Option<&Tensor> {
        self.value.as_ref()
    }
}

impl<G: Given> Ordered<G> {
    /// The values that one kernel, or segment, of a run on these inputs writes and another reads.
    pub(crate) fn handed_on(&self) -> Result<Vec<ValueId>> {
        if let Some(segmented) = self.entry.segmented() {
            return Ok(segmented.handed_on());
        }
        self.entry.compiled()?.planner.handed_on(&self.input_facts())
    }

    /// The plan of a run on these inputs; nothing is created on the device.
    pub(crate) fn plan(&self, budget: Option<Arc<Budget>>) -> Result<Plan> {
        self.entry.compiled()?.look_at(&self.input_facts(), self.signature()?, budget)
    }

    /// What became of a node in a plan made now.
    pub(crate) fn why(&self, node: NodeId) -> Result<Explanation> {
        self.entry.compiled()?.planner.why(&self.input_facts(), node)
    }

    /// Like `plan`, but planned anew each time.
    #[cfg(feature = "internals")]
    pub(crate) fn plan_anew(&self) -> Result<Plan> {
        self.entry.compiled()?.planner.plan(&self.input_facts())
    }

    /// The target of the graph's plans.
    pub(crate) fn target(&self) -> Result<&crate::kernels::Target> {
        Ok(self.entry.compiled()?.planner.target())
    }

    /// What planning may know of the inputs.
    pub(crate) fn input_facts(&self) -> Vec<InputFact> {
        let fact = |given: &G| InputFact {
            dtype: given.dtype(),
            shape: given.shape().to_vec(),
            value: given.value().cloned(),
            room: None,
        };
        self.inputs.iter().map(fact).collect()
    }

    /// The sum of those plans of a run on these inputs that do not depend on what only a run knows: `each` makes them.
    pub(super) fn survey(&self, core: &Core, each: &mut PlanFor) -> Result<PlanSummary> {
        let mut survey = Survey { core, each, summary: PlanSummary::default() };
        let containers = self.inputs.iter().map(|given| given.container().is_some());
        let facts = self.input_facts().into_iter().zip(containers);
        let facts = facts.map(|(fact, is_container)| Some(fact).filter(|_| !is_container)).collect();
        survey.outputs_of(&self.entry, facts)?;
        Ok(survey.summary)
    }

    pub(super) fn signature(&self) -> Result<Signature> {
        let values = self.entry.compiled()?.planner.shape_inputs();
        Ok(Signature {
            shapes: self.inputs.iter().map(|given| given.shape().to_vec()).collect(),
            rooms: Vec::new(),
            values: values.filter_map(|i| Some((i, self.inputs.get(i)?.value()?.bytes().to_vec()))).collect(),
        })
    }
}

impl Ordered<Input<'_>> {
    /// The inputs as values of their own, where they lie.
    pub(super) fn placed(&self) -> Vec<RunValue> {
        let placed = |input: &Input| match input {
            Input::Device(tensor) => Datum::Tensor(DeviceTensor::clone(tensor)),
            Input::Tensor(tensor) => Datum::Tensor(DeviceTensor::on_host(Tensor::clone(tensor))),
            Input::Container(datum) => placed_on_host(datum),
        };
        self.inputs.iter().map(placed).collect()
    }

    /// The inputs; on the CPU reference they lie in host memory.
    pub(crate) fn values(&self) -> Vec<Datum> {
        let value = |input: &Input| match input {
            Input::Container(datum) => Some(Datum::clone(datum)),
            input => input.host().cloned().map(Datum::Tensor),
        };
        self.inputs.iter().filter_map(value).collect()
    }

    /// The inputs that are tensors.
    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        self.inputs.iter().filter_map(Input::host).cloned().collect()
    }
}

/// An input that the caller gives.
pub(crate) trait Given: Clone {
    fn dtype(&self) -> DType;
    fn shape(&self) -> &[usize];
    /// Its elements, if planning may know them.
    fn value(&self) -> Option<&Tensor>;
    /// What planning may know of it; where it is asked for, the value of a tensor on a device is read. `None` for a container.
    fn known(&self, by_value: bool) -> Result<Option<InputFact>> {
        if self.container().is_some() {
            return Ok(None);
        }
        let read = self.placed().filter(|_| by_value && self.value().is_none());
        let value = match read {
            Some(tensor) => Some(tensor.read()?),
            None => self.value().cloned(),
        };
        Ok(Some(InputFact { dtype: self.dtype(), shape: self.shape().to_vec(), value, room: None }))
    }
    /// The tensor on a device, if the input is one.
    fn placed(&self) -> Option<&DeviceTensor> {
        None
    }
    /// The input, if it is no tensor.
    fn container(&self) -> Option<&Datum> {
        None
    }
}

impl Given for Input<'_> {
    fn dtype(&self) -> DType {
        Input::dtype(self)
    }

    fn shape(&self) -> &[usize] {
        Input::shape(self)
    }

    fn value(&self) -> Option<&Tensor> {
        self.host()
    }

    fn placed(&self) -> Option<&DeviceTensor> {
        match self {
            Input::Device(tensor) => Some(tensor),
            _ => None,
        }
    }

    fn container(&self) -> Option<&Datum> {
        match self {
            Input::Container(datum) => Some(datum),
            _ => None,
        }
    }
}

/// Refuses an input that differs from what the model declares, or that cannot be used on the session's device.
pub(super) fn check(
    given: &impl Given,
    value: &crate::graph::Value,
    gpu: Option<&Arc<Gpu>>,
) -> Result<(), InputError> {
    if given.placed().is_some_and(|tensor| !tensor.is_on(gpu)) {
        let reason = "it is on another device than the session; `read` it, and give the tensor".into();
        return Err(InputError::Buffer { name: value.name.clone(), reason });
    }
    check_declared(given, value)
}

fn check_declared(tensor: &impl Given, value: &crate::graph::Value) -> Result<(), InputError> {
    let name = || value.name.clone();
    // First, as a walk over deep containers would not end.
    let depth = tensor.container().map_or(Ok(()), Datum::check_depth);
    depth.map_err(|reason| InputError::Value { name: name(), reason })?;
    match (&value.container, tensor.container()) {
        (None, None) => {}
        (Some(expected), Some(given)) if expected.fits(given) => return check_content(given, value),
        (Some(expected), given) => {
            let given = given.map_or("a tensor".to_string(), |datum| format!("a {} ({datum})", datum.kind()));
            let reason = format!("the model takes {expected} here, and this is {given}; give a `Datum`");
            return Err(InputError::Value { name: name(), reason });
        }
        (None, Some(given)) => {
            let reason = format!("the model takes a tensor here, and this is a {}", given.kind());
            return Err(InputError::Value { name: name(), reason });
        }
    }
    let shape = || tensor.shape().to_vec();
    if let Some(expected) = value.dtype.filter(|expected| *expected != tensor.dtype()) {
        return Err(InputError::DType { name: name(), expected, given: tensor.dtype() });
    }
    if tensor.shape().len() > MAX_RANK {
        let reason = format!("has {} dimensions, and at most {MAX_RANK} are supported", tensor.shape().len());
        return Err(InputError::Value { name: name(), reason });
    }
    if facts::is_too_large(tensor.shape()) {
        return Err(InputError::TooLarge { name: name(), given: shape(), limit: facts::MAX_COUNT });
    }
    let Some(dims) = &value.shape else { return Ok(()) };
    let fits = |(dim, &size): (&Dim, &usize)| !matches!(dim, Dim::Known(n) if *n != size);
    if dims.len() != tensor.shape().len() || !dims.iter().zip(tensor.shape()).all(fits) {
        return Err(InputError::Shape { name: name(), expected: dims.clone(), given: shape() });
    }
    Ok(())
}

/// Refuses a container with a tensor that is too large.
fn check_content(given: &Datum, value: &crate::graph::Value) -> Result<(), InputError> {
    let refused = |reason| InputError::Value { name: value.name.clone(), reason };
    let check = &mut |tensor: &Tensor| match tensor.shape() {
        shape if shape.len() > MAX_RANK || facts::is_too_large(shape) => {
            Err(refused(format!("a tensor in it has shape {shape:?}, which is too large")))
        }
        _ => Ok(()),
    };
    given.try_map(check).map(drop)
}

/// One dimension of one of a graph's inputs.
#[derive(Clone, Copy, Debug)]
struct InputAxis {
    input: usize,
    axis: usize,
}

/// A dimension that has the name of an earlier one: their sizes are equal in every run.
#[derive(Debug)]
struct SameSize {
    first: InputAxis,
    other: InputAxis,
    name: String,
}

fn same_sizes(graph: &Graph) -> Vec<SameSize> {
    let mut firsts: HashMap<&str, InputAxis> = HashMap::new();
    let mut same = Vec::new();
    for (input, id) in graph.inputs.iter().enumerate() {
        for (axis, dim) in graph.value(*id).shape.iter().flatten().enumerate() {
            let Dim::Symbol(name) = dim else { continue };
            let other = InputAxis { input, axis };
            match firsts.get(name.as_str()) {
                Some(&first) => same.push(SameSize { first, other, name: name.clone() }),
                None => drop(firsts.insert(name, other)),
            }
        }
    }
    same
}

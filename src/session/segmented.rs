//! Running a graph that is cut into segments. Values stay on the device until the host must look at them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::entry::{Entry, Ordered};
use super::{Core, SessionOptions};
use crate::array::Array;
use crate::budget::{Budget, Work};
use crate::error::Why;
use crate::facts::{Fact, InputFact, SMALL_CONSTANT, node_error};
use crate::gpu::{DeviceTensor, Input, Weights};
use crate::graph::{NodeId, Value, ValueId};
use crate::interrupt::GoOn;
use crate::ops::branch::If;
use crate::ops::repeat::{self, Loop};
use crate::ops::scan::{self, Scan};
use crate::ops::{Graph, Node, Op, axes};
use crate::plan::{OutputSource, Plan};
use crate::segments::{Look, Part, Segments};
use crate::{DType, Device, Error, PlanSummary, Result, SyncPoint, Tensor, heap, passes};

/// The segments of a graph, in the order in which they run.
#[derive(Debug)]
pub(crate) struct Segmented {
    segments: Vec<ReadySegment>,
    /// The graph's outputs, and the values that are kept besides.
    results: Vec<ValueId>,
    /// Where the host looks, except within the subgraphs.
    sync_points: Vec<SyncPoint>,
}

/// A segment, made ready for runs.
#[derive(Debug)]
struct ReadySegment {
    part: ReadyPart,
    inputs: Vec<Option<ValueId>>,
    outputs: Vec<Option<ValueId>>,
    /// The values that no later segment takes.
    last_used: Vec<ValueId>,
}

#[derive(Debug)]
enum ReadyPart {
    Planned(Arc<Entry>),
    /// A node, and its subgraphs.
    Control(NodeId, Vec<Arc<Entry>>),
}

impl Segmented {
    pub(super) fn new(
        graph: &Graph,
        cut: Segments,
        device: &Device,
        options: &SessionOptions,
        keep: &[ValueId],
        budget: &Budget,
    ) -> Result<Segmented> {
        let entry = |graph: Graph| {
            Ok(Arc::new(Entry::within(Arc::new(graph), Vec::new(), device, options, &[], budget)?))
        };
        let body = |node: &Node, graph: Graph| {
            charge(&graph, budget).map_err(|why| node_error(node, &[], why))?;
            entry(passes::run_within(graph, budget)?)
        };
        let mut segments = Vec::with_capacity(cut.all.len());
        for segment in cut.all {
            let part = match segment.part {
                Part::Planned(graph) => ReadyPart::Planned(entry(*graph)?),
                Part::Control(id) => {
                    let node = &graph.nodes[id.index()];
                    let bodies = bodies(node).map_err(|why| node_error(node, &[], why))?;
                    ReadyPart::Control(
                        id,
                        bodies.into_iter().map(|graph| body(node, graph)).collect::<Result<_>>()?,
                    )
                }
            };
            segments.push(ReadySegment {
                part,
                inputs: segment.inputs,
                outputs: segment.outputs,
                last_used: Vec::new(),
            });
        }
        let results: Vec<ValueId> = graph.outputs.iter().chain(keep).copied().collect();
        let mut used: HashSet<ValueId> = results.iter().copied().collect();
        for segment in segments.iter_mut().rev() {
            let values = segment.inputs.iter().chain(&segment.outputs).flatten().copied();
            segment.last_used = values.filter(|id| used.insert(*id)).collect();
        }
        let point =
            |look: &Look| SyncPoint::new(&graph.value(look.value).name, &graph.nodes[look.node.index()]);
        Ok(Segmented { segments, results, sync_points: cut.looks.iter().map(point).collect() })
    }

    /// The error of what needs the one plan that a run does not have.
    pub(super) fn no_single_plan(&self) -> Error {
        let count = self.segments.len();
        Error::Gpu(format!(
            "a run has {count} segments, between which the host looks at values, so it has no single plan; use `Session::run`, \
             `run_async` or `run_to_device`"
        ))
    }

    /// The values that one segment computes and another takes.
    pub(super) fn handed_on(&self) -> Vec<ValueId> {
        let values = |of: fn(&ReadySegment) -> &[Option<ValueId>]| -> HashSet<ValueId> {
            self.segments.iter().flat_map(|segment| of(segment).iter().copied().flatten()).collect()
        };
        let (made, taken) = (values(|segment| &segment.outputs), values(|segment| &segment.inputs));
        made.intersection(&taken).copied().collect()
    }

    /// The weights that the segments have on the device.
    pub(super) fn weights(&self) -> Vec<&Weights> {
        self.entries().flat_map(|entry| entry.weights()).collect()
    }

    /// The most plans that a run has.
    pub(super) fn plans_of_a_run(&self) -> usize {
        self.entries().map(|entry| entry.plans_of_a_run()).sum()
    }

    fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.segments.iter().flat_map(|segment| match &segment.part {
            ReadyPart::Planned(entry) => std::slice::from_ref(entry),
            ReadyPart::Control(_, bodies) => bodies,
        })
    }
}

/// Makes the plan of a graph for these inputs.
pub(super) type PlanFor<'a> = dyn FnMut(&Arc<Entry>, &[InputFact]) -> Result<Plan> + 'a;

/// What each plan of a run is made for: those that only a run can make are left out.
pub(super) struct Survey<'a> {
    /// Called for each plan.
    pub(super) each: &'a mut PlanFor<'a>,
    /// The sum of the plans so far.
    pub(super) summary: PlanSummary,
}

impl Survey<'_> {
    /// What is known of the outputs of a graph, where this much is known of its inputs; `None` for what only a run knows.
    pub(super) fn outputs_of(
        &mut self,
        entry: &Arc<Entry>,
        inputs: Vec<Option<InputFact>>,
    ) -> Result<Vec<Option<InputFact>>> {
        let unknown = vec![None; entry.graph.outputs.len()];
        if let Some(segmented) = entry.segmented() {
            return self.segments(segmented, &entry.graph, inputs);
        }
        let suffices = |(i, input): (usize, &Option<InputFact>)| {
            input.as_ref().is_some_and(|input| input.value.is_some() || !entry.decides_shapes(i))
        };
        if !inputs.iter().enumerate().all(suffices) {
            self.summary.segments += 1;
            self.summary.unplanned_segments += 1;
            return Ok(unknown);
        }
        let inputs: Vec<InputFact> = inputs.into_iter().flatten().collect();
        let plan = (self.each)(entry, &inputs)?;
        self.summary.add(PlanSummary::new(&entry.graph, &plan));
        let output = |source: &OutputSource| match source {
            OutputSource::Device { dtype, shape, .. } => {
                InputFact { dtype: *dtype, shape: shape.clone(), value: None }
            }
            OutputSource::Known(tensor) => InputFact::from(tensor.clone()),
            OutputSource::Input(i) => inputs[*i].clone(),
        };
        Ok(plan.program.outputs.iter().map(output).map(Some).collect())
    }

    fn segments(
        &mut self,
        segmented: &Segmented,
        graph: &Graph,
        inputs: Vec<Option<InputFact>>,
    ) -> Result<Vec<Option<InputFact>>> {
        self.summary.sync_points.extend(segmented.sync_points.iter().cloned());
        let mut known: HashMap<ValueId, InputFact> =
            graph.inputs.iter().zip(inputs).filter_map(|(id, fact)| Some((*id, fact?))).collect();
        let fact = |known: &HashMap<ValueId, InputFact>, id: ValueId| {
            let constant = || graph.value(id).constant.clone().map(InputFact::from);
            known.get(&id).cloned().or_else(constant)
        };
        for segment in &segmented.segments {
            let inputs: Vec<Option<InputFact>> =
                segment.inputs.iter().map(|id| id.and_then(|id| fact(&known, id))).collect();
            let outputs = match &segment.part {
                ReadyPart::Planned(entry) => self.outputs_of(entry, inputs)?,
                ReadyPart::Control(node, bodies) => {
                    self.control(&graph.nodes[node.index()], bodies, &inputs)?
                }
            };
            known.extend(segment.outputs.iter().zip(outputs).filter_map(|(id, fact)| Some(((*id)?, fact?))));
        }
        Ok(segmented.results.iter().map(|id| fact(&known, *id)).collect())
    }

    fn control(
        &mut self,
        node: &Node,
        bodies: &[Arc<Entry>],
        inputs: &[Option<InputFact>],
    ) -> Result<Vec<Option<InputFact>>> {
        let value = |i: usize| inputs.get(i)?.as_ref()?.value.as_ref();
        match &*node.op {
            Op::If(branches) => {
                let Some(condition) = value(0).and_then(|value| value.bytes().first()) else {
                    // Sizes that only one branch takes may reach the other.
                    self.summary.segments += 1;
                    self.summary.unplanned_segments += 1;
                    return Ok(vec![None; node.outputs.len()]);
                };
                let (_, captures) = branches.chosen(*condition != 0, inputs);
                self.outputs_of(&bodies[usize::from(*condition != 0)], captures.to_vec())
            }
            Op::Loop(repeat) => {
                let own = [Tensor::from_slice(&[], &[0i64])?, Tensor::from_bools(&[], &[true])?];
                let own = own.into_iter().map(|tensor| Some(InputFact::from(tensor)));
                let (before, captures) = inputs.split_at(repeat.own_inputs);
                let carried = before.get(2..).unwrap_or_default();
                self.outputs_of(&bodies[0], own.chain(carried.iter().chain(captures).cloned()).collect())?;
                Ok(vec![None; node.outputs.len()])
            }
            Op::Scan(scan) => {
                let (carried, rest) = inputs.split_at(scan.carried);
                let place = Some(InputFact::from(Tensor::from_slice(&[], &[0i64])?));
                let places = vec![place; scan.reads.len()];
                self.outputs_of(&bodies[0], [carried, &places, rest].concat())?;
                Ok(vec![None; node.outputs.len()])
            }
            _ => Ok(vec![None; node.outputs.len()]),
        }
    }
}

/// Charges what a session holds of a subgraph: a file has a constant only once that many subgraphs read.
fn charge(graph: &Graph, budget: &Budget) -> Result<(), Why> {
    let constants = graph.values.iter().filter_map(|value| value.constant.as_ref());
    let known = constants.filter(|tensor| tensor.len() <= SMALL_CONSTANT);
    let arrays: Work = known.map(|tensor| Work::array(tensor.dtype(), tensor.shape())).sum();
    budget.charge(
        Work::default(),
        arrays.bytes.saturating_add(heap::of_graph(graph.nodes.len(), graph.values.len())),
    )
}

/// The subgraphs that a run of the node's own runs, with their captures as inputs.
fn bodies(node: &Node) -> Result<Vec<Graph>, Why> {
    let with_captures = |body: &Arc<Graph>| {
        let mut body = body.as_ref().clone();
        body.inputs.append(&mut body.captures);
        body
    };
    match &*node.op {
        Op::Scan(scan) => scan.bodies(),
        op => Ok(op.operator().subgraphs().into_iter().map(with_captures).collect()),
    }
}

/// Inputs of more bytes than this go to the device once, and not with each iteration that reads them.
const LARGE: usize = 1 << 10;

impl Core {
    /// The outputs of a graph on these inputs, which are in its order. Those that planning knows are in host memory.
    /// Ends once `go_on` fails.
    pub(super) fn outputs_of(
        &self,
        entry: &Arc<Entry>,
        inputs: &[DeviceTensor],
        go_on: &GoOn,
    ) -> Result<Vec<DeviceTensor>> {
        if let Some(segmented) = entry.segmented() {
            return self.run_segments(segmented, &entry.graph, inputs, go_on);
        }
        let on_host = |(i, input): (usize, &DeviceTensor)| match entry.decides_shapes(i) {
            true => Ok(DeviceTensor::on_host(input.read()?)),
            false => Ok(input.clone()),
        };
        let inputs: Vec<DeviceTensor> = inputs.iter().enumerate().map(on_host).collect::<Result<_>>()?;
        let given = Ordered { entry: entry.clone(), inputs: inputs.iter().map(Input::Device).collect() };
        let frames = &self.plans()?.frames;
        self.executable(&given)?.run_in_place(frames, &entry.graph, &given.inputs)
    }

    fn run_segments(
        &self,
        segmented: &Segmented,
        graph: &Graph,
        inputs: &[DeviceTensor],
        go_on: &GoOn,
    ) -> Result<Vec<DeviceTensor>> {
        let mut values: HashMap<ValueId, DeviceTensor> =
            graph.inputs.iter().copied().zip(inputs.iter().cloned()).collect();
        let value = |values: &HashMap<ValueId, DeviceTensor>, id: ValueId| {
            let constant = || graph.value(id).constant.clone().map(DeviceTensor::on_host);
            let lost = || Error::invalid(format!("nothing makes '{}'", graph.value(id).name));
            values.get(&id).cloned().or_else(constant).ok_or_else(lost)
        };
        for segment in &segmented.segments {
            go_on()?;
            let inputs: Vec<Option<DeviceTensor>> = segment
                .inputs
                .iter()
                .map(|id| id.map(|id| value(&values, id)).transpose())
                .collect::<Result<_>>()?;
            let outputs = match &segment.part {
                ReadyPart::Planned(entry) => {
                    self.outputs_of(entry, &inputs.into_iter().flatten().collect::<Vec<_>>(), go_on)?
                }
                ReadyPart::Control(node, bodies) => {
                    let node = &graph.nodes[node.index()];
                    Control { core: self, node, inputs: &inputs, bodies, go_on }.outputs()?
                }
            };
            let made = segment.outputs.iter().zip(outputs);
            values.extend(made.filter_map(|(id, output)| Some(((*id)?, output))));
            segment.last_used.iter().for_each(|id| drop(values.remove(id)));
        }
        segmented.results.iter().map(|id| value(&values, *id)).collect()
    }
}

/// A run of a node with subgraphs.
struct Control<'a> {
    core: &'a Core,
    node: &'a Node,
    inputs: &'a [Option<DeviceTensor>],
    bodies: &'a [Arc<Entry>],
    go_on: &'a GoOn<'a>,
}

impl Control<'_> {
    fn outputs(&self) -> Result<Vec<DeviceTensor>> {
        match &*self.node.op {
            Op::If(branches) => self.branch(branches),
            Op::Loop(repeat) => self.repeated(repeat),
            Op::Scan(scan) => self.scanned(scan),
            _ => Err(self.refused("it runs no subgraph".into())),
        }
    }

    fn refused(&self, why: Why) -> Error {
        let fact = |input: &DeviceTensor| Fact::new(input.dtype(), input.shape());
        let facts: Vec<Option<Fact>> = self.inputs.iter().map(|input| input.as_ref().map(fact)).collect();
        node_error(self.node, &facts.iter().map(Option::as_ref).collect::<Vec<_>>(), why)
    }

    fn branch(&self, branches: &If) -> Result<Vec<DeviceTensor>> {
        let condition = self.flag(self.inputs.first().and_then(Option::as_ref))?;
        let (_, captures) = branches.chosen(condition.unwrap_or(false), self.inputs);
        let body = &self.bodies[usize::from(condition.unwrap_or(false))];
        self.core.outputs_of(body, &self.given(captures)?, self.go_on)
    }

    fn repeated(&self, repeat: &Loop) -> Result<Vec<DeviceTensor>> {
        let (own, captures) = self.inputs.split_at(repeat.own_inputs);
        let count = self.number(own.first().and_then(Option::as_ref))?;
        let mut goes_on = self.flag(own.get(1).and_then(Option::as_ref))?.unwrap_or(true);
        let mut carried = self.given(own.get(2..).unwrap_or_default())?;
        let captures = self.uploaded(&self.given(captures)?, 2 + repeat.carried)?;
        let mut lists = vec![Vec::new(); repeat.body.outputs.len() - 1 - repeat.carried];
        let mut iteration = 0i64;
        while goes_on && count.is_none_or(|count| iteration < count) {
            (self.go_on)()?;
            let own = [Tensor::from_slice(&[], &[iteration])?, Tensor::from_bools(&[], &[true])?];
            let own = own.map(DeviceTensor::on_host);
            let given: Vec<DeviceTensor> =
                own.into_iter().chain(carried).chain(captures.iter().cloned()).collect();
            let mut outputs = self.core.outputs_of(&self.bodies[0], &given, self.go_on)?;
            goes_on = self.flag(outputs.first())?.unwrap_or(true);
            let of_lists = outputs.split_off(1 + repeat.carried);
            lists.iter_mut().zip(of_lists).for_each(|(list, element)| list.push(element));
            carried = outputs.into_iter().skip(1).collect();
            iteration += 1;
        }
        let declared = repeat.body.outputs.iter().skip(1 + repeat.carried);
        for (list, id) in lists.into_iter().zip(declared) {
            carried.push(self.stacked(&list, repeat.body.value(*id), 0)?);
        }
        Ok(carried)
    }

    fn scanned(&self, scan: &Scan) -> Result<Vec<DeviceTensor>> {
        let (carried, rest) = self.inputs.split_at(scan.carried);
        let mut carried = self.given(carried)?;
        let fixed = self.uploaded(&self.given(rest)?, scan.carried + scan.reads.len())?;
        let mut length = None;
        for (source, reads) in fixed.iter().zip(&scan.reads) {
            let axis = axes::axis(reads.axis, source.shape().len()).map_err(|why| self.refused(why))?;
            let size = source.shape()[axis];
            if *length.get_or_insert(size) != size {
                return Err(self.refused("its inputs have different numbers of slices".into()));
            }
        }
        let length = length.unwrap_or(0);
        let mut lists = vec![Vec::new(); scan.writes.len()];
        for iteration in 0..length {
            (self.go_on)()?;
            let place = |reads: &scan::Slices| {
                let at = if reads.reverse { length - 1 - iteration } else { iteration };
                Ok(DeviceTensor::on_host(Tensor::from_slice(&[], &[at as i64])?))
            };
            let places = scan.reads.iter().map(place).collect::<Result<Vec<_>>>()?;
            let given: Vec<DeviceTensor> =
                carried.into_iter().chain(places).chain(fixed.iter().cloned()).collect();
            let mut outputs = self.core.outputs_of(&self.bodies[0], &given, self.go_on)?;
            let of_lists = outputs.split_off(scan.carried);
            lists.iter_mut().zip(of_lists).for_each(|(list, element)| list.push(element));
            carried = outputs;
        }
        let declared = scan.body.outputs.iter().skip(scan.carried);
        for ((mut list, writes), id) in lists.into_iter().zip(&scan.writes).zip(declared) {
            if writes.reverse {
                list.reverse();
            }
            carried.push(self.stacked(&list, scan.body.value(*id), writes.axis)?);
        }
        Ok(carried)
    }

    fn given(&self, inputs: &[Option<DeviceTensor>]) -> Result<Vec<DeviceTensor>> {
        let given = |input: &Option<DeviceTensor>| {
            input.clone().ok_or_else(|| self.refused("an input of its subgraph is left out".into()))
        };
        inputs.iter().map(given).collect()
    }

    /// The values that all iterations of the first subgraph read, on the device where they are large. `first`: the number of the
    /// subgraph's input that takes the first of them.
    fn uploaded(&self, values: &[DeviceTensor], first: usize) -> Result<Vec<DeviceTensor>> {
        let upload = |(i, value): (usize, &DeviceTensor)| match Input::Device(value).host() {
            Some(tensor) if tensor.bytes().len() > LARGE && !self.bodies[0].decides_shapes(first + i) => {
                DeviceTensor::upload(self.core.gpu()?, tensor)
            }
            _ => Ok(value.clone()),
        };
        values.iter().enumerate().map(upload).collect()
    }

    /// A bool of one element.
    fn flag(&self, value: Option<&DeviceTensor>) -> Result<Option<bool>> {
        let Some(value) = value else { return Ok(None) };
        if (value.dtype(), value.shape().iter().product()) != (DType::Bool, 1) {
            let (dtype, shape) = (value.dtype(), value.shape());
            return Err(self.refused(format!("a condition is {dtype}{shape:?}, and must be one bool").into()));
        }
        Ok(value.read()?.bytes().first().map(|byte| *byte != 0))
    }

    /// An int64 of one element.
    fn number(&self, value: Option<&DeviceTensor>) -> Result<Option<i64>> {
        let Some(value) = value else { return Ok(None) };
        match value.read()?.to_vec::<i64>()?[..] {
            [number] => Ok(Some(number)),
            _ => Err(self.refused("the number of iterations must be one integer".into())),
        }
    }

    /// The elements of a list along a new axis.
    fn stacked(&self, list: &[DeviceTensor], declared: &Value, axis: i64) -> Result<DeviceTensor> {
        let refused = |why| self.refused(why);
        let Some(first) = list.first() else {
            let (dtype, shape) = repeat::of_no_iterations(declared, axis).map_err(refused)?;
            return Ok(DeviceTensor::on_host(Tensor::zeros(dtype, &shape)?));
        };
        let alike = |other: &DeviceTensor| (other.dtype(), other.shape()) == (first.dtype(), first.shape());
        if let Some(other) = list.iter().find(|other| !alike(other)) {
            let (name, a, b) = (&declared.name, first.shape(), other.shape());
            return Err(refused(
                format!("the iterations give '{name}' different shapes: {a:?} and {b:?}").into(),
            ));
        }
        let rows = match DeviceTensor::stacked(self.core.gpu()?, list)? {
            Some(rows) => rows,
            None => {
                let arrays = list.iter().map(|element| Array::from_tensor(&element.read()?).map_err(refused));
                let arrays: Vec<Array> = arrays.collect::<Result<_>>()?;
                let joined = Array::joined(&arrays.iter().collect::<Vec<_>>()).map_err(refused)?;
                let shape = [&[list.len()], first.shape()].concat();
                DeviceTensor::on_host(joined.reshaped(&shape).to_tensor().map_err(refused)?)
            }
        };
        let axis = axes::axis(axis, rows.shape().len()).map_err(refused)?;
        if axis == 0 { Ok(rows) } else { self.moved(&rows, axis) }
    }

    /// The tensor with its first axis in another place.
    fn moved(&self, rows: &DeviceTensor, axis: usize) -> Result<DeviceTensor> {
        let graph = scan::moving_first_axis(rows.shape().len(), axis).map_err(|why| self.refused(why))?;
        let (device, options) = (&self.core.device, &self.core.options);
        let entry = Arc::new(Entry::new(Arc::new(graph), Vec::new(), device, options, &[])?);
        let mut outputs = self.core.outputs_of(&entry, std::slice::from_ref(rows), self.go_on)?;
        outputs.pop().ok_or_else(|| self.refused("a transposition has no result".into()))
    }
}

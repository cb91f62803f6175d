//! Running a graph that is cut into segments. Values stay on the device until the host must look at them.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;

use super::entry::{Entry, Ordered};
use super::{Core, SessionOptions};
use crate::array::{Array, Elsewhere, HostValue, Leaf};
use crate::budget::Budget;
use crate::error::Why;
use crate::facts::{Fact, InputFact, error_of_node, node_error};
use crate::gpu::{DeviceTensor, Input};
use crate::graph::{NodeId, Value, ValueId};
use crate::interrupt::GoOn;
use crate::ops::branch::If;
use crate::ops::repeat::{self, Loop};
use crate::ops::scan::{self, Scan};
use crate::ops::sequence_map::SequenceMap;
use crate::ops::{Graph, Node, Op, axes, inline};
use crate::plan::{OutputSource, Plan};
use crate::segments::{Look, Part, Segments};
use crate::{
    DType, Datum, Device, Error, HostNode, Kind, PlanSummary, Result, SyncPoint, Tensor, passes, reference,
};

/// The segments of a graph, in the order in which they run.
#[derive(Debug)]
pub(crate) struct Segmented {
    segments: Vec<ReadySegment>,
    /// The graph's outputs, and the values that are kept besides.
    results: Vec<ValueId>,
    /// Where the host looks, except within the subgraphs.
    sync_points: Vec<SyncPoint>,
    /// The nodes that the host runs, except within the subgraphs.
    host_nodes: Vec<HostNode>,
}

/// A value of a run: a tensor, or a container of tensors, wherever they lie.
pub(crate) type RunValue = Datum<DeviceTensor>;

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
    /// A node that the host runs.
    Host(NodeId),
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
            inline::charge(&graph, budget).map_err(|why| node_error(node, &[], why))?;
            entry(passes::run_within(graph, budget)?)
        };
        let mut segments = Vec::with_capacity(cut.all.len());
        for segment in cut.all {
            let part = match segment.part {
                Part::Planned(graph) => ReadyPart::Planned(entry(*graph)?),
                Part::Control(id) => {
                    let node = &graph.nodes[id.index()];
                    let bodies = bodies(node, &cut.kinds).map_err(|why| node_error(node, &[], why))?;
                    ReadyPart::Control(
                        id,
                        bodies.into_iter().map(|graph| body(node, graph)).collect::<Result<_>>()?,
                    )
                }
                Part::Host(id) => ReadyPart::Host(id),
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
        let host_nodes = segments.iter().filter_map(|segment| match segment.part {
            ReadyPart::Host(id) => Some(HostNode::new(
                &graph.nodes[id.index()],
                !graph.nodes[id.index()].runs_on_host(&cut.kinds),
            )),
            _ => None,
        });
        let host_nodes = host_nodes.collect();
        Ok(Segmented { segments, results, sync_points: cut.looks.iter().map(point).collect(), host_nodes })
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

    /// The most plans that a run has.
    pub(super) fn plans_of_a_run(&self) -> usize {
        self.entries().map(|entry| entry.plans_of_a_run()).sum()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.segments.iter().flat_map(|segment| match &segment.part {
            ReadyPart::Planned(entry) => std::slice::from_ref(entry),
            ReadyPart::Control(_, bodies) => bodies,
            ReadyPart::Host(_) => &[],
        })
    }
}

/// Makes the plan of a graph for these inputs.
pub(super) type PlanFor<'a> = dyn FnMut(&Arc<Entry>, &[InputFact]) -> Result<Plan> + 'a;

/// What each plan of a run is made for: those that only a run can make are left out.
pub(super) struct Survey<'a> {
    pub(super) core: &'a Core,
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
        let entry = &self.core.settled(entry.clone(), &|i, _| Ok(inputs[i].clone()))?;
        if entry.decided().is_some() {
            self.summary.segments += 1;
            self.summary.unplanned_segments += 1;
            return Ok(unknown);
        }
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
        self.summary.host_nodes.extend(segmented.host_nodes.iter().cloned());
        self.summary.nodes += segmented.host_nodes.len();
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
                ReadyPart::Host(node) => known_outputs(&graph.nodes[node.index()], &inputs),
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
            Op::SequenceMap(map) => {
                let (own, captures) = inputs.split_at(map.own_inputs);
                self.outputs_of(&bodies[0], [vec![None; own.len()], captures.to_vec()].concat())?;
                Ok(vec![None; node.outputs.len()])
            }
            _ => Ok(vec![None; node.outputs.len()]),
        }
    }
}

/// What is known of the outputs of a node that the host runs, before it runs.
fn known_outputs(node: &Node, inputs: &[Option<InputFact>]) -> Vec<Option<InputFact>> {
    let unknown = || vec![None; node.outputs.len()];
    let is_known = |(id, input): (&Option<ValueId>, &Option<InputFact>)| id.is_none() || input.is_some();
    if node.op.operator().host().is_some() || !node.inputs.iter().zip(inputs).all(is_known) {
        return unknown();
    }
    let fact = |input: &InputFact| Fact::new(input.dtype, input.shape.as_slice());
    let facts: Vec<Option<Fact>> = inputs.iter().map(|input| input.as_ref().map(fact)).collect();
    match node.op.infer(&facts.iter().map(Option::as_ref).collect::<Vec<_>>()) {
        Ok(outputs) => {
            let known = outputs
                .into_iter()
                .map(|fact| Some(InputFact { dtype: fact.dtype, shape: fact.shape.to_vec(), value: None }));
            known.chain(unknown()).take(node.outputs.len()).collect()
        }
        // Its shapes depend on elements that only a run knows.
        Err(_) => unknown(),
    }
}

/// The subgraphs that a run of the node's own runs, with their captures as inputs.
fn bodies(node: &Node, kinds: &[Kind]) -> Result<Vec<Graph>, Why> {
    let kinds: Vec<Option<&Kind>> = node.inputs.iter().map(|id| id.map(|id| &kinds[id.index()])).collect();
    let with_captures = |body: &Arc<Graph>, given: &[Option<&Kind>]| {
        let mut body = body.as_ref().clone();
        body.give_kinds(given);
        body.inputs.append(&mut body.captures);
        body
    };
    Ok(match &*node.op {
        Op::Scan(scan) => {
            let (carried, rest) = kinds.split_at(scan.carried.min(kinds.len()));
            let given = [carried, &vec![None; scan.reads.len()], rest].concat();
            let mut bodies = scan.bodies()?;
            bodies.iter_mut().for_each(|body| body.give_kinds(&given));
            bodies
        }
        Op::If(branches) => {
            let of = |condition: bool| {
                let (body, captures) = branches.chosen(condition, &kinds);
                with_captures(body, captures)
            };
            vec![of(false), of(true)]
        }
        Op::Loop(repeat) => vec![with_captures(&repeat.body, &repeat.given_kinds(&kinds))],
        Op::SequenceMap(map) => {
            let given = map.given_kinds(&kinds);
            vec![with_captures(&map.body, &given.iter().map(Some).collect::<Vec<_>>())]
        }
        _ => Vec::new(),
    })
}

/// Inputs of more bytes than this go to the device once, and not with each iteration that reads them.
const LARGE: usize = 1 << 10;

impl Core {
    /// The outputs of a graph on these inputs, which are in its order. Those that planning knows are in host memory.
    /// Ends once `go_on` fails.
    pub(super) fn outputs_of(
        &self,
        entry: &Arc<Entry>,
        inputs: &[RunValue],
        go_on: &GoOn,
    ) -> Result<Vec<RunValue>> {
        let entry = &self.settled(entry.clone(), &|i, by_value| match &inputs[i] {
            Datum::Tensor(tensor) => {
                let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
                let value = if by_value { Some(tensor.read()?) } else { None };
                Ok(Some(InputFact { dtype, shape, value }))
            }
            _ => Ok(None),
        })?;
        if let Some(segmented) = entry.segmented() {
            return self.run_segments(segmented, &entry.graph, inputs, go_on);
        }
        let on_host = |(i, input): (usize, &RunValue)| {
            let Datum::Tensor(input) = input else { return Err(entry.takes_tensors(i)) };
            match entry.decides_shapes(i) {
                true => Ok(DeviceTensor::on_host(input.read()?)),
                false => Ok(input.clone()),
            }
        };
        let inputs: Vec<DeviceTensor> = inputs.iter().enumerate().map(on_host).collect::<Result<_>>()?;
        let given = Ordered { entry: entry.clone(), inputs: inputs.iter().map(Input::Device).collect() };
        let frames = &self.plans()?.frames;
        let outputs = self.executable(&given)?.run_in_place(frames, &entry.graph, &given.inputs)?;
        Ok(outputs.into_iter().map(Datum::Tensor).collect())
    }

    fn run_segments(
        &self,
        segmented: &Segmented,
        graph: &Graph,
        inputs: &[RunValue],
        go_on: &GoOn,
    ) -> Result<Vec<RunValue>> {
        let mut values: HashMap<ValueId, RunValue> =
            graph.inputs.iter().copied().zip(inputs.iter().cloned()).collect();
        let value = |values: &HashMap<ValueId, RunValue>, id: ValueId| {
            let constant = || graph.value(id).constant.clone().map(on_host);
            let lost = || Error::invalid(format!("nothing makes '{}'", graph.value(id).name));
            values.get(&id).cloned().or_else(constant).ok_or_else(lost)
        };
        for segment in &segmented.segments {
            go_on()?;
            let inputs: Vec<Option<RunValue>> = segment
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
                ReadyPart::Host(node) => self.on_host(&graph.nodes[node.index()], &inputs)?,
            };
            let made = segment.outputs.iter().zip(outputs);
            values.extend(made.filter_map(|(id, output)| Some(((*id)?, output))));
            segment.last_used.iter().for_each(|id| drop(values.remove(id)));
        }
        segmented.results.iter().map(|id| value(&values, *id)).collect()
    }

    /// The outputs of a node that the host runs. What it does not read stays where it lies.
    fn on_host(&self, node: &Node, inputs: &[Option<RunValue>]) -> Result<Vec<RunValue>> {
        let budget = self.options.reference_limits.as_ref().map(Budget::new);
        let held: Vec<Option<HostValue>> = inputs.iter().map(|input| input.as_ref().map(held)).collect();
        let outputs = reference::on_host(node, &held, budget.as_ref())?;
        outputs.iter().map(|output| placed(node, output)).collect()
    }
}

impl Elsewhere for DeviceTensor {
    fn dtype(&self) -> DType {
        DeviceTensor::dtype(self)
    }

    fn shape(&self) -> &[usize] {
        DeviceTensor::shape(self)
    }

    fn array(&self) -> Result<Array> {
        Array::from_tensor(&self.read()?).map_err(|why| why.error("a value", Error::Tensor))
    }
}

/// The value for the host executor.
fn held(value: &RunValue) -> HostValue {
    let leaf = |tensor: &DeviceTensor| Ok::<_, Infallible>(Leaf::Elsewhere(Arc::new(tensor.clone())));
    match value.try_map(&mut { leaf }) {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

/// The value of the host executor, where it lies.
fn placed(node: &Node, value: &HostValue) -> Result<RunValue> {
    let tensor = |leaf: &Leaf| match leaf {
        Leaf::Array(array) => Ok(DeviceTensor::on_host(array.to_tensor()?)),
        Leaf::Elsewhere(tensor) => match (tensor.as_ref() as &dyn Any).downcast_ref::<DeviceTensor>() {
            Some(tensor) => Ok(tensor.clone()),
            None => Ok(DeviceTensor::on_host(leaf.array()?.to_tensor()?)),
        },
    };
    value.try_map(&mut { tensor }).map_err(|why| node_error(node, &[], why))
}

fn on_host(tensor: Tensor) -> RunValue {
    Datum::Tensor(DeviceTensor::on_host(tensor))
}

/// A run of a node with subgraphs.
struct Control<'a> {
    core: &'a Core,
    node: &'a Node,
    inputs: &'a [Option<RunValue>],
    bodies: &'a [Arc<Entry>],
    go_on: &'a GoOn<'a>,
}

impl Control<'_> {
    fn outputs(&self) -> Result<Vec<RunValue>> {
        match &*self.node.op {
            Op::If(branches) => self.branch(branches),
            Op::Loop(repeat) => self.repeated(repeat),
            Op::Scan(scan) => self.scanned(scan),
            Op::SequenceMap(map) => self.mapped(map),
            _ => Err(self.refused("it runs no subgraph".into())),
        }
    }

    fn refused(&self, why: Why) -> Error {
        let text =
            |input: &Option<RunValue>| input.as_ref().map_or("-".into(), |input| held(input).to_string());
        error_of_node(self.node, &self.inputs.iter().map(text).collect::<Vec<_>>(), why)
    }

    fn branch(&self, branches: &If) -> Result<Vec<RunValue>> {
        let condition = self.flag(self.inputs.first().and_then(Option::as_ref))?;
        let (_, captures) = branches.chosen(condition.unwrap_or(false), self.inputs);
        let body = &self.bodies[usize::from(condition.unwrap_or(false))];
        self.core.outputs_of(body, &self.given(captures)?, self.go_on)
    }

    fn repeated(&self, repeat: &Loop) -> Result<Vec<RunValue>> {
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
            let own = own.map(on_host);
            let given: Vec<RunValue> =
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
            carried.push(Datum::Tensor(self.stacked(&list, repeat.body.value(*id), 0)?));
        }
        Ok(carried)
    }

    fn scanned(&self, scan: &Scan) -> Result<Vec<RunValue>> {
        let (carried, rest) = self.inputs.split_at(scan.carried);
        let mut carried = self.given(carried)?;
        let fixed = self.uploaded(&self.given(rest)?, scan.carried + scan.reads.len())?;
        let mut length = None;
        for (source, reads) in fixed.iter().zip(&scan.reads) {
            let shape = self.tensor(source)?.shape();
            let axis = axes::axis(reads.axis, shape.len()).map_err(|why| self.refused(why))?;
            let size = shape[axis];
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
                Ok(on_host(Tensor::from_slice(&[], &[at as i64])?))
            };
            let places = scan.reads.iter().map(place).collect::<Result<Vec<_>>>()?;
            let given: Vec<RunValue> =
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
            carried.push(Datum::Tensor(self.stacked(&list, scan.body.value(*id), writes.axis)?));
        }
        Ok(carried)
    }

    fn mapped(&self, map: &SequenceMap) -> Result<Vec<RunValue>> {
        let (own, captures) = self.inputs.split_at(map.own_inputs);
        let length = map.length(own).map_err(|why| self.refused(why))?;
        let mut lists = vec![Vec::new(); map.body.outputs.len()];
        for iteration in 0..length {
            (self.go_on)()?;
            let mut given = map.given(own, iteration).map_err(|why| self.refused(why))?;
            given.extend(captures.iter().cloned());
            let outputs = self.core.outputs_of(&self.bodies[0], &self.given(&given)?, self.go_on)?;
            lists.iter_mut().zip(outputs).for_each(|(list, element)| list.push(element));
        }
        Ok(lists.into_iter().map(RunValue::from).collect())
    }

    /// The tensor, where no container may be.
    fn tensor<'v>(&self, value: &'v RunValue) -> Result<&'v DeviceTensor> {
        let kind = value.kind();
        value.tensor().ok_or_else(|| self.refused(format!("a {kind} stands where a tensor must be").into()))
    }

    fn given(&self, inputs: &[Option<RunValue>]) -> Result<Vec<RunValue>> {
        let given = |input: &Option<RunValue>| {
            input.clone().ok_or_else(|| self.refused("an input of its subgraph is left out".into()))
        };
        inputs.iter().map(given).collect()
    }

    /// The values that all iterations of the first subgraph read, on the device where they are large. `first`: the number of the
    /// subgraph's input that takes the first of them.
    fn uploaded(&self, values: &[RunValue], first: usize) -> Result<Vec<RunValue>> {
        let upload =
            |(i, value): (usize, &RunValue)| match value.tensor().and_then(|it| Input::Device(it).host()) {
                Some(tensor) if tensor.bytes().len() > LARGE && !self.bodies[0].decides_shapes(first + i) => {
                    Ok(Datum::Tensor(DeviceTensor::upload(self.core.gpu()?, tensor)?))
                }
                _ => Ok(value.clone()),
            };
        values.iter().enumerate().map(upload).collect()
    }

    /// A bool of one element.
    fn flag(&self, value: Option<&RunValue>) -> Result<Option<bool>> {
        let Some(value) = value else { return Ok(None) };
        let value = self.tensor(value)?;
        if (value.dtype(), value.shape().iter().product()) != (DType::Bool, 1) {
            let (dtype, shape) = (value.dtype(), value.shape());
            return Err(self.refused(format!("a condition is {dtype}{shape:?}, and must be one bool").into()));
        }
        Ok(value.read()?.bytes().first().map(|byte| *byte != 0))
    }

    /// An int64 of one element.
    fn number(&self, value: Option<&RunValue>) -> Result<Option<i64>> {
        let Some(value) = value else { return Ok(None) };
        match self.tensor(value)?.read()?.to_vec::<i64>()?[..] {
            [number] => Ok(Some(number)),
            _ => Err(self.refused("the number of iterations must be one integer".into())),
        }
    }

    /// The elements of a list along a new axis.
    fn stacked(&self, list: &[RunValue], declared: &Value, axis: i64) -> Result<DeviceTensor> {
        let refused = |why| self.refused(why);
        let list: Vec<DeviceTensor> =
            list.iter().map(|each| self.tensor(each).cloned()).collect::<Result<_>>()?;
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
        let rows = match DeviceTensor::stacked(self.core.gpu()?, &list)? {
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
        let mut outputs = self.core.outputs_of(&entry, &[Datum::Tensor(rows.clone())], self.go_on)?;
        let lost = || self.refused("a transposition has no result".into());
        Ok(self.tensor(&outputs.pop().ok_or_else(lost)?)?.clone())
    }
}

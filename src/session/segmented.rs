//! Running a graph that is cut into segments. Values stay on the device until the host must look at them.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use super::entry::{Entry, Given, Ordered};
use super::{Core, SessionOptions};
use crate::array::{Array, Elsewhere, HostValue, Leaf};
use crate::budget::Budget;
use crate::error::Why;
use crate::facts::{Fact, InputFact, error_of_node, node_error};
use crate::gpu::{DeviceTensor, Feed, Input, IterationList, Stretch};
use crate::graph::{NodeId, Value, ValueId};
use crate::interrupt::GoOn;
use crate::ops::branch::If;
use crate::ops::mover::Mover;
use crate::ops::repeat::{self, Loop};
use crate::ops::scan::{self, Scan};
use crate::ops::sequence_map::SequenceMap;
use crate::ops::{Graph, Node, Op, axes, inline};
use crate::plan::{OutputSource, Plan};
use crate::segments::{Look, Part, Segments};
use crate::{
    DType, Datum, Device, Error, HostNode, KernelTime, Kind, PlanSummary, Result, SyncPoint, Tensor, passes,
    reference,
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

/// What all plans of a run are to heed.
pub(super) struct Course<'a> {
    /// Fails once the run is to end.
    pub(super) go_on: &'a GoOn<'a>,
    /// Where the time of each kernel goes, if that is to be measured.
    pub(super) times: Option<&'a Mutex<Vec<KernelTime>>>,
    /// What the nodes that the host runs may cost, all together.
    pub(super) budget: Option<&'a Budget>,
}

impl Course<'_> {
    fn check(&self) -> Result<()> {
        (self.go_on)()
    }
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
            "a run has {count} segments, between which the host looks at values, so it has no single plan; use \
             `Session::run_to_device`, which takes tensors from the device and leaves its outputs there"
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
            OutputSource::Device { dtype, shape, .. } | OutputSource::Appended { dtype, shape, .. } => {
                InputFact { dtype: *dtype, shape: shape.clone(), value: None, room: None }
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
                let (carried, rest) = scan.taken(inputs).split_at(scan.carried);
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
            let known = outputs.into_iter().map(|fact| {
                Some(InputFact { dtype: fact.dtype, shape: fact.shape.to_vec(), value: None, room: None })
            });
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
            let taken = scan.taken(&kinds);
            let (carried, rest) = taken.split_at(scan.carried.min(taken.len()));
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
    pub(super) fn outputs_of(
        &self,
        entry: &Arc<Entry>,
        inputs: &[RunValue],
        course: &Course,
    ) -> Result<Vec<RunValue>> {
        let entry = &self.settled(entry.clone(), &|i, by_value| match &inputs[i] {
            Datum::Tensor(tensor) => Given::known(&Input::Device(tensor), by_value),
            _ => Ok(None),
        })?;
        if let Some(segmented) = entry.segmented() {
            return self.run_segments(segmented, &entry.graph, inputs, course);
        }
        let inputs = tensors(entry, inputs)?;
        let given = Ordered { entry: entry.clone(), inputs: inputs.iter().map(Input::Device).collect() };
        if let Some(times) = course.times {
            let executable = self.executable(&given)?;
            let mut measured = executable.profile(&self.plans()?.frames, &entry.graph, &given.inputs)?;
            times.lock().unwrap_or_else(PoisonError::into_inner).append(&mut measured);
        }
        let outputs = self.run_in_place(&given)?;
        Ok(outputs.into_iter().map(Datum::Tensor).collect())
    }

    fn run_segments(
        &self,
        segmented: &Segmented,
        graph: &Graph,
        inputs: &[RunValue],
        course: &Course,
    ) -> Result<Vec<RunValue>> {
        let mut values: HashMap<ValueId, RunValue> =
            graph.inputs.iter().copied().zip(inputs.iter().cloned()).collect();
        let value = |values: &HashMap<ValueId, RunValue>, id: ValueId| {
            let constant = || graph.value(id).constant.clone().map(on_host);
            let lost = || Error::invalid(format!("nothing makes '{}'", graph.value(id).name));
            values.get(&id).cloned().or_else(constant).ok_or_else(lost)
        };
        for segment in &segmented.segments {
            course.check()?;
            let inputs: Vec<Option<RunValue>> = segment
                .inputs
                .iter()
                .map(|id| id.map(|id| value(&values, id)).transpose())
                .collect::<Result<_>>()?;
            let outputs = match &segment.part {
                ReadyPart::Planned(entry) => {
                    self.outputs_of(entry, &inputs.into_iter().flatten().collect::<Vec<_>>(), course)?
                }
                ReadyPart::Control(node, bodies) => {
                    let node = &graph.nodes[node.index()];
                    Control { core: self, node, inputs: &inputs, bodies, course }.outputs()?
                }
                ReadyPart::Host(node) => self.on_host(&graph.nodes[node.index()], &inputs, course)?,
            };
            let made = segment.outputs.iter().zip(outputs);
            values.extend(made.filter_map(|(id, output)| Some(((*id)?, output))));
            segment.last_used.iter().for_each(|id| drop(values.remove(id)));
        }
        segmented.results.iter().map(|id| value(&values, *id)).collect()
    }

    /// The outputs of a node that the host runs. What it does not read stays where it lies.
    fn on_host(&self, node: &Node, inputs: &[Option<RunValue>], course: &Course) -> Result<Vec<RunValue>> {
        let is_read = |(i, input): &(usize, &Option<RunValue>)| input.is_some() && node.is_read_on_host(*i);
        let read: Vec<&RunValue> =
            inputs.iter().enumerate().filter(is_read).filter_map(|(_, input)| input.as_ref()).collect();
        let mut read = read_together(&read)?.into_iter();
        let held = inputs.iter().enumerate().map(|(i, input)| {
            let read = if input.is_some() && node.is_read_on_host(i) { read.next() } else { None };
            read.map(|datum| placed_on_host(&datum)).as_ref().or(input.as_ref()).map(held)
        });
        let held: Vec<Option<HostValue>> = held.collect();
        if let Some(outputs) = self.moved_for(node, inputs, &held, course)? {
            return Ok(outputs);
        }
        let outputs = reference::on_host(node, &held, course.budget)?;
        outputs.iter().map(|output| placed(node, output)).collect()
    }

    /// The outputs of a node that only moves elements between tensors and sequences, where these lie on the device.
    fn moved_for(
        &self,
        node: &Node,
        inputs: &[Option<RunValue>],
        held: &[Option<HostValue>],
        course: &Course,
    ) -> Result<Option<Vec<RunValue>>> {
        let is_placed = |value: &RunValue| value.tensor().is_some_and(|tensor| tensor.counted().is_some());
        let refused = |why: Why| {
            let text = |value: &Option<HostValue>| value.as_ref().map_or("-".into(), HostValue::to_string);
            error_of_node(node, &held.iter().map(text).collect::<Vec<_>>(), why)
        };
        match (&*node.op, inputs.first().and_then(Option::as_ref)) {
            (Op::SplitToSequence(split), Some(whole)) if is_placed(whole) => {
                let held: Vec<Option<&HostValue>> = held.iter().map(Option::as_ref).collect();
                let Some(mover) = split.mover(&held).map_err(refused)? else { return Ok(None) };
                let parts = self.moved(mover, std::slice::from_ref(whole), course)?;
                Ok(Some(vec![parts.into()]))
            }
            (Op::ConcatFromSequence(join), Some(Datum::Sequence(elements)))
                if !elements.is_empty() && elements.iter().all(is_placed) =>
            {
                let Some(Some(Datum::Sequence(held))) = held.first() else { return Ok(None) };
                let mover = join.mover(held).map_err(refused)?;
                self.moved(mover, elements, course).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// What a mover makes of tensors.
    fn moved(&self, mover: Mover, inputs: &[RunValue], course: &Course) -> Result<Vec<RunValue>> {
        let entry = {
            let mut movers = self.movers.lock().unwrap_or_else(PoisonError::into_inner);
            let found = movers.iter().position(|(own, _)| *own == mover);
            match found.and_then(|at| movers.remove(at)) {
                Some(found) => {
                    let entry = found.1.clone();
                    movers.push_front(found);
                    entry
                }
                None => {
                    let graph = mover.graph().map_err(|why| why.error("a mover", Error::Gpu))?;
                    let entry = Entry::new(Arc::new(graph), Vec::new(), &self.device, &self.options, &[])?;
                    let entry = Arc::new(entry);
                    self.plans()?.make_more_room_for(1);
                    movers.push_front((mover, entry.clone()));
                    movers.truncate(MOST_MOVERS);
                    entry
                }
            }
        };
        self.outputs_of(&entry, inputs, course)
    }
}

/// The number of movers that a session keeps.
const MOST_MOVERS: usize = 64;

/// The tensors that a graph takes. Those that decide shapes are in host memory.
fn tensors(entry: &Entry, inputs: &[RunValue]) -> Result<Vec<DeviceTensor>> {
    let tensor = |(i, input): (usize, &RunValue)| match input {
        Datum::Tensor(input) => Ok(input.clone()),
        _ => Err(entry.takes_tensors(i)),
    };
    let mut tensors: Vec<DeviceTensor> = inputs.iter().enumerate().map(tensor).collect::<Result<_>>()?;
    let decide: Vec<usize> = (0..tensors.len()).filter(|&i| entry.decides_shapes(i)).collect();
    let read = DeviceTensor::read_all(&decide.iter().map(|&i| &tensors[i]).collect::<Vec<_>>())?;
    decide.into_iter().zip(read).for_each(|(i, tensor)| tensors[i] = DeviceTensor::on_host(tensor));
    Ok(tensors)
}

/// The values in host memory, read with as few submissions as may be.
pub(super) fn read_together(values: &[&RunValue]) -> Result<Vec<Datum>> {
    let mut tensors: Vec<DeviceTensor> = Vec::new();
    let mut collect = |tensor: &DeviceTensor| {
        tensors.push(tensor.clone());
        Ok::<_, Infallible>(())
    };
    for value in values {
        match value.try_map(&mut collect) {
            Ok(_) => {}
            Err(never) => match never {},
        }
    }
    let mut read = DeviceTensor::read_all(&tensors.iter().collect::<Vec<_>>())?.into_iter();
    let mut next = |_: &DeviceTensor| read.next().ok_or_else(|| Error::Gpu("a value was not read".into()));
    values.iter().map(|value| value.try_map(&mut next)).collect()
}

/// A value of the host for a run.
pub(super) fn placed_on_host(datum: &Datum) -> RunValue {
    let on_host = |tensor: &Tensor| Ok::<_, Infallible>(DeviceTensor::on_host(tensor.clone()));
    match datum.try_map(&mut { on_host }) {
        Ok(placed) => placed,
        Err(never) => match never {},
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

/// The iterations of a subgraph that are left.
struct Repetition<'a> {
    /// Where each of its inputs comes from.
    feeds: &'a [Feed],
    /// The input that output 0 must pass on, or output 0 must be true, for the iterations to go on.
    condition: Option<usize>,
    /// What the iterations before have added to each list.
    lists: &'a [Vec<RunValue>],
    /// Whether the first iteration adds the last element of each list.
    reversed: &'a [bool],
    /// The number of iterations before, and that of all.
    first: usize,
    all: usize,
}

/// A run of a node with subgraphs.
struct Control<'a> {
    core: &'a Core,
    node: &'a Node,
    inputs: &'a [Option<RunValue>],
    bodies: &'a [Arc<Entry>],
    course: &'a Course<'a>,
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
        self.core.outputs_of(body, &self.given(captures)?, self.course)
    }

    fn repeated(&self, repeat: &Loop) -> Result<Vec<RunValue>> {
        let (own, captures) = self.inputs.split_at(repeat.own_inputs);
        let looked_at = self.on_host(&own[..own.len().min(2)])?;
        let count = self.number(looked_at.first().and_then(Option::as_ref))?;
        let mut goes_on = self.flag(looked_at.get(1).and_then(Option::as_ref))?.unwrap_or(true);
        let mut carried = self.given(own.get(2..).unwrap_or_default())?;
        let captures = self.uploaded(&self.given(captures)?, 2 + repeat.carried)?;
        let mut lists = vec![Vec::new(); repeat.body.outputs.len() - 1 - repeat.carried];
        let mut feeds = vec![Feed::Number { down: false }, Feed::Same];
        feeds.extend((1..=repeat.carried).map(Feed::Carried));
        feeds.extend(captures.iter().map(|_| Feed::Same));
        let mut iteration = 0i64;
        while goes_on && count.is_none_or(|count| iteration < count) {
            self.course.check()?;
            let own = [Tensor::from_slice(&[], &[iteration])?, Tensor::from_bools(&[], &[true])?];
            let own = own.map(on_host);
            let given: Vec<RunValue> =
                own.into_iter().chain(carried).chain(captures.iter().cloned()).collect();
            if let Some(count) = count.filter(|count| *count > iteration + 1)
                && let (Ok(first), Ok(all)) = (usize::try_from(iteration), usize::try_from(count))
                && let Some((carried, lists)) = self.steady(
                    &given,
                    Repetition {
                        feeds: &feeds,
                        condition: Some(1),
                        lists: &lists,
                        reversed: &vec![false; lists.len()],
                        first,
                        all,
                    },
                )?
            {
                return Ok(carried.into_iter().chain(lists).map(Datum::Tensor).collect());
            }
            let mut outputs = self.core.outputs_of(&self.bodies[0], &given, self.course)?;
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
        let (carried, rest) = scan.taken(self.inputs).split_at(scan.carried);
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
        let mut feeds: Vec<Feed> = (0..scan.carried).map(Feed::Carried).collect();
        feeds.extend(scan.reads.iter().map(|reads| Feed::Number { down: reads.reverse }));
        feeds.extend(fixed.iter().map(|_| Feed::Same));
        let reversed: Vec<bool> = scan.writes.iter().map(|writes| writes.reverse).collect();
        for iteration in 0..length {
            self.course.check()?;
            let place = |reads: &scan::Slices| {
                let at = if reads.reverse { length - 1 - iteration } else { iteration };
                Ok(on_host(Tensor::from_slice(&[], &[at as i64])?))
            };
            let places = scan.reads.iter().map(place).collect::<Result<Vec<_>>>()?;
            let given: Vec<RunValue> =
                carried.into_iter().chain(places).chain(fixed.iter().cloned()).collect();
            let repetition = Repetition {
                feeds: &feeds,
                condition: None,
                lists: &lists,
                reversed: &reversed,
                first: iteration,
                all: length,
            };
            if iteration + 1 < length
                && let Some((last, rows)) = self.steady(&given, repetition)?
            {
                let mut outputs: Vec<RunValue> = last.into_iter().map(Datum::Tensor).collect();
                for (rows, writes) in rows.into_iter().zip(&scan.writes) {
                    outputs.push(Datum::Tensor(self.with_axis(rows, writes.axis)?));
                }
                return Ok(outputs);
            }
            let mut outputs = self.core.outputs_of(&self.bodies[0], &given, self.course)?;
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
            self.course.check()?;
            let mut given = map.given(own, iteration).map_err(|why| self.refused(why))?;
            given.extend(captures.iter().cloned());
            let outputs = self.core.outputs_of(&self.bodies[0], &self.given(&given)?, self.course)?;
            lists.iter_mut().zip(outputs).for_each(|(list, element)| list.push(element));
        }
        Ok(lists.into_iter().map(RunValue::from).collect())
    }

    /// The values in host memory, read together.
    fn on_host(&self, values: &[Option<RunValue>]) -> Result<Vec<Option<RunValue>>> {
        let mut read = read_together(&values.iter().flatten().collect::<Vec<_>>())?.into_iter();
        let next = |value: &Option<RunValue>| value.as_ref().and_then(|_| read.next());
        Ok(values.iter().map(next).map(|datum| datum.as_ref().map(placed_on_host)).collect())
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
                    Ok(Datum::Tensor(DeviceTensor::upload(self.core.gpu()?, tensor, self.core.integers())?))
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
        self.with_axis(rows, axis)
    }

    /// A list of the iterations, which lies along the first axis, along this one.
    fn with_axis(&self, rows: DeviceTensor, axis: i64) -> Result<DeviceTensor> {
        let axis = axes::axis(axis, rows.shape().len()).map_err(|why| self.refused(why))?;
        if axis == 0 {
            return Ok(rows);
        }
        let mover = Mover::FirstAxis { rank: rows.shape().len(), to: axis };
        let mut outputs = self.core.moved(mover, &[Datum::Tensor(rows)], self.course)?;
        let lost = || self.refused("a transposition has no result".into());
        Ok(self.tensor(&outputs.pop().ok_or_else(lost)?)?.clone())
    }

    /// What the iterations that are left carry and list at the end, run on the device with few submissions, if one plan serves all
    /// of them; `None` if the host must look at each. `given`: what the first of them takes.
    fn steady(
        &self,
        given: &[RunValue],
        Repetition { feeds, condition, lists, reversed, first, all }: Repetition,
    ) -> Result<Option<(Vec<DeviceTensor>, Vec<DeviceTensor>)>> {
        let (core, entry) = (self.core, &self.bodies[0]);
        let is_steady = |(i, feed): (usize, &Feed)| *feed == Feed::Same || !entry.decides_shapes(i);
        let is_planned = entry.segmented().is_none() && entry.decided().is_none();
        if !is_planned || self.course.times.is_some() || !feeds.iter().enumerate().all(is_steady) {
            return Ok(None);
        }
        let mut inputs = tensors(entry, given)?;
        let (executable, lists_begin) = {
            let ordered =
                Ordered { entry: entry.clone(), inputs: inputs.iter().map(Input::Device).collect() };
            let executable = core.executable(&ordered)?;
            let goes_on = condition.is_none_or(|taken| {
                let graph = &entry.graph;
                graph.outputs.first() == graph.inputs.get(taken) || executable.is_true(0)
            });
            if !goes_on || !executable.is_steady(&ordered.inputs, feeds) {
                return Ok(None);
            }
            let begin = entry.graph.outputs.len() - lists.len();
            let mut made = Vec::with_capacity(lists.len());
            for (i, (before, &reverse)) in lists.iter().zip(reversed).enumerate() {
                let Some((dtype, shape)) = executable.made(begin + i, &ordered.inputs) else {
                    return Ok(None);
                };
                let before: Vec<DeviceTensor> =
                    before.iter().map(|each| self.tensor(each).cloned()).collect::<Result<_>>()?;
                let alike = |other: &DeviceTensor| (other.dtype(), other.shape()) == (dtype, &shape[..]);
                // What iterations before made has another shape, which is an error, or the list cannot be written in words.
                let list = match before.iter().all(alike) {
                    true => IterationList::new(core.gpu()?, all, core.integers(), (dtype, &shape), reverse)?,
                    false => None,
                };
                let Some(list) = list else { return Ok(None) };
                list.begin(core.gpu()?, &before)?;
                made.push(list);
            }
            let none = (0..begin).map(|_| None);
            (executable, none.chain(made.into_iter().map(Some)).collect::<Vec<_>>())
        };
        let lists = lists_begin;
        let carried: Vec<usize> =
            (0..feeds.len()).filter(|&i| matches!(feeds[i], Feed::Carried(_))).collect();
        let most = executable.iterations_at_once();
        let mut first = first;
        while first < all {
            self.course.check()?;
            let stretch = Stretch { first, count: most.min(all - first), all };
            let last = {
                let given: Vec<Input> = inputs.iter().map(Input::Device).collect();
                let frames = &core.plans()?.frames;
                executable.iterate(frames, &entry.graph, (&given, feeds), &lists, stretch)?
            };
            carried.iter().zip(last).for_each(|(&i, tensor)| inputs[i] = tensor);
            first += stretch.count;
        }
        let last = carried.into_iter().map(|i| inputs[i].clone()).collect();
        Ok(Some((last, lists.into_iter().flatten().map(IterationList::finish).collect())))
    }
}

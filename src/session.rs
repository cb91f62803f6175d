//! `Session`: a model on a device. Plans are made per signature of input shapes, kept in a bounded cache, and run.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::facts::{self, Input, Signature};
use crate::gpu::{Executable, Gpu, Weights};
use crate::graph::ValueId;
use crate::ops::{Graph, Op};
use crate::plan::{Options, Planner};
use crate::{
    DType, Device, Dim, Error, InputError, KernelTime, Model, Outputs, PlanSummary, Result, Tensor,
    UnsupportedNode, ValueInfo, reference,
};

/// How a [`Session`] is to run.
///
/// ```
/// use sardonyx::SessionOptions;
/// let options = SessionOptions::new().plan_cache(4).fusion(false);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionOptions {
    plan_cache: usize,
    fusion: bool,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions { plan_cache: 16, fusion: true }
    }
}

impl SessionOptions {
    /// What serves most models.
    pub fn new() -> SessionOptions {
        SessionOptions::default()
    }

    /// How many plans are kept (16), one for each signature of input shapes; the least recently used is dropped. 0 counts
    /// as 1.
    pub fn plan_cache(mut self, plans: usize) -> SessionOptions {
        self.plan_cache = plans.max(1);
        self
    }

    /// Whether operators may be fused (yes). Without, each node is a kernel of its own: for finding out what is wrong.
    pub fn fusion(mut self, fusion: bool) -> SessionOptions {
        self.fusion = fusion;
        self
    }
}

/// A model made ready on a device. `Send + Sync`; several threads may run it at once.
///
/// The first run for a signature of input shapes makes a plan and creates all that it needs on the device; each further one
/// creates nothing, unless more runs are in flight at once than ever before. The CPU reference plans nothing.
///
/// ```no_run
/// use sardonyx::{Device, DeviceOptions, Model, Session, Tensor};
/// let model = Model::load("model.onnx")?;
/// let device = Device::new(DeviceOptions::default())?;
/// let session = Session::new(&device, &model, Default::default())?;
/// let image = Tensor::from_slice(&[1, 3, 2, 2], &[0.5f32; 12])?;
/// let outputs = session.run(&[("image", &image)])?;
/// println!("{:?}", outputs["scores"].shape());
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Debug)]
pub struct Session {
    device: Device,
    /// The graph before the passes, if a device is to have what they make of it.
    before_passes: Option<Arc<Graph>>,
    entry: Arc<Entry>,
    /// For each set of defaults that a caller has replaced, the graph in which those are inputs; the last used first.
    replaced: Mutex<VecDeque<(Vec<ValueId>, Arc<Entry>)>>,
    options: SessionOptions,
    output_names: Vec<Arc<str>>,
    keep: Vec<ValueId>,
}

/// A graph that runs can enter, and what has been planned and uploaded for it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) graph: Arc<Graph>,
    same_sizes: Vec<SameSize>,
    /// What a device has for the graph; the CPU reference needs nothing.
    compiled: Option<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    planner: Planner,
    weights: Weights,
    plans: Mutex<VecDeque<(Signature, Arc<Executable>)>>,
}

/// Inputs that fit the graph of `entry`, in its order.
pub(crate) struct Ordered<G> {
    pub(crate) entry: Arc<Entry>,
    pub(crate) inputs: Vec<G>,
}

impl Session {
    /// Makes `model` ready on `device`.
    ///
    /// Weights go to the device with the first run.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with every node that Sardonyx has no operator for.
    ///
    /// ```
    /// use sardonyx::{Device, Model, Session, SessionOptions};
    /// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
    /// let session = Session::new(&Device::reference(), &Model::from_bytes(bytes)?, SessionOptions::default())?;
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn new(device: &Device, model: &Model, options: SessionOptions) -> Result<Session> {
        let session = Session::of_graph(device, graph_for(device, model)?, options, Vec::new())?;
        // A pass may have replaced an output by an equal value of another name.
        let output_names = model.outputs().iter().map(|output| output.name.as_str().into()).collect();
        let before_passes = device.gpu().map(|_| model.graph().clone());
        Ok(Session { output_names, before_passes, ..session })
    }

    pub(crate) fn of_graph(
        device: &Device,
        graph: Arc<Graph>,
        options: SessionOptions,
        keep: Vec<ValueId>,
    ) -> Result<Session> {
        let unsupported = unsupported(&graph);
        if !unsupported.is_empty() {
            return Err(Error::Unsupported(unsupported));
        }
        let output_names = graph.outputs.iter().map(|id| graph.value(*id).name.as_str().into()).collect();
        let entry = Arc::new(Entry::new(graph, device, &options, &keep)?);
        let (device, replaced) = (device.clone(), Mutex::default());
        Ok(Session { device, before_passes: None, entry, replaced, options, output_names, keep })
    }

    /// Runs the model on inputs by name and waits for the outputs.
    ///
    /// # Errors
    /// [`Error::Input`] if an input is missing, unknown, given twice, or of another dtype or shape than the model's, or if
    /// dimensions to which the model gives one name differ in size;
    /// [`Error::Node`] if the shapes do not fit an operator; [`Error::Unsupported`] with every node that the device has no
    /// kernel for; [`Error::Limit`], [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Gpu`] from the device. Except
    /// where the device is lost, the session can be used again.
    ///
    /// ```
    /// use sardonyx::{Device, Model, Session, SessionOptions, Tensor};
    /// # let bytes = b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y".to_vec();
    /// # let session = Session::new(&Device::reference(), &Model::from_bytes(bytes)?, SessionOptions::default())?;
    /// let x = Tensor::from_slice(&[2], &[-1.0f32, 2.0])?;
    /// let outputs = session.run(&[("x", &x)])?;
    /// assert_eq!(outputs["y"].as_slice::<f32>()?, [0.0, 2.0]);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn run(&self, inputs: &[(&str, &Tensor)]) -> Result<Outputs> {
        let given = self.ordered(inputs)?;
        let (graph, inputs) = (&given.entry.graph, &given.inputs);
        let tensors = match self.device.gpu() {
            None => reference::outputs(graph, &reference::run(graph, inputs, false)?)?,
            Some(_) => self.executable(&given)?.run(graph, inputs)?,
        };
        Ok(self.named(tensors))
    }

    /// Runs the model without blocking the calling task: the future is woken when the device is done. Planning, on the first
    /// run for a signature of shapes, happens in the call. On the CPU reference everything does.
    ///
    /// # Errors
    /// As [`Session::run`].
    ///
    /// ```no_run
    /// # async fn f(session: &sardonyx::Session, x: &sardonyx::Tensor) -> sardonyx::Result<()> {
    /// let outputs = session.run_async(&[("x", x)]).await?;
    /// # Ok(()) }
    /// ```
    pub async fn run_async(&self, inputs: &[(&str, &Tensor)]) -> Result<Outputs> {
        let given = self.ordered(inputs)?;
        let (graph, inputs) = (&given.entry.graph, &given.inputs);
        let tensors = match self.device.gpu() {
            None => reference::outputs(graph, &reference::run(graph, inputs, false)?)?,
            Some(_) => self.executable(&given)?.run_async(graph, inputs).await?,
        };
        Ok(self.named(tensors))
    }

    fn named(&self, tensors: Vec<Tensor>) -> Outputs {
        Outputs::new(&self.output_names, tensors)
    }

    /// What a run on inputs of these shapes dispatches, and what memory it takes. Nothing runs; the plan is kept for runs to
    /// come. See [`PlanSummary`] for an example.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::Device`] on the CPU reference, which has no plans.
    pub fn plan(&self, inputs: &[(&str, &Tensor)]) -> Result<PlanSummary> {
        let given = self.ordered(inputs)?;
        let (compiled, executable) = (given.entry.compiled()?, self.executable(&given)?);
        Ok(PlanSummary::new(&given.entry.graph, &executable.plan, compiled.weights.bytes()))
    }

    /// Runs once, one pass for each kernel, and measures each on the device, in the order of dispatch. The kernels together
    /// take less than a run: what lies between them is not measured. See [`KernelTime`] for an example.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::Device`] on the CPU reference, or if the device has no timestamp queries.
    pub fn profile(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<KernelTime>> {
        let given = self.ordered(inputs)?;
        self.executable(&given)?.profile(&given.entry.graph, &given.inputs)
    }

    pub(crate) fn output_names(&self) -> &[Arc<str>] {
        &self.output_names
    }

    /// The graph whose defaults are what the model says.
    pub(crate) fn graph(&self) -> &Graph {
        &self.entry.graph
    }

    /// The graph as the model has it.
    pub(crate) fn listed(&self) -> &Graph {
        self.before_passes.as_ref().unwrap_or(&self.entry.graph)
    }

    /// The inputs in the graph's order, checked against what the model declares.
    pub(crate) fn ordered<G: Given>(&self, given: &[(&str, &G)]) -> Result<Ordered<G>> {
        let twice = |&i: &usize| given[..i].iter().any(|(name, _)| *name == given[i].0);
        if let Some(i) = (0..given.len()).find(twice) {
            return Err(InputError::Twice { name: given[i].0.into() }.into());
        }
        let entry = self.entry_for(given)?;
        let graph = &entry.graph;
        let mut inputs = Vec::with_capacity(graph.inputs.len());
        let mut missing = Vec::new();
        for id in &graph.inputs {
            let value = graph.value(*id);
            let Some(&(_, given)) = given.iter().find(|(given, _)| *given == value.name) else {
                missing.push(ValueInfo::of(graph, *id));
                continue;
            };
            check(given, value)?;
            inputs.push(given.clone());
        }
        if !missing.is_empty() {
            return Err(InputError::Missing(missing).into());
        }
        entry.check_names(&inputs)?;
        Ok(Ordered { entry, inputs })
    }

    /// The graph that takes all that is given: with the model's defaults as constants, or with those that are given as
    /// inputs.
    fn entry_for<G>(&self, given: &[(&str, &G)]) -> Result<Arc<Entry>> {
        let graph = self.graph();
        let is_input = |name: &str| graph.inputs.iter().any(|id| graph.value(*id).name == name);
        if given.iter().all(|(name, _)| is_input(name)) {
            return Ok(self.entry.clone());
        }
        let listed = self.listed();
        let mut replaced = Vec::new();
        for (name, _) in given.iter().filter(|(name, _)| !is_input(name)) {
            let default = listed.defaults.iter().find(|(_, id)| listed.value(*id).name == **name);
            let Some(&(_, id)) = default else { return Err(self.no_such_input(name)) };
            replaced.push(id);
        }
        replaced.sort();
        self.entry_without(replaced)
    }

    fn no_such_input(&self, name: &str) -> Error {
        let graph = self.listed();
        let expected = graph.listed_inputs().iter().map(|id| graph.value(*id).name.clone()).collect();
        InputError::Unknown { name: name.into(), expected }.into()
    }

    /// The graph in which these defaults are inputs, from the cache or made now.
    fn entry_without(&self, defaults: Vec<ValueId>) -> Result<Arc<Entry>> {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = recent(&mut replaced, &defaults) {
            return Ok(entry);
        }
        let mut graph = self.listed().without_defaults(&defaults);
        if self.before_passes.is_some() {
            graph = crate::passes::run(graph)?;
        }
        let entry = Arc::new(Entry::new(Arc::new(graph), &self.device, &self.options, &self.keep)?);
        replaced.push_front((defaults, entry.clone()));
        replaced.truncate(self.options.plan_cache);
        Ok(entry)
    }

    /// The executable for inputs of these shapes, from the cache or made now.
    pub(crate) fn executable(&self, given: &Ordered<impl Given>) -> Result<Arc<Executable>> {
        let (graph, compiled) = (&given.entry.graph, given.entry.compiled()?);
        let signature = given.signature()?;
        let plans = || compiled.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(executable) = recent(&mut plans(), &signature) {
            return Ok(executable);
        }
        let plan = compiled.planner.plan(&given.known())?;
        let executable = Arc::new(Executable::new(self.gpu()?, graph, plan, &compiled.weights)?);
        let mut plans = plans();
        // Another thread may have made the same in the meantime.
        if let Some(executable) = recent(&mut plans, &signature) {
            return Ok(executable);
        }
        plans.push_front((signature, executable.clone()));
        plans.truncate(self.options.plan_cache);
        Ok(executable)
    }

    pub(crate) fn gpu(&self) -> Result<&Arc<Gpu>> {
        self.device.gpu().ok_or_else(no_plans)
    }
}

fn no_plans() -> Error {
    Device::reference().cannot("it has no plans; open a GPU (`Device::new`)")
}

impl Entry {
    fn new(graph: Arc<Graph>, device: &Device, options: &SessionOptions, keep: &[ValueId]) -> Result<Entry> {
        let same_sizes = same_sizes(&graph);
        let options = Options { no_fusion: !options.fusion, keep: keep.to_vec() };
        let compiled = match device.gpu() {
            Some(gpu) => Some(Compiled {
                planner: Planner::new(graph.clone(), gpu.target.clone(), options)?,
                weights: Weights::default(),
                plans: Mutex::default(),
            }),
            None => None,
        };
        Ok(Entry { graph, same_sizes, compiled })
    }

    fn compiled(&self) -> Result<&Compiled> {
        self.compiled.as_ref().ok_or_else(no_plans)
    }

    /// Whether the value of input `i` is part of a plan's signature.
    pub(crate) fn decides_shapes(&self, i: usize) -> bool {
        self.compiled.as_ref().is_some_and(|of| of.planner.shape_inputs().any(|input| input == i))
    }

    /// Refuses inputs of which two dimensions have one name in the model, and different sizes.
    fn check_names(&self, inputs: &[impl Given]) -> Result<()> {
        let size = |place: Place| inputs.get(place.input)?.shape().get(place.axis).copied();
        let input = |place: Place| self.graph.value(self.graph.inputs[place.input]).name.clone();
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

impl<G: Given> Ordered<G> {
    /// The values that one kernel of a run on these inputs makes and another reads.
    pub(crate) fn handed_on(&self) -> Result<Vec<ValueId>> {
        self.entry.compiled()?.planner.handed_on(&self.known())
    }

    /// The plan of a run on these inputs; nothing is made on the device.
    pub(crate) fn plan(&self) -> Result<crate::plan::Plan> {
        self.entry.compiled()?.planner.plan(&self.known())
    }

    /// What planning may know of the inputs.
    pub(crate) fn known(&self) -> Vec<Input> {
        let known = |given: &G| Input {
            dtype: given.dtype(),
            shape: given.shape().to_vec(),
            value: given.value().cloned(),
        };
        self.inputs.iter().map(known).collect()
    }

    fn signature(&self) -> Result<Signature> {
        let values = self.entry.compiled()?.planner.shape_inputs();
        Ok(Signature {
            shapes: self.inputs.iter().map(|given| given.shape().to_vec()).collect(),
            values: values.filter_map(|i| Some((i, self.inputs.get(i)?.value()?.bytes().to_vec()))).collect(),
        })
    }
}

/// One dimension of one of a graph's inputs.
#[derive(Clone, Copy, Debug)]
struct Place {
    input: usize,
    axis: usize,
}

/// A dimension with the name of an earlier one: their sizes are equal in every run.
#[derive(Debug)]
struct SameSize {
    first: Place,
    other: Place,
    name: String,
}

fn same_sizes(graph: &Graph) -> Vec<SameSize> {
    let mut firsts: HashMap<&str, Place> = HashMap::new();
    let mut same = Vec::new();
    for (input, id) in graph.inputs.iter().enumerate() {
        for (axis, dim) in graph.value(*id).shape.iter().flatten().enumerate() {
            let Dim::Symbol(name) = dim else { continue };
            let other = Place { input, axis };
            match firsts.get(name.as_str()) {
                Some(&first) => same.push(SameSize { first, other, name: name.clone() }),
                None => drop(firsts.insert(name, other)),
            }
        }
    }
    same
}

/// What the cache has for `key`, now the most recently used.
fn recent<K: PartialEq, V>(cache: &mut VecDeque<(K, Arc<V>)>, key: &K) -> Option<Arc<V>> {
    let at = cache.iter().position(|(k, _)| k == key)?;
    let found = cache.remove(at)?;
    let value = found.1.clone();
    cache.push_front(found);
    Some(value)
}

/// The reference runs the model as it is; a GPU runs what the passes made of it.
fn graph_for(device: &Device, model: &Model) -> Result<Arc<Graph>> {
    match device.gpu() {
        None => Ok(model.graph().clone()),
        Some(_) => model.optimized(),
    }
}

/// What the caller gives as an input.
pub(crate) trait Given: Clone {
    fn dtype(&self) -> DType;
    fn shape(&self) -> &[usize];
    /// Its elements, where planning may know them.
    fn value(&self) -> Option<&Tensor>;
}

impl Given for Tensor {
    fn dtype(&self) -> DType {
        Tensor::dtype(self)
    }

    fn shape(&self) -> &[usize] {
        Tensor::shape(self)
    }

    fn value(&self) -> Option<&Tensor> {
        Some(self)
    }
}

fn check(tensor: &impl Given, value: &crate::graph::Value) -> Result<(), InputError> {
    let name = || value.name.clone();
    let shape = || tensor.shape().to_vec();
    if let Some(expected) = value.dtype.filter(|expected| *expected != tensor.dtype()) {
        return Err(InputError::DType { name: name(), expected, given: tensor.dtype() });
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

/// Every node whose operator Sardonyx does not have.
pub(crate) fn unsupported(graph: &Graph) -> Vec<UnsupportedNode> {
    let node = |node: &crate::ops::Node| match &node.op {
        Op::Unsupported(reason) => Some(UnsupportedNode {
            node: node.name.clone(),
            op: node.op_type.clone(),
            opset: node.opset,
            reason: reason.clone(),
        }),
        _ => None,
    };
    graph.nodes.iter().filter_map(node).collect()
}

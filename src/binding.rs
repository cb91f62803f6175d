//! `Binding`: runs over buffers that stay, without a copy and without a read-back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::gpu::{Bound, Buffer, DeviceTensor, Encoder, Executable, Frame, Gpu, Input, Unbound};
use crate::kernels::Storage;
use crate::plan::OutputSource;
use crate::session::{Appending, Core, Entry, Given, Ordered};
use crate::{DType, Datum, Error, InputError, Result, Session, Tensor};

/// Bytes of a buffer that holds a tensor on the device, in whole 16-byte vectors: 1 byte for each element of int8, uint8 and bool,
/// 2 for each of int16, uint16, float16 and bfloat16, 8 for each of float64, 4 for each of any other type. Sessions with
/// [`IntegerBits::Always64`](crate::IntegerBits) take 8 for int64 and uint64.
///
/// ```
/// use sardonyx::{DType, device_bytes};
/// assert_eq!(device_bytes(DType::F32, &[1, 3, 5]), 64);
/// assert_eq!(device_bytes(DType::F16, &[1, 3, 5]), 32);
/// assert_eq!(device_bytes(DType::Bool, &[1, 3, 5]), 16);
/// ```
pub fn device_bytes(dtype: DType, shape: &[usize]) -> u64 {
    let count = crate::tensor::checked_count(shape).unwrap_or(usize::MAX);
    Storage::of(dtype).unwrap_or(Storage::Word).bytes(count)
}

/// Collects what a [`Binding`] reads and writes; made by [`Session::bind`]. See [`Binder::build`] for an example.
#[derive(Debug)]
pub struct Binder<'s> {
    session: &'s Session,
    inputs: Vec<(String, BoundInput)>,
    outputs: Vec<(String, wgpu::Buffer)>,
}

#[derive(Clone, Debug)]
enum BoundInput {
    Host(Tensor),
    Device(DeviceTensor),
    Buffer(wgpu::Buffer, DType, Vec<usize>),
    Container(Datum),
}

impl From<Input<'_>> for BoundInput {
    fn from(input: Input<'_>) -> BoundInput {
        match input {
            Input::Tensor(tensor) => BoundInput::Host(tensor.clone()),
            Input::Device(tensor) => BoundInput::Device(tensor.clone()),
            Input::Container(datum) => BoundInput::Container(datum.clone()),
        }
    }
}

impl Given for BoundInput {
    fn dtype(&self) -> DType {
        match self {
            BoundInput::Host(tensor) => tensor.dtype(),
            BoundInput::Device(tensor) => tensor.dtype(),
            BoundInput::Buffer(_, dtype, _) => *dtype,
            // A session with such an input has no single plan, and no binding.
            BoundInput::Container(_) => DType::String,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            BoundInput::Host(tensor) => tensor.shape(),
            BoundInput::Device(tensor) => tensor.shape(),
            BoundInput::Buffer(_, _, shape) => shape,
            BoundInput::Container(_) => &[],
        }
    }

    fn value(&self) -> Option<&Tensor> {
        match self {
            BoundInput::Host(tensor) => Some(tensor),
            BoundInput::Device(_) | BoundInput::Buffer(..) | BoundInput::Container(_) => None,
        }
    }

    fn container(&self) -> Option<&Datum> {
        match self {
            BoundInput::Container(datum) => Some(datum),
            _ => None,
        }
    }

    fn placed(&self) -> Option<&DeviceTensor> {
        match self {
            BoundInput::Device(tensor) => Some(tensor),
            BoundInput::Host(_) | BoundInput::Buffer(..) | BoundInput::Container(_) => None,
        }
    }
}

/// A plan over buffers that stay where they are. You may run it, or [`record`](Binding::record) it into your own encoder, any
/// number of times: a run creates nothing. Inputs may change, and with them the sizes of open dimensions; the next run then
/// finds or makes the plan for the new sizes.
///
/// ```no_run
/// # fn f(session: &sardonyx::Session, mut past: sardonyx::Tensor, mut token: sardonyx::Tensor) -> sardonyx::Result<()> {
/// // A decoder: its cache grows by one row a step, and never leaves the device.
/// let mut binding = session.bind().input("past", &past).input("token", &token).build()?;
/// for _ in 0..100 {
///     binding.run()?;
///     let logits = binding.read("logits")?;
///     # let next = token.clone();
///     // ... choose the `next` token ...
///     binding.set("token", &next)?;
///     let present = binding.output("present")?;
///     binding.set("past", &present)?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Binding {
    core: Arc<Core>,
    inputs: Vec<(String, BoundInput)>,
    outputs: Vec<(String, wgpu::Buffer)>,
    /// The binding's own buffers, whether in use or not.
    own: Vec<Buffer>,
    /// `None` after an input was changed in a way that needs another plan or other bind groups.
    built: Option<Built>,
    /// The plan of the runs before, if nobody has recorded it, and its frame, which may serve the next plan.
    before: Option<(Arc<Executable>, Unbound)>,
}

#[derive(Debug)]
struct Built {
    entry: Arc<Entry>,
    executable: Arc<Executable>,
    frame: Frame,
    /// The inputs of a run, in the graph's order.
    inputs: Vec<BoundInput>,
    outputs: Vec<Option<Buffer>>,
    /// Whether an encoder of the caller's has the pass: it reads the words of this plan.
    is_recorded: bool,
}

impl Session {
    /// Begins a binding of this session to tensors and buffers of the device that it runs on.
    ///
    /// Elements of at most 32 bits lie in the buffers as in host memory, the first in the lowest bits of a 32-bit word: int16, uint16,
    /// float16 and bfloat16 two to a word, int8, uint8, bool (0 or 1) and float8 four, int4, uint4 and float4 eight, int2 and uint2
    /// sixteen. Only float6 takes a byte each. int64 is an i32, and uint64 a u32. With [`IntegerBits::Always64`](crate::IntegerBits)
    /// int64 and uint64 lie as in host memory; otherwise a value that does not fit 32 bits is an error of a run.
    /// See [`Binding`] for an example.
    pub fn bind(&self) -> Binder<'_> {
        Binder { session: self, inputs: Vec::new(), outputs: Vec::new() }
    }
}

impl Binder<'_> {
    /// Reads input `name`, of this shape, from `buffer` (usage `STORAGE`, at least [`device_bytes`] long).
    pub fn input_buffer(mut self, name: &str, buffer: &wgpu::Buffer, shape: &[usize]) -> Self {
        let dtype = self.session.core.declared_dtype(name);
        self.inputs.push((name.into(), BoundInput::Buffer(buffer.clone(), dtype, shape.to_vec())));
        self
    }

    /// Gives input `name` a value: a [`Tensor`], uploaded once, or a [`DeviceTensor`], read where it lies.
    pub fn input<'a>(mut self, name: &str, tensor: impl Into<Input<'a>>) -> Self {
        self.inputs.push((name.into(), tensor.into().into()));
        self
    }

    /// Writes output `name` into `buffer` (usage `STORAGE`, at least [`device_bytes`] long).
    pub fn output_buffer(mut self, name: &str, buffer: &wgpu::Buffer) -> Self {
        self.outputs.push((name.into(), buffer.clone()));
        self
    }

    /// Plans the run and creates everything that it needs. Outputs that are not bound get buffers of the binding's own:
    /// [`Binding::output`], [`Binding::read`].
    ///
    /// # Errors
    /// [`Error::Input`] or [`Error::Output`] if a name is unknown or given twice, a buffer too small, another device's, without
    /// `STORAGE`, or both read and written, an input missing, or an input in a buffer decides a shape; those of
    /// [`Session::run`]; [`Error::Device`] on the CPU reference.
    ///
    /// ```no_run
    /// # fn f(session: &sardonyx::Session, queue: &sardonyx::wgpu::Queue,
    /// #     x: sardonyx::wgpu::Buffer, y: sardonyx::wgpu::Buffer, b: sardonyx::Tensor) -> sardonyx::Result<()> {
    /// let mut binding =
    ///     session.bind().input_buffer("x", &x, &[1, 4]).input("b", &b).output_buffer("y", &y).build()?;
    /// let mut encoder = session.device().encoder()?;
    /// // ... a pass of yours that writes `x` ...
    /// binding.record(&mut encoder)?;
    /// // ... a pass of yours that reads `y` ...
    /// queue.submit([encoder.finish()]);
    /// # Ok(()) }
    /// ```
    pub fn build(self) -> Result<Binding> {
        let Binder { session, inputs, outputs } = self;
        let core = session.core.clone();
        let mut binding = Binding { core, inputs, outputs, own: Vec::new(), built: None, before: None };
        binding.ready()?;
        Ok(binding)
    }
}

impl Binding {
    /// Gives input `name` another value: a [`Tensor`] or a [`DeviceTensor`], of the same shape or another. Runs that are
    /// submitted from now on read it.
    ///
    /// # Errors
    /// [`Error::Input`] if there is no input of this name. A shape that does not fit is an error of the next run.
    pub fn set<'a>(&mut self, name: &str, tensor: impl Into<Input<'a>>) -> Result<()> {
        self.set_source(name, tensor.into().into())
    }

    /// Reads input `name`, of this shape, from another buffer, or from the same buffer under another shape.
    ///
    /// # Errors
    /// As [`Binding::set`].
    pub fn set_buffer(&mut self, name: &str, buffer: &wgpu::Buffer, shape: &[usize]) -> Result<()> {
        let dtype = self.core.declared_dtype(name);
        self.set_source(name, BoundInput::Buffer(buffer.clone(), dtype, shape.to_vec()))
    }

    fn set_source(&mut self, name: &str, source: BoundInput) -> Result<()> {
        let Some((_, place)) = self.inputs.iter_mut().find(|(own, _)| own == name) else {
            let expected = self.inputs.iter().map(|(name, _)| name.clone()).collect();
            return Err(InputError::Unknown { name: name.into(), expected }.into());
        };
        let same = |a: &Tensor, b: &Tensor| (a.dtype(), a.shape()) == (b.dtype(), b.shape());
        let old = std::mem::replace(place, source.clone());
        let Some(built) = &mut self.built else { return Ok(()) };
        let (graph, number) = (&built.entry.graph, built.entry.number(name));
        match (number, old, &source) {
            (Some(number), BoundInput::Host(old), BoundInput::Host(new))
                if same(&old, new) && !built.entry.decides_shapes(number) =>
            {
                built.executable.write_input(&built.frame, graph, number, new)?;
                built.inputs[number] = source;
                self.core.gpu()?.limit_waiting()?;
            }
            _ => {
                let built = self.built.take().filter(|built| !built.is_recorded);
                self.before = built.map(|built| (built.executable, built.frame.unbound()));
            }
        }
        Ok(())
    }

    /// Submits one run, and does not wait for it.
    ///
    /// # Errors
    /// As [`Binder::build`], where inputs have changed; those of the device.
    pub fn run(&mut self) -> Result<()> {
        self.core.interrupt()?;
        let built = self.ready()?;
        built.executable.run_bound(&built.frame)
    }

    /// Records the run's one compute pass into an encoder of the session's device ([`Device::encoder`](crate::Device::encoder)).
    ///
    /// # Errors
    /// [`Error::Gpu`] if the encoder is another device's; as [`Binder::build`], where inputs have changed.
    pub fn record(&mut self, encoder: &mut Encoder) -> Result<()> {
        if !encoder.is_on(self.core.gpu()?) {
            let what =
                "the encoder is another device's; make it with the device of the session (`Device::encoder`)";
            return Err(Error::Gpu(what.into()));
        }
        let built = self.ready()?;
        built.is_recorded = true;
        built.executable.record(&built.frame, encoder)
    }

    /// Output `name`, where it lies on the device. The next run overwrites it, unless this tensor is an input of that run: a
    /// cache that each step hands to the next is never copied.
    ///
    /// # Errors
    /// [`Error::Output`] if there is no output of this name; as [`Binder::build`], where inputs have changed.
    pub fn output(&mut self, name: &str) -> Result<DeviceTensor> {
        let gpu = self.core.gpu()?.clone();
        let built = self.ready()?;
        let (number, integers) = (output_number(&built.entry, name)?, built.executable.integers());
        match (built.executable.plan.program.outputs.get(number), &built.outputs[number]) {
            (Some(OutputSource::Device { dtype, shape, .. }), Some(buffer)) => {
                Ok(DeviceTensor::of_buffer(&gpu, buffer.clone(), integers, *dtype, shape))
            }
            (Some(OutputSource::Appended { input, shape, .. }), _) => match &built.inputs[*input] {
                BoundInput::Device(tensor) => Ok(tensor.appended(shape)),
                _ => Err(Error::Gpu(format!("output '{name}' has no buffer"))),
            },
            (Some(OutputSource::Known(tensor)), _) => DeviceTensor::upload(&gpu, tensor, integers),
            (Some(OutputSource::Input(i)), _) => match &built.inputs[*i] {
                BoundInput::Host(tensor) => DeviceTensor::upload(&gpu, tensor, integers),
                BoundInput::Device(tensor) => Ok(tensor.clone()),
                BoundInput::Buffer(buffer, dtype, shape) => {
                    let buffer = Buffer::of_host(buffer.clone());
                    Ok(DeviceTensor::of_buffer(&gpu, buffer, integers, *dtype, shape))
                }
                BoundInput::Container(_) => Err(built.entry.takes_tensors(*i)),
            },
            _ => Err(Error::Gpu(format!("output '{name}' has no buffer"))),
        }
    }

    /// Waits for the runs that were submitted, and copies output `name` to host memory.
    ///
    /// # Errors
    /// As [`Binding::output`] and [`Binding::check`]. A buffer of yours needs the usage `COPY_SRC`.
    pub fn read(&mut self, name: &str) -> Result<Tensor> {
        self.check()?;
        let output = self.output(name)?;
        if let Some(buffer) = output.buffer()
            && !buffer.usage().contains(wgpu::BufferUsages::COPY_SRC)
        {
            return Err(Error::Output {
                name: name.into(),
                reason: "its buffer lacks the usage COPY_SRC".into(),
            });
        }
        output.read()
    }

    /// Waits for the runs that were submitted, and returns an error if one of them met a value out of range: an index outside
    /// of its axis, or a 64-bit integer that does not fit 32 bits. A run that meets one reads and writes nothing outside of
    /// its tensors, but its outputs mean nothing.
    ///
    /// # Errors
    /// [`Error::Node`] with the node and the value; those of the device as in [`Session::run`].
    ///
    /// ```no_run
    /// # fn f(binding: &sardonyx::Binding, queue: &wgpu::Queue, commands: wgpu::CommandBuffer) -> sardonyx::Result<()> {
    /// # use sardonyx::wgpu;
    /// queue.submit([commands]);
    /// binding.check()?;
    /// # Ok(()) }
    /// ```
    pub fn check(&self) -> Result<()> {
        match &self.built {
            Some(built) => built.executable.check(&built.frame, &built.entry.graph),
            None => Ok(()),
        }
    }

    /// The shape of output `i` of the model in the last run or build; `None` after an input was changed.
    pub fn output_shape(&self, i: usize) -> Option<&[usize]> {
        let built = self.built.as_ref()?;
        match built.executable.plan.program.outputs.get(i)? {
            OutputSource::Device { shape, .. } | OutputSource::Appended { shape, .. } => Some(shape),
            OutputSource::Known(tensor) => Some(tensor.shape()),
            OutputSource::Input(i) => built.inputs.get(*i).map(Given::shape),
        }
    }

    /// The plan, bind groups and memory for the current inputs.
    fn ready(&mut self) -> Result<&mut Built> {
        if self.built.is_none() {
            let built = self.make()?;
            self.built = Some(built);
        }
        self.built.as_mut().ok_or_else(|| Error::Gpu("a binding is not ready".into()))
    }

    fn make(&mut self) -> Result<Built> {
        let (core, plans) = (self.core.clone(), self.core.plans()?.clone());
        let given: Vec<(&str, BoundInput)> =
            self.inputs.iter().map(|(name, given)| (&name[..], given.clone())).collect();
        let mut ordered = core.ordered(&given, None)?;
        let names = &ordered.entry.names;
        let elsewhere = |output: usize| self.outputs.iter().any(|(name, _)| *name == *names[output]);
        let Appending { executable, inputs: appended } = core.appending(&ordered, &elsewhere)?;
        for (i, tensor) in appended {
            ordered.inputs[i] = BoundInput::Device(tensor);
        }
        let mut bound = self.bound_inputs(core.gpu()?, &ordered, &executable)?;
        self.bind_outputs(core.gpu()?, &ordered.entry, &executable, &mut bound)?;
        self.bind_own(core.gpu()?, &executable, &mut bound)?;
        let outputs = bound.outputs.clone();
        let arena = plans.bound_arena(executable.bound_bytes().0)?;
        let left = match self.before.take() {
            Some(before) => executable.bound_again(before, &bound, &arena)?,
            None => None,
        };
        let frame = match left {
            Some(frame) => frame,
            None => executable.bound_frame(bound, arena, plans.frames.account())?,
        };
        let Ordered { entry, inputs } = ordered;
        executable.write_inputs(&frame, &entry.graph, inputs.iter().map(Given::value))?;
        core.gpu()?.limit_waiting()?;
        Ok(Built { entry, executable, frame, inputs, outputs, is_recorded: false })
    }

    /// The buffers of those inputs that lie on the device already.
    fn bound_inputs(
        &self,
        gpu: &Gpu,
        ordered: &Ordered<BoundInput>,
        executable: &Executable,
    ) -> Result<Bound> {
        let graph = &ordered.entry.graph;
        let mut bound = Bound { outputs: vec![None; graph.outputs.len()], ..Bound::default() };
        for (i, (id, given)) in graph.inputs.iter().zip(&ordered.inputs).enumerate() {
            if let (BoundInput::Device(tensor), true) = (given, executable.plan.program.callers.contains(&i))
            {
                bound.callers.extend(tensor.counted().map(|buffer| (i, buffer.clone())));
                bound.inputs.push(None);
                continue;
            }
            bound.inputs.push(match given {
                BoundInput::Host(_) | BoundInput::Container(_) => None,
                BoundInput::Device(tensor) => tensor.dense()?.counted().cloned(),
                BoundInput::Buffer(buffer, dtype, shape) => {
                    let checked = gpu.check_buffer(
                        buffer,
                        wgpu::BufferUsages::STORAGE,
                        self.core.integers(),
                        *dtype,
                        shape,
                    );
                    let name = || graph.value(*id).name.clone();
                    checked.map_err(|reason| InputError::Buffer { name: name(), reason })?;
                    Some(Buffer::of_host(buffer.clone()))
                }
            });
        }
        Ok(bound)
    }

    fn bind_outputs(
        &self,
        gpu: &Gpu,
        entry: &Entry,
        executable: &Executable,
        bound: &mut Bound,
    ) -> Result<()> {
        #[allow(clippy::mutable_key_type)] // A buffer's hash is that of its identity.
        let mut taken: HashSet<wgpu::Buffer> =
            bound.inputs.iter().flatten().map(|buffer| (**buffer).clone()).collect();
        // The first of several outputs with one name is the one that is meant.
        let numbers: HashMap<&str, usize> = match self.outputs[..] {
            [] => HashMap::new(),
            _ => entry.names.iter().enumerate().rev().map(|(i, name)| (name.as_ref(), i)).collect(),
        };
        for (name, buffer) in &self.outputs {
            let fail = |reason: String| Err(Error::Output { name: name.clone(), reason });
            let number = numbers.get(name.as_str()).copied().ok_or_else(|| no_output(entry, name))?;
            let (dtype, shape) = match executable.plan.program.outputs.get(number) {
                Some(OutputSource::Device { dtype, shape, .. }) => (*dtype, shape),
                Some(OutputSource::Input(_)) => {
                    return fail(
                        "it is an input, of elements that the device does not hold as they are".into(),
                    );
                }
                _ => {
                    return fail(
                        "it follows from shapes and constants, so no kernel writes it; a run returns it"
                            .into(),
                    );
                }
            };
            let usage = wgpu::BufferUsages::STORAGE;
            if let Err(reason) = gpu.check_buffer(buffer, usage, executable.integers(), dtype, shape) {
                return fail(reason);
            }
            if bound.outputs[number].is_some() {
                return fail("is bound twice".into());
            }
            if !taken.insert(buffer.clone()) {
                return fail(
                    "its buffer is bound to another input or output too, which a kernel would read while it is \
                     written; take two buffers in turn"
                        .into(),
                );
            }
            bound.outputs[number] = Some(Buffer::of_host(buffer.clone()));
        }
        Ok(())
    }

    /// Binds buffers of our own wherever nothing is bound. A buffer that somebody holds as a tensor is not written.
    fn bind_own(&mut self, gpu: &Gpu, executable: &Executable, bound: &mut Bound) -> Result<()> {
        let (_, inputs, outputs) = executable.bound_bytes();
        let (free, held) = std::mem::take(&mut self.own).into_iter().partition(Buffer::is_only);
        self.own = held;
        let mut free = FreeBuffers::of(free);
        let places = bound.inputs.iter_mut().zip(inputs).chain(bound.outputs.iter_mut().zip(outputs));
        for (place, &bytes) in places {
            if place.is_none() && bytes > 0 {
                let buffer = match free.take(bytes) {
                    Ok(buffer) => buffer,
                    Err(room) => gpu.tensor_buffer(room.min(gpu.largest_buffer()).max(bytes))?,
                };
                self.own.push(buffer.clone());
                *place = Some(buffer);
            }
        }
        self.own.extend(free.0.into_values().flatten());
        Ok(())
    }
}

/// Buffers that nobody else holds, by their size.
struct FreeBuffers<B = Buffer>(BTreeMap<u64, Vec<B>>);

impl FreeBuffers {
    fn of(buffers: Vec<Buffer>) -> FreeBuffers {
        let mut free = FreeBuffers(BTreeMap::new());
        // The first is taken first, so that each input and output gets the buffer that it had.
        buffers.into_iter().rev().for_each(|buffer| free.0.entry(buffer.size()).or_default().push(buffer));
        free
    }
}

impl<B> FreeBuffers<B> {
    /// The smallest buffer of at least `bytes` bytes; or the size of a new one, which leaves room to grow where it takes the
    /// place of one that has become too small.
    fn take(&mut self, bytes: u64) -> std::result::Result<B, u64> {
        if let Some(size) = self.0.range(bytes..).next().map(|(&size, _)| size)
            && let Some(fits) = self.remove(size)
        {
            return Ok(fits);
        }
        let largest = self.0.last_key_value().map(|(&size, _)| size);
        let small = largest.and_then(|size| self.remove(size).map(|_| size));
        Err(small.map_or(bytes, |size| bytes.max(size * 2)))
    }

    fn remove(&mut self, size: u64) -> Option<B> {
        let alike = self.0.get_mut(&size)?;
        let buffer = alike.pop();
        if alike.is_empty() {
            self.0.remove(&size);
        }
        buffer
    }
}

fn output_number(entry: &Entry, name: &str) -> Result<usize> {
    let number = entry.names.iter().position(|own| own.as_ref() == name);
    number.ok_or_else(|| no_output(entry, name))
}

fn no_output(entry: &Entry, name: &str) -> Error {
    let reason = format!("the model has no such output; it has {}", entry.names.join(", "));
    Error::Output { name: name.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::internals::sketch::Sketch;
    use crate::ops::Attr;

    #[test]
    fn the_smallest_buffer_that_fits_is_taken() {
        let mut free = FreeBuffers(BTreeMap::from([(16, vec!["a"]), (64, vec!["b", "c"]), (256, vec!["d"])]));
        let taken = [32, 17, 32, 300, 16, 16].map(|bytes| free.take(bytes));
        // No buffer holds 300 bytes: the largest that is left, of 16 bytes, goes, and nothing is left after it.
        assert_eq!(taken, [Ok("c"), Ok("b"), Ok("d"), Err(300), Err(16), Err(16)]);
        let mut free = FreeBuffers(BTreeMap::from([(64, vec!["a"]), (32, vec!["b"])]));
        assert_eq!([65, 32].map(|bytes| free.take(bytes)), [Err(128), Ok("b")]);
    }

    #[test]
    fn ten_thousand_inputs_keep_their_buffers() {
        const COUNT: usize = 10_000;
        let mut sketch = Sketch::default();
        let inputs: Vec<_> = (0..COUNT).map(|i| sketch.input(&format!("x{i}"))).collect();
        let joined = sketch.node("Concat", &[("axis", Attr::Int(0))], &inputs);
        sketch.graph.outputs.push(joined);
        let session = Session::of_graph(
            &crate::Device::noop(),
            Arc::new(sketch.graph),
            crate::SessionOptions::default(),
            vec![],
        )
        .unwrap();
        let of = |size: usize| Tensor::zeros(DType::F32, &[size]).unwrap();
        let all = |binder, i| Binder::input(binder, &format!("x{i}"), &of(8));
        let mut binding = (0..COUNT).fold(session.bind(), all).build().unwrap();
        assert_eq!((binding.own.len(), binding.output_shape(0)), (COUNT + 1, Some(&[8 * COUNT][..])));
        let sizes = |binding: &Binding| {
            let mut sizes: Vec<u64> = binding.own.iter().map(|buffer| buffer.size()).collect();
            sizes.sort();
            sizes
        };
        let before = sizes(&binding);
        for size in [4, 8] {
            binding.set("x17", &of(size)).unwrap();
            binding.run().unwrap();
            assert_eq!(sizes(&binding), before, "no buffer is made for a size that one has room for");
        }
    }
}

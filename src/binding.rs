//! `Binding`: runs over the caller's own GPU buffers, without a copy and without a read-back.

use std::sync::Arc;

use crate::gpu::{Bound, Executable, Frame, Gpu};
use crate::kernels::Storage;
use crate::ops::Graph;
use crate::plan::OutputSource;
use crate::session::Given;
use crate::{DType, Error, InputError, Result, Session, Tensor};

/// Bytes of a buffer that holds a tensor on the device, in whole 16-byte vectors: a 32-bit word for each element.
///
/// ```
/// use sardonyx::{DType, device_bytes};
/// assert_eq!(device_bytes(DType::F32, &[1, 3, 5]), 64);
/// ```
pub fn device_bytes(dtype: DType, shape: &[usize]) -> u64 {
    let count = crate::tensor::checked_count(shape).unwrap_or(usize::MAX);
    Storage::of(dtype).unwrap_or(Storage::Word).bytes(count)
}

/// Collects what a [`Binding`] reads and writes; made by [`Session::bind`]. See [`Binder::build`] for an example.
#[derive(Debug)]
pub struct Binder<'s> {
    session: &'s Session,
    inputs: Vec<(String, Source)>,
    outputs: Vec<(String, wgpu::Buffer)>,
}

#[derive(Clone, Debug)]
enum Source {
    Host(Tensor),
    Buffer(wgpu::Buffer, DType, Vec<usize>),
}

impl Given for Source {
    fn dtype(&self) -> DType {
        match self {
            Source::Host(tensor) => tensor.dtype(),
            Source::Buffer(_, dtype, _) => *dtype,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Source::Host(tensor) => tensor.shape(),
            Source::Buffer(_, _, shape) => shape,
        }
    }

    fn value(&self) -> Option<&Tensor> {
        match self {
            Source::Host(tensor) => Some(tensor),
            Source::Buffer(..) => None,
        }
    }
}

/// A plan over fixed buffers. `record` it into your own encoder as often as you like: nothing is created for a run.
///
/// ```no_run
/// # fn f(session: &sardonyx::Session, device: &wgpu::Device, queue: &wgpu::Queue, x: wgpu::Buffer, y: wgpu::Buffer) -> sardonyx::Result<()> {
/// let binding = session.bind().input_buffer("x", &x, &[1, 4]).output_buffer("y", &y).build()?;
/// let mut encoder = device.create_command_encoder(&Default::default());
/// // ... a pass of yours that writes `x` ...
/// binding.record(&mut encoder);
/// // ... a pass of yours that reads `y` ...
/// queue.submit([encoder.finish()]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Binding {
    graph: Arc<Graph>,
    executable: Arc<Executable>,
    frame: Frame,
    input_shapes: Vec<Vec<usize>>,
}

impl Session {
    /// Begins a binding of this session to buffers of the device that it runs on.
    ///
    /// Elements lie in the buffers as 32-bit words: f32, f16 and bf16 as f32, signed integers as i32, unsigned ones as
    /// u32, bool as 0 or 1. See [`Binding`] for an example.
    pub fn bind(&self) -> Binder<'_> {
        Binder { session: self, inputs: Vec::new(), outputs: Vec::new() }
    }
}

impl Binder<'_> {
    /// Reads input `name`, of this shape, from `buffer` (usage `STORAGE`, at least [`device_bytes`] long).
    pub fn input_buffer(mut self, name: &str, buffer: &wgpu::Buffer, shape: &[usize]) -> Self {
        let graph = self.session.listed();
        let listed = graph.listed_inputs();
        let value = listed.iter().map(|id| graph.value(*id)).find(|value| value.name == name);
        let dtype = value.and_then(|value| value.dtype).unwrap_or(DType::F32);
        self.inputs.push((name.into(), Source::Buffer(buffer.clone(), dtype, shape.to_vec())));
        self
    }

    /// Gives input `name` a fixed value, uploaded once.
    pub fn input(mut self, name: &str, tensor: &Tensor) -> Self {
        self.inputs.push((name.into(), Source::Host(tensor.clone())));
        self
    }

    /// Writes output `name` into `buffer` (usage `STORAGE`, at least [`device_bytes`] long).
    pub fn output_buffer(mut self, name: &str, buffer: &wgpu::Buffer) -> Self {
        self.outputs.push((name.into(), buffer.clone()));
        self
    }

    /// Plans the run and creates all that it needs. An output that is not bound is computed for those that are, and then
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Input`] or [`Error::Output`] if a name is unknown or given twice, a buffer too small, another device's, without `STORAGE`, or
    /// both read and written, an input missing, or an input in a buffer decides a shape; those of [`Session::run`];
    /// [`Error::Device`] on the CPU reference.
    ///
    /// ```no_run
    /// # fn f(session: &sardonyx::Session, x: wgpu::Buffer, y: wgpu::Buffer, b: sardonyx::Tensor) -> sardonyx::Result<()> {
    /// # use sardonyx::wgpu;
    /// let binding = session.bind().input_buffer("x", &x, &[1, 4]).input("b", &b).output_buffer("y", &y).build()?;
    /// println!("y will have the shape {:?}", binding.output_shape(0));
    /// # Ok(()) }
    /// ```
    pub fn build(self) -> Result<Binding> {
        let given: Vec<(&str, &Source)> =
            self.inputs.iter().map(|(name, given)| (&name[..], given)).collect();
        let ordered = self.session.ordered(&given)?;
        let gpu = self.session.gpu()?;
        let (graph, inputs) = (&ordered.entry.graph, &ordered.inputs);
        let mut bound = Bound { inputs: vec![None; inputs.len()], outputs: vec![None; graph.outputs.len()] };
        for (i, (id, given)) in graph.inputs.iter().zip(inputs).enumerate() {
            let Source::Buffer(buffer, dtype, shape) = given else { continue };
            let name = &graph.value(*id).name;
            let fail = |reason| Error::from(InputError::Buffer { name: name.clone(), reason });
            check(gpu, buffer, *dtype, shape).map_err(fail)?;
            if ordered.entry.decides_shapes(i) {
                return Err(fail("its value decides shapes, so it must be given by `input`".into()));
            }
            bound.inputs[i] = Some(buffer.clone());
        }
        let executable = self.session.executable(&ordered)?;
        for (name, buffer) in &self.outputs {
            let i = self.check_output(gpu, &executable, &bound, name, buffer)?;
            bound.outputs[i] = Some(buffer.clone());
        }
        let frame = executable.bound_frame(&bound)?;
        executable.write_unbound(&frame, graph, inputs.iter().map(Given::value))?;
        let input_shapes = inputs.iter().map(|given| given.shape().to_vec()).collect();
        Ok(Binding { graph: graph.clone(), executable, frame, input_shapes })
    }

    /// The number of output `name`, if it can be written to `buffer` beside what is bound already.
    fn check_output(
        &self,
        gpu: &Gpu,
        executable: &Executable,
        bound: &Bound,
        name: &str,
        buffer: &wgpu::Buffer,
    ) -> Result<usize> {
        let fail = |reason: String| Err(Error::Output { name: name.into(), reason });
        let names = self.session.output_names();
        let Some(i) = names.iter().position(|own| own.as_ref() == name) else {
            return fail(format!("the model has no such output; it has {}", names.join(", ")));
        };
        let (dtype, shape) = match executable.plan.program.outputs.get(i) {
            Some(OutputSource::Device { dtype, shape, .. }) => (*dtype, shape),
            Some(OutputSource::Input(_)) => {
                return fail("it is an input, of elements that the device does not hold as they are".into());
            }
            _ => {
                return fail(
                    "it follows from shapes and constants, so no kernel writes it; a run returns it".into(),
                );
            }
        };
        if let Err(reason) = check(gpu, buffer, dtype, shape) {
            return fail(reason);
        }
        if bound.outputs[i].is_some() {
            return fail("is bound twice".into());
        }
        if bound.inputs.iter().chain(&bound.outputs).flatten().any(|other| other == buffer) {
            return fail(
                "its buffer is bound to another input or output too, which a kernel would read while it is written; \
                 take two buffers in turn"
                    .into(),
            );
        }
        Ok(i)
    }
}

fn check(gpu: &Gpu, buffer: &wgpu::Buffer, dtype: DType, shape: &[usize]) -> Result<(), String> {
    let needed = device_bytes(dtype, shape);
    if buffer.size() < needed {
        return Err(format!("its buffer has {} bytes, and {dtype}{shape:?} takes {needed}", buffer.size()));
    }
    if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
        return Err("its buffer lacks the usage STORAGE".into());
    }
    if !gpu.owns(buffer) {
        return Err(
            "its buffer is another device's; make it with the device of the session (`Device::wgpu`)".into(),
        );
    }
    Ok(())
}

impl Binding {
    /// Records the run's one compute pass.
    pub fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        self.executable.record(&self.frame, encoder);
    }

    /// Waits for the runs that were submitted, and says whether one of them met a value outside of its range: an index
    /// outside of its axis, a 64-bit integer that does not fit 32 bits. Such a run reads and writes nothing outside of its
    /// tensors, but its outputs mean nothing.
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
        self.executable.check(&self.frame, &self.graph)
    }

    /// The shape of output `i` of the model.
    pub fn output_shape(&self, i: usize) -> Option<&[usize]> {
        match self.executable.plan.program.outputs.get(i)? {
            OutputSource::Device { shape, .. } => Some(shape),
            OutputSource::Known(tensor) => Some(tensor.shape()),
            OutputSource::Input(i) => self.input_shapes.get(*i).map(Vec::as_slice),
        }
    }
}

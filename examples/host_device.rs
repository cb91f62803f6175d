//! A program with its own wgpu device. One of its passes draws a picture, Sardonyx runs a model on the picture where it lies,
//! and the next pass uses the result. All three are one submission, and nothing is read back until the program shows the
//! result.
//!
//! `cargo run --example host_device`

use sardonyx::wgpu::{self, BufferUsages};
use sardonyx::{DType, Device, Model, Session, SessionOptions, device_bytes};

const SIZE: usize = 96;
const SMALL: usize = SIZE / 4;

/// Draws a ring into the model's input.
const DRAW: &str = "
@group(0) @binding(0) var<storage, read_write> picture: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let at = vec2(f32(id.x % 96u), f32(id.x / 96u)) - 47.5;
  if id.x < arrayLength(&picture) { picture[id.x] = f32(abs(length(at) - 34.0) < 8.0); }
}";

/// Turns the model's output into characters.
const CHARACTERS: &str = "
@group(0) @binding(0) var<storage, read> small: array<f32>;
@group(0) @binding(1) var<storage, read_write> characters: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if id.x >= arrayLength(&small) { return; }
  characters[id.x] = select(select(32u, 46u, small[id.x] > 0.2), 35u, small[id.x] > 0.7);
}";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The host's own instance, adapter and device. Kernels need no more than wgpu's default limits.
    let instance = wgpu::Instance::default();
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;

    let own = Device::from_wgpu(device.clone(), queue.clone())?;
    let session = Session::new(&own, &shrink()?, SessionOptions::default())?;

    let buffer = |shape: &[usize], usage| {
        let size = device_bytes(DType::F32, shape);
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let picture = buffer(&[1, 1, SIZE, SIZE], BufferUsages::STORAGE);
    let small = buffer(&[1, 1, SMALL, SMALL], BufferUsages::STORAGE);
    let characters = buffer(&[SMALL, SMALL], BufferUsages::STORAGE | BufferUsages::COPY_SRC);
    let shown = buffer(&[SMALL, SMALL], BufferUsages::MAP_READ | BufferUsages::COPY_DST);

    // Everything is created here, once; each frame only records.
    let mut binding = session
        .bind()
        .input_buffer("picture", &picture, &[1, 1, SIZE, SIZE])
        .output_buffer("small", &small)
        .build()?;
    let draw = HostPass::new(&device, DRAW, &[&picture], SIZE * SIZE);
    let print = HostPass::new(&device, CHARACTERS, &[&small, &characters], SMALL * SMALL);

    let mut encoder = own.encoder()?;
    draw.record(&mut encoder);
    binding.record(&mut encoder)?;
    print.record(&mut encoder);
    encoder.copy_buffer_to_buffer(&characters, 0, &shown, 0, shown.size());
    queue.submit([encoder.finish()]);

    shown.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("the buffer can be mapped"));
    device.poll(wgpu::PollType::wait_indefinitely())?;
    let mapped = shown.get_mapped_range(..)?;
    for row in mapped.chunks_exact(SMALL * 4) {
        // The least byte of each word is a character; it is printed twice, as characters are higher than wide.
        println!("{}", row.iter().step_by(4).flat_map(|&c| [c as char; 2]).collect::<String>());
    }
    Ok(())
}

/// A compute pass of the host.
struct HostPass {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    groups: u32,
}

impl HostPass {
    fn new(device: &wgpu::Device, wgsl: &str, buffers: &[&wgpu::Buffer], invocations: usize) -> HostPass {
        let source = wgpu::ShaderSource::Wgsl(wgsl.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let layout = &pipeline.get_bind_group_layout(0);
        let group =
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
        HostPass { pipeline, group, groups: invocations.div_ceil(64) as u32 }
    }

    fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(self.groups, 1, 1);
    }
}

/// The model: the mean of each 4x4 block. A real program loads a file (`Model::load`); this one writes the few fields of
/// ONNX's protobuf that the model needs, so that the example needs no file.
fn shrink() -> sardonyx::Result<Model> {
    // Fields of a protobuf message: a number, or bytes with their length; all of them are short.
    let number = |field: u16, value: u8| [(field << 3) as u8 | 0x80, (field >> 4) as u8, value].to_vec();
    let bytes = |field: u8, bytes: &[u8]| [&[field << 3 | 2, bytes.len() as u8], bytes].concat();
    let message = |field: u8, parts: &[Vec<u8>]| bytes(field, &parts.concat());

    let ints =
        |name: &str| message(5, &[bytes(1, name.as_bytes()), number(8, 4), number(8, 4), number(20, 7)]);
    let names = [bytes(1, b"picture"), bytes(2, b"small"), bytes(4, b"AveragePool")];
    let node = message(1, &[names.concat(), ints("kernel_shape"), ints("strides")]);
    let float = message(2, &[message(1, &[number(1, 1)])]);
    let input = message(11, &[bytes(1, b"picture"), float.clone()]);
    let output = message(12, &[bytes(1, b"small"), float]);
    let graph = message(7, &[node, bytes(2, b"shrink"), input, output]);
    let opset = message(8, &[number(2, 21)]);
    Model::from_bytes([number(1, 8), graph, opset].concat())
}

//! What the benchmarks share: a device by name, models that are built here, shaders that run without Sardonyx, and tables of
//! numbers that are measured side by side.

#![allow(dead_code, clippy::unwrap_used)] // A benchmark that cannot go on has failed.

pub use sardonyx_testing::onnx;

use std::sync::OnceLock;
use std::time::Instant;

use sardonyx::internals::{Kernels, with_kernels};
use sardonyx::{AdapterSummary, Device, DeviceOptions, Model, Select, Session, SessionOptions, Tensor, wgpu};
use sardonyx_testing::clock::cpu_time;

/// The device that `SARDONYX_DEVICE` names, or the best one, with these kernels.
pub fn device(kernels: Kernels) -> Device {
    let name = std::env::var("SARDONYX_DEVICE").unwrap_or("gpu".into());
    let select: Select = name.parse().unwrap();
    with_kernels(Device::new(DeviceOptions::new().select(select)).unwrap(), kernels)
}

/// The adapter of the device that is measured.
fn adapter() -> AdapterSummary {
    device(Kernels::Own).adapter().unwrap().clone()
}

/// Whether the measured device computes on the CPU.
fn software() -> bool {
    static SOFTWARE: OnceLock<bool> = OnceLock::new();
    *SOFTWARE.get_or_init(|| adapter().software)
}

/// Device, driver and whether it computes on the CPU, in one line.
pub fn describe() -> String {
    let adapter = adapter();
    format!(
        "{} ({}, {}{})",
        adapter.name,
        adapter.backend,
        adapter.driver,
        if adapter.software { ", software" } else { "" }
    )
}

/// Numbers in -1..1 from a fixed generator.
pub fn values(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub fn tensor(shape: &[usize]) -> Tensor {
    Tensor::from_slice(shape, &values(shape.iter().product())).unwrap()
}

/// A model from `x`, of this shape alone, to `y`, with these nodes, and with weights of these names and shapes.
pub fn model(x: &[usize], nodes: Vec<onnx::proto::NodeProto>, weights: &[(&str, &[i64])]) -> Model {
    let mut graph = onnx::build::graph(&["x"], nodes, &["y"]);
    let dims: Vec<String> = x.iter().map(|size| size.to_string()).collect();
    let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
    graph.input = vec![onnx::build::value("x", onnx::build::FLOAT, &dims)];
    let tensor = |(name, dims): &(&str, &[i64])| {
        onnx::build::weights(name, dims, &values(dims.iter().product::<i64>() as usize))
    };
    graph.initializer = weights.iter().map(tensor).collect();
    Model::from_bytes(onnx::build::bytes(&onnx::build::model(23, graph))).unwrap()
}

/// Something that can be run many times.
pub struct Subject {
    label: String,
    run: Box<dyn FnMut()>,
    /// Runs once, and returns the milliseconds that the device reports.
    device: Box<dyn FnMut() -> Option<f64>>,
}

/// A model on one input, in a session of its own.
pub fn subject(label: &str, model: &Model, x: &Tensor, kernels: Kernels, options: SessionOptions) -> Subject {
    let session = std::rc::Rc::new(Session::new(&device(kernels), model, options).unwrap());
    let (again, x, y) = (session.clone(), x.clone(), x.clone());
    Subject {
        label: label.into(),
        run: Box::new(move || drop(session.run(&[("x", &x)]).unwrap())),
        device: Box::new(move || {
            let times = again.profile(&[("x", &y)]).ok()?;
            Some(times.iter().map(|time| time.nanoseconds / 1e6).sum())
        }),
    }
}

/// A shader with storage buffers of these sizes at bindings 0, 1, ..., without Sardonyx.
pub fn shader(label: &str, wgsl: &str, buffers: &[u64], groups: [u32; 3]) -> Subject {
    let owner = device(Kernels::Own);
    let (device, queue) = owner.wgpu().map(|(device, queue)| (device.clone(), queue.clone())).unwrap();
    let source = wgpu::ShaderSource::Wgsl(wgsl.into());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let buffers: Vec<wgpu::Buffer> = buffers
        .iter()
        .map(|&size| {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            let buffer = device.create_buffer(&descriptor);
            let bytes: Vec<u8> = values(size as usize / 4).iter().flat_map(|v| v.to_le_bytes()).collect();
            queue.write_buffer(&buffer, 0, &bytes);
            buffer
        })
        .collect();
    let entries: Vec<wgpu::BindGroupEntry> = (0..)
        .zip(&buffers)
        .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
        .collect();
    let layout = pipeline.get_bind_group_layout(0);
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &layout,
        entries: &entries,
    });
    let run = move |dispatches: u32| {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        (0..dispatches).for_each(|_| pass.dispatch_workgroups(groups[0], groups[1], groups[2]));
        drop(pass);
        let submission = queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None }).unwrap();
        // The device goes with its owner.
        let _ = &owner;
    };
    let run = std::rc::Rc::new(run);
    let again = run.clone();
    Subject {
        label: label.into(),
        run: Box::new(move || run(1)),
        // The time of a submission must not count: on a GPU it exceeds the time of some of these shaders.
        device: Box::new(move || {
            let dispatches = if software() { 1 } else { 50 };
            let start = Instant::now();
            again(dispatches);
            Some(start.elapsed().as_secs_f64() * 1e3 / f64::from(dispatches))
        }),
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Runs all subjects in turn, for several rounds, and prints the medians and their ratios to the first subject's median.
/// `work` is the work of one run, in units of 1e9.
pub fn side_by_side(title: &str, work: Option<(f64, &str)>, mut subjects: Vec<Subject>) {
    let rounds: usize = std::env::var("SARDONYX_ROUNDS").map_or(7, |text| text.parse().unwrap());
    let mut device = vec![Vec::new(); subjects.len()];
    let mut cpu = device.clone();
    for subject in &mut subjects {
        (subject.run)();
        (subject.run)();
    }
    // The clock of an idle GPU is a fraction of that of a busy one.
    let start = Instant::now();
    while !software() && start.elapsed().as_millis() < 200 {
        subjects.iter_mut().for_each(|subject| _ = (subject.device)());
    }
    for _ in 0..rounds {
        for (i, subject) in subjects.iter_mut().enumerate() {
            let start = cpu_time(true);
            (subject.run)();
            cpu[i].push((cpu_time(true) - start).as_secs_f64() * 1e3);
            device[i].extend((subject.device)());
        }
    }
    println!("\n### {title}\n");
    let unit = work.map_or(String::new(), |(_, unit)| format!(" {unit}/s |"));
    println!(
        "| | device | CPU | device ms |{unit} CPU ms |\n|---|---|---|---|{}---|",
        if work.is_some() { "---|" } else { "" }
    );
    let medians: Vec<(f64, f64)> = device.into_iter().zip(cpu).map(|(d, c)| (median(d), median(c))).collect();
    let first = medians[0];
    for (subject, (device, cpu)) in subjects.iter().zip(medians) {
        let rate = work.map_or(String::new(), |(work, _)| format!(" {:.1} |", work / 1e9 / (device / 1e3)));
        let (d, c) = (device / first.0, cpu / first.1);
        println!("| {} | {d:.2}x | {c:.2}x | {device:.3} |{rate} {cpu:.2} |", subject.label);
    }
}

/// Whether the command line names this part, or no part at all.
pub fn wanted(part: &str) -> bool {
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    names.is_empty() || names.iter().any(|name| part.contains(name.as_str()))
}

//! Sessions over the host's own device and buffers, on every adapter present.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use sardonyx::{
    AdapterSummary, DType, Device, DeviceOptions, DeviceTensor, Encoder, Error, Model, Select, Session,
    SessionOptions, Tensor, device_bytes, wgpu,
};
use sardonyx_testing::onnx;
use sardonyx_testing::onnx::build::{FLOAT, INT64, bytes, graph, int, model, node, value, weights};
use sardonyx_testing::onnx::proto::GraphProto;
use wgpu::{BufferUsages, util::DeviceExt};

fn of(main: GraphProto) -> Model {
    Model::from_bytes(bytes(&model(21, main))).unwrap()
}

fn session(device: &Device, model: &Model) -> Session {
    Session::new(device, model, SessionOptions::default()).unwrap()
}

/// A program with its own device, requested with wgpu's default limits and without features.
struct Host {
    device: wgpu::Device,
    queue: wgpu::Queue,
}

impl Host {
    fn each() -> Vec<Host> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        let adapters = pollster::block_on(instance.enumerate_adapters(backends));
        let host = |adapter: wgpu::Adapter| {
            let device = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()));
            device.ok().map(|(device, queue)| Host { device, queue })
        };
        adapters.into_iter().filter_map(host).collect()
    }

    fn sardonyx(&self) -> Device {
        Device::from_wgpu(self.device.clone(), self.queue.clone()).unwrap()
    }

    fn buffer(&self, values: &[f32]) -> wgpu::Buffer {
        self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: bytemuck::cast_slice(values),
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
        })
    }

    fn empty(&self, shape: &[usize]) -> wgpu::Buffer {
        self.buffer(&vec![f32::NAN; device_bytes(DType::F32, shape) as usize / 4])
    }

    fn run(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder);
        self.queue.submit([encoder.finish()]);
    }

    /// Records into an encoder of the session's device, and submits.
    fn record(&self, session: &Session, record: impl FnOnce(&mut Encoder)) {
        let mut encoder = session.device().encoder().unwrap();
        record(&mut encoder);
        self.queue.submit([encoder.finish()]);
    }

    fn read<T: bytemuck::Pod>(&self, buffer: &wgpu::Buffer, count: usize) -> Vec<T> {
        let size = buffer.size();
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let staging = self.device.create_buffer(&descriptor);
        self.run(|encoder| encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size));
        staging.slice(..).map_async(wgpu::MapMode::Read, |result| result.unwrap());
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let mapped = staging.slice(..).get_mapped_range().unwrap();
        bytemuck::pod_collect_to_vec(&mapped[..count * 4])
    }
}

/// `y = relu(x + 1) * 2`: values that a planner could place in the input's memory.
fn steps() -> Model {
    let nodes = vec![
        node("Add", &["x", "one"], &["a"]),
        node("Relu", &["a"], &["r"]),
        node("CumSum", &["r", "axis"], &["c"]),
        node("Mul", &["c", "two"], &["y"]),
    ];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("x", FLOAT, &["n", "4"])];
    main.initializer = vec![weights("one", &[], &[1.0]), weights("two", &[], &[2.0]), axis(1)];
    of(main)
}

fn axis(axis: i64) -> onnx::proto::TensorProto {
    let data = axis.to_le_bytes().to_vec();
    onnx::proto::TensorProto { raw_data: Some(data.into()), ..onnx::build::empty("axis", INT64, &[]) }
}

#[test]
fn a_session_runs_on_the_hosts_device() {
    for host in Host::each() {
        let device = host.sardonyx();
        let x = Tensor::from_slice(&[1, 4], &[1.0f32, -3.0, 0.5, 2.0]).unwrap();
        let outputs = session(&device, &steps()).run(&[("x", &x)]).unwrap();
        assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [4.0, 4.0, 7.0, 13.0]);
    }
}

/// A host that asks for what Sardonyx would ask for gets the same device; the tests' hosts ask for less.
#[test]
fn a_host_can_ask_for_what_kernels_use() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    for adapter in adapters {
        let opened = adapter.request_device(&DeviceOptions::descriptor_for(&adapter));
        let (device, queue) = pollster::block_on(opened).unwrap();
        let hosted = Device::from_wgpu(device, queue).unwrap();
        let own = Device::new(DeviceOptions::new().select(Select::Name(hosted.name()))).unwrap();
        let (hosted, own) = (hosted.adapter().unwrap(), own.adapter().unwrap());
        assert_eq!((&hosted.name, &hosted.backend, &hosted.driver), (&own.name, &own.backend, &own.driver));
        assert_eq!((&hosted.kind, hosted.software, hosted.index), (&own.kind, own.software, None));
        let limits = |summary: &AdapterSummary| {
            (summary.max_storage_buffer_binding_size, summary.max_buffer_size, summary.subgroup_sizes)
        };
        assert_eq!(limits(hosted), limits(own));
        assert_eq!(own.index.map(|index| sardonyx::adapters()[index].name.clone()), Some(own.name.clone()));
        assert!(["SUBGROUP", "TIMESTAMP_QUERY"].iter().all(|feature| {
            own.features.iter().any(|own| own == feature) == hosted.features.iter().any(|own| own == feature)
        }));
    }
    assert!(Device::reference().adapter().is_none());
}

#[test]
fn buffers_of_the_caller_are_used_as_they_are() {
    for host in Host::each() {
        let device = host.sardonyx();
        let session = session(&device, &steps());
        let given = [1.0, -3.0, 0.5, 2.0, 0.0, 0.0, -1.0, 1.0];
        let (x, y) = (host.buffer(&given), host.empty(&[2, 4]));
        let mut binding =
            session.bind().input_buffer("x", &x, &[2, 4]).output_buffer("y", &y).build().unwrap();
        assert_eq!(binding.output_shape(0), Some(&[2, 4][..]));
        assert_eq!(binding.output_shape(1), None);
        let before = device.counters();
        for _ in 0..3 {
            host.record(&session, |encoder| binding.record(encoder).unwrap());
        }
        assert_eq!(device.counters(), before, "recording creates nothing, and submits nothing");
        assert_eq!(host.read::<f32>(&y, 8), [4.0, 4.0, 7.0, 13.0, 2.0, 4.0, 4.0, 8.0]);
        assert_eq!(host.read::<f32>(&x, 8), given, "an input is never written");
    }
}

#[test]
fn floats_of_16_bits_lie_in_buffers_two_to_a_word() {
    const FLOAT16: i32 = 10;
    let mut main = graph(&[], vec![node("Add", &["x", "x"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT16, &["3"])];
    for host in Host::each() {
        let session = session(&host.sardonyx(), &of(main.clone()));
        let words = |words: [u32; 4]| host.buffer(&words.map(f32::from_bits));
        // 1, -2 and 0.5.
        let (x, y) = (words([0xc000_3c00, 0x3800, 0, 0]), words([0x7777_7777; 4]));
        assert_eq!(device_bytes(DType::F16, &[3]), y.size());
        let mut binding = session.bind().input_buffer("x", &x, &[3]).output_buffer("y", &y).build().unwrap();
        host.record(&session, |encoder| binding.record(encoder).unwrap());
        // 2, -4 and 1; the bytes after the last element stay as they were.
        assert_eq!(host.read::<u32>(&y, 4), [0xc400_4000, 0x7777_3c00, 0x7777_7777, 0x7777_7777]);
    }
}

#[test]
fn elements_of_8_bits_lie_in_buffers_four_to_a_word() {
    const UINT8: i32 = 2;
    const BOOL: i32 = 9;
    let mut main = graph(&[], vec![node("Where", &["m", "x", "z"], &["y"])], &["y"]);
    main.input = vec![value("m", BOOL, &["5"]), value("x", UINT8, &["5"]), value("z", UINT8, &[])];
    for host in Host::each() {
        let session = session(&host.sardonyx(), &of(main.clone()));
        let words = |words: [u32; 4]| host.buffer(&words.map(f32::from_bits));
        let (m, x) = (words([0x0100_0101, 1, 0, 0]), words([0xff03_0201, 0x80, 0, 0]));
        let (z, y) = (words([0x7f, 0, 0, 0]), words([0x7777_7777; 4]));
        assert_eq!(device_bytes(DType::U8, &[5]), y.size());
        let binder = session.bind().input_buffer("m", &m, &[5]).input_buffer("x", &x, &[5]);
        let mut binding = binder.input_buffer("z", &z, &[]).output_buffer("y", &y).build().unwrap();
        host.record(&session, |encoder| binding.record(encoder).unwrap());
        // 1, 2, 127, 255 and 128; the bytes after the last element stay as they were.
        assert_eq!(host.read::<u32>(&y, 4), [0xff7f_0201, 0x7777_7780, 0x7777_7777, 0x7777_7777]);
    }
}

#[test]
fn fixed_and_bound_inputs_mix() {
    let mut main = graph(&[], vec![node("Sub", &["x", "b"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["4"]), value("b", FLOAT, &["4"])];
    for host in Host::each() {
        let session = session(&host.sardonyx(), &of(main.clone()));
        let (x, y) = (host.buffer(&[5.0, 6.0, 7.0, 8.0]), host.empty(&[4]));
        let b = Tensor::from_slice(&[4], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let binder = session.bind().input_buffer("x", &x, &[4]).input("b", &b).output_buffer("y", &y);
        let mut binding = binder.build().unwrap();
        host.record(&session, |encoder| binding.record(encoder).unwrap());
        assert_eq!(host.read::<f32>(&y, 4), [4.0; 4]);
    }
}

#[test]
fn a_bound_output_may_be_an_input_or_feed_other_kernels() {
    let nodes = vec![
        node("Identity", &["x"], &["same"]),
        node("CumSum", &["x", "axis"], &["c"]),
        node("CumSum", &["c", "axis"], &["cc"]),
        node("Reshape", &["c", "rows"], &["r"]),
    ];
    let mut main = graph(&[], nodes, &["x", "same", "c", "cc", "r"]);
    main.input = vec![value("x", FLOAT, &["4"])];
    let rows = [2i64, 2].iter().flat_map(|d| d.to_le_bytes()).collect::<Vec<u8>>();
    let rows =
        onnx::proto::TensorProto { raw_data: Some(rows.into()), ..onnx::build::empty("rows", INT64, &[2]) };
    main.initializer = vec![axis(0), rows];
    for host in Host::each() {
        let session = session(&host.sardonyx(), &of(main.clone()));
        let x = host.buffer(&[1.0, 2.0, 3.0, 4.0]);
        let outputs: Vec<wgpu::Buffer> = (0..5).map(|_| host.empty(&[4])).collect();
        let mut binder = session.bind().input_buffer("x", &x, &[4]);
        for (name, buffer) in ["x", "same", "c", "cc", "r"].iter().zip(&outputs) {
            binder = binder.output_buffer(name, buffer);
        }
        let mut binding = binder.build().unwrap();
        host.record(&session, |encoder| binding.record(encoder).unwrap());
        let expected = [
            [1.0, 2.0, 3.0, 4.0],
            [1.0, 2.0, 3.0, 4.0],
            [1.0, 3.0, 6.0, 10.0],
            [1.0, 4.0, 10.0, 20.0],
            [1.0, 3.0, 6.0, 10.0],
        ];
        for (buffer, expected) in outputs.iter().zip(expected) {
            assert_eq!(host.read::<f32>(buffer, 4), expected);
        }
    }
}

/// Decaying state in two buffers, each the input of one step and the output of the next; ten steps in one submission.
#[test]
fn state_stays_on_the_device() {
    let nodes =
        vec![node("Mul", &["state", "half"], &["decayed"]), node("Add", &["decayed", "x"], &["next"])];
    let mut main = graph(&[], nodes, &["next"]);
    main.input = vec![value("state", FLOAT, &["4"]), value("x", FLOAT, &["4"])];
    main.initializer = vec![weights("half", &[], &[0.5])];
    for host in Host::each() {
        let session = session(&host.sardonyx(), &of(main.clone()));
        let x = host.buffer(&[1.0, 2.0, 3.0, 4.0]);
        let state = [host.buffer(&[0.0; 4]), host.empty(&[4])];
        let step = |from: usize| {
            let binder = session.bind().input_buffer("state", &state[from], &[4]);
            let binder = binder.input_buffer("x", &x, &[4]).output_buffer("next", &state[1 - from]);
            binder.build().unwrap()
        };
        let mut steps = [step(0), step(1)];
        host.record(&session, |encoder| (0..10).for_each(|i| steps[i % 2].record(encoder).unwrap()));
        let sum: f32 = (0..10).map(|i| 0.5f32.powi(i)).sum();
        assert_eq!(host.read::<f32>(&state[0], 4), [sum, 2.0 * sum, 3.0 * sum, 4.0 * sum]);
    }
}

/// A cache that grows by one row in each step, like the keys of a decoder. Each length has its own plan, and all share one set
/// of pipelines.
#[test]
fn a_cache_grows_on_the_device() {
    let nodes = vec![
        node("Concat", &["past", "key"], &["present"]).with(int("axis", 1)),
        node("ReduceSum", &["present", "axes"], &["sum"]).with(int("keepdims", 0)),
    ];
    let mut main = graph(&[], nodes, &["present", "sum"]);
    main.input = vec![value("past", FLOAT, &["2", "t", "3"]), value("key", FLOAT, &["2", "1", "3"])];
    let axes = 1i64.to_le_bytes().to_vec();
    main.initializer = vec![onnx::proto::TensorProto {
        raw_data: Some(axes.into()),
        ..onnx::build::empty("axes", INT64, &[1])
    }];
    const STEPS: usize = 6;
    for host in Host::each() {
        let device = host.sardonyx();
        let session = session(&device, &of(main.clone()));
        let caches = [host.empty(&[2, STEPS, 3]), host.empty(&[2, STEPS, 3])];
        let sum = host.empty(&[2, 3]);
        let mut pipelines = Vec::new();
        for t in 0..STEPS {
            let key: Vec<f32> = (0..6).map(|i| (10 * t + i) as f32).collect();
            let key = Tensor::from_slice(&[2, 1, 3], &key).unwrap();
            let binder = session.bind().input_buffer("past", &caches[t % 2], &[2, t, 3]).input("key", &key);
            let binder = binder.output_buffer("present", &caches[1 - t % 2]).output_buffer("sum", &sum);
            let mut binding = binder.build().unwrap();
            host.record(&session, |encoder| binding.record(encoder).unwrap());
            pipelines.push(device.counters().pipelines);
        }
        let expected: Vec<f32> =
            (0..6).map(|i| (0..STEPS).map(|t| (10 * t + i) as f32).sum::<f32>()).collect();
        assert_eq!(host.read::<f32>(&sum, 6), expected);
        // Lengths of 0 and 1 may need other kernels than the rest.
        assert_eq!(pipelines[2], pipelines[STEPS - 1], "{pipelines:?}");
    }
}

#[test]
fn integers_lie_in_buffers_as_words() {
    let mut main = graph(&[], vec![node("Neg", &["x"], &["y"])], &[]);
    main.input = vec![value("x", INT64, &["3"])];
    main.output = vec![value("y", INT64, &["3"])];
    for host in Host::each() {
        let session = session(&host.sardonyx(), &of(main.clone()));
        let (x, y) = (host.buffer(&[5i32, -6, 7, 0].map(|v| f32::from_bits(v as u32))), host.empty(&[3]));
        let mut binding = session.bind().input_buffer("x", &x, &[3]).output_buffer("y", &y).build().unwrap();
        host.record(&session, |encoder| binding.record(encoder).unwrap());
        assert_eq!(host.read::<i32>(&y, 3), [-5, 6, -7]);
    }
}

#[test]
fn bindings_that_cannot_be() {
    let Some(host) = Host::each().into_iter().next() else { return };
    let device = host.sardonyx();
    let (x, y) = (host.empty(&[2, 4]), host.empty(&[2, 4]));
    let session = session(&device, &steps());
    let refused = |binder: sardonyx::Binder<'_>| binder.build().unwrap_err().to_string();
    let bound = || session.bind().input_buffer("x", &x, &[2, 4]);
    assert_eq!(
        refused(session.bind().input_buffer("z", &x, &[2, 4])),
        "input 'z': the model has no such input; it has x"
    );
    assert_eq!(refused(bound().output_buffer("z", &y)), "output 'z': the model has no such output; it has y");
    assert_eq!(
        refused(session.bind().output_buffer("y", &y)),
        "input 'x': is missing; the model takes x: float32[n, 4]"
    );
    assert_eq!(refused(bound().input_buffer("x", &y, &[2, 4])), "input 'x': is given twice");
    assert_eq!(refused(bound().output_buffer("y", &y).output_buffer("y", &y)), "output 'y': is bound twice");
    assert_eq!(
        refused(session.bind().input_buffer("x", &x, &[3, 4]).output_buffer("y", &y)),
        "input 'x': its buffer has 32 bytes, and float32[3, 4] takes 48"
    );
    assert_eq!(
        refused(session.bind().input_buffer("x", &x, &[2, 3]).output_buffer("y", &y)),
        "input 'x': has shape [2, 3], and the model takes [n, 4]"
    );
    assert_eq!(
        refused(bound().output_buffer("y", &x)),
        "output 'y': its buffer is bound to another input or output too, which a kernel would read while it is \
         written; take two buffers in turn"
    );
    let small = host.empty(&[4]);
    assert_eq!(
        refused(bound().output_buffer("y", &small)),
        "output 'y': its buffer has 16 bytes, and float32[2, 4] takes 32"
    );
    let usage = BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: 32, usage, mapped_at_creation: false };
    let plain = host.device.create_buffer(&descriptor);
    assert_eq!(refused(bound().output_buffer("y", &plain)), "output 'y': its buffer lacks the usage STORAGE");
    let reference = Device::reference();
    let session = self::session(&reference, &steps());
    let error = session.bind().input_buffer("x", &x, &[2, 4]).build().unwrap_err();
    assert!(matches!(error, Error::Device { .. }), "{error}");
}

/// A device on an adapter with this name, of an instance of its own.
fn of_own_instance(adapter: &wgpu::AdapterInfo) -> Host {
    let mut all = Host::each();
    let same = |host: &Host| host.device.adapter_info().name == adapter.name;
    let at = all.iter().position(same).unwrap();
    all.swap_remove(at)
}

const FOREIGN: &str =
    "its buffer is another device's; make it with the device of the session (`Device::wgpu`)";

/// Tries to use `foreign`, of at least 16 bytes, in each way that takes a buffer.
fn each_use_is_refused(own: &Host, device: &Device, foreign: &wgpu::Buffer) {
    let session = session(device, &steps());
    let x = own.empty(&[1, 4]);
    let error = session.bind().input_buffer("x", foreign, &[1, 4]).build().unwrap_err();
    assert_eq!(error.to_string(), format!("input 'x': {FOREIGN}"));
    let bound = || session.bind().input_buffer("x", &x, &[1, 4]);
    let error = bound().output_buffer("y", foreign).build().unwrap_err();
    assert_eq!(error.to_string(), format!("output 'y': {FOREIGN}"));
    let mut binding = bound().build().unwrap();
    binding.set_buffer("x", foreign, &[1, 4]).unwrap();
    assert_eq!(binding.run().unwrap_err().to_string(), format!("input 'x': {FOREIGN}"));
    let error = DeviceTensor::from_buffer(device, foreign, DType::F32, &[1, 4]).unwrap_err();
    assert_eq!(error.to_string(), format!("tensor: {FOREIGN}"));
}

/// Another device of the same adapter: of the same instance, and of another, where wgpu gives its buffers the same numbers.
#[test]
fn buffers_of_another_device_are_refused() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    for adapter in adapters {
        let host = || {
            let device = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()));
            device.map(|(device, queue)| Host { device, queue }).unwrap()
        };
        let (own, sibling, stranger) = (host(), host(), of_own_instance(&adapter.get_info()));
        let device = own.sardonyx();
        for other in [sibling, stranger] {
            // Without a handler of its own, wgpu panics, and the test's output has the message.
            let errors = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let counted = errors.clone();
            other.device.on_uncaptured_error(std::sync::Arc::new(move |_| {
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }));
            let foreign: Vec<wgpu::Buffer> = (0..24).map(|_| other.empty(&[1, 4])).collect();
            foreign.iter().for_each(|foreign| each_use_is_refused(&own, &device, foreign));
            // Only the first use of a buffer makes an error: wgpu remembers the request.
            assert_eq!(errors.load(std::sync::atomic::Ordering::Relaxed), 24);
            // The other device goes on.
            let other = self::session(&other.sardonyx(), &steps());
            let x = Tensor::from_slice(&[1, 4], &[1.0f32; 4]).unwrap();
            assert_eq!(other.run(&[("x", &x)]).unwrap()[0].to_vec::<f32>().unwrap(), [4.0, 8.0, 12.0, 16.0]);
        }
        // Buffers of the device itself still do.
        let (x, y) = (own.buffer(&[1.0; 4]), own.empty(&[1, 4]));
        let session = session(&device, &steps());
        let mut binding =
            session.bind().input_buffer("x", &x, &[1, 4]).output_buffer("y", &y).build().unwrap();
        binding.run().unwrap();
        assert_eq!(own.read::<f32>(&y, 4), [4.0, 8.0, 12.0, 16.0]);
    }
}

/// Devices that Sardonyx opens have an instance each. The one whose buffer is refused elsewhere reports nothing afterwards.
#[test]
fn tensors_and_encoders_of_another_device_are_refused() {
    for own in Host::each() {
        let device = own.sardonyx();
        let name = own.device.adapter_info().name;
        let other = Device::new(DeviceOptions::new().select(Select::Name(name))).unwrap();
        let x = Tensor::from_slice(&[1, 4], &[1.0f32; 4]).unwrap();
        let foreign: Vec<DeviceTensor> = (0..24).map(|_| DeviceTensor::new(&other, &x).unwrap()).collect();
        let session = session(&device, &steps());
        for tensor in &foreign {
            each_use_is_refused(&own, &device, tensor.buffer().unwrap());
            let text = "input 'x': it is on another device than the session; `read` it, and give the tensor";
            assert_eq!(session.run(&[("x", tensor)]).unwrap_err().to_string(), text);
            assert_eq!(session.bind().input("x", tensor).build().unwrap_err().to_string(), text);
            assert_eq!(tensor.read().unwrap(), x);
        }
        let mut binding = session.bind().input("x", &x).build().unwrap();
        let mut encoder = other.encoder().unwrap();
        let error = binding.record(&mut encoder).unwrap_err();
        let text =
            "the encoder is another device's; make it with the device of the session (`Device::encoder`)";
        assert!(matches!(&error, Error::Gpu(reason) if reason == text), "{error}");
        // The refused encoder is as it was, and so is its device.
        let mut theirs = self::session(&other, &steps()).bind().input("x", &foreign[0]).build().unwrap();
        theirs.record(&mut encoder).unwrap();
        other.wgpu().unwrap().1.submit([encoder.finish()]);
        assert_eq!(theirs.read("y").unwrap().to_vec::<f32>().unwrap(), [4.0, 8.0, 12.0, 16.0]);
        own.record(&session, |encoder| binding.record(encoder).unwrap());
        assert_eq!(binding.read("y").unwrap().to_vec::<f32>().unwrap(), [4.0, 8.0, 12.0, 16.0]);
        let error = Device::reference().encoder().unwrap_err();
        assert!(matches!(error, Error::Device { .. }), "{error}");
    }
}

#[test]
fn buffers_that_no_kernel_can_use_are_refused() {
    for host in Host::each() {
        let device = host.sardonyx();
        let session = session(&device, &steps());
        let refused = |buffer: &wgpu::Buffer| {
            session.bind().input_buffer("x", buffer, &[1, 4]).build().unwrap_err().to_string()
        };
        let descriptor = wgpu::BufferDescriptor {
            label: None,
            size: 16,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        };
        let mapped = host.device.create_buffer(&descriptor);
        assert_eq!(refused(&mapped), "input 'x': its buffer is mapped; unmap it before kernels use it");
        mapped.unmap();
        session.bind().input_buffer("x", &mapped, &[1, 4]).build().unwrap();
        mapped.destroy();
        let gone = "input 'x': its buffer is not valid: the device could not make it, or it was destroyed";
        assert_eq!(refused(&mapped), gone);
        let scope = host.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let invalid = host.device.create_buffer(&wgpu::BufferDescriptor { size: 1 << 60, ..descriptor });
        assert!(pollster::block_on(scope.pop()).is_some());
        assert!(refused(&invalid).starts_with("input 'x': its buffer is"), "{}", refused(&invalid));
    }
}

#[test]
fn buffers_of_one_dimension_and_two_sizes() {
    let mut main = graph(&[], vec![node("Add", &["x", "b"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["n", "2"]), value("b", FLOAT, &["n", "2"])];
    let model = of(main);
    for host in Host::each() {
        let device = host.sardonyx();
        let session = session(&device, &model);
        let (x, b) = (host.buffer(&[1.0; 8]), host.buffer(&[2.0; 8]));
        let bound = session.bind().input_buffer("x", &x, &[3, 2]).input_buffer("b", &b, &[1, 2]).build();
        let error = bound.unwrap_err().to_string();
        assert!(error.contains("'b': axis 0 has size 1, and axis 0 of input 'x' has size 3"), "{error}");
        assert!(error.contains("both 'n'"), "{error}");
    }
}

#[test]
fn a_value_that_decides_shapes_is_given_by_the_host() {
    let mut main = graph(&[], vec![node("Reshape", &["x", "shape"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["4"]), value("shape", INT64, &["2"])];
    for host in Host::each() {
        let session = session(&host.sardonyx(), &of(main.clone()));
        let (x, y, shape) = (host.buffer(&[1.0, 2.0, 3.0, 4.0]), host.empty(&[4]), host.empty(&[2]));
        let error = session
            .bind()
            .input_buffer("x", &x, &[4])
            .input_buffer("shape", &shape, &[2])
            .build()
            .unwrap_err();
        let text = "input 'shape': its value decides shapes, so it must be given as a `Tensor`";
        assert_eq!(error.to_string(), text);
        let shape = Tensor::from_slice(&[2], &[2i64, 2]).unwrap();
        let binder = session.bind().input_buffer("x", &x, &[4]).input("shape", &shape).output_buffer("y", &y);
        let mut binding = binder.build().unwrap();
        assert_eq!(binding.output_shape(0), Some(&[2, 2][..]));
        host.record(&session, |encoder| binding.record(encoder).unwrap());
        assert_eq!(host.read::<f32>(&y, 4), [1.0, 2.0, 3.0, 4.0]);
    }
}

#[test]
fn a_binding_tells_of_indices_outside_of_their_axis() {
    let mut main = graph(&[], vec![node("Gather", &["x", "i"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["3"]), value("i", 6, &["2"])];
    for host in Host::each() {
        let session = session(&host.sardonyx(), &of(main.clone()));
        let (x, y) = (host.buffer(&[1.0, 2.0, 3.0, 0.0]), host.empty(&[2]));
        let indices = host.buffer(&[1u32, 2, 0, 0].map(f32::from_bits));
        let binder = session.bind().input_buffer("x", &x, &[3]).input_buffer("i", &indices, &[2]);
        let mut binding = binder.output_buffer("y", &y).build().unwrap();
        host.record(&session, |encoder| binding.record(encoder).unwrap());
        binding.check().unwrap();
        host.queue.write_buffer(&indices, 0, &3u32.to_le_bytes());
        host.record(&session, |encoder| binding.record(encoder).unwrap());
        let error = binding.check().unwrap_err().to_string();
        assert!(error.contains("index 3 in 'i' is outside of axis 0 of 3 elements"), "{error}");
        // A report is not repeated.
        binding.check().unwrap();
        host.queue.write_buffer(&indices, 0, &0u32.to_le_bytes());
        host.record(&session, |encoder| binding.record(encoder).unwrap());
        binding.check().unwrap();
        assert_eq!(host.read::<f32>(&y, 2), [1.0, 3.0]);
    }
}

//! Kernels side by side: `cargo bench --bench kernels [-- part...]`, where a part is `device`, `gemm`,
//! `gemv`, `blocks`, `chain`, `softmax`, `attention` or `conv`. `SARDONYX_DEVICE` names the device, `SARDONYX_ROUNDS` the rounds, `SARDONYX_GEMM` the size.
//!
//! The operators' cases are as small as correctness allows, so that all of them can be tested; what is timed here has the sizes
//! of real networks, and is listed here.

#![allow(clippy::unwrap_used)] // A benchmark that cannot go on has failed.

mod common;

use common::onnx::build::{self, FLOAT, bytes, graph, int, ints, node, value};
use common::onnx::proto::TensorProto;
use common::{Subject, describe, model, shader, side_by_side, subject, tensor, values, wanted};
use sardonyx::internals::{Kernels, tiles};
use sardonyx::{Model, SessionOptions, Tensor};

fn main() {
    println!("{}", describe());
    let parts: [(&str, fn()); 8] = [
        ("device", of_device),
        ("gemm", gemm),
        ("gemv", gemv),
        ("blocks", blocks),
        ("chain", chain),
        ("softmax", softmax),
        ("attention", attention),
        ("conv", conv),
    ];
    parts.into_iter().filter(|(name, _)| wanted(name)).for_each(|(_, run)| run());
}

/// The limits of the device: its rate of products, and of bytes from buffers that are bound in one way and in the other.
fn of_device() {
    const REPEATS: usize = 256;
    // Scalars, because on NVIDIA the registers of vector operands would meet in one bank, which halves the rate.
    let chains = (0..32).map(|i| format!("  var v{i} = f32(id.x + {i}u);\n")).collect::<String>();
    let products = (0..32).map(|i| format!("    v{i} = fma(v{i}, a, b);\n")).collect::<String>().repeat(4);
    let sum = (0..32).map(|i| format!("v{i}")).collect::<Vec<_>>().join(" + ");
    let fma = format!(
        "@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(256) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
  let a = y[0];
  let b = y[1];
{chains}  for (var i = 0u; i < {REPEATS}u; i++) {{
{products}  }}
  y[id.x] = {sum};
}}"
    );
    const GROUPS: u32 = 1024;
    let invocations = u64::from(GROUPS) * 256;
    let flop = (invocations * REPEATS as u64 * 32 * 4 * 2) as f64;
    side_by_side(
        "Fused products, in registers alone",
        Some((flop, "GFLOP")),
        vec![shader("fma", &fma, &[invocations * 4], [GROUPS, 1, 1])],
    );
    const BYTES: u64 = 64 << 20;
    let copy = |access: &str| {
        format!(
            "@group(0) @binding(0) var<storage, {access}> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@compute @workgroup_size(256) fn main(
  @builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
) {{
  let i = id.x + id.y * groups.x * 256u;
  y[i] = x[i] * 2.0;
}}"
        )
    };
    let groups = [(BYTES / 16 / 256) as u32 / 64, 64, 1];
    let subjects = ["read", "read_write"].map(|a| shader(a, &copy(a), &[BYTES, BYTES], groups));
    side_by_side(
        "A copy of 64 MiB, by how the source is bound",
        Some((2.0 * BYTES as f64, "GB")),
        subjects.into(),
    );
}

/// The model with each class of kernels that the device can run.
fn each(label: &str, model: &Model, x: &Tensor) -> Vec<Subject> {
    let new = |name: &str, kernels| {
        subject(&format!("{label}{name}"), model, x, kernels, SessionOptions::default())
    };
    vec![
        new("portable", Kernels::Portable),
        new("the device's own", Kernels::Own),
        new("for GPUs", Kernels::Gpu),
        new("for GPUs, no subgroups", Kernels::GpuWithoutSubgroups),
    ]
}

fn gemm() {
    let size: usize = std::env::var("SARDONYX_GEMM").map_or(512, |text| text.parse().unwrap());
    let naive = format!(
        "@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(16, 16) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
  var sum = 0.0;
  for (var k = 0u; k < {size}u; k++) {{ sum += a[id.y * {size}u + k] * b[k * {size}u + id.x]; }}
  y[id.y * {size}u + id.x] = sum;
}}"
    );
    let (side, groups) = (size as i64, size as u32 / 16);
    let bytes = (size * size * 4) as u64;
    let x = tensor(&[size, size]);
    let product = model(x.shape(), vec![node("MatMul", &["x", "w"], &["y"])], &[("w", &[side, side])]);
    let mut subjects = vec![shader("naive", &naive, &[bytes, bytes, bytes], [groups, groups, 1])];
    subjects.extend(each("", &product, &x).into_iter().take(3));
    for (i, name) in tiles().into_iter().enumerate() {
        subjects.push(subject(
            &format!("tile {name}"),
            &product,
            &x,
            Kernels::GpuTile(i),
            SessionOptions::default(),
        ));
    }
    let flop = 2.0 * (size as f64).powi(3);
    side_by_side(&format!("Matrix product {size}x{size}x{size}, f32"), Some((flop, "GFLOP")), subjects);
}

fn gemv() {
    const SIDE: usize = 2048;
    let bytes = (SIDE * SIDE * 4) as f64;
    for rows in [1, 4, 8] {
        let x = tensor(&[rows, SIDE]);
        let nodes = vec![node("MatMul", &["x", "w"], &["y"])];
        let product = model(x.shape(), nodes, &[("w", &[SIDE as i64, SIDE as i64])]);
        let title = format!("{rows} rows of {SIDE} times {SIDE}x{SIDE}, f32");
        side_by_side(&title, Some((bytes, "GB")), each("", &product, &x));
    }
}

/// Few rows times weights in float32, and in 4 bits with a scale for every 32 terms.
fn blocks() {
    const SIDE: i64 = 4096;
    const INT4: i32 = 22;
    let weights = [("w", &[SIDE, SIDE][..])];
    for rows in [1, 4, 16] {
        let x = tensor(&[rows, SIDE as usize]);
        let floats = model(x.shape(), vec![node("MatMul", &["x", "w"], &["y"])], &weights);
        let scaled = node("DequantizeLinear", &["w4", "scales"], &["w"]);
        let nodes = vec![
            scaled.with(int("axis", 0)).with(int("block_size", 32)),
            node("MatMul", &["x", "w"], &["y"]),
        ];
        let mut graph = graph(&[], nodes, &["y"]);
        graph.input = vec![value("x", FLOAT, &[&rows.to_string(), &SIDE.to_string()])];
        let numbers: Vec<u8> = (0..SIDE * SIDE / 2).map(|i| (i * 37 % 251) as u8).collect();
        let scales = values((SIDE * SIDE / 32) as usize);
        graph.initializer = vec![
            TensorProto { raw_data: Some(numbers.into()), ..build::empty("w4", INT4, &[SIDE, SIDE]) },
            build::weights("scales", &[SIDE / 32, SIDE], &scales),
        ];
        let few_bits = Model::from_bytes(bytes(&build::model(23, graph))).unwrap();
        let of = |label: &str, model: &Model, kernels| {
            subject(label, model, &x, kernels, SessionOptions::default())
        };
        let subjects = vec![
            of("f32", &floats, Kernels::Own),
            of("4 bits", &few_bits, Kernels::Own),
            of("f32, for GPUs", &floats, Kernels::Gpu),
            of("4 bits, for GPUs", &few_bits, Kernels::Gpu),
        ];
        side_by_side(&format!("{rows} rows of {SIDE} times {SIDE}x{SIDE}"), None, subjects);
    }
}

fn chain() {
    let ops = ["Abs", "Sqrt", "Neg", "Relu", "Abs", "Sqrt", "Neg", "Abs"];
    let names: Vec<String> =
        std::iter::once("x".into()).chain((1..8).map(|i| format!("t{i}"))).chain(["y".into()]).collect();
    let nodes =
        ops.iter().zip(names.windows(2)).map(|(op, pair)| node(op, &[pair[0].as_str()], &[pair[1].as_str()]));
    let x = tensor(&[1 << 20]);
    let chain = model(x.shape(), nodes.collect(), &[]);
    let new = |label: &str, fusion| {
        let options = SessionOptions::new().fusion(fusion);
        subject(label, &chain, &x, Kernels::Own, options)
    };
    let work = Some((8.0 * (1 << 20) as f64, "GB, read and written once,"));
    side_by_side(
        "Eight operators on each of 2^20 elements",
        work,
        vec![new("apart", false), new("fused", true)],
    );
}

fn softmax() {
    for (rows, length) in [(1024, 1024), (12 * 128, 128), (4, 100_000)] {
        let x = tensor(&[rows, length]);
        let softmax = model(x.shape(), vec![node("Softmax", &["x"], &["y"]).with(int("axis", -1))], &[]);
        let work = Some((8.0 * (rows * length) as f64, "GB, read and written once,"));
        side_by_side(&format!("Softmax of {rows} rows of {length}"), work, each("", &softmax, &x));
    }
}

fn attention() {
    for (heads, rows, depth) in [(8, 256, 64), (12, 128, 64), (4, 256, 128)] {
        let shape = [1, heads, rows, depth];
        let attention = model(&shape, vec![node("Attention", &["x", "x", "x"], &["y"])], &[]);
        let flop = 4.0 * (heads * rows * rows * depth) as f64;
        let subjects = each("", &attention, &tensor(&shape));
        let title = format!("Attention, {heads} heads, {rows} rows and keys of {depth}");
        side_by_side(&title, Some((flop, "GFLOP")), subjects.into_iter().take(3).collect());
    }
}

fn conv() {
    // Name, input; filters, kernel, stride, groups.
    type Shape = (&'static str, [usize; 4], [i64; 4]);
    let shapes: [Shape; 8] = [
        ("ResNet stem", [1, 3, 224, 224], [64, 7, 2, 1]),
        ("ResNet 3x3, 64 channels", [1, 64, 56, 56], [64, 3, 1, 1]),
        ("ResNet 3x3, 128 channels", [1, 128, 28, 28], [128, 3, 1, 1]),
        ("ResNet 3x3, 512 channels", [1, 512, 7, 7], [512, 3, 1, 1]),
        ("ResNet 1x1, 256 to 64", [1, 256, 56, 56], [64, 1, 1, 1]),
        ("MobileNet stem", [1, 3, 224, 224], [32, 3, 2, 1]),
        ("MobileNet depthwise", [1, 144, 56, 56], [144, 3, 1, 144]),
        ("MobileNet 1x1, 192 to 32", [1, 192, 28, 28], [32, 1, 1, 1]),
    ];
    for (name, x, [filters, kernel, stride, group]) in shapes {
        let channels = x[1] as i64 / group;
        let pads = [kernel / 2; 4];
        let conv = node("Conv", &["x", "w", "b"], &["c"])
            .with(ints("strides", &[stride, stride]))
            .with(ints("pads", &pads))
            .with(int("group", group));
        let weights: [(&str, &[i64]); 2] = [("w", &[filters, channels, kernel, kernel]), ("b", &[filters])];
        let model = model(&x, vec![conv, node("Relu", &["c"], &["y"])], &weights);
        let places = (x[2] as i64 / stride * (x[3] as i64 / stride)) as f64;
        let flop = 2.0 * places * (filters * channels * kernel * kernel) as f64;
        side_by_side(
            name,
            Some((flop, "GFLOP")),
            each("", &model, &tensor(&x)).into_iter().take(3).collect(),
        );
    }
}

//! lavapipe before Mesa 25 ends loops after 65,535 iterations of an invocation, all its loops counted together, without an
//! error. Kernels need fewer: tests show it with shaders rewritten to end far earlier, and with long loops on the driver as it
//! is.

use std::collections::BTreeSet;

use crate::internals::cases::{Sizes, all_cases, compared, inputs_of, wanted};
use crate::internals::devices;
use crate::kernels::{Class, Kernel, Target};
use crate::ops::case::{self, Case, Tolerance, graph_of_case};
use crate::ops::{Attr, OWN_DOMAIN, svm, tree_ensemble};
use crate::plan::tests::planned;
use crate::{Device, Error, Result, Tensor};

/// The number of iterations after which rewritten shaders end, and the number that lowering believes in: the driver's,
/// divided.
const ENDS: u32 = 1092;
const BELIEVED: u32 = 1000;

/// Values whose sums are exact. They differ at the far end, which a loop that stops early does not reach.
fn steps(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> =
        (0..count).map(|i| if i + 3 > count { 64.0 } else { (i % 3) as f32 - 1.0 }).collect();
    case::values(shape, &values)
}

/// A matrix of which elimination takes about `n / 3` steps. Its elements are the smaller of row and column number, except the last:
/// the determinant is 2, and the inverse has whole numbers and halves.
fn whole_pivots(n: usize) -> Tensor {
    let rows = (n / 3).isqrt() - 1;
    let at = |i: usize| (i / rows).min(i % rows) + 1 + usize::from(i + 1 == rows * rows);
    case::values(&[rows, rows], &(0..rows * rows).map(|i| at(i) as f32).collect::<Vec<_>>())
}

/// A convolution over channels, of which Winograd's transforms are infinite everywhere, so that all results are computed again.
fn overflowing(channels: usize) -> Case {
    let sign = |i: usize, width: usize| if (i / width + i % width).is_multiple_of(2) { 1.0 } else { -1.0 };
    let shapes = ([1, channels, 20, 20], [64, channels, 3, 3]);
    let x: Vec<f32> = (0..400 * channels).map(|i| 3e38 * sign(i % 400, 20)).collect();
    let size = |i: usize| 1e-36 + 1e-38 * (i % 101) as f32;
    let w: Vec<f32> = (0..64 * 9 * channels).map(|i| size(i) * sign(i % 9, 3)).collect();
    Case::new("Conv", "overflowing")
        .tolerance(Tolerance { relative: 1e-4, absolute: 0.0 })
        .input(case::values(&shapes.0, &x))
        .constant(case::values(&shapes.1, &w))
}

/// Every family of loops, over rows, windows and lists of `n` and more, where the time grows with `n`.
fn long(n: usize) -> Vec<Case> {
    let new =
        |op: &str, name: &str| Case::new(op, name).tolerance(Tolerance { relative: 1e-4, absolute: 1e-4 });
    let exact = |op: &str, name: &str| Case::new(op, name).tolerance(Tolerance::EXACT);
    let ml = |op: &str, name: &str| new(op, name).domain("ai.onnx.ml").opset(1);
    let wide = n.isqrt() + 1;
    let axis = |axis: i64| case::values(&[], &[axis]);
    let window = |op: &str, name: &str, shape: &[usize]| {
        let kernel: Vec<i64> = shape[2..].iter().map(|&d| d as i64).collect();
        new(op, name).input(steps(shape)).ints("kernel_shape", &kernel)
    };
    let conv = |name: &str, x: &[usize], w: &[usize]| new("Conv", name).input(steps(x)).constant(steps(w));
    let pow = case::values(&[1], &[1i32]);
    vec![
        exact("ReduceSum", "row").input(steps(&[n])).int("keepdims", 0),
        exact("ReduceSum", "few rows").input(steps(&[3, n])).constant(case::list(&[1])),
        exact("ReduceSum", "columns").input(steps(&[n, 70])).constant(case::list(&[0])),
        exact("ReduceSum", "outer and inner").input(steps(&[wide, 3, wide])).constant(case::list(&[0, 2])),
        exact("ReduceMax", "row").input(steps(&[2, n])).constant(case::list(&[1])),
        new("ReduceL2", "row").input(steps(&[2, n])).constant(case::list(&[1])),
        new("ReduceMean", "many rows").input(steps(&[200, n / 20])).constant(case::list(&[1])),
        exact("ArgMax", "row").input(steps(&[2, n])).int("axis", 1),
        exact("ArgMin", "column").input(steps(&[n, 2])).int("axis", 0).int("select_last_index", 1),
        new("Softmax", "row").input(steps(&[2, n])),
        new("Softmax", "column").input(steps(&[n, 3])).int("axis", 0),
        new("LogSoftmax", "row").input(steps(&[1, n])),
        new("LayerNormalization", "row").input(steps(&[2, n])).constant(steps(&[n])),
        new("InstanceNormalization", "plane")
            .input(steps(&[1, 2, n]))
            .constant(case::random(&[2]))
            .constant(case::random(&[2])),
        exact("CumSum", "row").input(steps(&[2, n])).constant(axis(1)),
        exact("CumSum", "column, reverse").input(steps(&[n, 2])).constant(axis(0)).int("reverse", 1),
        exact("MatMul", "one row").input(steps(&[1, n])).input(steps(&[n, 3])),
        exact("MatMul", "one column").input(steps(&[5, n])).input(steps(&[n, 1])),
        exact("MatMul", "constant").input(steps(&[6, n])).constant(steps(&[n, 9])),
        exact("MatMul", "batch").input(steps(&[2, 9, n])).input(steps(&[2, n, 9])),
        // An invocation takes a word of four numbers at a time.
        exact("MatMulNBits", "one row")
            .of_microsoft()
            .int("K", 40 * n as i64)
            .int("N", 1)
            .int("bits", 8)
            .int("block_size", 20)
            .input(steps(&[1, 40 * n]))
            .constant(case::values(&[1, 2 * n, 20], &vec![129u8; 40 * n]))
            .constant(case::values(&[1, 2 * n], &vec![1f32; 2 * n])),
        exact("Gemm", "transposed")
            .input(steps(&[n, 5]))
            .constant(steps(&[4, n]))
            .int("transA", 1)
            .int("transB", 1),
        exact("Einsum", "three")
            .string("equation", "ij,ij,j->i")
            .input(steps(&[2, n]))
            .input(steps(&[2, n]))
            .input(steps(&[n])),
        exact("Einsum", "sum").string("equation", "i->").input(steps(&[n])),
        conv("channels", &[1, n, 2, 2], &[2, n, 1, 1]),
        conv("taps", &[1, 2, n + 4], &[3, 2, n]),
        conv("window", &[1, 2, wide + 1, wide + 1], &[2, 2, wide, wide]),
        conv("depthwise", &[1, 3, wide + 1, wide + 2], &[3, 1, wide, wide]).int("group", 3),
        conv("tall", &[1, 1, n / 2 + 2, 4], &[1, 1, n / 2, 2]),
        overflowing(n.min(1240)),
        new("ConvTranspose", "channels").input(steps(&[1, n, 3])).constant(steps(&[n, 2, 2])),
        window("MaxPool", "window", &[1, 2, wide, wide]),
        window("MaxPool", "tall", &[1, 1, n / 2, 2]),
        window("AveragePool", "window", &[1, 2, wide, wide]),
        window("AveragePool", "tall", &[1, 1, n / 2, 2]),
        window("LpPool", "tall", &[1, 1, n / 2, 1]),
        new("GlobalAveragePool", "long").input(steps(&[1, 2, n])),
        new("GlobalMaxPool", "long").input(steps(&[1, 2, n])),
        exact("TopK", "row").input(steps(&[2, n])).constant(case::list(&[5])).outputs(2),
        exact("TopK", "all, ascending")
            .input(case::random(&[n]))
            .constant(case::list(&[n as i64]))
            .int("largest", 0)
            .outputs(2),
        // The kernel keeps fewer boxes than the driver has iterations, and goes through many more.
        exact("KeptBoxes", "many")
            .domain(OWN_DOMAIN)
            .opset(1)
            .input(case::uniform(&[1, n, 4], 0.0, 1.0))
            .input(case::random(&[1, 2, n]))
            .constant(case::list(&[n as i64 / 80])),
        exact("SortedSlices", "many")
            .domain(OWN_DOMAIN)
            .opset(1)
            .input(case::converted(&case::integers(&[n], 0, 99), crate::DType::F32))
            .outputs(2),
        exact("SortedSlices", "long")
            .domain(OWN_DOMAIN)
            .opset(1)
            .int("axis", 0)
            .input(case::converted(&case::integers(&[3, n], 0, 1), crate::DType::F32))
            .outputs(2),
        exact("ScatterElements", "one place")
            .string("reduction", "add")
            .input(steps(&[3]))
            .input(case::values(&[n], &vec![1i64; n]))
            .input(steps(&[n])),
        exact("ScatterND", "one place")
            .string("reduction", "add")
            .input(steps(&[3, 2]))
            .input(case::values(&[n, 1], &vec![1i64; n]))
            .input(steps(&[n, 2])),
        new("Attention", "keys")
            .input(case::random(&[1, 1, 2, 8]))
            .input(case::random(&[1, 1, n, 8]))
            .input(case::random(&[1, 1, n, 8])),
        new("Attention", "depth")
            .input(case::random(&[1, 1, 2, n / 3]))
            .input(case::random(&[1, 1, 5, n / 3]))
            .input(case::random(&[1, 1, 5, n / 3])),
        new("Resize", "shrink")
            .input(steps(&[1, 1, n]))
            .absent()
            .absent()
            .constant(case::list(&[1, 1, 2]))
            .string("mode", "linear")
            .int("antialias", 1),
        new("Col2Im", "tall")
            .input(case::random(&[1, n / 2, 3]))
            .constant(case::list(&[n as i64 / 2 + 2, 1]))
            .constant(case::list(&[n as i64 / 2, 1])),
        new("CausalConvWithState", "taps").outputs(2).input(steps(&[1, 2, 5])).constant(steps(&[2, 1, n])),
        new("MaxRoiPool", "all")
            .ints("pooled_shape", &[1, 1])
            .input(steps(&[1, 1, n / 2, 2]))
            .input(case::values(&[1, 5], &[0.0, 0.0, 0.0, 1.0, (n / 2) as f32])),
        new("RoiAlign", "samples")
            .int("output_height", 1)
            .int("output_width", 1)
            .int("sampling_ratio", wide as i64)
            .input(steps(&[1, 1, 4, 4]))
            .input(case::values(&[1, 4], &[0.0f32, 0.0, 3.0, 3.0]))
            .input(case::values(&[1], &[0i64])),
        exact("Pow", "integers").input(case::values(&[1, 4], &[2i32, -3, 1, 0])).input(pow),
        new("DeformConv", "taps")
            .input(steps(&[1, 1, 1, n + 1]))
            .constant(steps(&[1, 1, 1, n]))
            .input(case::values(&[1, 2 * n, 1, 2], &vec![0f32; 4 * n])),
        new("Det", "rows").input(whole_pivots(n)),
        new("Inverse", "rows").of_microsoft().input(whole_pivots(n)),
        new("LinearAttention", "steps")
            .outputs(2)
            .string("update_rule", "linear")
            .int("q_num_heads", 1)
            .int("kv_num_heads", 1)
            .input(case::uniform(&[1, n, 4], -0.2, 0.2))
            .input(case::uniform(&[1, n, 4], -0.2, 0.2))
            .input(case::uniform(&[1, n, 3], -0.2, 0.2)),
        // A layer with more units than one step of the kernel may walk through is refused.
        new("RNN", "units")
            .outputs(2)
            .int("hidden_size", n.min(2000) as i64)
            .input(steps(&[1, 1, 2]))
            .constant(case::uniform(&[1, n.min(2000), 2], -0.5, 0.5))
            .constant(case::uniform(&[1, n.min(2000), n.min(2000)], -0.01, 0.01)),
        tree_ensemble::grown_case("TreeEnsembleRegressor", n, 1),
        tree_ensemble::chain_case(n),
        svm::supported(ml("SVMRegressor", "columns"), &[], 3, n, "RBF").input(case::uniform(
            &[2, n],
            -0.01,
            0.01,
        )),
        svm::supported(ml("SVMRegressor", "vectors"), &[], n, 2, "RBF").input(case::random(&[2, 2])),
        {
            let classes = n.isqrt().min(20);
            let labels: Vec<i64> = (0..classes as i64).collect();
            let numbers = || Attr::Floats(vec![0.75; classes * (classes - 1) / 2]);
            let case = svm::supported(ml("SVMClassifier", "classes").outputs(2), &labels, classes, 2, "RBF");
            case.attr("prob_a", numbers()).attr("prob_b", numbers()).input(case::random(&[2, 2]))
        },
        new("DFT", "real")
            .input(case::random(&[1, n / 4, 1]))
            .constant(axis(1))
            .attr("onesided", Attr::Int(0)),
    ]
}

/// Families that take n * n steps.
fn square(n: usize) -> Vec<Case> {
    let new =
        |op: &str, name: &str| Case::new(op, name).tolerance(Tolerance { relative: 1e-4, absolute: 1e-4 });
    vec![
        new("ConvTranspose", "taps")
            .input(steps(&[1, 1, n]))
            .constant(steps(&[1, 1, n]))
            .ints("pads", &[n as i64 - 2, n as i64 - 2]),
        new("ConvTranspose", "apart")
            .input(steps(&[1, 1, 3]))
            .constant(steps(&[1, 1, 2]))
            .ints("strides", &[n as i64 + 1])
            .ints("dilations", &[n as i64]),
        new("LRN", "channels").int("size", 2 * n as i64).input(steps(&[1, n, 2])),
    ]
}

/// What differs from the reference, or fails, on every adapter and for both classes of kernels. A case that lowering refuses
/// counts as no failure.
fn failures(cases: &[Case], open: impl Fn(Device, Class) -> Device) -> Vec<String> {
    let mut failures = Vec::new();
    for name in devices::usable().into_iter().map(|adapter| adapter.name) {
        // SwiftShader takes a minute to compile the attention kernel of GPUs.
        let classes =
            if name.contains("SwiftShader") { &[Class::Cpu][..] } else { &[Class::Cpu, Class::Gpu] };
        for &class in classes {
            let device = open(devices::open(&name), class);
            for case in cases.iter().filter(|case| wanted(case)) {
                match compared(case, &device, Sizes::Fixed) {
                    Ok(None) => {}
                    Err(Error::Unsupported(nodes)) if nodes[0].reason.contains("more than") => {
                        println!("{} on {name}: {}", case.name, nodes[0].reason);
                    }
                    Ok(Some(reason)) => {
                        failures.push(format!("{} on {name}, {class:?}: {reason}", case.name))
                    }
                    Err(error) => failures.push(format!("{} on {name}, {class:?}: {error}", case.name)),
                }
            }
        }
    }
    failures
}

#[track_caller]
fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The number that lowering believes in reaches every shader.
#[test]
fn no_kernel_needs_more_iterations_than_lowering_believes() {
    let mut cases = long(3 * BELIEVED as usize);
    cases.extend(square(3 * BELIEVED as usize));
    assert_none(&failures(&cases, |device, class| {
        let device = device.with_loops_ending_after(ENDS);
        device.with_target(|target| (target.class, target.max_iterations) = (class, BELIEVED))
    }));
}

/// The rewritten shaders do end early: a kernel that is told of more iterations goes wrong.
#[test]
fn loops_that_are_too_long_are_found() {
    let cases = [Case::new("ReduceSum", "row").input(steps(&[1, 5000])).constant(case::list(&[1]))];
    let found = failures(&cases, |device, class| {
        let device = device.with_loops_ending_after(16);
        device.with_target(|target| (target.class, target.max_iterations) = (class, 60_000))
    });
    assert!(!found.is_empty() || devices::usable().is_empty());
}

/// Every kernel with a loop is among those of the long cases.
#[test]
fn every_loop_is_tested() {
    let target = |class| Target { class, subgroup: 8, ..Target::FLOOR };
    let kernels = |cases: Vec<Case>| {
        let plans = cases.into_iter().flat_map(|case| {
            let (graph, inputs) = (graph_of_case(&case).unwrap(), inputs_of(&case));
            [Class::Cpu, Class::Gpu].map(|class| planned(&graph, &inputs, &target(class)))
        });
        plans.filter_map(Result::ok).flat_map(|plan| plan.program.calls).map(|call| call.kernel)
    };
    // A bound that is a number stands in the text, and does not grow.
    let grows =
        |line: &str| line.split_once(" < ").is_some_and(|(_, bound)| !bound.starts_with(char::is_numeric));
    let looping = |kernel: &Kernel| {
        let text = kernel.spec().body(&mut BTreeSet::new());
        text.split("for (").skip(1).any(|rest| rest.lines().next().is_some_and(grows))
    };
    let tested: BTreeSet<_> = kernels([long(3 * BELIEVED as usize), square(3 * BELIEVED as usize)].concat())
        .map(|k| k.family())
        .collect();
    let missing: BTreeSet<_> = kernels(all_cases())
        .filter(|kernel| !tested.contains(kernel.family()) && looping(kernel))
        .map(|kernel| kernel.family())
        .collect();
    assert!(missing.is_empty(), "no long case has a kernel of {missing:?}");
}

#[test]
fn long_rows_windows_and_lists() {
    assert_none(&failures(&long(70_001), |device, class| device.with_target(|target| target.class = class)));
}

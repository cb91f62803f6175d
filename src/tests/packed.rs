//! Weights of few bits stay on the device as the file has them, whoever reads them and wherever their scale stands.

use std::fmt::Debug;
use std::sync::Arc;

use crate::graph::ValueId;
use crate::internals::cases::difference;
use crate::internals::devices::{each, of_class};
use crate::internals::random::Sketch;
use crate::kernels::Class;
use crate::ops::case::{self, Tolerance};
use crate::ops::{Attr, Graph};
use crate::{DType, Limits, Session, SessionOptions, Tensor, passes, reference};

/// Integers of the whole range of `dtype`, or floats of it.
fn few(shape: &[usize], dtype: DType) -> Tensor {
    match dtype.int_range() {
        Some((low, high)) => case::converted(&case::integers(shape, low as i64, high as i64 + 1), dtype),
        None => case::converted(&case::uniform(shape, -4.0, 4.0), dtype),
    }
}

/// Weights that share a scale in blocks along the sum, with and without zero points.
fn blocked() -> Vec<PackedExample> {
    let mut all = Vec::new();
    let integers =
        [(DType::I4, false), (DType::U4, true), (DType::U4, false), (DType::I8, true), (DType::U2, true)];
    let floats = [DType::F8E4M3FN, DType::F8E5M2FNUZ, DType::F4E2M1].map(|dtype| (dtype, false));
    for (dtype, zeros) in integers.into_iter().chain(floats) {
        for (transposed, rows, block) in [(false, 1, 32), (false, 40, 16), (true, 40, 16), (true, 1, 32)] {
            let spelled = (dtype, if zeros { "zero points" } else { "no zero points" });
            let x = case::random(&[rows, 128]);
            let half = rows == 40 && transposed;
            let x = if half { case::converted(&x, DType::F16) } else { x };
            let mut e = PackedExample::new(&format!("{rows} rows, blocks of {block}"), spelled, x);
            e.tolerance = if half { HALF } else { SINGLE };
            let (turn, blocks) = (|[a, b]: [usize; 2]| if transposed { [b, a] } else { [a, b] }, 128 / block);
            let numbers = e.sketch.constant(few(&turn([128, 192]), dtype));
            let scales = e.constant(case::uniform(&turn([blocks, 192]), 0.001, 0.003));
            let mut inputs = vec![numbers, scales];
            if zeros {
                inputs.push(e.sketch.constant(few(&turn([blocks, 192]), dtype)));
            }
            let attributes =
                [("axis", Attr::Int(transposed.into())), ("block_size", Attr::Int(block as i64))];
            let weights = e.sketch.node("DequantizeLinear", &attributes, &inputs);
            e.sketch.node("Gemm", &[("transB", Attr::Int(transposed.into()))], &[e.x(), weights]);
            all.push(e);
        }
    }
    all
}

/// Tables whose rows share scales in blocks, and a Gather of rows or of columns.
fn blocked_tables() -> Vec<PackedExample> {
    let mut all = Vec::new();
    let dtypes = [DType::I4, DType::U4, DType::I8, DType::U2, DType::F8E4M3FN, DType::F4E2M1];
    for (dtype, along) in dtypes.into_iter().flat_map(|dtype| [(dtype, 0), (dtype, 1)]) {
        let places = case::converted(&case::integers(&[2, 5], -60, 60), DType::I64);
        let mut e = PackedExample::new("Gather of a table in blocks", (dtype, along), places);
        e.tolerance = Tolerance::EXACT;
        let (shape, blocks) = if along == 0 { ([64, 96], [64, 3]) } else { ([96, 64], [3, 64]) };
        let scales = case::uniform(&blocks, 0.001, 0.003);
        let half = dtype == DType::U4;
        let scales = if half { case::converted(&scales, DType::F16) } else { scales };
        let mut inputs = vec![e.sketch.constant(few(&shape, dtype)), e.sketch.constant(scales)];
        if dtype.int_range().is_some() {
            inputs.push(e.sketch.constant(few(&blocks, dtype)));
        }
        let attributes = [("axis", Attr::Int(1 - along)), ("block_size", Attr::Int(32))];
        let table = e.sketch.node("DequantizeLinear", &attributes, &inputs);
        e.sketch.node("Gather", &[("axis", Attr::Int(along - 2))], &[table, e.x()]);
        all.push(e);
    }
    all
}

/// How the numbers of weights become float32.
#[derive(Clone, Copy, Debug)]
enum Spelling {
    /// `Mul(Cast(w), scale)`
    Cast,
    /// `DequantizeLinear(w, scale, zero)`: one scale for each index of the axis.
    Dequantize { zero: u8 },
    /// `DequantizeLinear(w, scale)` of numbers of this dtype.
    Few(DType),
    /// Likewise, to float16.
    Half(DType),
}

/// Adds nodes to an example.
type PackedBuild<'a> = &'a dyn Fn(&mut PackedExample);

struct PackedExample {
    name: String,
    sketch: Sketch,
    inputs: Vec<Tensor>,
    tolerance: Tolerance,
}

/// Sums of 288 terms, each product rounded at another place.
const SINGLE: Tolerance = Tolerance { relative: 1e-5, absolute: 1e-4 };

/// Sums of 288 terms, whose weights are float16.
const HALF: Tolerance = Tolerance { relative: 2e-3, absolute: 2e-2 };

impl PackedExample {
    fn new(name: &str, spelled: impl Debug, x: Tensor) -> PackedExample {
        let mut sketch = Sketch::default();
        let id = sketch.input("x");
        sketch.graph.values[id.index()].dtype = Some(x.dtype());
        PackedExample { name: format!("{name}, {spelled:?}"), sketch, inputs: vec![x], tolerance: SINGLE }
    }

    /// A constant of the input's dtype.
    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let dtype = self.inputs[0].dtype();
        self.sketch.constant(if dtype == DType::F16 { case::converted(&tensor, dtype) } else { tensor })
    }

    fn x(&self) -> ValueId {
        self.sketch.graph.inputs[0]
    }

    /// Weights of shape `shape` with `scales` scales along `axis`.
    fn weights(&mut self, spelled: Spelling, shape: &[usize], axis: usize, scales: usize) -> ValueId {
        let sketch = &mut self.sketch;
        let scale = case::uniform(&[scales], 0.01, 0.03);
        match spelled {
            Spelling::Cast => {
                let numbers = case::converted(&case::integers(shape, -128, 128), DType::I8);
                let numbers = sketch.constant(numbers);
                let wide = sketch.node("Cast", &[("to", Attr::Int(DType::F32.onnx().into()))], &[numbers]);
                let under: Vec<usize> =
                    (0..shape.len()).map(|d| if d == axis { scales } else { 1 }).collect();
                let scale = sketch.constant(scale.reshaped(&under).unwrap());
                sketch.node("Mul", &[], &[wide, scale])
            }
            Spelling::Dequantize { zero } => {
                let (low, high) =
                    if zero == 0 { (0, 128) } else { (i64::from(zero) - 128, i64::from(zero) + 128) };
                let numbers = case::converted(&case::integers(shape, low, high), DType::U8);
                let numbers = sketch.constant(numbers);
                let scale = if scales == 1 { scale.reshaped(&[]).unwrap() } else { scale };
                let zeros = case::values(scale.shape(), &vec![zero; scales]);
                let inputs = [numbers, sketch.constant(scale), sketch.constant(zeros)];
                sketch.node("DequantizeLinear", &[("axis", Attr::Int(axis as i64))], &inputs)
            }
            Spelling::Few(dtype) | Spelling::Half(dtype) => {
                let numbers = sketch.constant(few(shape, dtype));
                let half = matches!(spelled, Spelling::Half(_));
                let scale = if half { case::converted(&scale, DType::F16) } else { scale };
                let scale = if scales == 1 { scale.reshaped(&[]).unwrap() } else { scale };
                let inputs = [numbers, sketch.constant(scale)];
                sketch.node("DequantizeLinear", &[("axis", Attr::Int(axis as i64))], &inputs)
            }
        }
    }

    /// What float32 takes beyond float16, for scales and a bias. Sums of numbers without their scales may leave float16.
    fn widened(&self) -> u64 {
        let halves = self.sketch.graph.values.iter().filter_map(|value| value.constant.as_ref());
        halves
            .filter(|tensor| tensor.dtype() == DType::F16 && tensor.len() <= 300)
            .map(|tensor| tensor.bytes().len() as u64)
            .sum()
    }

    fn graph(&self) -> Graph {
        let mut graph = self.sketch.graph.clone();
        graph.outputs = vec![ValueId(graph.values.len() as u32 - 1)];
        graph
    }

    fn expected(&self) -> Tensor {
        let graph = self.graph();
        let values = reference::run(&graph, &self.inputs, false, &crate::Interrupt::new()).unwrap();
        reference::outputs(&graph, &values).unwrap().remove(0)
    }
}

fn examples() -> Vec<PackedExample> {
    let few = [DType::I4, DType::U2, DType::F8E4M3FN, DType::F8E5M2, DType::F4E2M1].map(Spelling::Few);
    let half = [DType::I8, DType::I4, DType::F8E5M2].map(Spelling::Half);
    let bytes = [Spelling::Cast, Spelling::Dequantize { zero: 0 }, Spelling::Dequantize { zero: 128 }];
    let spellings = bytes.into_iter().chain(few).chain(half);
    let mut all = Vec::new();
    for spelled in spellings {
        let mut add = |name: &str, x: Tensor, build: PackedBuild| {
            let half = matches!(spelled, Spelling::Half(_));
            let x = if half && x.dtype() == DType::F32 { case::converted(&x, DType::F16) } else { x };
            let mut example = PackedExample::new(name, spelled, x);
            example.tolerance = if half { HALF } else { SINGLE };
            build(&mut example);
            all.push(example);
        };
        for (rows, scales) in [(40, 192), (1, 192), (40, 1)] {
            add(&format!("MatMul of {rows} rows, {scales} scales"), case::random(&[rows, 128]), &|e| {
                let weights = e.weights(spelled, &[128, 192], 1, scales);
                e.sketch.node("MatMul", &[], &[e.x(), weights]);
            });
        }
        add("MatMul of a batch, and a bias", case::random(&[2, 20, 128]), &|e| {
            let weights = e.weights(spelled, &[128, 192], 1, 192);
            let y = e.sketch.node("MatMul", &[], &[e.x(), weights]);
            let bias = e.constant(case::random(&[192]));
            e.sketch.node("Add", &[], &[y, bias]);
        });
        add("MatMul of transposed weights", case::random(&[20, 128]), &|e| {
            let weights = e.weights(spelled, &[192, 128], 0, 192);
            let weights = e.sketch.transpose(weights, &[1, 0]);
            e.sketch.node("MatMul", &[], &[e.x(), weights]);
        });
        for transposed in [0, 1] {
            add(&format!("Gemm {transposed}"), case::random(&[20, 128]), &|e| {
                let (shape, axis) = if transposed == 1 { ([192, 128], 0) } else { ([128, 192], 1) };
                let weights = e.weights(spelled, &shape, axis, 192);
                let bias = e.constant(case::random(&[192]));
                e.sketch.node("Gemm", &[("transB", Attr::Int(transposed))], &[e.x(), weights, bias]);
            });
        }
        add("Conv", case::random(&[1, 32, 9, 11]), &|e| {
            let weights = e.weights(spelled, &[64, 32, 3, 3], 0, 64);
            let bias = e.constant(case::random(&[64]));
            e.sketch.node("Conv", &[], &[e.x(), weights, bias]);
        });
        add("ConvTranspose", case::random(&[1, 32, 9, 11]), &|e| {
            let weights = e.weights(spelled, &[32, 24, 3, 3], 1, 24);
            let bias = e.constant(case::random(&[24]));
            e.sketch.node("ConvTranspose", &[("strides", Attr::Ints(vec![2, 2]))], &[e.x(), weights, bias]);
        });
        add("MatMul with a scale for each term", case::random(&[20, 128]), &|e| {
            let weights = e.weights(spelled, &[128, 192], 0, 128);
            e.sketch.node("MatMul", &[], &[e.x(), weights]);
        });
        add("MatMul of transposed weights with a scale for each term", case::random(&[1, 128]), &|e| {
            let weights = e.weights(spelled, &[192, 128], 1, 128);
            let weights = e.sketch.transpose(weights, &[1, 0]);
            e.sketch.node("MatMul", &[], &[e.x(), weights]);
        });
        let places = case::converted(&case::integers(&[2, 5], 0, 300), DType::I64);
        for (axis, scales) in [(0, 300), (1, 64), (1, 1)] {
            add(&format!("Gather of {scales} scales along {axis}"), places.clone(), &|e| {
                let table = e.weights(spelled, &[300, 64], axis, scales);
                e.sketch.node("Gather", &[], &[table, e.x()]);
            });
        }
    }
    all
}

/// Tables of which a Gather picks rows, and whose transposes are weights of a product.
fn tied() -> Vec<PackedExample> {
    let few = [DType::I8, DType::I4, DType::F8E4M3FN].map(Some);
    let mut all = Vec::new();
    for dtype in few.into_iter().chain([None]) {
        let places = case::converted(&case::integers(&[2, 5], -384, 384), DType::I64);
        let mut e = PackedExample::new("a tied table", dtype, places);
        let table = match dtype {
            Some(dtype) => e.weights(Spelling::Few(dtype), &[384, 256], 0, 384),
            None => e.sketch.constant(case::random(&[384, 256])),
        };
        let rows = e.sketch.node("Gather", &[], &[table, e.x()]);
        let turned = e.sketch.transpose(table, &[1, 0]);
        e.sketch.node("MatMul", &[], &[rows, turned]);
        all.push(e);
    }
    all
}

#[test]
fn they_take_their_own_bytes() {
    let examples = examples().into_iter().chain(blocked()).chain(blocked_tables());
    for (example, gpus) in
        examples.map(|example| (example, false)).chain(tied().into_iter().map(|e| (e, true)))
    {
        let graph = example.graph();
        let passed = Arc::new(passes::run(graph.clone(), &Limits::default()).unwrap());
        let expected = example.expected();
        let of_gpus = || of_class(Class::Gpu).filter(|_| gpus);
        for device in each().into_iter().chain(of_gpus()) {
            let session =
                Session::of_graph(&device, passed.clone(), SessionOptions::default(), vec![]).unwrap();
            let inputs = [("x", &example.inputs[0])];
            let what = format!("{} on {}", example.name, device.name());
            let bytes = session.plan(&inputs).unwrap().weight_bytes;
            // Each tensor takes whole vectors of 16 bytes.
            let most = graph.constant_bytes() as u64 * 105 / 100 + 64 + example.widened();
            assert!(bytes <= most, "{what}: {bytes} bytes for {}\n{passed}", graph.constant_bytes());
            let outputs = session.run(&inputs).unwrap();
            for (_, actual) in outputs.iter() {
                assert_eq!(difference(&expected, actual, example.tolerance), None, "{what}");
            }
        }
    }
}

/// Where a scale belongs to terms of a sum, or a reader needs the weights in float32, values stay right.
#[test]
fn other_readers_get_their_values() {
    [DType::I8, DType::I4, DType::F8E4M3FN].into_iter().for_each(others_read);
}

fn others_read(dtype: DType) {
    let cast = |e: &mut PackedExample, scale: &[usize]| {
        let numbers = e.sketch.constant(few(&[64, 64], dtype));
        let wide = e.sketch.node("Cast", &[("to", Attr::Int(DType::F32.onnx().into()))], &[numbers]);
        let scale = e.sketch.constant(case::uniform(scale, 0.01, 0.03));
        (wide, e.sketch.node("Mul", &[], &[wide, scale]))
    };
    let builds: [(&str, PackedBuild); 6] = [
        ("rows of a table", &|e| {
            let table = e.weights(Spelling::Few(dtype), &[64, 64], 0, 64);
            let zero = e.sketch.constant(case::list(&[0]));
            let places =
                e.sketch.node("ArgMax", &[("axis", Attr::Int(1)), ("keepdims", Attr::Int(0))], &[e.x()]);
            let places = e.sketch.node("Add", &[], &[places, zero]);
            e.sketch.node("Gather", &[], &[table, places]);
        }),
        ("a scale for each term", &|e| {
            let (_, weights) = cast(e, &[64, 1]);
            e.sketch.node("MatMul", &[], &[e.x(), weights]);
        }),
        ("an addition", &|e| {
            let (_, weights) = cast(e, &[1, 64]);
            e.sketch.node("Add", &[], &[e.x(), weights]);
        }),
        ("numbers without a scale", &|e| {
            let (wide, _) = cast(e, &[1]);
            e.sketch.node("MatMul", &[], &[e.x(), wide]);
        }),
        ("numbers without a scale, moved as bits", &|e| {
            let (wide, _) = cast(e, &[1]);
            let y = e.sketch.node("MatMul", &[], &[e.x(), wide]);
            let places = e.sketch.constant(case::list(&[3, 1]));
            let rows = e.sketch.node("Gather", &[], &[wide, places]);
            e.sketch.node("Concat", &[("axis", Attr::Int(0))], &[y, rows, wide]);
        }),
        ("a part of a convolution's weights", &|e| {
            let (_, weights) = cast(e, &[64, 1]);
            let weights = e.sketch.reshape(weights, &[64, 64, 1, 1]);
            let x = e.sketch.reshape(e.x(), &[1, 64, 8, 8]);
            e.sketch.node("Conv", &[], &[x, weights]);
        }),
    ];
    for (name, build) in builds {
        let mut example = PackedExample::new(name, Spelling::Cast, case::random(&[64, 64]));
        build(&mut example);
        let expected = example.expected();
        // With and without passes: a plan may also meet a Cast of a constant that nothing has folded.
        let passed = passes::run(example.graph(), &Limits::default()).unwrap();
        for graph in [Arc::new(passed), Arc::new(example.graph())] {
            for device in each() {
                let session =
                    Session::of_graph(&device, graph.clone(), SessionOptions::default(), vec![]).unwrap();
                let outputs = session.run(&[("x", &example.inputs[0])]).unwrap();
                for (_, actual) in outputs.iter() {
                    assert_eq!(
                        difference(&expected, actual, SINGLE),
                        None,
                        "{name} of {dtype} on {}",
                        device.name()
                    );
                }
            }
        }
    }
}

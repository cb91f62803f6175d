//! Random graphs for property tests: chains and diamonds of pointwise operators, transposes, reductions, products and
//! identities over a few shapes, with several outputs; and normalisations, convolutions and batch normalisations, spelled out
//! as exporters do.

pub(crate) use super::sketch::Sketch;
use crate::Tensor;
use crate::graph::ValueId;
use crate::ops::{Attr, Graph, case};

/// Steps that only unit tests take.
impl Sketch {
    /// `x`, reshaped to a constant shape.
    pub(crate) fn reshape(&mut self, x: ValueId, shape: &[i64]) -> ValueId {
        let shape = self.constant(case::list(shape));
        self.node("Reshape", &[], &[x, shape])
    }

    /// `x`, normalised by given statistics of its `channels`.
    pub(crate) fn batch_norm(&mut self, x: ValueId, channels: usize) -> ValueId {
        let mut inputs = vec![x];
        for low in [0.5, -0.75, -0.125, 0.5] {
            inputs.push(self.constant(case::uniform(&[channels], low, low + 0.5)));
        }
        self.node("BatchNormalization", &[], &inputs)
    }
}

/// Makes graphs from a list of numbers, so that proptest can shrink a failing one.
pub(crate) struct RandomGraph {
    pub(crate) graph: Graph,
}

impl RandomGraph {
    /// A graph with one step for each number of `choices`.
    pub(crate) fn new(choices: &[u32]) -> RandomGraph {
        let mut sketch = Sketch::default();
        // The values so far, with their shapes.
        let mut values = Vec::new();
        for (i, shape) in [vec![3, 4], vec![3, 4], vec![1, 4]].into_iter().enumerate() {
            values.push((sketch.input(&format!("in{i}")), shape));
        }
        for &choice in choices {
            step(&mut sketch, &mut values, choice);
        }
        let last = values.len();
        // Some inner values are outputs too.
        for (i, (id, _)) in values.iter().enumerate() {
            if i + 1 == last || i % 7 == 6 {
                sketch.graph.outputs.push(*id);
            }
        }
        RandomGraph { graph: sketch.graph }
    }

    /// Inputs for the graph.
    pub(crate) fn inputs(&self) -> Vec<Tensor> {
        vec![case::random(&[3, 4]), case::uniform(&[3, 4], 0.1, 1.0), case::random(&[1, 4])]
    }
}

fn step(sketch: &mut Sketch, values: &mut Vec<(ValueId, Vec<usize>)>, choice: u32) {
    // Mostly recent values, so that the graph has chains.
    let pick = choice / 32;
    let back = (pick as usize % 97) % values.len().min(6);
    let (a, shape) = values[values.len() - 1 - back].clone();
    let same: Vec<_> = values.iter().filter(|(_, s)| *s == shape).collect();
    let b = same[(choice / 4096) as usize % same.len()].0;
    let flag = choice / 8192 % 2 == 1;
    let (rows, columns) = (shape[0], shape[1]);
    let turned = vec![columns, rows];
    let (rows_i, columns_i) = (rows as i64, columns as i64);
    let made = match choice % 25 {
        0 => sketch.node("Relu", &[], &[a]),
        1 => sketch.node("Tanh", &[], &[a]),
        2 => sketch.node("Identity", &[], &[a]),
        3 => sketch.node("Add", &[], &[a, b]),
        4 => sketch.node("Mul", &[], &[a, b]),
        5 => sketch.node("Sub", &[], &[a, b]),
        6 => sketch.node("Sigmoid", &[], &[a]),
        7 | 14 => {
            values.push((sketch.transpose(a, &[1, 0]), turned));
            return;
        }
        8 => {
            let constant = sketch.constant(case::random(&[1, columns]));
            sketch.node("Add", &[], &[a, constant])
        }
        9 => {
            let constant = match flag {
                true => sketch.scalar(0.5),
                false => sketch.constant(case::values(&[1], &[0.75f32])),
            };
            sketch.node("Mul", &[], &[constant, a])
        }
        10 => sketch.node("Softmax", &[], &[a]),
        11 if rows == columns => sketch.node("MatMul", &[], &[a, b]),
        11 => {
            let constant = sketch.constant(case::random(&[columns, columns]));
            sketch.node("MatMul", &[], &[a, constant])
        }
        12 => {
            values.push((sketch.reshape(a, &[columns_i, -1]), turned));
            return;
        }
        13 => {
            let constants = (0..2).map(|i| case::uniform(&[2, 2], 0.5, 1.0 + i as f32));
            let ids: Vec<_> = constants.map(|c| sketch.constant(c)).collect();
            // Only the folding pass needs this node: nothing else reads it.
            sketch.node("Add", &[], &ids);
            return;
        }
        15 => sketch.normalize(a, flag, choice / 16384 % 2 == 1),
        16 if columns <= 16 => {
            let axis = [("axis", Attr::Int(1))];
            let mut joined = sketch.node("Concat", &axis, &[a, b]);
            if flag {
                joined = sketch.node("Concat", &axis, &[b, joined]);
            }
            values.push((joined, vec![rows, if flag { 3 } else { 2 } * columns]));
            return;
        }
        16 | 17 if columns > 1 => {
            // All columns but the first, or every second column from the last.
            let list = |sketch: &mut Sketch, n| sketch.constant(case::list(&[n]));
            let (start, end, step) = if flag { (1, i64::MAX, 1) } else { (-1, i64::MIN, -2) };
            let lists = [start, end, 1, step].map(|n| list(sketch, n));
            let inputs: Vec<_> = std::iter::once(a).chain(lists).collect();
            let kept = if flag { columns - 1 } else { columns.div_ceil(2) };
            values.push((sketch.node("Slice", &[], &inputs), vec![rows, kept]));
            return;
        }
        18 if columns % 2 == 0 => {
            let halves = [("axis", Attr::Int(1)), ("num_outputs", Attr::Int(2))];
            let first = sketch.nodes_of("Split", &halves, &[a], 2);
            values.extend([0, 1].map(|i| (ValueId(first.0 + i), vec![rows, columns / 2])));
            return;
        }
        19 => {
            // A convolution, a bias, and a batch normalisation, on rows as channels.
            let taps = if flag { 3 } else { 1 };
            let weights = sketch.constant(case::uniform(&[rows, rows, taps], -0.5, 0.5));
            let image = sketch.reshape(a, &[1, rows_i, columns_i]);
            let convolved = if flag {
                let pads = sketch.constant(case::list(&[0, 0, 1, 0, 0, 1]));
                let padded = sketch.node("Pad", &[], &[image, pads]);
                sketch.node("Conv", &[], &[padded, weights])
            } else {
                sketch.node("ConvTranspose", &[], &[image, weights])
            };
            let bias = sketch.constant(case::random(&[rows, 1]));
            let biased = sketch.node("Add", &[], &[convolved, bias]);
            let normal = sketch.batch_norm(biased, rows);
            sketch.reshape(normal, &[rows_i, columns_i])
        }
        20 => {
            let weights = sketch.constant(case::uniform(&[columns, columns], -0.5, 0.5));
            let product = sketch.node("Gemm", &[("transB", Attr::Int(i64::from(flag)))], &[a, weights]);
            sketch.batch_norm(product, columns)
        }
        21 => {
            // Heads: rows of several columns each, transposed and multiplied with themselves.
            let heads = sketch.reshape(a, &[rows_i, 1, columns_i]);
            let keys = sketch.transpose(heads, &[1, 2, 0]);
            let queries = sketch.transpose(heads, &[1, 0, 2]);
            let scores = sketch.node("MatMul", &[], &[queries, keys]);
            let weights = sketch.node("Softmax", &[], &[scores]);
            let mixed = sketch.node("MatMul", &[], &[weights, queries]);
            let back = sketch.transpose(mixed, &[1, 0, 2]);
            sketch.reshape(back, &[rows_i, columns_i])
        }
        23 => {
            // A function between two quantisations, and one more.
            let (coarse, fine) = (sketch.scalar(0.0625), sketch.scalar(0.015_625));
            let zeros = [0, 1].map(|_| sketch.constant(case::values(&[], &[-3i8])));
            let q = sketch.node("QuantizeLinear", &[], &[a, coarse, zeros[0]]);
            let x = sketch.node("DequantizeLinear", &[], &[q, coarse, zeros[0]]);
            let gate = sketch.node("Sigmoid", &[], &[x]);
            let y = sketch.node("Mul", &[], &[gate, x]);
            let q = sketch.node("QuantizeLinear", &[], &[y, fine, zeros[1]]);
            let y = sketch.node("DequantizeLinear", &[], &[q, fine, zeros[1]]);
            if flag {
                // All numbers are multiples of a power of two, so that sums are exact.
                let (step, ones) = (sketch.scalar(0.0078125), case::integers(&[columns, columns], -9, 9));
                let weights = sketch.constant(case::converted(&ones, crate::DType::I8));
                let weights = sketch.node("DequantizeLinear", &[], &[weights, step]);
                sketch.node("MatMul", &[], &[y, weights])
            } else {
                y
            }
        }
        24 if columns <= 32 => {
            // A product with weights of 8 bits, of which columns have a scale of their own.
            let count = 1040_usize.div_ceil(columns);
            let shape = if flag { [count, columns] } else { [columns, count] };
            let numbers = case::converted(&case::integers(&shape, -9, 9), crate::DType::I8);
            let numbers = sketch.constant(numbers);
            let wide = sketch.node("Cast", &[("to", Attr::Int(1))], &[numbers]);
            let scale = case::uniform(&[count], 0.01, 0.1);
            let under = if flag { [count, 1] } else { [1, count] };
            let scale = sketch.constant(scale.reshaped(&under).unwrap());
            let weights = sketch.node("Mul", &[], &[wide, scale]);
            let y = match flag {
                true => sketch.node("Gemm", &[("transB", Attr::Int(1))], &[a, weights]),
                false => sketch.node("MatMul", &[], &[a, weights]),
            };
            let lists = [0, columns_i, 1].map(|n| sketch.constant(case::list(&[n])));
            let inputs = [&[y], &lists[..]].concat();
            sketch.node("Slice", &[], &inputs)
        }
        22 if rows <= 8 => {
            // Each row twice, as key heads are repeated for their query heads.
            let once = sketch.reshape(a, &[rows_i, 1, 1, columns_i]);
            let shape = sketch.constant(case::list(&[rows_i, 2, 1, columns_i]));
            let twice = sketch.node("Expand", &[], &[once, shape]);
            let keys = sketch.reshape(twice, &[2 * rows_i, 1, columns_i]);
            let queries = sketch.node("Concat", &[("axis", Attr::Int(0))], &[a, b]);
            let queries = sketch.reshape(queries, &[2 * rows_i, 1, columns_i]);
            let turned = sketch.transpose(keys, &[0, 2, 1]);
            let scores = sketch.node("MatMul", &[], &[queries, turned]);
            let bounded = sketch.node("Tanh", &[], &[scores]);
            let mixed = sketch.node("MatMul", &[], &[bounded, keys]);
            values.push((sketch.reshape(mixed, &[2 * rows_i, columns_i]), vec![2 * rows, columns]));
            return;
        }
        _ => sketch.node("Neg", &[], &[a]),
    };
    values.push((made, shape));
}

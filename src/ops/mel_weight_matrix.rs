//! MelWeightMatrix: the triangular filters that turn a spectrogram into mel bands.
//!
//! History: 17. All operands are scalars known while planning, so the host computes the matrix.

use super::case::{self, Case, Tolerance};
use super::cosine_window::{numbers, output_dtype};
use super::{Array, DType, NodeDef, Op, Operator, Row, Types, Why, onnx, refuse, required, types};
use crate::facts::Fact;
use crate::plan::Lower;

/// MelWeightMatrix.
#[derive(Clone, Debug)]
pub(crate) struct MelWeightMatrix {
    dtype: DType,
}

const TYPES: Types = types![T1 T1 T1 T2 T2 -> T3; T1: INDICES, T2: FLOATS BF16, T3: NUMBERS BF16];

pub(crate) const ROWS: &[Row] = &[onnx("MelWeightMatrix", 17, TYPES, parse, cases)];

/// Larger matrices are refused.
const LIMIT: f64 = 16e6;

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(MelWeightMatrix { dtype: output_dtype(def)? }.into())
}

/// The operands, in order: mel bins, DFT length, sample rate, lowest and highest frequency.
fn operands(scalar: impl Fn(usize) -> Result<Vec<f64>, Why>) -> Result<[f64; 5], Why> {
    let mut operands = [0.0; 5];
    for (i, operand) in operands.iter_mut().enumerate() {
        match scalar(i)?[..] {
            [value] if value.is_finite() && value >= 0.0 => *operand = value,
            _ => refuse!("operand {i} is not one number of at least 0"),
        }
    }
    let [bins, length, rate, ..] = operands;
    if rate == 0.0 || bins * (length / 2.0 + 1.0) > LIMIT {
        refuse!("{bins} bins of {length} samples at a rate of {rate} are out of range");
    }
    Ok(operands)
}

fn shape([bins, length, ..]: [f64; 5]) -> [usize; 2] {
    [length as usize / 2 + 1, bins as usize]
}

impl MelWeightMatrix {
    fn matrix(&self, operands: [f64; 5]) -> Result<Array, Why> {
        let [_, length, rate, low, high] = operands;
        let [rows, bins] = shape(operands);
        let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / std::f64::consts::LN_10;
        let step = (mel(high) - mel(low)) / (bins + 2) as f64;
        // The spectrogram bins at the corners of the triangles.
        let corners: Vec<i64> = (0..bins + 2)
            .map(|i| 700.0 * ((mel(low) + i as f64 * step) / 2595.0 * std::f64::consts::LN_10).exp_m1())
            .map(|hertz| ((length + 1.0) * hertz / rate).floor() as i64)
            .collect();
        if corners.iter().any(|&corner| corner < 0 || corner as usize >= rows) {
            refuse!("the frequencies reach beyond the spectrogram");
        }
        let mut matrix = vec![0.0; rows * bins];
        for (bin, corner) in corners.windows(3).enumerate() {
            let (left, center, right) = (corner[0], corner[1], corner[2]);
            for row in left..=center {
                let rise = if center == left { 1.0 } else { (row - left) as f64 / (center - left) as f64 };
                matrix[row as usize * bins + bin] = rise;
            }
            for row in center..right {
                matrix[row as usize * bins + bin] = (right - row) as f64 / (right - center) as f64;
            }
        }
        Ok(numbers(self.dtype, &[rows, bins], matrix))
    }
}

impl Operator for MelWeightMatrix {
    fn shape_operands(&self) -> &[usize] {
        &[0, 1, 2, 3, 4]
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let operands = operands(|i| required(inputs, i)?.array()?.to_f64())?;
        Ok(vec![Fact::new(self.dtype, shape(operands))])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        Ok(vec![self.matrix(operands(|i| required(inputs, i)?.to_f64())?)?])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let operands = operands(|i| cx.fact(i)?.array()?.to_f64())?;
        cx.host_array(0, || self.matrix(operands))
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str, whole: [i64; 3], high: f32| {
        let case = Case::new("MelWeightMatrix", name).tolerance(Tolerance::ARITHMETIC);
        let case = whole.iter().fold(case, |case, &value| case.input(case::values(&[], &[value])));
        case.input(case::values(&[], &[0.0f32])).input(case::values(&[], &[high]))
    };
    vec![new("small", [8, 16, 8192], 4096.0), new("speech", [80, 400, 16000], 7600.0)]
}

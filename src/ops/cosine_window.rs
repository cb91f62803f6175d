//! BlackmanWindow, HammingWindow and HannWindow: weighted sums of cosines. One row of the table each.
//!
//! History: 17. The size is known while planning, so the host computes the window.

use super::case::{self, Case, Tolerance};
use super::{Array, DType, Kind, NodeDef, Op, Operator, Row, Why, onnx, refuse, required, types};
use crate::facts::Fact;
use crate::plan::Lower;

/// A window, by the weights of the cosines of 0, 1 and 2 turns, which have alternating signs.
#[derive(Clone, Debug)]
pub(crate) struct CosineWindow {
    weights: [f64; 3],
    /// Whether the window is periodic: its end continues at its beginning.
    periodic: bool,
    dtype: DType,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("BlackmanWindow", 17, types![T1 -> T2; T1: INDICES, T2: NUMBERS BF16], parse, || {
        cases("BlackmanWindow")
    }),
    onnx("HammingWindow", 17, types![T1 -> T2; T1: INDICES, T2: NUMBERS BF16], parse, || {
        cases("HammingWindow")
    }),
    onnx("HannWindow", 17, types![T1 -> T2; T1: INDICES, T2: NUMBERS BF16], parse, || cases("HannWindow")),
];

/// Larger windows are refused.
const LIMIT: i64 = 1 << 24;

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let weights = match def.op_type {
        "BlackmanWindow" => [0.42, 0.5, 0.08],
        "HammingWindow" => [25.0 / 46.0, 21.0 / 46.0, 0.0],
        _ => [0.5, 0.5, 0.0],
    };
    let periodic = def.attributes.flag("periodic", true)?;
    Ok(CosineWindow { weights, periodic, dtype: output_dtype(def)? }.into())
}

/// The attribute `output_datatype` of operators that have no data input.
pub(crate) fn output_dtype(def: &NodeDef) -> Result<DType, Why> {
    let code = def.attributes.int_or("output_datatype", 1)?;
    match i32::try_from(code).ok().and_then(DType::from_onnx) {
        Some(dtype) if dtype.is_float() || dtype.is_int() => Ok(dtype),
        _ => refuse!("output_datatype is {code}"),
    }
}

/// The numbers as an array of any numeric dtype; for an integer dtype they are truncated.
pub(crate) fn numbers(dtype: DType, shape: &[usize], values: Vec<f64>) -> Array {
    match dtype.is_float() {
        true => Array::float(dtype, shape, values),
        false => Array::int(dtype, shape, values.into_iter().map(|v| v as i128).collect()),
    }
}

impl CosineWindow {
    fn size(&self, size: &[i64]) -> Result<usize, Why> {
        match size {
            &[size @ 0..=LIMIT] => Ok(size as usize),
            size => refuse!("the size is {size:?}"),
        }
    }

    fn window(&self, size: usize) -> Array {
        let period = if self.periodic { size } else { size.saturating_sub(1) };
        let [a, b, c] = self.weights;
        let value = |n: usize| {
            let turn = n as f64 / period as f64 * std::f64::consts::TAU;
            a - b * turn.cos() + c * (2.0 * turn).cos()
        };
        numbers(self.dtype, &[size], (0..size).map(value).collect())
    }
}

impl Operator for CosineWindow {
    fn shape_operands(&self) -> &[usize] {
        &[0]
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        Ok(vec![Fact::new(self.dtype, [self.size(&required(inputs, 0)?.i64s()?)?])])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        Ok(vec![self.window(self.size(&required(inputs, 0)?.i64s()?)?)])
    }

    fn kinds(&self, _: &[Option<&Kind>]) -> Option<Vec<Kind>> {
        Some(vec![Kind::Tensor(Some(self.dtype))])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let size = self.size(&cx.fact(0)?.i64s()?)?;
        cx.host_array(0, || Ok(self.window(size)))
    }
}

fn cases(name: &'static str) -> Vec<Case> {
    let new = |case: &str, size: i64| {
        let case = Case::new(name, case).tolerance(Tolerance::ARITHMETIC);
        case.input(case::values(&[], &[size]))
    };
    vec![
        new("periodic", 10),
        new("symmetric", 10).int("periodic", 0),
        new("float16", 7).int("output_datatype", 10).tolerance(Tolerance { relative: 1e-3, absolute: 1e-3 }),
        Case::new(name, "int32 size").input(case::values(&[], &[5i32])),
        new("empty", 0),
    ]
}

//! com.microsoft.QLinearAdd and QLinearMul: the sum, or the product, of two quantised operands, quantised.
//!
//! History: com.microsoft 1.

use super::broadcast::broadcast;
use super::case::{self, Case, Tolerance};
use super::quantized::{lower_requantized, requantized};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, optional, product, refuse, required, types};
use crate::array::{broadcast_index, unravel};
use crate::facts::Fact;
use crate::kernels::expr::{Builder, Fn2, Reg, Scalar};
use crate::plan::{Lower, TensorId};

/// Inputs: a, its scale and zero point, b, its scale and zero point, the result's scale and zero point. Each scale and each
/// zero point is one number; a zero point may be absent.
#[derive(Clone, Debug)]
pub(crate) struct QLinearBinary {
    multiplies: bool,
}

const fn row(name: &'static str, cases: fn() -> Vec<Case>) -> Row {
    let types = types![T float32 T T float32 T float32 T -> T; T: BYTES];
    Row { domain: "com.microsoft", name, opsets: (1, 1), types, parse, cases }
}

pub(crate) const ROWS: &[Row] =
    &[row("QLinearAdd", || cases("QLinearAdd")), row("QLinearMul", || cases("QLinearMul"))];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(QLinearBinary { multiplies: def.op_type == "QLinearMul" }.into())
}

/// A zero point's value.
fn zero(inputs: &[Option<&Array>], i: usize) -> Result<i128, Why> {
    optional(inputs, i).map_or(Ok(0), |zero| Ok(zero.ints()?.first().copied().unwrap_or(0)))
}

impl Operator for QLinearBinary {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 3)?);
        let zeros = [2, 5, 7].into_iter().filter_map(|i| optional(inputs, i));
        if !matches!(a.dtype, DType::I8 | DType::U8) || zeros.chain([b]).any(|fact| fact.dtype != a.dtype) {
            refuse!("the operands and zero points are not of one 8-bit integer type");
        }
        for i in [1, 4, 6] {
            if required(inputs, i)?.dtype != DType::F32 {
                refuse!("the scale of input {i} is not float32");
            }
        }
        if let Some(several) =
            [1, 2, 4, 5, 6, 7].into_iter().find(|&i| optional(inputs, i).is_some_and(|f| f.count() != 1))
        {
            refuse!("input {several} is a scale or zero point, and not one number");
        }
        Ok(vec![Fact::new(a.dtype, broadcast([&a.shape[..], &b.shape])?)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 3)?);
        let scale = |i: usize| Ok::<f64, Why>(required(inputs, i)?.floats()?.first().copied().unwrap_or(1.0));
        let (a_scale, b_scale, y_scale) = (scale(1)?, scale(4)?, scale(6)?);
        let (a_zero, b_zero, y_zero) = (zero(inputs, 2)?, zero(inputs, 5)?, zero(inputs, 7)?);
        let (a_values, b_values) = (a.ints()?, b.ints()?);
        let shape = broadcast([&a.shape[..], &b.shape])?;
        let value = |i: usize| {
            let at = unravel(i, &shape);
            let x = (a_values[broadcast_index(&at, &a.shape)] - a_zero) as f64 * a_scale;
            let y = (b_values[broadcast_index(&at, &b.shape)] - b_zero) as f64 * b_scale;
            requantized(if self.multiplies { x * y } else { x + y }, 1.0 / y_scale, y_zero, a.dtype)
        };
        let values = (0..product(&shape)).map(value).collect();
        Ok(vec![Array::int(a.dtype, &shape, values)])
    }

    fn pointwise(&self, e: &mut Builder, inputs: &[Option<Reg>], out: DType) -> Option<Reg> {
        let given = |i: usize| inputs.get(i).copied().flatten();
        let x = real(e, given(0)?, given(1)?, given(2));
        let y = real(e, given(3)?, given(4)?, given(5));
        Some(self.quantized(e, [x, y], given(6)?, given(7), out))
    }

    /// Where planning knows no scale and no zero point, a single kernel cannot bind all of them.
    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        let mut operands = Vec::new();
        for i in [0, 3] {
            let shape = cx.fact(i)?.shape.as_slice();
            let given = self.numbers(cx, i + 1, i + 2)?;
            let given: Vec<_> = [(cx.input(i)?, shape)].into_iter().chain(given).collect();
            let to = cx.temporary(Scalar::F32, shape);
            cx.elementwise_to(to, (DType::F32, shape), &given, |e, regs| {
                real(e, regs[0], regs[1], regs.get(2).copied())
            });
            operands.push((to, shape));
        }
        operands.extend(self.numbers(cx, 6, 7)?);
        let out = cx.out(0)?.dtype;
        cx.elementwise(0, &operands, |e, regs| {
            self.quantized(e, [regs[0], regs[1]], regs[2], regs.get(3).copied(), out)
        })
    }
}

/// The real value of a quantised operand.
fn real(e: &mut Builder, x: Reg, scale: Reg, zero: Option<Reg>) -> Reg {
    let mut x = e.convert(x, Scalar::F32);
    if let Some(zero) = zero {
        let zero = e.convert(zero, Scalar::F32);
        x = e.sub(x, zero);
    }
    e.mul(x, scale)
}

impl QLinearBinary {
    fn quantized(&self, e: &mut Builder, [x, y]: [Reg; 2], scale: Reg, zero: Option<Reg>, out: DType) -> Reg {
        let value = if self.multiplies { e.mul(x, y) } else { e.add(x, y) };
        let one = e.f32(1.0);
        let scale = e.two(Fn2::DivRounded, one, scale);
        let zero = zero.unwrap_or_else(|| e.f32(0.0));
        lower_requantized(e, value, scale, zero, out)
    }

    /// A scale, and its zero point if there is one, as operands of fused code.
    fn numbers(
        &self,
        cx: &mut Lower,
        scale: usize,
        zero: usize,
    ) -> Result<Vec<(TensorId, &'static [usize])>, Why> {
        let mut numbers = vec![(cx.input(scale)?, &[][..])];
        if cx.optional_fact(zero).is_some() {
            numbers.push((cx.input(zero)?, &[]));
        }
        Ok(numbers)
    }
}

fn cases(op_type: &str) -> Vec<Case> {
    let bytes = |shape: &[usize], dtype: DType| {
        let (low, high) = if dtype == DType::I8 { (-128, 128) } else { (0, 256) };
        case::converted(&case::integers(shape, low, high), dtype)
    };
    let scale = |scale: f32| case::values(&[], &[scale]);
    // A value between two steps of the result may be rounded to either.
    let step = Tolerance { relative: 0.0, absolute: 1.0 };
    let new = |name: &str, dtype: DType, a: &[usize], b: &[usize], zeros: bool| {
        let zero = |case: Case, shape: &[usize]| {
            if zeros { case.constant(bytes(shape, dtype)) } else { case.absent() }
        };
        let case = Case::new(op_type, name).domain("com.microsoft").opset(1).tolerance(step);
        let case = zero(case.input(bytes(a, dtype)).constant(scale(0.02)), &[]);
        let case = zero(case.input(bytes(b, dtype)).constant(scale(0.03)), &[1]);
        let case = case.constant(scale(0.05));
        if zeros { case.constant(bytes(&[1], dtype)) } else { case }
    };
    vec![
        new("uint8", DType::U8, &[2, 5, 9], &[2, 5, 9], true),
        new("int8", DType::I8, &[2, 5, 9], &[2, 5, 9], true),
        new("broadcast", DType::U8, &[2, 5, 9], &[5, 1], true),
        new("no_zero_points", DType::I8, &[7], &[3, 7], false),
        new("empty", DType::U8, &[0, 3], &[3], true),
        Case { constants: vec![], ..new("all inputs", DType::U8, &[2, 5, 9], &[5, 1], true) },
        Case { constants: vec![], ..new("all inputs, signed", DType::I8, &[7], &[3, 7], false) },
    ]
}

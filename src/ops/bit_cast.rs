//! BitCast: the same bits read as another dtype of the same width.
//!
//! History: 26.

use super::case::{self, Case, Tolerance};
use super::{Array, DType, NodeDef, Op, Operator, Row, Tensor, Types, Why, onnx, refuse, required, types};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::plan::Lower;

/// BitCast to this dtype.
#[derive(Clone, Debug)]
pub(crate) struct BitCast {
    to: DType,
}

const TYPES: Types = types![T1 -> T2; T1 T2: NUMBERS FLOAT8 INT4 INT2 BF16 BOOL COMPLEX F4E2M1 F8E8M0];

pub(crate) const ROWS: &[Row] = &[onnx("BitCast", 26, TYPES, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let code = def.attributes.int_or("to", 0)?;
    match i32::try_from(code).ok().and_then(DType::from_onnx) {
        Some(to) if to != DType::String => Ok(BitCast { to }.into()),
        _ => refuse!("attribute 'to' is {code}, which is no data type with bits"),
    }
}

impl Operator for BitCast {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if x.dtype.bits() != self.to.bits() {
            refuse!("{} and {} have different widths", x.dtype, self.to);
        }
        Ok(vec![Fact::new(self.to, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?.to_tensor()?;
        let bits = Tensor::from_raw(self.to, x.shape(), x.shared_bytes())?;
        Ok(vec![Array::from_tensor(&bits)?])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let x = cx.fact(0)?;
        let mut input = cx.input(0)?;
        if x.dtype == self.to {
            return cx.view(0, input, 0);
        }
        let (from, to) = (x.dtype, self.to);
        let Some(scalar) = cx.register(to) else { refuse!("the device does not compute with {to}") };
        if from.bits() == 64 {
            if !scalar.is_wide() || !cx.scalar(input).is_wide() {
                return Err(Why::too_wide(format_args!("the bits of a {from}")));
            }
            return cx.elementwise(0, &[(input, &x.shape)], |e, regs| e.bitcast(regs[0], scalar));
        }
        // A load of these converts, and so does a store.
        let converts = |dtype: DType| dtype.is_float() && dtype.bits() < 32;
        if converts(from) {
            let bits = cx.temporary(Scalar::U32, &x.shape);
            cx.copy_bits(input, bits);
            input = bits;
        }
        if converts(to) {
            let output = cx.output(0)?;
            cx.copy_bits(input, output);
            return Ok(());
        }
        cx.elementwise(0, &[(input, &x.shape)], |e, regs| {
            let bits = match e.scalar(regs[0]) {
                Scalar::Bool => e.convert(regs[0], Scalar::U32),
                _ => e.bitcast(regs[0], Scalar::U32),
            };
            match scalar {
                Scalar::Bool => e.convert(bits, scalar),
                _ => e.bitcast(bits, scalar),
            }
        })
    }
}

fn cases() -> Vec<Case> {
    let cast = |case: &str, from: Tensor, to: DType| {
        let case = Case::new("BitCast", case).tolerance(Tolerance::EXACT);
        case.input(from).int("to", i64::from(to.onnx()))
    };
    let floats = || case::values(&[5], &[0.0f32, -0.0, 1.5, -3e38, f32::INFINITY]);
    let shorts = || case::converted(&case::integers(&[7], -30000, 30000), DType::I16);
    // The payload of a NaN is one of these.
    let halves =
        || case::values(&[5], &[0x0001u16, 0x8000, 0x3c01, 0xfc00, 0x7e2a].map(half::f16::from_bits));
    vec![
        cast("float32_to_int32", floats(), DType::I32),
        cast("float32_to_uint32", case::random(&[2, 3]), DType::U32),
        cast("int32_to_float32", case::values(&[3], &[0i32, 0x3f80_0000, -0x3f80_0000]), DType::F32),
        cast("int32_to_uint32", case::values(&[2], &[-1i32, 7]), DType::U32),
        cast("int16_to_uint16", shorts(), DType::U16),
        cast("uint16_to_int16", case::converted(&shorts(), DType::U16), DType::I16),
        cast("int16_to_bfloat16", shorts(), DType::BF16),
        cast("bfloat16_to_uint16", case::converted(&floats(), DType::BF16), DType::U16),
        cast("bfloat16_to_int16", case::converted(&floats(), DType::BF16), DType::I16),
        cast("float16_to_uint16", halves(), DType::U16),
        cast("float16_to_int16", halves(), DType::I16),
        cast("float16_to_bfloat16", halves(), DType::BF16),
        cast("int16_to_float16", shorts(), DType::F16),
        cast("uint16_to_float16", case::converted(&shorts(), DType::U16), DType::F16),
        cast("int8_to_uint8", case::values(&[2], &[-1i8, 7]), DType::U8),
        cast("uint8_to_int8", case::values(&[2], &[200u8, 7]), DType::I8),
        cast("bool_to_uint8", case::bools(&[2], &[true, false]), DType::U8),
        cast("uint8_to_bool", case::values(&[2], &[0u8, 1]), DType::Bool),
        cast("same", floats(), DType::F32),
        // Signalling and quiet NaNs.
        cast("nan", case::values(&[3], &[0x7f80_0001u32, 0xffc0_1234, 0x7fbf_ffff]), DType::F32),
        cast("scalar", case::random(&[]), DType::I32),
        cast("empty", case::random(&[0]), DType::I32),
    ]
}

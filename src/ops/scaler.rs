//! ai.onnx.ml Scaler: `(x - offset) * scale`, with one offset and scale for all columns or for each.
//!
//! History: 1.

use super::case::{self, Case};
use super::scores::{floats, ml, ml_case};
use super::{Array, Attr, DType, NodeDef, Op, Operator, Row, Why, refuse, required, types};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::plan::Lower;

/// The offsets and scales, as many of one as of the other.
#[derive(Clone, Debug)]
pub(crate) struct Scaler {
    offsets: Vec<f64>,
    scales: Vec<f64>,
}

pub(crate) const ROWS: &[Row] = &[ml("Scaler", 1, types![T -> float32; T: F32 F64 INDICES], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let list = |name: &str| -> Result<Vec<f64>, Why> {
        Ok(def.attributes.floats(name)?.unwrap_or_default().into_iter().map(f64::from).collect())
    };
    let (offsets, scales) = (list("offset")?, list("scale")?);
    if offsets.len() != scales.len() || scales.is_empty() {
        refuse!(
            "there are {} offsets and {} scales: one each is needed, or one for each column",
            offsets.len(),
            scales.len()
        );
    }
    Ok(Scaler { offsets, scales }.into())
}

/// Refuses a list that has neither one entry nor one for each column, which are the elements of the last axis.
pub(crate) fn check_columns(count: usize, shape: &[usize]) -> Result<(), Why> {
    let columns = shape.last().copied();
    if count == 1 || columns == Some(count) && shape.len() <= 2 {
        return Ok(());
    }
    refuse!("{count} values do not fit features of shape {shape:?}: one is needed, or one for each column")
}

impl Operator for Scaler {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        check_columns(self.scales.len(), &x.shape)?;
        Ok(vec![Fact::new(DType::F32, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let wide = x.dtype == DType::F64;
        let difference = |x: f64, offset: f64| if wide { x - offset } else { f64::from((x - offset) as f32) };
        let count = self.scales.len();
        let scaled = |(i, &x): (usize, &f64)| difference(x, self.offsets[i % count]) * self.scales[i % count];
        let values = x.to_f64()?.iter().enumerate().map(scaled).collect();
        Ok(vec![Array::float(DType::F32, &x.shape, values)])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        let (x, shape, count) = (cx.input(0)?, &cx.fact(0)?.shape, [self.scales.len()]);
        let scalar = Scalar::float_for(cx.fact(0)?.dtype);
        let mut table =
            |numbers| if scalar == Scalar::F64 { cx.doubles(numbers) } else { floats(cx, numbers) };
        let tables = [table(&self.offsets)?, table(&self.scales)?];
        cx.elementwise(0, &[(x, shape), (tables[0], &count), (tables[1], &count)], |e, regs| {
            let x = e.convert(regs[0], scalar);
            let [offset, scale] = [regs[1], regs[2]].map(|word| e.bitcast(word, scalar));
            let difference = e.sub(x, offset);
            let scaled = e.mul(difference, scale);
            e.convert(scaled, Scalar::F32)
        })
    }
}

fn cases() -> Vec<Case> {
    let of = |case: &str, offsets: &[f32], x: crate::Tensor| {
        let scales = offsets.iter().map(|offset| 1.5 - offset / 3.0).collect();
        ml_case("Scaler", case)
            .attr("offset", Attr::Floats(offsets.to_vec()))
            .attr("scale", Attr::Floats(scales))
            .input(x)
    };
    vec![
        of("columns", &[0.5, -2.0, 3.25], case::uniform(&[7, 3], -4.0, 4.0)),
        of("one for all", &[0.5], case::uniform(&[7, 3], -4.0, 4.0)),
        of("one for all, rank 3", &[0.5], case::uniform(&[2, 3, 4], -4.0, 4.0)),
        of("one row", &[0.5, -2.0, 3.25], case::uniform(&[3], -4.0, 4.0)),
        of("empty", &[0.5, -2.0], case::uniform(&[0, 2], -4.0, 4.0)),
        of("int64", &[0.5, -2.0, 3.25], case::integers(&[5, 3], -9, 9)),
        of("int32", &[0.5, -2.0, 3.25], case::converted(&case::integers(&[5, 3], -9, 9), DType::I32)),
    ]
}

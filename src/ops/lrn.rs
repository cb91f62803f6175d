//! LRN: each element divided by a power of the sum of squares over the channels around it.
//!
//! History: 1, 13 (bfloat16).

use super::case::{self, Case, Tolerance};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, product, refuse, required, types,
};
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::kernels::lrn as kernel;
use crate::kernels::words;
use crate::plan::Lower;

/// The attributes.
#[derive(Clone, Debug)]
pub(crate) struct Lrn {
    alpha: f32,
    beta: f32,
    bias: f32,
    size: usize,
}

pub(crate) const ROWS: &[Row] = &[onnx("LRN", 1, types![T -> T; T: FLOATS BF16@13], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let size = match def.attributes.int("size")? {
        Some(size @ 1..=10_000) => size as usize,
        Some(size) => refuse!("size is {size}; windows of 1 to 10000 channels are supported"),
        None => refuse!("attribute 'size' is missing"),
    };
    let float = |key: &str, default: f32| def.attributes.float_or(key, default);
    let (alpha, beta, bias) = (float("alpha", 1e-4)?, float("beta", 0.75)?, float("bias", 1.0)?);
    Ok(Lrn { alpha, beta, bias, size }.into())
}

impl Lrn {
    /// The number of channels of the window before, and after, the element's own.
    fn window(&self) -> (usize, usize) {
        ((self.size - 1) / 2, self.size / 2)
    }
}

impl Operator for Lrn {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if x.rank() < 2 || !x.dtype.is_float() {
            refuse!("expected floats with a batch and a channel axis, got {x}");
        }
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let data = x.floats()?;
        let (channels, inner) = (x.shape[1], product(&x.shape[2..]));
        let (before, after) = self.window();
        let mut y = vec![0.0; data.len()];
        for (i, y) in y.iter_mut().enumerate() {
            let c = i / inner % channels;
            let window = c.saturating_sub(before)..=(c + after).min(channels - 1);
            let squares: f64 = window.map(|k| data[i - c * inner + k * inner].powi(2)).sum();
            let base = f64::from(self.bias) + f64::from(self.alpha) / self.size as f64 * squares;
            *y = data[i] / base.powf(f64::from(self.beta));
        }
        Ok(vec![Array::float(x.dtype, &x.shape, y)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let channels = required(inputs, 0)?.shape.get(1).copied().unwrap_or(1);
        Ok(of_elements(inputs, outputs).times(self.size.min(channels).max(1)))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let x = cx.fact(0)?;
        let inner: usize = product(&x.shape[2..]);
        let (before, after) = self.window();
        let limit = cx.target.max_iterations as usize;
        if x.shape[1].min(self.size) > limit {
            refuse!("the window has more than {limit} channels");
        }
        let epilogue = cx.epilogue(None)?;
        let sizes = words([x.count(), x.shape[1], inner, before, after])?;
        let scalar = Scalar::float_for(x.dtype);
        let alpha = if scalar == Scalar::F64 { self.alpha } else { self.alpha / self.size as f32 };
        let numbers = [self.bias, alpha, self.beta].map(f32::to_bits);
        let params = sizes.into_iter().chain(numbers).chain(epilogue.params).collect();
        let mut tensors = vec![cx.input(0)?];
        tensors.extend(epilogue.tensors);
        tensors.push(cx.output(0)?);
        cx.call(kernel::Lrn { scalar, epilogue: epilogue.fused }, tensors, params, kernel::groups(x.count()));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("LRN", name).tolerance(Tolerance::TRANSCENDENTAL);
    let x = |shape: &[usize]| case::uniform(shape, -3.0, 3.0);
    vec![
        new("default").int("size", 3).input(x(&[2, 5, 3, 2])),
        new("even").int("size", 4).float("alpha", 0.5).float("bias", 2.0).input(x(&[1, 7, 3])),
        new("wide").int("size", 9).float("alpha", 1.0).float("beta", 0.5).input(x(&[2, 3])),
        new("empty").int("size", 3).input(x(&[0, 5, 2])),
        new("float16").int("size", 3).input(case::converted(&x(&[1, 4, 5]), DType::F16)),
    ]
}

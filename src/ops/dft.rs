//! DFT: the discrete Fourier transform along one axis, and its inverse.
//!
//! History: 17, 20 (the axis as an input, and the inverse of a one-sided transform).

use super::case::{self, Case, Tolerance};
use super::fourier::{doubles, root, table};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, axes, of_elements, onnx, optional, product, refuse,
    required, types,
};
use crate::facts::Fact;
use crate::kernels::dft::{self as kernel, Bins, PassSizes, Signal};
use crate::kernels::double_words;
use crate::kernels::expr::Scalar;
use crate::kernels::gather::groups;
use crate::plan::Lower;

/// DFT.
#[derive(Clone, Debug)]
pub(crate) struct Dft {
    inverse: bool,
    onesided: bool,
    /// `None`: input 2, or the last axis before the complex one.
    axis: Option<i64>,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("DFT", 17, types![T1 T2 int64 -> T1; T1: FLOATS BF16, T2: INDICES], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let op = Dft {
        inverse: def.attributes.flag("inverse", false)?,
        onesided: def.attributes.flag("onesided", false)?,
        axis: if def.opset < 20 { Some(def.attributes.int_or("axis", 1)?) } else { None },
    };
    Ok(op.into())
}

/// The sizes of a transform.
struct TransformGeometry {
    outer: usize,
    inner: usize,
    /// The number of input elements that the transform reads, and the number that the axis has.
    used: usize,
    size: usize,
    /// The transform's period.
    length: usize,
    /// The number of output elements along the axis.
    bins: usize,
    complex: bool,
    shape: Vec<usize>,
}

impl Dft {
    fn geometry(
        &self,
        x: &[usize],
        length: Option<Vec<i64>>,
        axis: Option<Vec<i64>>,
    ) -> Result<TransformGeometry, Why> {
        let given = axis.and_then(|list| list.first().copied());
        let rank = x.len();
        let axis = axes::axis(self.axis.or(given).unwrap_or(-2), rank)?;
        let complex = match x.last() {
            Some(1) => false,
            Some(2) => true,
            _ => refuse!("the last axis of {x:?} is neither one (real) nor two (complex)"),
        };
        if axis + 1 >= rank {
            refuse!("axis {axis} is the one of complex numbers");
        }
        let back = self.inverse && self.onesided;
        if back && !complex {
            refuse!("the inverse of a one-sided transform takes complex input");
        }
        let size = x[axis];
        let length = match length.and_then(|list| list.first().copied()) {
            Some(length) if (1..=1 << 28).contains(&length) => length as usize,
            Some(length) => refuse!("dft_length is {length}"),
            None if back => 2 * size.saturating_sub(1),
            None => size,
        };
        if length == 0 {
            refuse!("a transform of no elements");
        }
        let bins = if self.onesided && !self.inverse { length / 2 + 1 } else { length };
        let mut shape = x.to_vec();
        shape[axis] = bins;
        shape[rank - 1] = if back { 1 } else { 2 };
        Ok(TransformGeometry {
            outer: product(&x[..axis]),
            inner: product(&x[axis + 1..rank - 1]),
            used: size.min(if back { length / 2 + 1 } else { length }),
            size,
            length,
            bins,
            complex,
            shape,
        })
    }

    fn of_facts(&self, inputs: &[Option<&Fact>]) -> Result<TransformGeometry, Why> {
        let value = |i: usize| optional(inputs, i).map(|fact| fact.i64s()).transpose();
        self.geometry(&required(inputs, 0)?.shape, value(1)?, value(2)?)
    }
}

impl Operator for Dft {
    fn shape_operands(&self) -> &[usize] {
        &[1, 2]
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() {
            refuse!("expected a float tensor, got {}", x.dtype);
        }
        Ok(vec![Fact::new(x.dtype, self.of_facts(inputs)?.shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let value = |i: usize| optional(inputs, i).map(|array| array.i64s()).transpose();
        let g = self.geometry(&x.shape, value(1)?, value(2)?)?;
        let back = self.inverse && self.onesided;
        let (values, parts) = (x.floats()?, if g.complex { 2 } else { 1 });
        let roots: Vec<(f64, f64)> = (0..g.length).map(|k| root(k, g.length)).collect();
        let sign = if self.inverse { 1.0 } else { -1.0 };
        let scale = if self.inverse { 1.0 / g.length as f64 } else { 1.0 };
        let mut result = Vec::with_capacity(product(&g.shape));
        for o in 0..g.outer * g.bins * g.inner {
            let (i, bin, outer) = (o % g.inner, o / g.inner % g.bins, o / g.inner / g.bins);
            let (mut real, mut imaginary) = (0.0, 0.0);
            for n in 0..g.used {
                let at = ((outer * g.size + n) * g.inner + i) * parts;
                let (re, im) = (values[at], if g.complex { values[at + 1] } else { 0.0 });
                let (cos, sin) = roots[bin * n % g.length];
                // The other half of a one-sided transform is its mirror image.
                let weight = if back && n > 0 && 2 * n != g.length { 2.0 } else { 1.0 };
                real += weight * (re * cos - sign * im * sin);
                imaginary += weight * (im * cos + sign * re * sin);
            }
            result.push(real * scale);
            if !back {
                result.push(imaginary * scale);
            }
        }
        Ok(vec![Array::float(x.dtype, &g.shape, result)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let g = self.of_facts(inputs)?;
        let elements = of_elements(inputs, outputs).temporary(g.length, 2 * size_of::<f64>());
        Ok(elements.steps(&[g.outer, g.bins, g.inner, g.used]))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let g = self.of_facts(&cx.facts())?;
        let back = self.inverse && self.onesided;
        let signal = match (back, g.complex) {
            (true, _) => Signal::Half,
            (false, true) => Signal::Complex,
            (false, false) => Signal::Real,
        };
        let frames = SignalFrames {
            outer: g.outer,
            inner: g.inner,
            used: g.used,
            length: g.length,
            bins: g.bins,
            frames: 1,
            signal: g.size * g.inner,
            step: 0,
        };
        transform(cx, signal, None, frames, self.inverse)
    }
}

/// The frames of input 0 that are transformed; the fields are those of [`PassSizes`].
pub(crate) struct SignalFrames {
    pub(crate) outer: usize,
    pub(crate) inner: usize,
    pub(crate) used: usize,
    pub(crate) length: usize,
    pub(crate) bins: usize,
    pub(crate) frames: usize,
    pub(crate) signal: usize,
    pub(crate) step: usize,
}

/// Emits the transform of each frame of input 0, multiplied element by element with the input `weights`, if there is one.
pub(crate) fn transform(
    cx: &mut Lower,
    signal: Signal,
    weights: Option<usize>,
    frames: SignalFrames,
    inverse: bool,
) -> Result<(), Why> {
    let SignalFrames { outer, inner, used, length, bins, frames, signal: apart, step } = frames;
    let radices = kernel::radices(length, inverse);
    let limit = cx.target.max_iterations as usize;
    if let Some(prime) = radices.iter().find(|&&radix| radix > limit) {
        refuse!("a transform of {length} elements, a multiple of the prime {prime}, has no GPU kernel");
    }
    let scalar = Scalar::float_for(cx.fact(0)?.dtype);
    let double = scalar == Scalar::F64;
    let roots = if double { cx.doubles(&doubles(length))? } else { cx.words(2 * length, || table(length))? };
    let mut x = cx.input(0)?;
    let mut stride = 1;
    for (pass, &radix) in radices.iter().enumerate() {
        let (first, last) = (pass == 0, pass + 1 == radices.len());
        let between = PassSizes {
            count: outer * length * inner,
            bins: length,
            inner,
            used: length,
            length,
            frames: 1,
            signal: length * inner,
            step: 0,
            radix,
            stride,
        };
        let mut sizes =
            if first { PassSizes { used, frames, signal: apart, step, ..between } } else { between };
        if last {
            sizes = PassSizes { count: outer * bins * inner, bins, ..sizes };
        }
        let mut tensors = vec![x, roots];
        if let (true, Some(weights)) = (first, weights) {
            tensors.push(cx.input(weights)?);
        }
        let (epilogue, y, bins) = if last {
            let bins = if signal == Signal::Half { Bins::Real } else { Bins::Complex };
            (cx.epilogue(None)?, cx.output(0)?, bins)
        } else {
            let y = cx.temporary(scalar, &[outer, length, inner, 2]);
            (cx.partial(scalar, None), y, Bins::Turned)
        };
        let divisor = if inverse && last { length } else { 1 };
        let mut params = sizes.words()?;
        match double {
            true => params.extend(double_words(1.0 / divisor as f64)),
            false => params.push((1.0 / divisor as f32).to_bits()),
        }
        params.extend(epilogue.params);
        tensors.extend(epilogue.tensors);
        tensors.push(y);
        let spec = kernel::Dft {
            scalar,
            signal: if first { signal } else { Signal::Complex },
            weighted: first && weights.is_some(),
            bins,
            inverse,
            epilogue: epilogue.fused,
        };
        cx.call(spec, tensors, params, groups(sizes.count));
        (x, stride) = (y, stride * radix);
    }
    Ok(())
}

fn cases() -> Vec<Case> {
    let new = |name: &str, shape: &[usize]| {
        let tolerance = Tolerance { relative: 1e-4, absolute: 2e-5 };
        Case::new("DFT", name).tolerance(tolerance).input(case::random(shape))
    };
    let scalar = |value: i64| case::values(&[], &[value]);
    vec![
        new("real", &[2, 10, 1]),
        new("complex", &[1, 12, 2]),
        new("inverse", &[1, 12, 2]).int("inverse", 1),
        new("onesided", &[2, 9, 1]).int("onesided", 1),
        new("onesided, even", &[1, 8, 1]).int("onesided", 1),
        new("back", &[1, 6, 2]).int("onesided", 1).int("inverse", 1),
        new("back, odd", &[1, 6, 2]).int("onesided", 1).int("inverse", 1).input(scalar(11)),
        new("longer", &[1, 5, 1]).input(scalar(8)),
        new("shorter", &[1, 7, 2]).input(scalar(4)),
        new("axis", &[3, 4, 5, 2]).absent().input(scalar(0)),
        new("negative axis", &[3, 4, 5, 1]).absent().input(scalar(-3)),
        new("opset 17", &[2, 6, 3, 1]).opset(17).int("axis", 1),
        // Errors grow with the logarithm of the length, and here also with sums of up to 300 terms.
        new("long", &[1, 300, 1]).tolerance(Tolerance { relative: 1e-4, absolute: 1e-4 }),
        new("power of two", &[2, 1024, 1])
            .int("onesided", 1)
            .tolerance(Tolerance { relative: 1e-4, absolute: 1e-4 }),
        new("prime", &[1, 251, 2]).tolerance(Tolerance { relative: 1e-4, absolute: 1e-4 }),
        new("back, long", &[2, 61, 3, 2]).int("onesided", 1).int("inverse", 1).absent().input(scalar(1)),
        new("longer by a factor", &[2, 5, 3, 2]).int("inverse", 1).input(scalar(36)).input(scalar(1)),
        new("empty", &[0, 4, 1]),
        Case::new("DFT", "float16")
            .tolerance(Tolerance { relative: 1e-3, absolute: 1e-2 })
            .input(case::converted(&case::random(&[1, 6, 1]), DType::F16)),
    ]
}

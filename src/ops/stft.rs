//! STFT: Fourier transforms of windows that step along a signal.
//!
//! History: 17.

use super::case::{self, Case, Tolerance};
use super::dft::{SignalFrames, transform};
use super::fourier::root;
use super::{
    Array, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, optional, product, refuse, required,
    types,
};
use crate::facts::Fact;
use crate::kernels::dft::Signal;
use crate::plan::Lower;

/// STFT.
#[derive(Clone, Debug)]
pub(crate) struct Stft {
    onesided: bool,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("STFT", 17, types![T1 T2 T1 T2 -> T1; T1: FLOATS BF16, T2: INDICES], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Stft { onesided: def.attributes.flag("onesided", true)? }.into())
}

struct FrameGeometry {
    /// The number of samples of a signal.
    samples: usize,
    complex: bool,
    step: usize,
    /// The number of samples of a frame.
    length: usize,
    shape: [usize; 4],
}

impl Stft {
    fn geometry(
        &self,
        signal: &[usize],
        step: &[i64],
        window: Option<&[usize]>,
        length: Option<Vec<i64>>,
    ) -> Result<FrameGeometry, Why> {
        let (batch, samples, complex) = match *signal {
            [batch, samples] | [batch, samples, 1] => (batch, samples, false),
            [batch, samples, 2] => (batch, samples, true),
            _ => refuse!("a signal of shape {signal:?} is neither real nor complex"),
        };
        let whole = |what: &str, list: &[i64]| match list {
            &[value @ 1..=0x7fff_ffff] => Ok(value as usize),
            list => refuse!("{what} is {list:?}"),
        };
        let step = whole("frame_step", step)?;
        let length = match (length, window) {
            (Some(length), _) => whole("frame_length", &length)?,
            (None, Some(window)) => window.first().copied().unwrap_or(0),
            (None, None) => samples,
        };
        if length == 0 || length > samples || window.is_some_and(|window| window != [length]) {
            refuse!("frames of {length} and a window of {window:?} do not fit a signal of {samples}");
        }
        let bins = if self.onesided { length / 2 + 1 } else { length };
        Ok(FrameGeometry {
            samples,
            complex,
            step,
            length,
            shape: [batch, (samples - length) / step + 1, bins, 2],
        })
    }

    fn of_facts(&self, inputs: &[Option<&Fact>]) -> Result<FrameGeometry, Why> {
        let window = optional(inputs, 2).map(|fact| fact.shape.as_slice());
        let length = optional(inputs, 3).map(|fact| fact.i64s()).transpose()?;
        self.geometry(&required(inputs, 0)?.shape, &required(inputs, 1)?.i64s()?, window, length)
    }
}

impl Operator for Stft {
    fn shape_operands(&self) -> &[usize] {
        &[1, 3]
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let signal = required(inputs, 0)?;
        if !signal.dtype.is_float() {
            refuse!("expected a float signal, got {}", signal.dtype);
        }
        Ok(vec![Fact::new(signal.dtype, self.of_facts(inputs)?.shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let signal = required(inputs, 0)?;
        let window = optional(inputs, 2);
        let length = optional(inputs, 3).map(|array| array.i64s()).transpose()?;
        let step = required(inputs, 1)?.i64s()?;
        let g = self.geometry(&signal.shape, &step, window.map(|array| array.shape.as_slice()), length)?;
        let values = signal.floats()?;
        let weights = window.map(|array| array.floats()).transpose()?;
        let roots: Vec<(f64, f64)> = (0..g.length).map(|k| root(k, g.length)).collect();
        let [batch, frames, bins, _] = g.shape;
        let mut result = Vec::with_capacity(product(g.shape));
        for o in 0..batch * frames * bins {
            let (bin, frame, row) = (o % bins, o / bins % frames, o / bins / frames);
            let (mut real, mut imaginary) = (0.0, 0.0);
            for n in 0..g.length {
                let at = row * g.samples + frame * g.step + n;
                let weight = weights.map_or(1.0, |weights| weights[n]);
                let (re, im) =
                    if g.complex { (values[2 * at], values[2 * at + 1]) } else { (values[at], 0.0) };
                let (cos, sin) = roots[bin * n % g.length];
                real += weight * (re * cos + im * sin);
                imaginary += weight * (im * cos - re * sin);
            }
            result.extend([real, imaginary]);
        }
        Ok(vec![Array::float(signal.dtype, &g.shape, result)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let g = self.of_facts(inputs)?;
        let elements = of_elements(inputs, outputs).temporary(g.length, 2 * size_of::<f64>());
        Ok(elements.steps(&[&g.shape[..3], &[g.length]].concat()))
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
        let window = cx.optional_fact(2).is_some();
        let [batch, count, bins, _] = g.shape;
        let frames = SignalFrames {
            outer: batch * count,
            inner: 1,
            used: g.length,
            length: g.length,
            bins,
            frames: count,
            signal: g.samples,
            step: g.step,
        };
        let signal = if g.complex { Signal::Complex } else { Signal::Real };
        transform(cx, signal, window.then_some(2), frames, false)
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str, shape: &[usize], step: i64| {
        let case = Case::new("STFT", name).tolerance(Tolerance { relative: 1e-4, absolute: 2e-5 });
        case.input(case::random(shape)).input(case::values(&[], &[step]))
    };
    let window = || case::uniform(&[16], 0.0, 1.0);
    vec![
        new("window", &[1, 40, 1], 8).input(window()),
        new("frame length", &[2, 33, 1], 5).absent().input(case::values(&[], &[9i64])),
        new("both", &[1, 40, 1], 8).input(window()).input(case::values(&[], &[16i64])),
        new("two sided", &[1, 40, 1], 8).int("onesided", 0).input(window()),
        new("complex", &[1, 40, 2], 7).int("onesided", 0).input(window()),
        new("neither", &[2, 12, 1], 1),
    ]
}

//! Casts between all pairs of dtypes, on every device, against the reference.

use crate::internals::cases::compared_with;
use crate::internals::devices::each;
use crate::ops::case::{self, Case, Tolerance};
use crate::{DType, Error, SessionOptions, Tensor};

use DType::*;

const FLOATS: [DType; 12] =
    [F32, F64, F16, BF16, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, F6E2M3, F6E3M2, F4E2M1];
const INTEGERS: [DType; 12] = [I64, I32, I16, I8, I4, I2, U64, U32, U16, U8, U4, U2];

/// The edges of all types: zeros, ones, halves, the ends of integers, the ends and the least steps of floats.
fn edges() -> Vec<f64> {
    let mut edges = vec![0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 0.75, 6.0, 7.5, 1.0 + 2f64.powi(-11)];
    for bits in [2, 3, 4, 7, 8, 15, 16, 24, 31, 32, 53, 63] {
        let power = 2f64.powi(bits);
        edges.extend([power, power - 1.0, power + 1.0, -power, -power - 1.0, 1.0 / power, -3.0 / power]);
    }
    edges.extend([
        16_777_217.0,
        33_554_433.0,
        2_147_483_393.0,
        57344.0,
        448.0,
        240.0,
        28.0,
        65504.0,
        65520.0,
        3.3e38,
        1e-40,
        1e-45,
        1e300,
    ]);
    edges
}

/// The numbers of `from` whose cast to `to` ONNX defines.
fn defined(from: DType, to: DType) -> Tensor {
    let edges = edges();
    let all = case::converted(&case::values(&[edges.len()], &edges), from);
    let numbers = case::converted(&all, F64).to_vec::<f64>().unwrap();
    let kept = |x: &f64| match to.int_range() {
        // Integers wrap, and floats must fit.
        Some((low, high)) if from.is_float() => {
            x.is_finite() && x.trunc() >= low as f64 && x.trunc() < high as f64 && x.trunc() as i128 <= high
        }
        _ => !x.is_nan() || to.is_float(),
    };
    let kept: Vec<f64> = numbers.into_iter().filter(kept).collect();
    case::converted(&case::values(&[kept.len()], &kept), from)
}

#[test]
fn every_pair_of_casts() {
    let all = || FLOATS.into_iter().chain(INTEGERS).chain([Bool]);
    for device in each() {
        let (mut right, mut refused, mut wrong) = (0, Vec::new(), Vec::new());
        for (from, to) in all().flat_map(|from| all().map(move |to| (from, to))) {
            let case = Case::new("Cast", "pair").tolerance(Tolerance::EXACT).input(defined(from, to));
            let case = case.int("to", to.onnx().into());
            match compared_with(SessionOptions::new(), &case, &device) {
                Ok(None) => right += 1,
                Err(Error::Unsupported(_) | Error::TooWide { .. }) => refused.push((from, to)),
                other => wrong.push(format!("{from} to {to}: {other:?}")),
            }
        }
        assert!(wrong.is_empty(), "{right} right on {}, {wrong:#?}", device.name());
        let target = device.gpu().map(|gpu| gpu.target.clone()).unwrap();
        let lacks = |dtype: DType| dtype == F64 && !target.computes_f64;
        refused.retain(|(from, to)| !lacks(*from) && !lacks(*to));
        assert!(refused.is_empty(), "{right} right on {}, refused {refused:?}", device.name());
    }
}

//! Arrays of `.npz` files, and how results are compared with them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use sardonyx::internals::apart;
use sardonyx::{DType, Tensor};

/// The error that a result may have, as a share of the output's largest value: f32 sums in another order, and approximations
/// of exp and erf, over tens of layers; int8 weights multiply each rounding by their scale.
pub fn tolerance(model: &str) -> f64 {
    if model.contains("int8") { 1e-2 } else { 1e-3 }
}

pub fn arrays(path: &Path) -> BTreeMap<String, Tensor> {
    let mut archive = npyz::npz::NpzArchive::new(File::open(path).unwrap()).unwrap();
    let names: Vec<String> = archive.array_names().map(str::to_string).collect();
    let mut arrays = BTreeMap::new();
    for name in names {
        let array = archive.by_name(&name).unwrap().unwrap();
        let shape: Vec<usize> = array.shape().iter().map(|&d| d as usize).collect();
        assert_eq!(array.order(), npyz::Order::C, "{name}");
        let descr = array.dtype().descr();
        macro_rules! tensor {
            ($t:ty) => {
                Tensor::from_slice(&shape, &array.into_vec::<$t>().unwrap())
            };
        }
        // As scripts/sizes.py writes them.
        if let Some(name) = name.strip_suffix("@float16") {
            let bits = array.into_vec::<u16>().unwrap();
            let bytes: Vec<u8> = bits.into_iter().flat_map(u16::to_le_bytes).collect();
            arrays.insert(name.to_string(), Tensor::from_raw(DType::F16, &shape, bytes).unwrap());
            continue;
        }
        let tensor = match descr.trim_matches('\'') {
            "<f4" => tensor!(f32),
            "<f8" => tensor!(f64),
            "<i8" => tensor!(i64),
            "<i4" => tensor!(i32),
            "|i1" => tensor!(i8),
            "|u1" => tensor!(u8),
            "|b1" => Tensor::from_bools(&shape, &array.into_vec::<bool>().unwrap()),
            other => panic!("{name} is {other}"),
        };
        arrays.insert(name, tensor.unwrap());
    }
    arrays
}

/// The worst error of an output as a share of its largest value; infinite if exactly one of two elements is NaN or infinite.
pub fn worst_error(expected: &Tensor, actual: &Tensor) -> f64 {
    assert_eq!((expected.dtype(), expected.shape()), (actual.dtype(), actual.shape()));
    let (e, a) = (expected.to_f64().unwrap(), actual.to_f64().unwrap());
    // Probabilities that are all close to 0 are compared with a share of 1e-3: their logits are large, and exp has a relative
    // error.
    let largest = e.iter().filter(|v| v.is_finite()).fold(1e-3f64, |m, v| m.max(v.abs()));
    e.iter().zip(&a).map(|(&e, &a)| apart(e, a)).fold(0.0, f64::max) / largest
}

/// The root of the mean square of all errors, as a share of the root of the mean square of all values.
pub fn root_mean_square_error(expected: &Tensor, actual: &Tensor) -> f64 {
    let (e, a) = (expected.to_f64().unwrap(), actual.to_f64().unwrap());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let off = square(&mut e.iter().zip(&a).map(|(e, a)| e - a)) / square(&mut e.iter().copied());
    if off.is_nan() { f64::INFINITY } else { off.sqrt() }
}

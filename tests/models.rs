//! Real models against ONNX Runtime's outputs, on every adapter present and on the reference. `scripts/test.sh` makes the
//! data; the feature `test-data` says that they are there.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.
#![cfg(feature = "test-data")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use sardonyx::{DType, Device, DeviceOptions, Model, Select, Session, SessionOptions, Tensor, adapters};

/// How far a result may be off, as a share of the output's largest value. f32 sums in another order, and approximations
/// of exp and erf, over tens of layers; int8 weights multiply each rounding by their scale.
fn tolerance(model: &str) -> f64 {
    if model.contains("int8") { 1e-2 } else { 1e-3 }
}

fn arrays(path: &Path) -> BTreeMap<String, Tensor> {
    let mut archive = npyz::npz::NpzArchive::new(File::open(path).unwrap()).unwrap();
    let names: Vec<String> = archive.array_names().map(str::to_string).collect();
    let mut arrays = BTreeMap::new();
    for name in names {
        let array = archive.by_name(&name).unwrap().unwrap();
        let shape: Vec<usize> = array.shape().iter().map(|&d| d as usize).collect();
        let tensor = match array.dtype().descr().as_str() {
            "'<f4'" => Tensor::from_slice(&shape, &array.into_vec::<f32>().unwrap()),
            "'<i8'" => Tensor::from_slice(&shape, &array.into_vec::<i64>().unwrap()),
            other => panic!("{name} is {other}"),
        };
        arrays.insert(name, tensor.unwrap());
    }
    arrays
}

fn models() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models");
    let entries = folder.read_dir().expect("scripts/test.sh makes data/models");
    let mut models: Vec<PathBuf> =
        entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    models.sort();
    assert!(models.len() >= 11, "scripts/models.py makes 11 models");
    models
}

/// The worst error of an output as a share of its largest value.
fn error(expected: &Tensor, actual: &Tensor) -> f64 {
    assert_eq!((expected.dtype(), expected.shape()), (actual.dtype(), actual.shape()));
    assert_eq!(expected.dtype(), DType::F32);
    let (e, a) = (expected.to_vec::<f32>().unwrap(), actual.to_vec::<f32>().unwrap());
    // Probabilities that are all next to nothing are held to a share of 1e-3: their logits are large, and exp is relative.
    let largest = e.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    let worst = e
        .iter()
        .zip(&a)
        .fold(0f32, |m, (e, a)| if (e - a).is_nan() { f32::NAN } else { m.max((e - a).abs()) });
    f64::from(worst / largest)
}

fn check(device: &Device, failures: &mut Vec<String>) {
    for path in models() {
        let name = path.file_stem().unwrap().to_string_lossy().to_string();
        let arrays = arrays(&path.with_extension("npz"));
        let inputs: Vec<(&str, &Tensor)> =
            arrays.iter().filter_map(|(key, t)| Some((key.strip_prefix("in.")?, t))).collect();
        let model = Model::load(&path).unwrap();
        let outputs = Session::new(device, &model, SessionOptions::default()).and_then(|s| s.run(&inputs));
        match outputs {
            Err(error) => failures.push(format!("{name} on {}: {error}", device.name())),
            Ok(outputs) => {
                for (output, tensor) in outputs {
                    let off = error(&arrays[&format!("out.{output}")], &tensor);
                    if off.is_nan() || off > tolerance(&name) {
                        failures.push(format!("{name} on {}: {output} is off by {off:e}", device.name()));
                    }
                }
            }
        }
    }
}

#[test]
fn every_adapter_computes_what_onnx_runtime_does() {
    let mut failures = Vec::new();
    for adapter in adapters().into_iter().filter(|adapter| adapter.below_floor.is_none()) {
        check(&Device::new(DeviceOptions { select: Select::Name(adapter.name) }).unwrap(), &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_reference_computes_what_onnx_runtime_does() {
    let mut failures = Vec::new();
    check(&Device::reference(), &mut failures);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

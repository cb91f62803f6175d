//! Real models are compared with ONNX Runtime's outputs, on every adapter present and on the reference. `scripts/test.sh`
//! makes the data; the feature `test-data` says that they exist.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.
#![cfg(feature = "test-data")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sardonyx::{DType, Device, Model, Session, SessionOptions, Tensor};
use sardonyx_testing::arrays::{arrays, tolerance, worst_error};
use sardonyx_testing::devices;

fn models() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models");
    let entries = folder.read_dir().expect("scripts/test.sh makes data/models");
    let mut models: Vec<PathBuf> =
        entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    models.sort();
    assert!(models.len() >= 11, "scripts/models.py makes 11 models");
    models
}

fn models_by_name() -> BTreeMap<String, PathBuf> {
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().to_string();
    models().into_iter().map(|path| (name(&path), path)).collect()
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
                    let off = worst_error(&arrays[&format!("out.{output}")], &tensor);
                    if off > tolerance(&name) {
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
    for device in devices::each() {
        check(&device, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_reference_computes_what_onnx_runtime_does() {
    let mut failures = Vec::new();
    check(&Device::reference(), &mut failures);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Other widths and batches than those of the first plan, odd and even, with more and with fewer tokens.
#[test]
fn a_second_shape_of_a_model_makes_no_pipeline() {
    let image = |batch: usize, width: usize| vec![batch, 3, 48, width];
    let models: [(&str, [Vec<usize>; 4]); 4] = [
        ("ppocr6_rec_tiny", [image(1, 320), image(1, 160), image(4, 200), image(2, 84)]),
        ("minilm_l6_int8", [vec![3, 8], vec![1, 64], vec![2, 13], vec![1, 1]]),
        ("minilm_l6_int8", [vec![1, 1], vec![2, 13], vec![3, 8], vec![1, 30]]),
        // The model has no positions beyond.
        ("minilm_l6_int8", [vec![1, 512], vec![1, 1], vec![3, 77], vec![2, 100]]),
    ];
    let paths = models_by_name();
    for adapter in devices::usable() {
        for (name, shapes) in &models {
            let device = devices::open(&adapter.name);
            let model = Model::load(&paths[*name]).unwrap();
            let session = Session::new(&device, &model, SessionOptions::default()).unwrap();
            let mut pipelines = None;
            for shape in shapes {
                let count: usize = shape.iter().product();
                let tensor = |dtype| match dtype {
                    Some(DType::I64) => Tensor::from_slice(shape, &vec![1i64; count]).unwrap(),
                    _ => Tensor::from_slice(shape, &vec![0.5f32; count]).unwrap(),
                };
                let tensors: Vec<Tensor> = model.inputs().iter().map(|input| tensor(input.dtype)).collect();
                let names = model.inputs().iter().map(|input| input.name.as_str());
                let inputs: Vec<(&str, &Tensor)> = names.zip(&tensors).collect();
                session.prepare(&inputs).unwrap();
                let made = device.counters().pipelines;
                let first = *pipelines.get_or_insert(made);
                assert_eq!(made, first, "{name} for {shape:?} on {}", adapter.name);
            }
        }
    }
}

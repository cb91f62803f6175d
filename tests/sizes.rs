//! Real models at several sizes in one session, compared with ONNX Runtime's results, on every adapter present and with both
//! classes of kernels. What a plan keeps of earlier sizes must hold for its own sizes.
//!
//! `scripts/models.py` makes the data; the feature `test-data` says that they are there. `scripts/test-long.sh` runs the same
//! on any folder of models.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.
#![cfg(feature = "test-data")]

use std::collections::BTreeMap;
use std::env::var_os;
use std::path::{Path, PathBuf};

use sardonyx::internals::{Kernels, with_kernels};
use sardonyx::{Device, Error, Model, Session, SessionOptions, Tensor};
use sardonyx_testing::arrays::{arrays, root_mean_square_error, tolerance, worst_error};
use sardonyx_testing::devices;

/// Inputs and outputs by name.
type Arrays = BTreeMap<String, Tensor>;

/// A run at one size: the inputs, and the outputs with and without ONNX Runtime's optimisations, where these differ.
struct Size {
    inputs: Arrays,
    outputs: Arrays,
    plain: Arrays,
}

fn sizes(archive: &Path) -> Vec<Size> {
    let all = arrays(archive);
    let of = |kind: &str, k: usize| -> Arrays {
        let prefix = format!("{kind}{k}.");
        all.iter().filter_map(|(key, t)| Some((key.strip_prefix(&prefix)?.to_string(), t.clone()))).collect()
    };
    let size = |k| Size { inputs: of("in", k), outputs: of("out", k), plain: of("plain", k) };
    (0..).map(size).take_while(|size| !size.outputs.is_empty()).collect()
}

/// The result of a model on a device.
#[derive(Debug)]
enum Fared {
    Right,
    /// The device does not have some node, type or size of tensor.
    Refused(String),
    Wrong(Vec<String>),
}

/// Runs all sizes in one session, and then the first again.
fn run(device: &Device, model: &Path, sizes: &[Size]) -> Fared {
    let name = model.file_stem().unwrap().to_string_lossy().to_string();
    let model = Model::load(model).unwrap();
    let session = match Session::new(device, &model, SessionOptions::default()) {
        Ok(session) => session,
        Err(refused) => return Fared::Refused(refused.to_string()),
    };
    let (mut wrong, mut limited) = (Vec::new(), None);
    for (k, size) in sizes.iter().enumerate().chain([(0, &sizes[0])]) {
        let inputs: Vec<(&str, &Tensor)> = size.inputs.iter().map(|(name, t)| (name.as_str(), t)).collect();
        let shapes: Vec<&[usize]> = size.inputs.values().map(Tensor::shape).collect();
        let outputs = match session.run(&inputs) {
            Ok(outputs) => outputs,
            Err(refused @ Error::Unsupported(_)) if k == 0 => return Fared::Refused(refused.to_string()),
            Err(refused @ Error::Limit { .. }) => {
                limited = Some(refused.to_string());
                continue;
            }
            Err(error) => {
                wrong.push(format!("size {k} {shapes:?}: {error}"));
                continue;
            }
        };
        for (output, actual) in outputs {
            let expected = [size.outputs.get(&output), size.plain.get(&output)];
            let least = |error: fn(&Tensor, &Tensor) -> f64| {
                let errors = expected.into_iter().flatten().map(|expected| error(expected, &actual));
                errors.fold(f64::INFINITY, f64::min)
            };
            let off = least(worst_error);
            // `verify` finds no fault, only flips, in ppocr6_det_tiny_qdq, whose mean error is 0.06 in a fresh session too.
            let flips = name.contains("qdq") && least(root_mean_square_error) <= 0.1;
            if off > tolerance(&name) && !flips {
                wrong.push(format!("size {k} {shapes:?}: {output} is off by {off:.1e}"));
            }
        }
    }
    match limited {
        _ if !wrong.is_empty() => Fared::Wrong(wrong),
        Some(limited) => Fared::Refused(limited),
        None => Fared::Right,
    }
}

/// The device with its own kernels, and with those for GPUs if its own are others.
fn kernels(device: Device) -> Vec<(String, Device)> {
    let name = device.name();
    let other = with_kernels(devices::open(name.split(" (").next().unwrap()), Kernels::Gpu);
    vec![(name.clone(), device), (format!("{name}, kernels for GPUs"), other)]
}

/// Every model of `models` for which `archives` has sizes.
fn models(models: &Path, archives: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for entry in archives.read_dir().unwrap_or_else(|error| panic!("{}: {error}", archives.display())) {
        let archive = entry.unwrap().path();
        let name = archive.file_name().unwrap().to_string_lossy().to_string();
        if let Some(name) = name.strip_suffix(".sizes.npz") {
            let model = models.join(format!("{name}.onnx"));
            found.extend(model.exists().then_some((model, archive)));
        }
    }
    found.sort();
    found
}

/// Checks the models; returns what was refused.
fn check(models: &[(PathBuf, PathBuf)]) -> Vec<String> {
    let (mut refused, mut wrong) = (Vec::new(), Vec::new());
    for (label, device) in devices::each().into_iter().flat_map(kernels) {
        for (model, archive) in models {
            let sizes = sizes(archive);
            assert!(sizes.len() > 1, "{}", archive.display());
            let model_name = model.file_stem().unwrap().to_string_lossy().to_string();
            let fared = run(&device, model, &sizes);
            // This shows progress, with --nocapture.
            println!("{model_name} on {label}: {fared:?}");
            match fared {
                Fared::Right => {}
                Fared::Refused(why) => refused.push(format!("{model_name} on {label}: {why}")),
                Fared::Wrong(lines) => {
                    wrong.extend(lines.into_iter().map(|line| format!("{model_name} on {label}, {line}")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    refused
}

#[test]
fn sizes_of_one_session_are_what_onnx_runtime_computes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models");
    let models = models(&folder, &folder);
    assert!(
        models.len() >= 7,
        "scripts/models.py makes the sizes of 7 models, and {} are here",
        models.len()
    );
    assert_eq!(check(&models), [""; 0]);
}

/// `SARDONYX_SIZES` is a list of folders, separated by `:`, into which `scripts/sizes.py` has put archives. The models are in
/// the folders of `SARDONYX_MODELS`, in the same order.
#[test]
fn sizes_of_other_models_too() {
    let (Some(folders), Some(archives)) = (var_os("SARDONYX_MODELS"), var_os("SARDONYX_SIZES")) else {
        return;
    };
    let pairs = std::env::split_paths(&folders).zip(std::env::split_paths(&archives));
    let all: Vec<_> = pairs.flat_map(|(folder, archives)| models(&folder, &archives)).collect();
    assert!(!all.is_empty(), "no archive of scripts/sizes.py has a model");
    let refused = check(&all);
    println!("{} models at several sizes, {} refusals", all.len(), refused.len());
}

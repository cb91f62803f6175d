//! float64: computed by the device where it has it, by the host where not, and refused where only the device may compute.

use std::sync::Arc;

use crate::internals::cases::{Sizes, all_cases, compared};
use crate::internals::devices::each;
use crate::internals::random::Sketch;
use crate::ops::Attr;
use crate::ops::case::{self, Case, Tolerance};
use crate::{DType, Device, Error, Session, SessionOptions, Tensor};

/// The longest tensors of the cases that are run: most cases are small.
const LONGEST: usize = 5000;

/// A float64 function is off by a few units in the last place.
const TOLERANCE: Tolerance = Tolerance { relative: 1e-12, absolute: 1e-12 };

fn is_single(tensor: &Tensor) -> bool {
    tensor.dtype() == DType::F32
}

/// The case with float64 for float32; `None` without such tensors, or with long ones.
fn doubled(case: &Case) -> Option<Case> {
    let given = || case.inputs.iter().flatten();
    if !given().any(is_single) || given().any(|tensor| tensor.len() > LONGEST) {
        return None;
    }
    let double = |tensor: &Tensor| match is_single(tensor) {
        true => case::converted(tensor, DType::F64),
        false => tensor.clone(),
    };
    // Operators of ai.onnx.ml give float32, and some compute with it, as in ONNX Runtime.
    let tolerance = if case.domain == "ai.onnx.ml" { case.tolerance } else { TOLERANCE };
    let mut doubled = Case { tolerance, ..case.clone() };
    for tensor in doubled.inputs.iter_mut().flatten() {
        *tensor = double(tensor);
    }
    for (_, attribute) in &mut doubled.attributes {
        if let Attr::Tensor(tensor) = attribute {
            *tensor = double(tensor);
        }
    }
    Some(doubled)
}

/// The cases that the reference computes.
fn cases() -> Vec<Case> {
    let reference = Device::reference();
    let computed = |case: &Case| compared(case, &reference, Sizes::Fixed).is_ok();
    all_cases().iter().filter_map(doubled).filter(computed).collect()
}

#[test]
fn every_case_in_float64() {
    let cases = cases();
    for device in each() {
        let (mut right, mut refused, mut wrong) = (0, 0, Vec::new());
        for case in &cases {
            match compared(case, &device, Sizes::Fixed) {
                Ok(None) => right += 1,
                Err(Error::Unsupported(_)) => refused += 1,
                other => wrong.push(format!("{}: {other:?}", case.name)),
            }
        }
        assert!(wrong.is_empty(), "on {}: {wrong:#?}", device.name());
        let computes = device.gpu().is_some_and(|gpu| gpu.target.computes_f64);
        assert!(
            if computes { right > 800 } else { right < 100 },
            "{right} right, {refused} refused on {}",
            device.name()
        );
    }
}

/// No device needs to compute with what it only passes on.
#[test]
fn an_input_that_is_an_output() {
    let mut sketch = Sketch::default();
    let x = sketch.input("x");
    sketch.graph.outputs.push(x);
    sketch.graph.values[x.index()].dtype = Some(DType::F64);
    let graph = Arc::new(sketch.graph);
    for device in each() {
        let session = Session::of_graph(&device, graph.clone(), SessionOptions::default(), vec![]).unwrap();
        for size in [1, 3, 70_000] {
            let given = case::converted(&case::random(&[size]), DType::F64);
            let outputs = session.run(&[("x", &given)]).unwrap();
            assert_eq!(outputs["x"], given, "on {}", device.name());
        }
    }
}

/// A device that is not strict refuses nothing that the reference computes.
#[test]
fn the_host_computes_what_the_device_does_not() {
    for device in each().into_iter().map(|device| device.with_strict(false)) {
        let outcome = |case: &Case| match compared(case, &device, Sizes::Fixed) {
            Ok(None) => None,
            other => Some(format!("{}: {other:?}", case.name)),
        };
        let wrong: Vec<String> = cases().iter().filter_map(outcome).collect();
        assert!(wrong.is_empty(), "on {}: {wrong:#?}", device.name());
    }
}

//! Every dtype that ONNX lets an operator take: planning serves it or says that it does not, and every shader is valid.

use std::collections::HashSet;

use super::{parsed, targets, validated};
use crate::facts::InputFact;
use crate::internals::cases::{all_cases, planner, wanted};
use crate::ops::case::{Case, converted, graph_of_case};
use crate::ops::row_of;
use crate::{DType, Error, Tensor};

/// The dtypes by which the inputs of a case may be called, without those that only one dtype has.
fn parameters(case: &Case) -> Vec<(&'static str, Vec<DType>)> {
    let signature = row_of(&case.domain, &case.op_type).and_then(|row| row.types.at(case.opset)).unwrap();
    let names = signature.parameters.iter().flat_map(|parameter| parameter.names);
    let taken = |name: &&'static str| {
        let takes = |&dtype: &DType| signature.takes(name, dtype).is_some_and(|since| since <= case.opset);
        (*name, DType::all().filter(takes).collect())
    };
    names.map(taken).collect()
}

/// The case with this dtype for all inputs whose dtype has this name.
fn with_dtype(case: &Case, name: &str, dtype: DType) -> Case {
    let signature = row_of(&case.domain, &case.op_type).and_then(|row| row.types.at(case.opset)).unwrap();
    let mut case = case.clone();
    for (i, input) in case.inputs.iter_mut().enumerate() {
        if let (Some(tensor), true) = (input.as_ref(), signature.inputs.name(i) == Some(name)) {
            *input = Some(of_dtype(tensor, dtype));
        }
    }
    case
}

/// The tensor converted, or one of zeros where the reference does not convert it.
fn of_dtype(tensor: &Tensor, dtype: DType) -> Tensor {
    let converted = converted(tensor, dtype);
    if converted.dtype() == dtype {
        return converted;
    }
    if dtype == DType::String {
        return Tensor::from_strings(tensor.shape(), vec!["a".into(); tensor.len()]).unwrap();
    }
    let bytes = dtype.bytes_of(tensor.len()).unwrap();
    Tensor::from_raw(dtype, tensor.shape(), vec![0; bytes]).unwrap()
}

#[test]
fn legal_dtypes_are_served_or_refused_while_planning() {
    let (mut seen, mut wrong, mut served, mut refused) = (HashSet::new(), Vec::new(), 0, 0);
    for case in all_cases().iter().filter(|case| wanted(case)) {
        for (name, dtypes) in parameters(case) {
            for dtype in dtypes {
                let case = with_dtype(case, name, dtype);
                let Ok(graph) = graph_of_case(&case) else { continue };
                let given = super::inputs_of(&case).into_iter().map(InputFact::from);
                let given: Vec<InputFact> = given.collect();
                for target in targets().iter().filter(|target| target.subgroup == 0) {
                    let plan = match planner(&graph, target).plan(&given) {
                        Ok(plan) => plan,
                        Err(Error::Node { .. } | Error::Unsupported(_)) => {
                            refused += 1;
                            continue;
                        }
                        Err(error) => {
                            wrong.push(format!("{} of {dtype}: {error}", case.name));
                            continue;
                        }
                    };
                    served += 1;
                    for call in &plan.program.calls {
                        let variant = plan.program.variant(call);
                        let text = variant.module(target);
                        if !seen.insert(variant) {
                            continue;
                        }
                        let capabilities = naga::back::spv::supported_capabilities();
                        let module = parsed(&text).and_then(|module| validated(&module, capabilities));
                        if let Err(reason) = module {
                            let label = call.kernel.spec().label();
                            wrong.push(format!("{} of {name} = {dtype}, {label}: {reason}", case.name));
                        }
                    }
                }
            }
        }
    }
    let shown = wrong[..wrong.len().min(60)].join("\n");
    assert!(wrong.is_empty(), "{} of {served} plans ({refused} refused):\n{shown}", wrong.len());
    assert!(served > 10_000 || std::env::var("SARDONYX_CASES").is_ok(), "{served}, {refused}");
    println!("{served} plans, {refused} refused, {} shaders", seen.len());
}

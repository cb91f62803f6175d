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
    let signature =
        row_of(&case.domain, &case.op_type, case.opset).and_then(|row| row.types.at(case.opset)).unwrap();
    let names = signature.parameters.iter().flat_map(|parameter| parameter.names);
    let taken = |name: &&'static str| {
        let takes = |&dtype: &DType| signature.takes(name, dtype).is_some_and(|since| since <= case.opset);
        (*name, DType::all().filter(takes).collect())
    };
    names.map(taken).collect()
}

/// The case with this dtype for all inputs whose dtype has this name.
fn with_dtype(case: &Case, name: &str, dtype: DType) -> Case {
    let signature =
        row_of(&case.domain, &case.op_type, case.opset).and_then(|row| row.types.at(case.opset)).unwrap();
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

/// Cases with a legal dtype for one name, or with other ones than the case's own for two names at once; each with what was
/// changed.
fn variants(case: &Case) -> Vec<(String, Case)> {
    let parameters = parameters(case);
    let one = |&(name, dtype): &(&str, DType)| (format!("{name} = {dtype}"), with_dtype(case, name, dtype));
    let pairs = |(name, dtypes): &(&'static str, Vec<DType>)| -> Vec<_> {
        dtypes.iter().map(|&dtype| (*name, dtype)).collect()
    };
    let all: Vec<Vec<(&str, DType)>> = parameters.iter().map(pairs).collect();
    let mut variants: Vec<(String, Case)> = all.iter().flatten().map(one).collect();
    let signature =
        row_of(&case.domain, &case.op_type, case.opset).and_then(|row| row.types.at(case.opset)).unwrap();
    let own = |name: &str| {
        let inputs = case.inputs.iter().enumerate();
        let named = inputs.filter(|(i, _)| signature.inputs.name(*i) == Some(name));
        named.filter_map(|(_, input)| input.as_ref()).map(Tensor::dtype).next()
    };
    let changes = |&&(name, dtype): &&(&str, DType)| own(name).is_some_and(|own| own != dtype);
    for (i, first) in all.iter().enumerate() {
        for first in first.iter().filter(changes) {
            for second in all[i + 1..].iter().flatten().filter(changes) {
                let (what, both) = one(first);
                let both = with_dtype(&both, second.0, second.1);
                variants.push((format!("{what}, {} = {}", second.0, second.1), both));
            }
        }
    }
    variants
}

#[test]
fn legal_dtypes_are_served_or_refused_while_planning() {
    let (mut seen, mut wrong, mut served, mut refused) = (HashSet::new(), Vec::new(), 0, 0);
    for case in all_cases().iter().filter(|case| wanted(case)) {
        for (what, case) in variants(case) {
            let Ok(graph) = graph_of_case(&case) else { continue };
            let given = super::inputs_of(&case).into_iter().map(InputFact::from);
            let given: Vec<InputFact> = given.collect();
            for target in targets().iter().filter(|target| target.subgroup == 0) {
                let plan = match planner(&graph, target).plan(&given) {
                    Ok(plan) => plan,
                    Err(Error::Node { .. } | Error::TooWide { .. } | Error::Unsupported(_)) => {
                        refused += 1;
                        continue;
                    }
                    Err(error) => {
                        wrong.push(format!("{} of {what}: {error}", case.name));
                        continue;
                    }
                };
                served += 1;
                for call in &plan.program.calls {
                    let variant = plan.program.variant(call);
                    if seen.contains(&variant) {
                        continue;
                    }
                    let capabilities = naga::back::spv::supported_capabilities();
                    let text = variant.module(target);
                    let module = parsed(&text).and_then(|module| validated(&module, capabilities));
                    seen.insert(variant);
                    if let Err(reason) = module {
                        let label = call.kernel.spec().label();
                        wrong.push(format!("{} of {what}, {label}: {reason}", case.name));
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

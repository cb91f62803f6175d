//! A number and the same number plus a power of two never give one plan: a conversion that cuts off the upper bits would make
//! them equal, and the device would then compute something else than the model says.

use crate::facts::InputFact;
use crate::internals::cases::{all_cases, inputs_of, planner, wanted};
use crate::kernels::Target;
use crate::ops::Attr;
use crate::ops::case::{Case, graph_of_case};
use crate::plan::Program;
use crate::{DType, Interrupt, Tensor, reference};

/// One number of a case: of an attribute, by its name and its place in a list; or of an integer input.
#[derive(Clone, Debug)]
enum PlaceOfNumber {
    Attribute(String, usize),
    Element(usize, usize),
}

/// The most numbers of one attribute or input that are tried.
const TRIED: usize = 3;

fn numbers(case: &Case) -> Vec<PlaceOfNumber> {
    let mut places = Vec::new();
    for (name, attr) in &case.attributes {
        let count = match attr {
            Attr::Int(_) => 1,
            Attr::Ints(values) => values.len().min(TRIED),
            _ => 0,
        };
        places.extend((0..count).map(|i| PlaceOfNumber::Attribute(name.clone(), i)));
    }
    let integers = |tensor: &Tensor| tensor.dtype() == DType::I64 && tensor.len() <= 8;
    for (i, tensor) in case.inputs.iter().enumerate() {
        if let Some(tensor) = tensor.as_ref().filter(|tensor| integers(tensor)) {
            places.extend((0..tensor.len().min(TRIED)).map(|at| PlaceOfNumber::Element(i, at)));
        }
    }
    places
}

/// The case with `by` added to the number.
fn moved(case: &Case, place: &PlaceOfNumber, by: i64) -> Option<Case> {
    let mut case = case.clone();
    match place {
        PlaceOfNumber::Attribute(name, i) => {
            let (_, attr) = case.attributes.iter_mut().find(|(own, _)| own == name)?;
            match attr {
                Attr::Int(value) => *value = value.checked_add(by)?,
                Attr::Ints(values) => values[*i] = values[*i].checked_add(by)?,
                _ => return None,
            }
        }
        PlaceOfNumber::Element(i, at) => {
            let tensor = case.inputs[*i].as_ref()?;
            let mut values: Vec<i64> = tensor.to_vec().ok()?;
            values[*at] = values[*at].checked_add(by)?;
            case.inputs[*i] = Some(Tensor::from_slice(tensor.shape(), &values).ok()?);
        }
    }
    Some(case)
}

/// What a device would do: `None` if the case is refused.
fn program(case: &Case) -> Option<Program> {
    let graph = graph_of_case(case).ok()?;
    let given: Vec<InputFact> = inputs_of(case).into_iter().map(InputFact::from).collect();
    Some(planner(&graph, &Target::FLOOR).plan(&given).ok()?.program)
}

/// Whether the model means the same: a slice that ends after the last element may end anywhere after it.
fn same_values(a: &Case, b: &Case) -> bool {
    let run = |case: &Case| {
        let graph = graph_of_case(case).ok()?;
        let values = reference::run(&graph, &inputs_of(case), false, &Interrupt::new()).ok()?;
        reference::outputs(&graph, &values).ok()
    };
    run(a).is_some_and(|values| Some(values) == run(b))
}

#[test]
fn no_conversion_cuts_a_number_off() {
    let mut wrong = Vec::new();
    let mut refused = 0;
    let mut compared = 0;
    for case in all_cases().iter().filter(|case| wanted(case)) {
        let Some(own) = program(case) else { continue };
        for place in numbers(case) {
            for by in [1 << 16, 1 << 32] {
                let Some(other) = moved(case, &place, by) else { continue };
                let Some(program) = program(&other) else {
                    refused += 1;
                    continue;
                };
                compared += 1;
                // An index of a tensor that only a run reads is no part of a plan.
                let text = |program: &Program| format!("{:?} {:?}", program.calls, program.outputs);
                let (a, b) = (text(&own), text(&program));
                let data = matches!(place, PlaceOfNumber::Element(i, _) if !is_operand(case, i));
                if !data && a == b && own.constants == program.constants && !same_values(case, &other) {
                    wrong.push(format!("{}: {place:?} + {by}", case.name));
                }
            }
        }
    }
    println!("{compared} plans compared, {refused} refused");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 0 && refused > 0);
}

/// Whether planning reads the value of input `i`.
fn is_operand(case: &Case, i: usize) -> bool {
    graph_of_case(case).is_ok_and(|graph| graph.nodes[0].op.operator().shape_operands().contains(&i))
}

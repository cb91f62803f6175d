//! Every case with bent attributes, shape operands, shapes and dtypes: whatever a model says, the answer is a plan or an
//! error. No device is needed.
//!
//! `SARDONYX_BENT=500` bends each case 500 times.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::facts::InputFact;
use crate::internals::cases::{inputs_of, listed_cases, planner, wanted};
use crate::internals::open::Dice;
use crate::kernels::{Class, Target};
use crate::ops::Attr;
use crate::ops::case::{Case, graph_of_case};
use crate::reference;
use crate::{DType, Tensor};

/// Numbers on which arithmetic with sizes, axes and offsets fails easily.
const NUMBERS: [i64; 16] = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    7,
    -7,
    64,
    1 << 16,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 32,
    1 << 62,
    i64::MAX,
    i64::MIN,
];
/// With larger numbers the reference rightly takes long.
const MODEST: i64 = 64;

/// Bends one thing. Returns what it was, and whether all its numbers are modest.
fn bend(case: &mut Case, dice: &mut Dice) -> Option<(String, bool)> {
    let number = NUMBERS[dice.below(NUMBERS.len())];
    let modest = number.abs_diff(0) <= MODEST as u64;
    let attributes = case.attributes.len();
    let which = dice.below(attributes + 2 * case.inputs.len());
    if which < attributes {
        let (name, attr) = &mut case.attributes[which];
        match attr {
            Attr::Int(value) => *value = number,
            Attr::Float(value) => *value = [f32::NAN, f32::INFINITY, 0.0, -1.0, 1e30][dice.below(5)],
            Attr::Ints(values) => match (dice.below(4), values.is_empty()) {
                (0, _) => values.push(number),
                (1, false) => drop(values.pop()),
                (_, false) => {
                    let at = dice.below(values.len());
                    values[at] = number;
                }
                _ => return None,
            },
            Attr::String(text) => *text = "NONSENSE".into(),
            _ => return None,
        }
        return Some((format!("{name} = {attr:?}"), modest));
    }
    let i = (which - attributes) / 2;
    let tensor = case.inputs.get(i)?.clone()?;
    let integers = tensor.dtype() == DType::I64 && !tensor.is_empty();
    if integers && dice.below(2) == 0 {
        let mut values: Vec<i64> = tensor.to_vec().ok()?;
        let at = dice.below(values.len());
        values[at] = number;
        case.inputs[i] = Some(Tensor::from_slice(tensor.shape(), &values).ok()?);
        return Some((format!("input {i} holds {number} at {at}"), modest));
    }
    let mut shape = tensor.shape().to_vec();
    match (dice.below(5), shape.is_empty()) {
        (0, _) => shape.insert(dice.below(shape.len() + 1), 1 + dice.below(2)),
        (1, false) => drop(shape.remove(dice.below(shape.len()))),
        (2, false) => {
            let at = dice.below(shape.len());
            shape[at] = 0;
        }
        (3, false) => {
            let at = dice.below(shape.len());
            shape[at] += 1;
        }
        _ => {
            let all = [
                DType::F32,
                DType::F16,
                DType::F64,
                DType::I64,
                DType::I32,
                DType::U8,
                DType::Bool,
                DType::I4,
            ];
            let dtype = all[dice.below(all.len())];
            let bytes = dtype.bytes_of(tensor.len())?;
            case.inputs[i] = Tensor::from_raw(dtype, &shape, vec![0; bytes]).ok();
            return Some((format!("input {i} is {dtype}"), true));
        }
    }
    let count: usize = shape.iter().product();
    let bytes: Vec<u8> =
        tensor.bytes().iter().copied().cycle().take(tensor.dtype().bytes_of(count)?).collect();
    if bytes.len() != tensor.dtype().bytes_of(count)? {
        return None;
    }
    case.inputs[i] = Some(Tensor::from_raw(tensor.dtype(), &shape, bytes).ok()?);
    Some((format!("input {i} has shape {shape:?}"), true))
}

/// Plans the case for both classes, and runs it on the reference if that cannot take long.
fn plan_and_run(case: &Case, modest: bool) -> crate::Result<()> {
    let (graph, inputs) = (graph_of_case(case)?, inputs_of(case));
    let given: Vec<InputFact> = inputs.iter().cloned().map(InputFact::from).collect();
    let facts = planner(&graph, &Target::FLOOR).facts(&given)?;
    let counts = graph.outputs.iter().filter_map(|&id| facts.get(id)).map(|fact| fact.count());
    let small = counts.sum::<usize>() <= 1 << 16;
    if modest && small {
        reference::run(&graph, &inputs, false, &crate::Interrupt::new())?;
    }
    for class in [Class::Cpu, Class::Gpu] {
        let target = Target { class, subgroup: 8, ..Target::FLOOR };
        planner(&graph, &target).plan(&given)?;
    }
    Ok(())
}

/// The case with each of its numbers in turn the largest and the smallest that a model can have.
fn extremes(case: &Case) -> Vec<(Case, String)> {
    let mut all = Vec::new();
    for (i, (name, attr)) in case.attributes.iter().enumerate() {
        let extreme = |number: i64| match attr {
            Attr::Int(_) => Some(Attr::Int(number)),
            Attr::Ints(values) if !values.is_empty() => Some(Attr::Ints(vec![number; values.len()])),
            _ => None,
        };
        for attr in [i64::MAX, i64::MIN].into_iter().filter_map(extreme) {
            let what = format!("{name} = {attr:?}");
            let mut bent = case.clone();
            bent.attributes[i].1 = attr;
            all.push((bent, what));
        }
    }
    all
}

#[test]
fn bent_cases_never_panic() {
    let times = std::env::var("SARDONYX_BENT").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let mut panics = Vec::new();
    let mut outcomes = [0, 0];
    for (n, case) in listed_cases().into_iter().enumerate().filter(|(_, case)| wanted(case)) {
        let size: usize = case.inputs.iter().flatten().map(Tensor::len).sum();
        for (bent, what) in extremes(&case) {
            match catch_unwind(AssertUnwindSafe(|| plan_and_run(&bent, false))) {
                Ok(outcome) => outcomes[usize::from(outcome.is_err())] += 1,
                Err(_) => panics.push(format!("{}, where {what}", case.name)),
            }
        }
        for time in 0..times {
            let mut dice = Dice((n * 1_000_003 + time) as u64);
            let mut bent = case.clone();
            let Some((what, modest)) = bend(&mut bent, &mut dice) else { continue };
            if times > 6 {
                println!("{}, where {what}", case.name);
            }
            match catch_unwind(AssertUnwindSafe(|| plan_and_run(&bent, modest && size < 4096))) {
                Ok(outcome) => outcomes[usize::from(outcome.is_err())] += 1,
                Err(_) => panics.push(format!("{}, where {what}", case.name)),
            }
        }
    }
    println!("{} plans, {} errors, {} panics", outcomes[0], outcomes[1], panics.len());
    assert!(panics.is_empty(), "{}", panics.join("\n"));
}

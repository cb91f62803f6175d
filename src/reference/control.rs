//! Control flow on the reference: subgraphs are run by plain recursion.

use std::sync::Arc;

use super::{Held, Run, refused};
use crate::array::{Array, HostValue};
use crate::budget::Work;
use crate::error::{Why, refuse};
use crate::graph::{Value, ValueId};
use crate::ops::branch::If;
use crate::ops::repeat::{Loop, of_no_iterations};
use crate::ops::scan::{Scan, Slices};
use crate::ops::sequence_map::SequenceMap;
use crate::ops::{Graph, Node, Op, axes, product};
use crate::{DType, Error, Result, heap};

/// The outputs of a node that runs subgraphs; `None` for any other node.
pub(super) fn outputs(node: &Node, inputs: &[Held], run: &Run) -> Result<Option<Vec<HostValue>>> {
    let outputs = match &*node.op {
        Op::If(branches) => branch(branches, inputs, run),
        Op::Loop(repeat) => repeated(repeat, inputs, run),
        Op::Scan(scan) => scanned(scan, inputs, run),
        Op::SequenceMap(map) => mapped(map, inputs, run),
        _ => return Ok(None),
    };
    outputs.map(Some).map_err(|failure| match failure {
        Refusing::Node(why) => refused(node, inputs, why),
        Refusing::Body(error) => error,
    })
}

/// Why a node has no outputs: for a reason of its own, or for one of a node in its subgraph.
enum Refusing {
    Node(Why),
    Body(Error),
}

impl From<Why> for Refusing {
    fn from(why: Why) -> Refusing {
        Refusing::Node(why)
    }
}

impl From<Error> for Refusing {
    fn from(error: Error) -> Refusing {
        Refusing::Body(error)
    }
}

fn branch(branches: &If, inputs: &[Held], run: &Run) -> Result<Vec<HostValue>, Refusing> {
    let condition = flag(inputs, 0)?.unwrap_or(false);
    let (body, captures) = branches.chosen(condition, inputs);
    Ok(body_outputs(body, captures.to_vec(), run)?)
}

fn repeated(repeat: &Loop, inputs: &[Held], run: &Run) -> Result<Vec<HostValue>, Refusing> {
    let (own, captures) = inputs.split_at(repeat.own_inputs);
    let (count, mut goes_on) = (number(own, 0)?, flag(own, 1)?.unwrap_or(true));
    let mut carried = own.get(2..).unwrap_or_default().to_vec();
    let mut lists = vec![Vec::new(); repeat.body.outputs.len() - 1 - repeat.carried];
    let mut iteration = 0;
    while goes_on && count.is_none_or(|count| iteration < count) {
        run.interrupt.check()?;
        let number = Array::int(DType::I64, &[], vec![i128::from(iteration)]);
        let own = [number, Array::bools(&[], vec![true])].map(|array| Some(array.into()));
        let given = own.into_iter().chain(carried).chain(captures.iter().cloned()).collect();
        let mut outputs = body_outputs(&repeat.body, given, run)?;
        goes_on = flag(&[outputs.first().cloned()], 0)?.unwrap_or(true);
        let of_lists = outputs.split_off(1 + repeat.carried);
        lists.iter_mut().zip(of_lists).for_each(|(list, element)| list.push(element));
        carried = outputs.into_iter().skip(1).map(Some).collect();
        iteration += 1;
    }
    let mut outputs: Vec<HostValue> = carried.into_iter().flatten().collect();
    if outputs.len() != repeat.carried {
        return Err(Refusing::Node(Why::Refused("a carried value has no initial value".into())));
    }
    let declared = repeat.body.outputs.iter().skip(1 + repeat.carried);
    for (list, id) in lists.iter().zip(declared) {
        outputs.push(stacked(list, repeat.body.value(*id), Slices { axis: 0, reverse: false })?.into());
    }
    Ok(outputs)
}

fn scanned(scan: &Scan, inputs: &[Held], run: &Run) -> Result<Vec<HostValue>, Refusing> {
    let (carried, rest) = scan.taken(inputs).split_at(scan.carried);
    let (sources, captures) = rest.split_at(scan.reads.len());
    let mut carried = carried.to_vec();
    let sources: Vec<(Arc<Array>, usize, bool)> = sources
        .iter()
        .zip(&scan.reads)
        .map(|(source, reads)| {
            let Some(source) = source else { refuse!("an input is missing") };
            let source = source.array()?;
            let axis = axes::axis(reads.axis, source.shape.len())?;
            Ok((source, axis, reads.reverse))
        })
        .collect::<Result<_, Why>>()?;
    let lengths: Vec<usize> = sources.iter().map(|(source, axis, _)| source.shape[*axis]).collect();
    let length = lengths.first().copied().unwrap_or(0);
    if lengths.iter().any(|other| *other != length) {
        return Err(Refusing::Node(Why::Refused(format!("the inputs have {lengths:?} slices"))));
    }
    let mut lists = vec![Vec::new(); scan.writes.len()];
    for iteration in 0..length {
        run.interrupt.check()?;
        let mut given = std::mem::take(&mut carried);
        for (source, axis, reverse) in &sources {
            let at = if *reverse { length - 1 - iteration } else { iteration };
            given.push(Some(slice(source, *axis, at).into()));
        }
        given.extend(captures.iter().cloned());
        let mut outputs = body_outputs(&scan.body, given, run)?;
        let of_lists = outputs.split_off(scan.carried);
        lists.iter_mut().zip(of_lists).for_each(|(list, element)| list.push(element));
        carried = outputs.into_iter().map(Some).collect();
    }
    let mut outputs: Vec<HostValue> = carried.into_iter().flatten().collect();
    let declared = scan.body.outputs.iter().skip(scan.carried);
    for ((list, writes), id) in lists.iter().zip(&scan.writes).zip(declared) {
        outputs.push(stacked(list, scan.body.value(*id), *writes)?.into());
    }
    Ok(outputs)
}

fn mapped(map: &SequenceMap, inputs: &[Held], run: &Run) -> Result<Vec<HostValue>, Refusing> {
    let (own, captures) = inputs.split_at(map.own_inputs);
    let length = map.length(own)?;
    let mut lists = vec![Vec::new(); map.body.outputs.len()];
    for iteration in 0..length {
        run.interrupt.check()?;
        let mut given = map.given(own, iteration)?;
        given.extend(captures.iter().cloned());
        let outputs = body_outputs(&map.body, given, run)?;
        lists.iter_mut().zip(outputs).for_each(|(list, element)| list.push(element));
    }
    Ok(lists.into_iter().map(HostValue::from).collect())
}

/// The outputs of a subgraph on its inputs and captures.
fn body_outputs(body: &Graph, given: Vec<Held>, run: &Run) -> Result<Vec<HostValue>> {
    let ids: Vec<ValueId> = body.inputs.iter().chain(&body.captures).copied().collect();
    let given = given.into_iter().zip(ids).map(|(value, id)| {
        value.map(|value| (id, value)).ok_or_else(|| {
            Error::invalid(format!("the subgraph '{}' lacks '{}'", body.name, body.value(id).name))
        })
    });
    let values = run.graph(body, given.collect::<Result<_>>()?, false)?;
    let output = |id: &ValueId| {
        let lost = || Error::invalid(format!("nothing makes '{}'", body.value(*id).name));
        values.value(*id).cloned().ok_or_else(lost)
    };
    body.outputs.iter().map(output).collect()
}

/// Input `i`, a bool of one element.
fn flag(inputs: &[Held], i: usize) -> Result<Option<bool>, Why> {
    let Some(Some(value)) = inputs.get(i) else { return Ok(None) };
    let array = value.array()?;
    match (array.dtype, array.ints()?) {
        (DType::Bool, [flag]) => Ok(Some(*flag != 0)),
        (dtype, _) => refuse!("a condition is {dtype}{:?}, and must be one bool", array.shape),
    }
}

/// Input `i`, an integer of one element.
fn number(inputs: &[Held], i: usize) -> Result<Option<i64>, Why> {
    let Some(Some(value)) = inputs.get(i) else { return Ok(None) };
    let array = value.array()?;
    match array.i64s()?[..] {
        [number] => Ok(Some(number)),
        _ => refuse!("the number of iterations has shape {:?}, and must be one integer", array.shape),
    }
}

/// The slice at `at` along an axis, without that axis.
fn slice(array: &Array, axis: usize, at: usize) -> Array {
    let mut shape = array.shape.clone();
    let size = shape.remove(axis);
    let inner = product(&shape[axis..]).max(1);
    array.gather(&shape, |i| Some((i / inner * size + at) * inner + i % inner), None)
}

/// The elements of a list along a new axis.
fn stacked(list: &[HostValue], declared: &Value, Slices { axis, reverse }: Slices) -> Result<Array, Why> {
    let list: Vec<Arc<Array>> = list.iter().map(HostValue::array).collect::<Result<_, _>>()?;
    let Some(first) = list.first() else {
        let (dtype, shape) = of_no_iterations(declared, axis)?;
        return Ok(empty(dtype, &shape));
    };
    if let Some(other) = list.iter().find(|other| other.shape != first.shape || other.dtype != first.dtype) {
        let (a, b) = (&first.shape, &other.shape);
        refuse!("the iterations give '{}' different shapes: {a:?} and {b:?}", declared.name);
    }
    let mut parts: Vec<&Array> = list.iter().map(Arc::as_ref).collect();
    if reverse {
        parts.reverse();
    }
    let axis = axes::axis(axis, first.shape.len() + 1)?;
    let (count, each, inner) = (parts.len(), first.len(), product(&first.shape[axis..]).max(1));
    let mut shape = first.shape.clone();
    shape.insert(axis, count);
    // The parts one after the other, and then in their order.
    heap::ask("a list of iterations", Work::array(first.dtype, &shape).bytes.saturating_mul(2))?;
    let joined = Array::joined(&parts)?;
    let source = |i: usize| {
        let (outer, within) = (i / (count * inner), i % (count * inner));
        Some(within / inner * each + outer * inner + within % inner)
    };
    Ok(joined.gather(&shape, source, None))
}

fn empty(dtype: DType, shape: &[usize]) -> Array {
    match dtype {
        DType::String => Array::text(shape, Vec::new()),
        dtype if dtype.is_float() => Array::float(dtype, shape, Vec::new()),
        dtype => Array::int(dtype, shape, Vec::new()),
    }
}

//! `HostOperator`: an operator on containers. It moves tensors, and reads their elements only where it must.

use super::{HostValue, Kind, Why, Work, refuse};

/// What an operator computes of values that may be sequences, optionals or maps.
pub(crate) trait HostOperator {
    /// What the outputs are.
    fn kinds(&self, inputs: &[Option<&Kind>]) -> Vec<Kind>;

    /// The outputs.
    fn apply(&self, inputs: &[Option<&HostValue>]) -> Result<Vec<HostValue>, Why>;

    /// Whether `apply` reads the elements of input `i`, or of the tensors in it.
    fn reads_elements(&self, i: usize) -> bool;

    /// What one `apply` costs at most. The default holds for an operator that only moves tensors.
    fn work(&self, inputs: &[Option<&HostValue>]) -> Result<Work, Why> {
        Ok(of_tensors(inputs))
    }
}

/// The work of a container with all tensors of the inputs.
pub(crate) fn of_tensors(inputs: &[Option<&HostValue>]) -> Work {
    let tensors = inputs.iter().flatten().map(|value| value.tensors() + 1).sum();
    Work::default().temporary(tensors, size_of::<HostValue>())
}

/// The elements of input `i`, which is a sequence.
pub(crate) fn sequence<'a>(inputs: &[Option<&'a HostValue>], i: usize) -> Result<&'a [HostValue], Why> {
    let input = super::required(inputs, i)?;
    match input.sequence() {
        Some(elements) => Ok(elements),
        None => refuse!("input {i} is a {}, and must be a sequence", input.kind()),
    }
}

/// Input `i`, an integer of one element.
pub(crate) fn integer(inputs: &[Option<&HostValue>], i: usize) -> Result<Option<i64>, Why> {
    let Some(input) = super::optional(inputs, i) else { return Ok(None) };
    let array = input.array()?;
    match array.i64s()?[..] {
        [number] => Ok(Some(number)),
        _ => refuse!("input {i} has shape {:?}, and must be one integer", array.shape),
    }
}

/// What the elements of a sequence of this kind are.
pub(crate) fn element_kind(kind: Option<&Kind>) -> Kind {
    match kind {
        Some(Kind::Sequence(element)) => element.as_ref().clone(),
        _ => Kind::Tensor(None),
    }
}

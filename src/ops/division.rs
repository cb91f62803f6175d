//! How an operator is computed in parts, where its tensors are larger than what a device binds at once.

use super::Maps;
use crate::facts::Fact;

/// The parts into which an operator's work can be divided along one axis of its outputs. They are counted in units: a part has
/// a range of these.
///
/// An example: a convolution with 4 groups makes 32 channels of 8. Along axis 1, its units are the groups: a unit takes 2 channels
/// of the input, and 8 filters of the weights, and makes 8 channels. A part of 3 units is a convolution with 3 groups.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Division {
    pub(crate) units: usize,
    /// How many elements along the axis a unit has in each output.
    pub(crate) of_output: usize,
    /// What a part takes of each input; what stands for none is taken whole.
    pub(crate) shares: Vec<InputShare>,
    /// The attribute that tells the number of units.
    pub(crate) counted_by: Option<&'static str>,
    /// The input that lists the sizes of output 0.
    pub(crate) sizes: Option<usize>,
}

/// What a part takes of an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum InputShare {
    Whole,
    /// `step` elements along the axis for each unit.
    Along {
        axis: usize,
        step: usize,
    },
    /// As `Whole` in the first part; the other parts do not have the input. The results of all parts are added up.
    First,
}

impl InputShare {
    /// The elements along `axis` that belong to those of the output.
    pub(crate) fn along(axis: usize) -> InputShare {
        InputShare::Along { axis, step: 1 }
    }
}

impl Division {
    /// A unit is one element of the output along the axis, which has `size` of them.
    pub(crate) fn of(size: usize, shares: Vec<InputShare>) -> Division {
        Division { units: size, of_output: 1, shares, counted_by: None, sizes: None }
    }

    /// The division of an operator whose inputs broadcast to its outputs.
    pub(crate) fn of_broadcast(axis: usize, inputs: &[Option<&Fact>], output: &Fact) -> Option<Division> {
        let size = *output.shape.get(axis)?;
        let share = |input: &Option<&Fact>| {
            let Some(fact) = input else { return InputShare::Whole };
            let own = (axis + fact.rank()).checked_sub(output.rank());
            match own.filter(|&own| fact.shape[own] == size && size > 1) {
                Some(own) => InputShare::along(own),
                None => InputShare::Whole,
            }
        };
        Some(Division::of(size, inputs.iter().map(share).collect()))
    }

    /// The division of an operator that maps single elements.
    pub(crate) fn of_maps(
        maps: Maps,
        axis: usize,
        inputs: &[Option<&Fact>],
        outputs: &[Fact],
    ) -> Option<Division> {
        let output = outputs.first()?;
        match maps {
            Maps::Nothing => None,
            // What is not the same for all elements may differ along the axis.
            Maps::First | Maps::FirstByAxis
                if inputs.iter().skip(1).flatten().any(|fact| fact.count() > 1) =>
            {
                None
            }
            Maps::First | Maps::FirstByAxis => Division::of_first(axis, inputs, output, |_| true),
            Maps::Any => Division::of_broadcast(axis, inputs, output),
        }
    }

    /// The division of an operator that computes what lies along the axes that `is_free` accepts apart. Its other inputs are
    /// taken whole.
    pub(crate) fn of_first(
        axis: usize,
        inputs: &[Option<&Fact>],
        output: &Fact,
        is_free: impl Fn(usize) -> bool,
    ) -> Option<Division> {
        let (x, size) = (inputs.first().copied().flatten()?, *output.shape.get(axis)?);
        let free = is_free(axis) && x.shape.get(axis) == Some(&size);
        free.then(|| Division::of(size, vec![InputShare::along(axis)]))
    }
}

/// The elements of `shape` for each index along `axis`, of those that lie inside of it.
pub(crate) fn inner(shape: &[usize], axis: usize) -> usize {
    super::product(shape.iter().skip(axis + 1))
}

/// Whether ranges along the axis are ranges in memory.
pub(crate) fn is_outermost(shape: &[usize], axis: usize) -> bool {
    shape.iter().take(axis).all(|&size| size == 1)
}

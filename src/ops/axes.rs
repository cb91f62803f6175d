//! Axes: a negative axis counts from the end; an axis that is out of range, or named twice, is refused.

use super::{Array, Fact, Why, optional, refuse};

/// `axis` of a tensor of rank `rank`, as an index.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, Why> {
    let signed = rank as i64;
    match axis {
        a if (0..signed).contains(&a) => Ok(a as usize),
        a if (-signed..0).contains(&a) => Ok((a + signed) as usize),
        _ => refuse!("axis {axis} is out of range for rank {rank}"),
    }
}

/// Distinct axes of a tensor of rank `rank`, as indices in the given order.
pub(crate) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, Why> {
    let mut found = Vec::with_capacity(list.len());
    for &a in list {
        let a = axis(a, rank)?;
        if found.contains(&a) {
            refuse!("axis {a} is named twice");
        }
        found.push(a);
    }
    Ok(found)
}

/// A list of integers, which is an attribute in older opsets and an input in newer ones.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum IntList {
    Absent,
    Attribute(Vec<i64>),
    Input(usize),
}

impl IntList {
    /// The list, from facts.
    pub(crate) fn of_facts(&self, inputs: &[Option<&Fact>]) -> Result<Option<Vec<i64>>, Why> {
        match self {
            IntList::Absent => Ok(None),
            IntList::Attribute(list) => Ok(Some(list.clone())),
            IntList::Input(i) => optional(inputs, *i).map(|fact| fact.i64s()).transpose(),
        }
    }

    /// The list, from arrays.
    pub(crate) fn of_arrays(&self, inputs: &[Option<&Array>]) -> Result<Option<Vec<i64>>, Why> {
        match self {
            IntList::Absent => Ok(None),
            IntList::Attribute(list) => Ok(Some(list.clone())),
            IntList::Input(i) => optional(inputs, *i).map(|array| array.i64s()).transpose(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_axes_count_from_the_back() {
        assert_eq!(axes(&[-1, 0], 3), Ok(vec![2, 0]));
        assert!(axes(&[3], 3).is_err());
        assert!(axes(&[0, -3], 3).is_err());
        assert!(axis(0, 0).is_err());
    }
}

//! Fused code: an expression with its operands, and how each operand's element is found from the result's.

use std::collections::BTreeSet;

use super::expr::{Expr, Scalar};
use super::{Slot, element};

/// How an operand's element index follows from the result's linear index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Index {
    /// No operand in memory: the value that the surrounding kernel has just computed.
    Anchor,
    /// The same index.
    Linear,
    /// Always element 0.
    Single,
    /// `(index / inner) % length`: a vector along one axis.
    Axis,
    /// The row, respectively column, of the surrounding matrix kernel.
    Row,
    Column,
    /// Any broadcast, over this many collapsed dimensions.
    Strided(u8),
}

impl Index {
    /// Names of the parameters that the index computation reads, for an operand called `name`.
    fn params(self, name: &str) -> Vec<String> {
        match self {
            Index::Axis => vec![format!("{name}_inner"), format!("{name}_length")],
            Index::Strided(rank) => {
                (0..rank).flat_map(|d| [format!("{name}_size{d}"), format!("{name}_stride{d}")]).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// One operand of fused code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Operand {
    pub(crate) scalar: Scalar,
    pub(crate) index: Index,
}

/// An expression over operands; part of a kernel's cache key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fused {
    pub(crate) expr: Expr,
    pub(crate) operands: Vec<Operand>,
}

/// How an operand of shape `from` is indexed in a result of shape `to`, and the parameters of that.
pub(crate) fn index_of(from: &[usize], to: &[usize]) -> (Index, Vec<u32>) {
    // (size, stride) per dimension of the result, outermost first; dimensions of size 1 dropped, mergeable ones merged.
    let skip = to.len() - from.len().min(to.len());
    let mut dims: Vec<(usize, usize)> = Vec::new();
    let mut stride = 1;
    for (d, &size) in to.iter().enumerate().rev() {
        let own = if d >= skip { from[d - skip] } else { 1 };
        let step = if own == 1 { 0 } else { stride };
        stride *= own;
        if size == 1 {
            continue;
        }
        match dims.last_mut() {
            Some((s, st)) if (step == 0 && *st == 0) || (*st != 0 && step == *s * *st) => *s *= size,
            _ => dims.push((size, step)),
        }
    }
    dims.reverse();
    let words = |list: &[usize]| list.iter().map(|&v| v as u32).collect();
    match dims[..] {
        [] | [(_, 0)] => (Index::Single, vec![]),
        [(_, 1)] => (Index::Linear, vec![]),
        [(length, 1), (inner, 0)] | [(_, 0), (length, 1), (inner, 0)] => {
            (Index::Axis, words(&[inner, length]))
        }
        [(_, 0), (length, 1)] => (Index::Axis, words(&[1, length])),
        _ => {
            let flat: Vec<usize> = dims.iter().flat_map(|&(size, step)| [size, step]).collect();
            (Index::Strided(dims.len() as u8), words(&flat))
        }
    }
}

impl Fused {
    /// Operands that lie in memory, with their place in `operands`.
    pub(crate) fn bound(&self) -> impl Iterator<Item = (usize, &Operand)> {
        self.operands.iter().enumerate().filter(|(_, o)| o.index != Index::Anchor)
    }

    /// The bindings of the operands that lie in memory, for a kernel whose epilogue this is.
    pub(crate) fn slots(&self, prefix: &str) -> Vec<Slot> {
        self.bound().map(|(i, o)| Slot::read(format!("{prefix}{i}"), element(o.scalar, false))).collect()
    }

    /// The register type of the one output of an epilogue.
    pub(crate) fn output(&self) -> Scalar {
        self.expr.output_scalars().first().copied().unwrap_or(Scalar::F32)
    }

    /// Names of the parameters, in the order in which a call gives them: first each operand's, then the expression's.
    pub(crate) fn params(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> =
            self.bound().flat_map(|(i, o)| o.index.params(&format!("{prefix}{i}"))).collect();
        names.extend((0..self.expr.param_count()).map(|i| format!("{prefix}_c{i}")));
        names
    }

    /// WGSL functions that find an operand's index where that takes more than an expression.
    pub(crate) fn index_functions(&self, prefix: &str) -> String {
        let mut text = String::new();
        for (i, operand) in self.bound() {
            if let Index::Strided(rank) = operand.index {
                text += &format!("fn {prefix}{i}_at(o: u32) -> u32 {{\n  var i = o;\n  var at = 0u;\n");
                for d in (0..rank).rev() {
                    let part = if d == 0 { "i".into() } else { format!("(i % p.{prefix}{i}_size{d})") };
                    text += &format!("  at += {part} * p.{prefix}{i}_stride{d};\n");
                    if d > 0 {
                        text += &format!("  i /= p.{prefix}{i}_size{d};\n");
                    }
                }
                text += "  return at;\n}\n";
            }
        }
        text
    }

    /// The WGSL index of operand `i` for the result's element `o`.
    pub(crate) fn index(&self, prefix: &str, i: usize, o: &str) -> String {
        match self.operands[i].index {
            Index::Anchor | Index::Linear => o.into(),
            Index::Single => "0u".into(),
            Index::Axis => format!("({o} / p.{prefix}{i}_inner) % p.{prefix}{i}_length"),
            Index::Row => "row".into(),
            Index::Column => "column".into(),
            Index::Strided(_) => format!("{prefix}{i}_at({o})"),
        }
    }

    /// A WGSL function `name(value, o, row, column)` that computes the one output for the result's element `o`, where
    /// the anchor's value is `value`, with the index functions it needs.
    pub(crate) fn function(&self, name: &str, prefix: &str, used: &mut BTreeSet<&'static str>) -> String {
        let load = |i: usize| match self.operands[i].index {
            Index::Anchor => "value".into(),
            _ => format!("{prefix}{i}[{}]", self.index(prefix, i, "o")),
        };
        let (lines, outputs) = self.expr.wgsl(load, |i| format!("p.{prefix}_c{i}"), "o", used);
        let anchor =
            self.operands.iter().find(|o| o.index == Index::Anchor).map_or("f32", |o| o.scalar.word());
        let result = self.expr.output_scalars().first().map_or("f32", |s| s.word());
        let output = outputs.first().cloned().unwrap_or_default();
        format!(
            "{}fn {name}(value: {anchor}, o: u32, row: u32, column: u32) -> {result} {{\n  {}\n  return {output};\n}}\n",
            self.index_functions(prefix),
            lines.join("\n  ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasts_collapse() {
        assert_eq!(index_of(&[2, 3], &[2, 3]).0, Index::Linear);
        assert_eq!(index_of(&[1, 1], &[2, 3]).0, Index::Single);
        assert_eq!(index_of(&[], &[]).0, Index::Single);
        assert_eq!(index_of(&[3], &[2, 3]), (Index::Axis, vec![1, 3]));
        assert_eq!(index_of(&[1, 5, 1, 1], &[2, 5, 4, 4]), (Index::Axis, vec![16, 5]));
        assert_eq!(index_of(&[2, 5, 1, 1], &[2, 5, 4, 4]), (Index::Axis, vec![16, 10]));
        assert_eq!(index_of(&[2, 1, 4], &[2, 5, 4]), (Index::Strided(3), vec![2, 4, 5, 0, 4, 1]));
    }
}

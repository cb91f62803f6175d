//! Fused code: an expression with its operands, and how the index of each operand's element follows from the index of the
//! result's.

use std::collections::BTreeSet;

use super::expr::{Expr, Scalar};
use super::{Slot, element};
use crate::kernels::Access;

/// How the index of an operand's element follows from the linear index of the result's element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Index {
    /// No index: the operand is the value that the surrounding kernel has just computed.
    Anchor,
    /// The result's index.
    Linear,
    /// Always element 0.
    Single,
    /// No index: the code says which element it reads.
    Table,
    /// `(index / inner) % length`. A bias of 5 channels on `[2, 5, 4, 4]` has `inner` 16 and `length` 5.
    Axis,
    /// The row, or the column, of the surrounding matrix kernel.
    Row,
    Column,
    /// A base of 0 and any strides, over this number of dimensions, after merging.
    Strided(u8),
    /// Like `Strided`, from a base on.
    Offset(u8),
}

/// The number of dimensions of an access. Its sizes are at least 2, and their product is below 2^30, so there are fewer than 30.
fn rank(access: &Access) -> u8 {
    u8::try_from(access.dims.len()).unwrap_or(u8::MAX)
}

impl Index {
    /// The simplest index for elements that lie as `access` says.
    pub(crate) fn of(access: &Access) -> Index {
        match access.dims[..] {
            _ if access.base != 0 => Index::Offset(rank(access)),
            [] | [(_, 0)] => Index::Single,
            [(_, 1)] => Index::Linear,
            [(_, 1), (_, 0)] | [(_, 0), (_, 1), (_, 0)] | [(_, 0), (_, 1)] => Index::Axis,
            _ => Index::Strided(rank(access)),
        }
    }

    /// The simplest index that serves everything that this one serves, and `access` too.
    pub(crate) fn widened(self, access: &Access) -> Index {
        let (here, rank) = (Index::of(access), rank(access));
        match (self, here) {
            // Every index finds a single element.
            _ if access.base == 0 && rank == 0 => self,
            (Index::Offset(before), _) => Index::Offset(before.max(rank)),
            (Index::Strided(before), Index::Offset(_)) => Index::Offset(before.max(rank)),
            (Index::Strided(before), _) => Index::Strided(before.max(rank)),
            // An index along one axis has at most three dimensions.
            (Index::Axis, Index::Strided(_)) => Index::Strided(rank.max(3)),
            (Index::Axis, Index::Offset(_)) => Index::Offset(rank.max(3)),
            (_, Index::Strided(_) | Index::Offset(_)) => here,
            (before, here) if before == here => here,
            _ => Index::Axis,
        }
    }

    /// Whether this index, with parameters from [`Index::words`], finds elements that lie as `access` says.
    pub(crate) fn serves(self, access: &Access) -> bool {
        let (here, rank) = (Index::of(access), access.dims.len());
        match self {
            // There is only element 0.
            _ if access.base == 0 && rank == 0 => true,
            Index::Axis => matches!(here, Index::Axis | Index::Linear | Index::Single),
            Index::Strided(most) => access.base == 0 && rank <= usize::from(most),
            Index::Offset(most) => rank <= usize::from(most),
            other => other == here,
        }
    }

    /// The parameters with which this index finds elements that lie as `access` says. It must serve them.
    pub(crate) fn words(self, access: &Access) -> Vec<u32> {
        let strided = |rank: u8| {
            let before = usize::from(rank).saturating_sub(access.dims.len());
            let dims = std::iter::repeat_n((1, 0), before).chain(access.dims.iter().copied());
            dims.flat_map(|(size, stride)| [size as u32, stride as u32]).collect::<Vec<u32>>()
        };
        match self {
            Index::Axis => match access.dims[..] {
                [(length, 1)] | [(_, 0), (length, 1)] => vec![1, length as u32],
                [(length, 1), (inner, 0)] | [(_, 0), (length, 1), (inner, 0)] => {
                    vec![inner as u32, length as u32]
                }
                _ => vec![1, 1],
            },
            Index::Strided(rank) => strided(rank),
            Index::Offset(rank) => [vec![access.base as u32], strided(rank)].concat(),
            _ => Vec::new(),
        }
    }

    /// Names of the parameters of the index, for an operand called `name`.
    pub(crate) fn params(self, name: &str) -> Vec<String> {
        match self {
            Index::Axis => vec![format!("{name}_inner"), format!("{name}_length")],
            Index::Offset(rank) => {
                let base = format!("{name}_base");
                std::iter::once(base).chain(Index::Strided(rank).params(name)).collect()
            }
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

/// An expression over operands. It is part of a kernel's cache key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fused {
    pub(crate) expr: Expr,
    pub(crate) operands: Vec<Operand>,
}

impl Fused {
    /// The operands that lie in memory, with their numbers in `operands`.
    pub(crate) fn bound(&self) -> impl Iterator<Item = (usize, &Operand)> {
        self.operands.iter().enumerate().filter(|(_, o)| o.index != Index::Anchor)
    }

    /// The bindings of the operands that lie in memory, where this is a kernel's epilogue.
    pub(crate) fn slots(&self, prefix: &str) -> Vec<Slot> {
        self.bound().map(|(i, o)| Slot::read(format!("{prefix}{i}"), element(o.scalar, false))).collect()
    }

    /// The register type of an epilogue's only output.
    pub(crate) fn output(&self) -> Scalar {
        self.expr.output_scalars().first().copied().unwrap_or(Scalar::F32)
    }

    /// The register type of the anchor.
    fn anchor(&self) -> Scalar {
        self.operands.iter().find(|o| o.index == Index::Anchor).map_or(Scalar::F32, |o| o.scalar)
    }

    /// Names of the parameters, in the order of a call's params: each operand's, then the expression's.
    pub(crate) fn params(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> =
            self.bound().flat_map(|(i, o)| o.index.params(&format!("{prefix}{i}"))).collect();
        names.extend((0..self.expr.param_count()).map(|i| format!("{prefix}_c{i}")));
        names
    }

    /// WGSL functions that compute operands' indices, for those that take more than an expression.
    pub(crate) fn index_functions(&self, prefix: &str) -> String {
        let mut text = String::new();
        for (i, operand) in self.bound() {
            if let Index::Strided(rank) | Index::Offset(rank) = operand.index {
                let base = match operand.index {
                    Index::Offset(_) => format!("p.{prefix}{i}_base"),
                    _ => "0u".into(),
                };
                text += &format!("fn {prefix}{i}_at(o: u32) -> u32 {{\n  var i = o;\n  var at = {base};\n");
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
            Index::Single | Index::Table => "0u".into(),
            Index::Axis => format!("({o} / p.{prefix}{i}_inner) % p.{prefix}{i}_length"),
            Index::Row => "row".into(),
            Index::Column => "column".into(),
            Index::Strided(_) | Index::Offset(_) => format!("{prefix}{i}_at({o})"),
        }
    }

    /// A WGSL function `name(value, o, row, column)` that computes the only output for element `o` of the result, where
    /// `value` is the anchor's value; and the index functions that it calls.
    pub(crate) fn function(&self, name: &str, prefix: &str, used: &mut BTreeSet<&'static str>) -> String {
        let load = |i: usize, place: Option<&str>| match (self.operands[i].index, place) {
            (_, Some(place)) => format!("{prefix}{i}[{place}]"),
            (Index::Anchor, _) => "value".into(),
            _ => format!("{prefix}{i}[{}]", self.index(prefix, i, "o")),
        };
        let (lines, outputs) = self.expr.wgsl(load, |i| format!("p.{prefix}_c{i}"), ("o", "true"), used);
        let (anchor, result) = (self.anchor().word(), self.output().word());
        let output = outputs.first().cloned().unwrap_or_default();
        format!(
            "{}fn {name}(value: {anchor}, o: u32, row: u32, column: u32) -> {result} {{\n  {}\n  return {output};\n}}\n",
            self.index_functions(prefix),
            lines.join("\n  ")
        )
    }
}

/// Fused code at the beginning of a kernel, if the kernel has any. The kernel reads an operand's elements through it: each is
/// computed from the element that lies in memory in its place, the anchor. In `MatMul(x * s, w)` the product's kernel loads
/// `x` (the anchor) and computes `x * s`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Prologue(Option<(&'static str, Fused)>);

impl Prologue {
    /// The prologue of the operand with this binding.
    pub(crate) fn of(operand: &'static str, fused: Fused) -> Prologue {
        Prologue(Some((operand, fused)))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The binding of the operand that has the prologue; "" if none has.
    pub(crate) fn operand(&self) -> &'static str {
        self.0.as_ref().map_or("", |(operand, _)| operand)
    }

    /// The bindings of the prologue's other operands.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.0.iter().flat_map(|(_, fused)| fused.slots("q")).collect()
    }

    /// Names of the parameters, in the order of a call's params.
    pub(crate) fn params(&self) -> Vec<String> {
        self.0.iter().flat_map(|(_, fused)| fused.params("q")).collect()
    }

    /// The register type of the elements in memory of binding `name`, if the kernel computes with `scalar`.
    pub(crate) fn scalar(&self, name: &str, scalar: Scalar) -> Scalar {
        match &self.0 {
            Some((operand, fused)) if *operand == name => fused.anchor(),
            _ => scalar,
        }
    }

    /// A WGSL function `prologue(value, o, row, column)` for element `o`, which lies in line `row` of memory, at `column`.
    pub(crate) fn function(&self, used: &mut BTreeSet<&'static str>) -> String {
        self.0.iter().map(|(_, fused)| fused.function("prologue", "q", used)).collect()
    }

    /// A WGSL function `load_NAME(i, row, column)` of element `i` of the binding. Where the binding holds vectors, it returns
    /// the four elements of line `row` from `column` on, which the function `prologue_vector(v, o, row, column)` computes from
    /// a vector of memory.
    pub(crate) fn load_function(&self, vectors: bool) -> String {
        let Some((operand, fused)) = &self.0 else { return String::new() };
        let (word, anchor) = (fused.output().word(), fused.anchor().word());
        let load = |result: &str, value: &str| {
            format!(
                "fn load_{operand}(i: u32, row: u32, column: u32) -> {result} {{\n  return {value};\n}}\n"
            )
        };
        if !vectors {
            return load(word, &format!("prologue({operand}[i], i, row, column)"));
        }
        let elements = [0, 1, 2, 3].map(|u| format!("prologue(v[{u}], o + {u}u, row, column + {u}u)"));
        let elements = elements.join(", ");
        let arguments = format!("v: vec4<{anchor}>, o: u32, row: u32, column: u32");
        format!(
            "fn prologue_vector({arguments}) -> vec4<{word}> {{\n  return vec4<{word}>({elements});\n}}\n"
        ) + &load(&format!("vec4<{word}>"), &format!("prologue_vector({operand}[i], i * 4u, row, column)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasts_collapse() {
        let index = |from: &[usize], to: &[usize]| {
            let access = Access::broadcast(from, to);
            (Index::of(&access), Index::of(&access).words(&access))
        };
        assert_eq!(index(&[2, 3], &[2, 3]).0, Index::Linear);
        assert_eq!(index(&[1, 1], &[2, 3]).0, Index::Single);
        assert_eq!(index(&[], &[]).0, Index::Single);
        assert_eq!(index(&[3], &[2, 3]), (Index::Axis, vec![1, 3]));
        assert_eq!(index(&[1, 5, 1, 1], &[2, 5, 4, 4]), (Index::Axis, vec![16, 5]));
        assert_eq!(index(&[2, 5, 1, 1], &[2, 5, 4, 4]), (Index::Axis, vec![16, 10]));
        assert_eq!(index(&[2, 1, 4], &[2, 5, 4]), (Index::Strided(3), vec![2, 4, 5, 0, 4, 1]));
    }

    #[test]
    fn a_widened_index_finds_the_elements_of_both() {
        let shapes: [(&[usize], &[usize]); 9] = [
            (&[2, 3, 4], &[2, 3, 4]),
            (&[1], &[2, 3, 4]),
            (&[4], &[2, 3, 4]),
            (&[3, 1], &[2, 3, 4]),
            (&[2, 1, 1], &[2, 3, 4]),
            (&[2, 1, 4], &[2, 3, 4]),
            (&[1, 3, 1], &[1, 3, 1]),
            (&[2, 1, 3, 1, 2], &[2, 4, 3, 5, 2]),
            (&[], &[1]),
        ];
        for (a, b) in shapes.iter().flat_map(|a| shapes.iter().map(move |b| (a, b))) {
            let (a, b) = (Access::broadcast(a.0, a.1), Access::broadcast(b.0, b.1));
            let widened = Index::of(&a).widened(&b);
            for access in [a, b] {
                assert!(widened.serves(&access), "{widened:?} for {access:?}");
                let count: usize = access.dims.iter().map(|dim| dim.0).product();
                let plain = Index::Strided(rank(&access));
                for o in 0..count as u32 {
                    let expected = plain.at(o, &plain.words(&access));
                    assert_eq!(
                        widened.at(o, &widened.words(&access)),
                        expected,
                        "{widened:?} for {access:?}"
                    );
                }
            }
        }
    }

    impl Index {
        /// What the shader computes.
        fn at(self, o: u32, words: &[u32]) -> u32 {
            let strided = |dims: &[u32]| {
                let (mut i, mut at) = (o, 0);
                for dim in dims.chunks(2).rev() {
                    at += i % dim[0] * dim[1];
                    i /= dim[0];
                }
                at
            };
            match self {
                Index::Linear => o,
                Index::Axis => o / words[0] % words[1],
                Index::Strided(_) => strided(words),
                Index::Offset(_) => words[0] + strided(&words[1..]),
                _ => 0,
            }
        }
    }
}

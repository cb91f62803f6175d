//! The dtypes that an operator takes: ONNX's type constraints, by opset version, in a short notation.
//!
//! `types![T T1 -> T; T: FLOATS INDICES@12, T1: NUMBERS]` is an operator with two inputs and an output. The first input and the
//! output have one dtype `T`: a type of `FLOATS`, or from opset 12 on one of `INDICES`. A name without constraints, such as
//! `int64`, is a dtype. `[T] -> T` takes any number of inputs of one dtype, `[T "mixed"] -> T` of several. `A | 12: B` is `A` before opset 12, and `B` from it
//! on. Inputs that the operator got in a later version are listed all the same; its parser knows the version.

use smallvec::SmallVec;

use super::{Why, refuse};
use crate::facts::Fact;
use crate::{DType, Kind};

/// Dtypes, each with the opset version in which ONNX got it.
type TypeClass = &'static [(DType, i64)];

/// What is no tensor has no dtype.
pub(crate) const CONTAINERS: TypeClass = &[];

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $($dtype:ident $(@ $since:literal)?)+;)*) => {
        $($(#[$doc])* pub(crate) const $name: TypeClass = &[$((DType::$dtype, 0 $(+ $since)?)),+];)*
    };
}

classes! {
    FLOATS = F16 F32 F64;
    SIGNED = I8 I16 I32 I64;
    UNSIGNED = U8 U16 U32 U64;
    INTS = I8 I16 I32 I64 U8 U16 U32 U64;
    /// Whole numbers of at least 32 bits.
    WORDS = I32 I64 U32 U64;
    INDICES = I32 I64;
    BYTES = I8 U8;
    NUMBERS = F16 F32 F64 I8 I16 I32 I64 U8 U16 U32 U64;
    /// All dtypes of ONNX's first version.
    ALL = F16 F32 F64 I8 I16 I32 I64 U8 U16 U32 U64 Bool String C64 C128;
    FLOAT8 = F8E4M3FN F8E4M3FNUZ F8E5M2 F8E5M2FNUZ;
    FLOAT6 = F6E2M3 F6E3M2;
    INT4 = U4 I4;
    INT2 = U2 I2;
    /// The dtypes of 8 bits and fewer that came later.
    SMALL = F8E4M3FN@19 F8E4M3FNUZ@19 F8E5M2@19 F8E5M2FNUZ@19 U4@21 I4@21 F4E2M1@23 F8E8M0@24 U2@25 I2@25;
    BF16 = BF16;
    BOOL = Bool;
    STRING = String;
    COMPLEX = C64 C128;
    F8E4M3FN = F8E4M3FN;
    F8E8M0 = F8E8M0;
    F4E2M1 = F4E2M1;
    F16 = F16;
    F32 = F32;
    F64 = F64;
    I16 = I16;
    I32 = I32;
    U16 = U16;
    U8 = U8;
    U64 = U64;
    U32 = U32;
    I8 = I8;
    I64 = I64;
}

/// The dtypes of an operator's inputs and outputs in all its versions, the oldest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Types(pub(crate) &'static [TypeSignature]);

/// The dtypes of an operator's inputs and outputs, from one opset version on.
#[derive(Debug)]
pub(crate) struct TypeSignature {
    pub(crate) since: i64,
    pub(crate) inputs: Operands,
    pub(crate) outputs: Operands,
    pub(crate) parameters: &'static [TypeParameter],
}

/// The names of the inputs' or the outputs' dtypes.
#[derive(Debug)]
pub(crate) struct Operands {
    pub(crate) listed: &'static [&'static str],
    /// The dtype of any number of operands after those; there are none if this is empty.
    pub(crate) rest: &'static [&'static str],
    /// Not empty if the dtype of each of those may be another.
    pub(crate) mixed: &'static [&'static str],
}

/// What the dtypes of these names may be.
#[derive(Debug)]
pub(crate) struct TypeParameter {
    pub(crate) names: &'static [&'static str],
    /// Classes, each with the opset version from which on the operator takes it.
    pub(crate) classes: &'static [(TypeClass, i64)],
}

macro_rules! types {
    ($($($since:literal:)? $($input:ident)* $([$rest:ident $($mixed:literal)?])? -> $($output:ident)* $([$more:ident])?
        $(; $($($name:ident)+: $($class:ident $(@ $from:literal)?)+),+)?)|+) => {
        $crate::ops::types::Types(&[$($crate::ops::types::TypeSignature {
            since: 0 $(+ $since)?,
            inputs: $crate::ops::types::Operands {
                listed: &[$(stringify!($input)),*],
                rest: &[$(stringify!($rest))?],
                mixed: &[$($($mixed)?)?],
            },
            outputs: $crate::ops::types::Operands {
                listed: &[$(stringify!($output)),*],
                rest: &[$(stringify!($more))?],
                mixed: &[],
            },
            parameters: &[$($($crate::ops::types::TypeParameter {
                names: &[$(stringify!($name)),+],
                classes: &[$(($crate::ops::types::$class, 0 $(+ $from)?)),+],
            }),+)?],
        }),+])
    };
}
pub(crate) use types;

impl Operands {
    /// Whether the dtype of operand `i` is independent of all others of the same name.
    pub(crate) fn is_mixed(&self, i: usize) -> bool {
        i >= self.listed.len() && !self.mixed.is_empty()
    }

    /// The name of operand `i`'s dtype.
    pub(crate) fn name(&self, i: usize) -> Option<&'static str> {
        self.listed.get(i).or(self.rest.first()).copied()
    }
}

impl Types {
    /// The signature in this opset version.
    pub(crate) fn at(&self, opset: i64) -> Option<&'static TypeSignature> {
        self.0.iter().rev().find(|signature| signature.since <= opset).or(self.0.first())
    }
}

/// The dtypes that a node's inputs and outputs have so far, by the name of the dtype, each with the operand that has it.
#[derive(Debug)]
pub(crate) struct BoundTypes {
    signature: &'static TypeSignature,
    opset: i64,
    dtypes: SmallVec<[(&'static str, DType, &'static str, usize); 4]>,
}

impl TypeSignature {
    /// The opset version from which on the dtype of this name may be `dtype`; `None` if it never may.
    pub(crate) fn takes(&self, name: &str, dtype: DType) -> Option<i64> {
        let Some(parameter) = self.parameters.iter().find(|parameter| parameter.names.contains(&name)) else {
            return (name == dtype.name()).then_some(0);
        };
        let since = |&(class, from): &(TypeClass, i64)| {
            class.iter().find(|known| known.0 == dtype).map(|known| known.1.max(from))
        };
        parameter.classes.iter().filter_map(since).min()
    }

    /// What that number of outputs are, where an input or the operator alone says their dtype.
    pub(crate) fn kinds(&self, inputs: &[Option<&Kind>], outputs: usize) -> Vec<Kind> {
        let of_name = |name: &str| {
            let taken = inputs.iter().enumerate().filter(|(i, _)| self.inputs.name(*i) == Some(name));
            let mut known = taken.filter_map(|(i, kind)| kind.filter(|_| !self.inputs.is_mixed(i)));
            known.find(|kind| **kind != Kind::Tensor(None)).cloned()
        };
        let only = |name: &str| {
            let mut taken = DType::all().filter(|dtype| self.takes(name, *dtype).is_some());
            taken.next().filter(|_| taken.next().is_none())
        };
        let kind = |name: &str| of_name(name).unwrap_or_else(|| Kind::Tensor(only(name)));
        (0..outputs).map(|i| self.outputs.name(i).map_or(Kind::Tensor(None), kind)).collect()
    }

    /// Refuses inputs of dtypes that the operator does not take.
    pub(crate) fn bind(&'static self, opset: i64, inputs: &[Option<&Fact>]) -> Result<BoundTypes, Why> {
        let mut bound = BoundTypes { signature: self, opset, dtypes: SmallVec::new() };
        for (i, input) in inputs.iter().enumerate() {
            let Some(input) = input else { continue };
            match self.inputs.name(i) {
                Some(name) if self.inputs.is_mixed(i) => bound.check(("input", i), name, input.dtype)?,
                Some(name) => bound.bind(("input", i), name, input.dtype)?,
                None => refuse!("has input {i}, and the operator takes {}", self.inputs.listed.len()),
            }
        }
        Ok(bound)
    }
}

impl BoundTypes {
    /// Refuses outputs of dtypes that the operator does not give. An attribute decides these, such as `to` of `Cast`.
    pub(crate) fn outputs(mut self, outputs: &[Fact]) -> Result<(), Why> {
        let signature = self.signature;
        for (i, output) in outputs.iter().enumerate() {
            if let Some(name) = signature.outputs.name(i) {
                self.bind(("output", i), name, output.dtype)?;
            }
        }
        Ok(())
    }

    fn bind(
        &mut self,
        (side, i): (&'static str, usize),
        name: &'static str,
        dtype: DType,
    ) -> Result<(), Why> {
        if let Some(&(_, other, other_side, j)) = self.dtypes.iter().find(|bound| bound.0 == name) {
            if other != dtype {
                refuse!(
                    "{side} {i} is {dtype}, and must have the dtype of {other_side} {j}, which is {other}; convert \
                     one of them with a Cast"
                );
            }
            return Ok(());
        }
        self.check((side, i), name, dtype)?;
        self.dtypes.push((name, dtype, side, i));
        Ok(())
    }

    /// Refuses a dtype that the name does not stand for.
    fn check(&self, (side, i): (&str, usize), name: &str, dtype: DType) -> Result<(), Why> {
        match self.signature.takes(name, dtype) {
            Some(since) if since <= self.opset => Ok(()),
            Some(since) => {
                refuse!(
                    "{side} {i} is {dtype}, which the operator takes from opset {since} on; {}",
                    self.text(name)
                )
            }
            None => refuse!("{side} {i} is {dtype}; {}", self.text(name)),
        }
    }

    /// What the dtype of this name may be, and what to do.
    fn text(&self, name: &str) -> String {
        let since = |dtype: &DType| self.signature.takes(name, *dtype);
        let taken = DType::all().filter(|dtype| since(dtype).is_some_and(|since| since <= self.opset));
        let names: Vec<&str> = taken.map(DType::name).collect();
        format!("it may be {}: convert it with a Cast", names.join(", "))
    }
}

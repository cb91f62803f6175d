//! Scalar expressions: the instructions by which fused code computes one element.
//!
//! Pointwise operators append instructions to a [`Builder`]. The instructions are part of a kernel's spec, so that two chains
//! of the same operators share a pipeline. Constants are parameters of the call, so that another constant makes no other
//! pipeline.

mod kept;
mod wide;

use std::collections::BTreeSet;

pub(crate) use wide::{BY_ZERO, Beyond, Wide};

use super::Storage;
use crate::shape::Shape;
use crate::shape::product;
use crate::small::{Format, RoundMode};
use crate::{DType, Tensor};

/// The type of a register. How elements lie in memory is a [`Storage`](super::Storage).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scalar {
    F32,
    /// On devices that have it: see [`Target::computes_f64`](super::Target).
    F64,
    I32,
    U32,
    /// Integers of 64 bits are pairs of words: see `shaders/math_i64.wgsl`.
    I64,
    U64,
    Bool,
}

/// In how many bits a plan holds 64-bit integers. In 32 bits, an integer that does not fit is an error of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Integers {
    #[default]
    Bits32,
    Bits64,
}

impl Integers {
    /// The register that holds values of `dtype`; `None` if the device does not compute with them.
    pub(crate) fn register(self, dtype: DType) -> Option<Scalar> {
        match (self, dtype) {
            (Integers::Bits64, DType::I64) => Some(Scalar::I64),
            (Integers::Bits64, DType::U64) => Some(Scalar::U64),
            _ => Scalar::of(dtype),
        }
    }

    /// The fewest bits that hold the 64-bit integers of a tensor.
    pub(crate) fn fewest(tensor: &Tensor) -> Integers {
        let all = |fits: fn(&[u8]) -> bool| tensor.bytes().chunks_exact(size_of::<u64>()).all(fits);
        let fits = match tensor.dtype() {
            DType::I64 => all(|v| i32::try_from(bytemuck::pod_read_unaligned::<i64>(v)).is_ok()),
            DType::U64 => all(|v| u32::try_from(bytemuck::pod_read_unaligned::<u64>(v)).is_ok()),
            _ => true,
        };
        if fits { Integers::Bits32 } else { Integers::Bits64 }
    }

    /// The storage of tensors of `dtype`; `None` if the device does not compute with them.
    pub(crate) fn storage(self, dtype: DType) -> Option<Storage> {
        self.storage_of_constant(dtype, false)
    }

    /// The storage of a model's constants of `dtype`: see [`Storage::of_constant`].
    pub(crate) fn storage_of_constant(self, dtype: DType, packed: bool) -> Option<Storage> {
        match self.register(dtype) {
            Some(wide) if wide.is_wide_integer() => Some(Storage::Wide),
            _ => Storage::of_constant(dtype, packed),
        }
    }
}

impl Scalar {
    /// The register that holds values of `dtype`, 64-bit integers in 32 bits; `None` if the device does not compute with them.
    pub(crate) fn of(dtype: DType) -> Option<Scalar> {
        use DType::*;
        Some(match dtype {
            F32 | F16 | BF16 | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F6E2M3 | F6E3M2
            | F4E2M1 => Scalar::F32,
            I64 | I32 | I16 | I8 | I4 | I2 => Scalar::I32,
            U64 | U32 | U16 | U8 | U4 | U2 => Scalar::U32,
            F64 => Scalar::F64,
            Bool => Scalar::Bool,
            _ => return None,
        })
    }

    /// The register for floats that are computed from elements of `dtype`: float64 for float64, else float32.
    pub(crate) fn float_for(dtype: DType) -> Scalar {
        if dtype == DType::F64 { Scalar::F64 } else { Scalar::F32 }
    }

    /// The register's WGSL type.
    pub(crate) fn wgsl(self) -> &'static str {
        match self {
            Scalar::F32 => "f32",
            Scalar::F64 => "f64",
            Scalar::I32 => "i32",
            Scalar::U32 => "u32",
            Scalar::I64 | Scalar::U64 => "vec2<u32>",
            Scalar::Bool => "bool",
        }
    }

    /// Whether the register holds a float.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Scalar::F32 | Scalar::F64)
    }

    /// Whether the register has 64 bits.
    pub(crate) fn is_wide(self) -> bool {
        matches!(self, Scalar::F64 | Scalar::I64 | Scalar::U64)
    }

    /// Whether the register holds an integer of 64 bits.
    pub(crate) fn is_wide_integer(self) -> bool {
        matches!(self, Scalar::I64 | Scalar::U64)
    }

    /// The words that hold the register's value among a call's params.
    fn words(self) -> u32 {
        if self.is_wide() { 2 } else { 1 }
    }

    /// The functions of `shaders` that add and multiply, where WGSL's operators do not: integers of 64 bits, and those of 32 bits
    /// that are `wide`, whose results are reported if they do not fit.
    pub(crate) fn sums(self, wide: bool) -> Option<[&'static str; 2]> {
        (wide || self.is_wide_integer()).then(|| self.sum_functions())
    }

    fn sum_functions(self) -> [&'static str; 2] {
        match self {
            Scalar::I64 | Scalar::U64 => ["add_64", "mul_64"],
            Scalar::I32 => ["add_checked_i32", "mul_checked_i32"],
            _ => ["add_checked_u32", "mul_checked_u32"],
        }
    }

    /// The WGSL type that holds the register's value outside of expressions: a bool is 0 or 1 there.
    pub(crate) fn word(self) -> &'static str {
        if self == Scalar::Bool { "u32" } else { self.wgsl() }
    }
}

/// A register: the result of one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reg(u32);

/// Functions of one register: WGSL's own where every driver computes them as ONNX defines them, else those of
/// `shaders/math.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rustfmt::skip]
pub(crate) enum Fn1 {
    Neg, Abs, Sign, Not, BitNot, Reciprocal, Sqrt, Exp, ExpM1, Log, Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Tanh, Asinh,
    Acosh, Atanh, Erf, Floor, Ceil, Round, IsNan, IsPosInf, IsNegInf, Sigmoid, Softplus,
    /// Of a float64 or an integer: the nearest number that float32 holds and that rounds to smaller floats in the same way (round to
    /// odd).
    RoundOdd,
    /// To a power of two, as float8e8m0 holds it: how to round, and whether to saturate.
    RoundE8m0(RoundMode, bool),
}

/// Functions of two registers of one type. `Div` of floats may be off in the last two bits, as WGSL allows; `DivRounded` is
/// correctly rounded from 2^-60 to 2^60.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rustfmt::skip]
pub(crate) enum Fn2 {
    Add, Sub, Mul, Div, DivRounded, Rem, FMod, Pow, Min, Max, And, Or, Xor, BitAnd, BitOr, BitXor, ShiftLeft, ShiftRight,
    Equal, Less, LessOrEqual, Greater, GreaterOrEqual,
    /// Whether the exact product, power or shifted number of two integers needs more than 32 bits.
    MulOverflows, PowOverflows, ShiftOverflows,
    /// An integer to the power of a float; the result is truncated.
    PowFloat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Instr {
    /// The element of operand `i` that belongs to this element of the result.
    Load(u32),
    /// Operand `i` as a whole. Only [`Instr::Pick`] reads it, and no kernel has code for it.
    Table(u32),
    /// The element of a table at the place that the second register holds.
    Pick(Reg, Reg),
    /// The parameter of the expression that begins at word `i`.
    Param(u32),
    /// The bits of a word; for a float64, those of an equal float32; for an integer of 64 bits, its lower half.
    Literal(Scalar, u32),
    /// The result's own linear index.
    Index,
    One(Fn1, Reg),
    Two(Fn2, Reg, Reg),
    Select {
        condition: Reg,
        yes: Reg,
        no: Reg,
    },
    Convert(Scalar, Reg),
    Bitcast(Scalar, Reg),
    /// Rounds or wraps to a dtype narrower than the register.
    Narrow(DType, Reg),
    /// The value of the first register, through a computation that a compiler cannot see through: see [`kept`]. The second
    /// register is 0.
    Kept(Reg, Reg),
    /// Reports the word where the condition holds. This is a statement: nothing reads its register.
    Report {
        condition: Reg,
        word: Reg,
    },
    /// A constant above, or below, all numbers of the register's type. It can be compared with, but is in no kernel.
    Beyond(Beyond),
}

/// A finished expression, which is the cache key of its code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Expr {
    code: Vec<(Instr, Scalar)>,
    outputs: Vec<Reg>,
    mixes: bool,
}

/// Builds an expression, and collects its parameters.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    code: Vec<(Instr, Scalar)>,
    params: Vec<u32>,
    shape: Shape,
    /// `Some` where results are 64-bit integers in 32 bits: those that do not fit are then reported.
    pub(crate) wide: Option<Wide>,
    /// How 64-bit integers lie in registers.
    integers: Integers,
    /// The number of the node, in its unit, that reports.
    site: u16,
    /// Whether an instruction needs a constant that does not fit its register.
    needs_beyond: bool,
    /// Whether an instruction would compute with 64 bits what no device does, or what it does with 32 bits alone.
    mixes: bool,
}

impl Builder {
    /// A builder of expressions for the elements of a result of this shape.
    pub(crate) fn of_shape(shape: &[usize], integers: Integers) -> Builder {
        Builder { shape: shape.into(), integers, ..Builder::default() }
    }

    /// The register that holds values of `dtype`; `None` if the device does not compute with them.
    pub(crate) fn register(&self, dtype: DType) -> Option<Scalar> {
        self.integers.register(dtype)
    }

    /// From here on, results are of `dtype`, computed by the node with number `site` in its unit.
    pub(crate) fn results_of(&mut self, dtype: DType, site: usize) {
        self.site = u16::try_from(site).unwrap_or(u16::MAX);
        self.wide = Wide::of(dtype, site).filter(|_| self.integers == Integers::Bits32);
    }

    fn push(&mut self, instr: Instr, scalar: Scalar) -> Reg {
        self.needs_beyond |= instr.operands().any(|reg| self.beyond(reg).is_some());
        // Equal instructions share a register: a DAG with shared parts stays a DAG.
        if let Some(at) = self.code.iter().position(|(i, _)| *i == instr) {
            return Reg(at as u32);
        }
        self.code.push((instr, scalar));
        Reg((self.code.len() - 1) as u32)
    }

    pub(crate) fn scalar(&self, reg: Reg) -> Scalar {
        self.code[reg.0 as usize].1
    }

    pub(crate) fn load(&mut self, operand: usize, scalar: Scalar) -> Reg {
        self.push(Instr::Load(operand as u32), scalar)
    }

    /// All elements of an operand, for [`Builder::pick`].
    pub(crate) fn table(&mut self, operand: usize, scalar: Scalar) -> Reg {
        self.push(Instr::Table(operand as u32), scalar)
    }

    /// The element of a table at `place`, a u32 that is less than the table's length.
    pub(crate) fn pick(&mut self, table: Reg, place: Reg) -> Reg {
        let scalar = self.scalar(table);
        self.push(Instr::Pick(table, place), scalar)
    }

    fn param(&mut self, scalar: Scalar, bits: u32) -> Reg {
        let index = self.params.len() as u32;
        self.params.push(bits);
        self.push(Instr::Param(index), scalar)
    }

    /// A float constant. Whole numbers and halves that are small are part of the code, all others are parameters.
    pub(crate) fn f32(&mut self, value: f32) -> Reg {
        match is_plain(value.into()) {
            true => self.push(Instr::Literal(Scalar::F32, value.to_bits()), Scalar::F32),
            false => self.param(Scalar::F32, value.to_bits()),
        }
    }

    fn f64(&mut self, value: f64) -> Reg {
        match is_plain(value) {
            true => self.push(Instr::Literal(Scalar::F64, (value as f32).to_bits()), Scalar::F64),
            false => self.param_f64(value),
        }
    }

    fn param_f64(&mut self, value: f64) -> Reg {
        self.param_wide(Scalar::F64, value.to_bits())
    }

    /// A register of 64 bits takes two words: the lower half of its bits comes first.
    fn param_wide(&mut self, scalar: Scalar, bits: u64) -> Reg {
        let index = self.params.len() as u32;
        self.params.extend([bits as u32, (bits >> 32) as u32]);
        self.push(Instr::Param(index), scalar)
    }

    /// A float of the type of `like`, if that is a float, else float32; it follows from shapes: always a parameter, as another
    /// shape needs another.
    pub(crate) fn shape_float(&mut self, like: Reg, value: f64) -> Reg {
        match self.scalar(like) {
            Scalar::F64 => self.param_f64(value),
            _ => self.param(Scalar::F32, (value as f32).to_bits()),
        }
    }

    /// `value`, rounded to a float of the type of `like`, if that is a float, else to float32.
    pub(crate) fn float(&mut self, like: Reg, value: f64) -> Reg {
        if self.scalar(like) == Scalar::F64 { self.f64(value) } else { self.f32(value as f32) }
    }

    /// `value`, rounded to a constant of register type `scalar`.
    pub(crate) fn constant(&mut self, scalar: Scalar, value: f64) -> Reg {
        match scalar {
            Scalar::F32 => self.f32(value as f32),
            Scalar::F64 => self.f64(value),
            Scalar::I32 => self.param(scalar, value as i32 as u32),
            Scalar::U32 => self.param(scalar, value as u32),
            Scalar::I64 => self.param_wide(scalar, value as i64 as u64),
            Scalar::U64 => self.param_wide(scalar, value as u64),
            Scalar::Bool => self.push(Instr::Literal(scalar, u32::from(value != 0.0)), scalar),
        }
    }

    /// Whether the instructions so far include one that no device has: see [`Expr::mixes`].
    pub(crate) fn mixes(&self) -> bool {
        self.mixes
    }

    /// Whether the instructions so far load a register of 64 bits.
    pub(crate) fn reads_wide(&self) -> bool {
        self.code.iter().any(|(instr, scalar)| matches!(instr, Instr::Load(_)) && scalar.is_wide())
    }

    /// Whether the instructions so far include a report.
    pub(crate) fn reports(&self) -> bool {
        self.code.iter().any(|(instr, _)| matches!(instr, Instr::Report { .. }))
    }

    /// The result's shape.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The element's linear index in the result, as u32.
    pub(crate) fn index(&mut self) -> Reg {
        self.push(Instr::Index, Scalar::U32)
    }

    /// The element's coordinate along `axis` of the result, as u32.
    pub(crate) fn coordinate(&mut self, axis: usize) -> Reg {
        let size = |axis: usize| self.shape.get(axis).copied().unwrap_or(1).max(1);
        let (length, inner) = (size(axis), product((axis + 1..self.shape.len()).map(size)));
        let index = self.index();
        let inner = self.param(Scalar::U32, inner as u32);
        let length = self.param(Scalar::U32, length as u32);
        let outer = self.two(Fn2::Div, index, inner);
        self.two(Fn2::Rem, outer, length)
    }

    pub(crate) fn one(&mut self, f: Fn1, x: Reg) -> Reg {
        let scalar = match f {
            Fn1::IsNan | Fn1::IsPosInf | Fn1::IsNegInf => Scalar::Bool,
            _ => self.scalar(x),
        };
        self.mixes |= match self.scalar(x) {
            Scalar::F64 => !f.is_for_f64(),
            Scalar::I64 | Scalar::U64 => !f.is_for_integers(),
            _ => false,
        };
        let result = self.push(Instr::One(f, x), scalar);
        if let Some(wide) = self.wide.filter(|wide| wide.scalar() == scalar) {
            self.report_one(wide, f, x);
        }
        result
    }

    pub(crate) fn two(&mut self, f: Fn2, a: Reg, b: Reg) -> Reg {
        use Fn2::*;
        let scalar = match f {
            Equal | Less | LessOrEqual | Greater | GreaterOrEqual | MulOverflows | PowOverflows
            | ShiftOverflows => Scalar::Bool,
            _ => self.scalar(a),
        };
        if let Some(result) = self.compared(f, a, b) {
            return result;
        }
        self.mix(a, b);
        let result = self.push(Instr::Two(f, a, b), scalar);
        if let Some(wide) = self.wide.filter(|wide| wide.scalar() == scalar) {
            self.report_two(wide, f, (a, b), result);
        }
        result
    }

    pub(crate) fn add(&mut self, a: Reg, b: Reg) -> Reg {
        self.two(Fn2::Add, a, b)
    }

    pub(crate) fn sub(&mut self, a: Reg, b: Reg) -> Reg {
        self.two(Fn2::Sub, a, b)
    }

    pub(crate) fn mul(&mut self, a: Reg, b: Reg) -> Reg {
        self.two(Fn2::Mul, a, b)
    }

    /// Notes that one instruction takes both registers.
    fn mix(&mut self, a: Reg, b: Reg) {
        let (a, b) = (self.scalar(a), self.scalar(b));
        self.mixes |= a != b && (a.is_wide() || b.is_wide());
    }

    pub(crate) fn select(&mut self, condition: Reg, yes: Reg, no: Reg) -> Reg {
        self.mix(yes, no);
        let scalar = self.scalar(yes);
        self.push(Instr::Select { condition, yes, no }, scalar)
    }

    /// The register's value as another type: floats are truncated toward zero, and every number but 0 is true.
    pub(crate) fn convert(&mut self, x: Reg, to: Scalar) -> Reg {
        if self.scalar(x) == to {
            return x;
        }
        if let Some(wide) = self.wide.filter(|wide| wide.scalar() == to) {
            self.report_converted(wide, x);
        }
        self.push(Instr::Convert(to, x), to)
    }

    /// The register's bits as another type.
    pub(crate) fn bitcast(&mut self, x: Reg, to: Scalar) -> Reg {
        if self.scalar(x) == to {
            return x;
        }
        self.mixes |= self.scalar(x).is_wide() != to.is_wide();
        if let Some(wide) = self.wide.filter(|wide| wide.scalar() == to && !self.scalar(x).is_float()) {
            self.report_converted(wide, x);
        }
        self.push(Instr::Bitcast(to, x), to)
    }

    /// The value rounded or wrapped to a number that `dtype` can hold.
    pub(crate) fn narrow(&mut self, x: Reg, dtype: DType) -> Reg {
        use DType::*;
        match dtype {
            F16 | BF16 | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F6E2M3 | F6E3M2 | F4E2M1 | I16
            | U16 | I8 | U8 | I4 | U4 | I2 | U2 => {
                let scalar = self.scalar(x);
                self.push(Instr::Narrow(dtype, x), scalar)
            }
            _ => x,
        }
    }

    /// The value as an operator's result of type `dtype`. It is narrowed, except to float16 and bfloat16: these keep float32
    /// precision until they are stored.
    pub(crate) fn result(&mut self, x: Reg, dtype: DType) -> Reg {
        if matches!(dtype, DType::F16 | DType::BF16) { x } else { self.narrow(x, dtype) }
    }

    /// The expression that computes `outputs`, and the words of its parameters.
    pub(crate) fn finish(self, outputs: Vec<Reg>) -> (Expr, Vec<u32>) {
        Expr { code: self.code, outputs, mixes: self.mixes }.kept(self.params)
    }
}

/// Whether a float constant is part of the code.
fn is_plain(value: f64) -> bool {
    let plain = [0.0, 0.5, 1.0, 2.0, 3.0, 6.0, -1.0].contains(&value);
    plain && !(value == 0.0 && value.is_sign_negative())
}

impl Instr {
    fn operands(&self) -> impl Iterator<Item = Reg> {
        let operands = match *self {
            Instr::One(_, x) | Instr::Convert(_, x) | Instr::Bitcast(_, x) | Instr::Narrow(_, x) => {
                [Some(x), None, None]
            }
            Instr::Two(_, a, b)
            | Instr::Kept(a, b)
            | Instr::Pick(a, b)
            | Instr::Report { condition: a, word: b } => [Some(a), Some(b), None],
            Instr::Select { condition, yes, no } => [Some(condition), Some(yes), Some(no)],
            Instr::Load(_)
            | Instr::Table(_)
            | Instr::Param(_)
            | Instr::Literal(..)
            | Instr::Index
            | Instr::Beyond(_) => [None; 3],
        };
        operands.into_iter().flatten()
    }

    /// The same instruction over other registers: `to(r)` takes the place of `r`.
    fn moved(self, to: impl Fn(Reg) -> Reg) -> Instr {
        match self {
            Instr::One(f, x) => Instr::One(f, to(x)),
            Instr::Two(f, a, b) => Instr::Two(f, to(a), to(b)),
            Instr::Select { condition, yes, no } => {
                Instr::Select { condition: to(condition), yes: to(yes), no: to(no) }
            }
            Instr::Convert(scalar, x) => Instr::Convert(scalar, to(x)),
            Instr::Bitcast(scalar, x) => Instr::Bitcast(scalar, to(x)),
            Instr::Narrow(dtype, x) => Instr::Narrow(dtype, to(x)),
            Instr::Kept(x, zero) => Instr::Kept(to(x), to(zero)),
            Instr::Pick(table, place) => Instr::Pick(to(table), to(place)),
            Instr::Report { condition, word } => Instr::Report { condition: to(condition), word: to(word) },
            Instr::Load(_)
            | Instr::Table(_)
            | Instr::Param(_)
            | Instr::Literal(..)
            | Instr::Index
            | Instr::Beyond(_) => self,
        }
    }
}

impl Expr {
    /// Whether the expression reports: the kernel that computes it then has the fault words.
    pub(crate) fn reports(&self) -> bool {
        self.code.iter().any(|(instr, _)| matches!(instr, Instr::Report { .. }))
    }

    /// The same expression, changed so that no driver simplifies floats as if they were real numbers, and its parameters: see
    /// [`kept`].
    pub(crate) fn kept(&self, params: Vec<u32>) -> (Expr, Vec<u32>) {
        kept::kept(self, params)
    }

    /// How many instructions there are.
    pub(crate) fn len(&self) -> usize {
        self.code.len()
    }

    /// The register types of the outputs.
    pub(crate) fn output_scalars(&self) -> Vec<Scalar> {
        self.outputs.iter().map(|r| self.code[r.0 as usize].1).collect()
    }

    /// This expression with the results of `inner` as operand `i`. The parameters of `inner` come first.
    pub(crate) fn of(&self, i: usize, inner: &Expr) -> Expr {
        let params = inner.param_count() as u32;
        let mut code = inner.code.clone();
        // The register in the new expression of each register of this one.
        let mut registers: Vec<Reg> = Vec::with_capacity(self.code.len());
        for (instr, scalar) in &self.code {
            let at = |reg: Reg| registers[reg.0 as usize];
            let instr = match *instr {
                Instr::Load(operand) if operand as usize == i => {
                    registers.push(inner.outputs[0]);
                    continue;
                }
                Instr::Param(param) => Instr::Param(param + params),
                other => other.moved(at),
            };
            registers.push(Reg(code.len() as u32));
            code.push((instr, *scalar));
        }
        let outputs = self.outputs.iter().map(|reg| registers[reg.0 as usize]).collect();
        Expr { code, outputs, mixes: self.mixes || inner.mixes }
    }

    /// The same expression over other operands: `to(i)` takes the place of operand `i`.
    pub(crate) fn renamed(&self, to: impl Fn(usize) -> usize) -> Expr {
        let code = self.code.iter().map(|&(instr, scalar)| match instr {
            Instr::Load(i) => (Instr::Load(to(i as usize) as u32), scalar),
            Instr::Table(i) => (Instr::Table(to(i as usize) as u32), scalar),
            other => (other, scalar),
        });
        Expr { code: code.collect(), outputs: self.outputs.clone(), mixes: self.mixes }
    }

    /// Whether an instruction takes 64 bits for 32 bits, or is none of 64 bits: no device has the expression.
    pub(crate) fn mixes(&self) -> bool {
        self.mixes
    }

    /// Whether the code computes with float64.
    pub(crate) fn has_f64(&self) -> bool {
        self.code.iter().any(|(_, scalar)| *scalar == Scalar::F64)
    }

    /// The operands that the code loads, and the types of their registers.
    pub(crate) fn loads(&self) -> impl Iterator<Item = (usize, Scalar)> + '_ {
        self.code.iter().filter_map(|(instr, scalar)| match instr {
            Instr::Load(i) => Some((*i as usize, *scalar)),
            _ => None,
        })
    }

    /// Whether the code reads operand `i`.
    pub(crate) fn reads(&self, i: usize) -> bool {
        self.code.iter().any(|(instr, _)| *instr == Instr::Load(i as u32))
    }

    /// How many words of parameters the code reads.
    pub(crate) fn param_count(&self) -> usize {
        let params = self.code.iter().filter(|(i, _)| matches!(i, Instr::Param(_)));
        params.map(|(_, scalar)| scalar.words() as usize).sum()
    }

    /// WGSL statements that compute the outputs, and for each output an expression of its word. The arguments are WGSL
    /// expressions: `load(i, None)` is the value of operand `i`, `load(i, Some(place))` its element at a place, `param(i)` parameter `i` as u32, `index` the element's linear
    /// index, and `exists` tells whether the result has that element. `used` collects the functions of `shaders/math.wgsl`
    /// that the statements call.
    pub(crate) fn wgsl(
        &self,
        load: impl Fn(usize, Option<&str>) -> String,
        param: impl Fn(usize) -> String,
        (index, exists): (&str, &str),
        used: &mut BTreeSet<&'static str>,
    ) -> (Vec<String>, Vec<String>) {
        let mut lines = Vec::new();
        for (at, (instr, scalar)) in self.code.iter().enumerate() {
            let of = |r: &Reg| (format!("r{}", r.0), self.code[r.0 as usize].1);
            let value = match instr {
                Instr::Load(i) if *scalar == Scalar::Bool => format!("{} != 0u", load(*i as usize, None)),
                Instr::Load(i) => load(*i as usize, None),
                Instr::Pick(table, place) => match self.code[table.0 as usize].0 {
                    Instr::Table(i) => load(i as usize, Some(&of(place).0)),
                    _ => of(table).0,
                },
                Instr::Param(i) if *scalar == Scalar::U32 => param(*i as usize),
                Instr::Param(i) if scalar.is_wide() => {
                    let words = format!("{}, {}", param(*i as usize), param(*i as usize + 1));
                    match scalar {
                        Scalar::F64 => call("f64_of_words", &words, used),
                        _ => format!("vec2<u32>({words})"),
                    }
                }
                Instr::Param(i) => format!("bitcast<{}>({})", scalar.wgsl(), param(*i as usize)),
                Instr::Literal(Scalar::F32, bits) => format!("f32({:?})", f32::from_bits(*bits)),
                Instr::Literal(Scalar::F64, bits) => format!("{:?}lf", f32::from_bits(*bits)),
                Instr::Literal(Scalar::Bool, bits) => format!("{}", *bits != 0),
                Instr::Literal(scalar, bits) if scalar.is_wide() => format!("vec2<u32>({bits}u, 0u)"),
                Instr::Literal(scalar, bits) => format!("bitcast<{}>({bits}u)", scalar.wgsl()),
                Instr::Index => index.into(),
                Instr::One(f, x) => one(*f, of(x), used),
                Instr::Two(f, a, b) => two(*f, of(a), of(b).0, used),
                Instr::Select { condition, yes, no } => {
                    format!("select({}, {}, {})", of(no).0, of(yes).0, of(condition).0)
                }
                Instr::Convert(to, x) => convert(*to, of(x), used),
                Instr::Bitcast(to, x) => bitcast(*to, of(x), used),
                Instr::Narrow(dtype, x) => narrow(*dtype, of(x), used),
                Instr::Kept(x, zero) if *scalar == Scalar::F64 => {
                    format!("bitcast<f64>(bitcast<u64>({}) ^ u64({}))", of(x).0, of(zero).0)
                }
                Instr::Kept(x, zero) => format!("bitcast<f32>(bitcast<u32>({}) ^ {})", of(x).0, of(zero).0),
                Instr::Report { condition, word } => {
                    let report = call("report", &of(word).0, used);
                    lines.push(format!("if {} && {exists} {{ {report}; }}", of(condition).0));
                    continue;
                }
                Instr::Table(_) | Instr::Beyond(_) => continue,
            };
            lines.push(format!("let r{at}: {} = {value};", scalar.wgsl()));
        }
        let outputs = self.outputs.iter().map(|r| {
            let bool = self.code[r.0 as usize].1 == Scalar::Bool;
            if bool { format!("select(0u, 1u, r{})", r.0) } else { format!("r{}", r.0) }
        });
        (lines, outputs.collect())
    }
}

fn call(name: &'static str, args: &str, used: &mut BTreeSet<&'static str>) -> String {
    used.insert(name);
    format!("{name}({args})")
}

impl Fn1 {
    /// The function's name in `shaders/math_f64.wgsl`, if it stands there.
    fn name_f64(self) -> Option<&'static str> {
        use Fn1::*;
        Some(match self {
            Sign => "sign_f64",
            Sin => "sin_f64",
            Cos => "cos_f64",
            Tan => "tan_f64",
            Erf => "erf_f64",
            Exp => "exp_f64",
            ExpM1 => "exp_m1_f64",
            Log => "log_f64",
            Atan => "atan_f64",
            Asin => "asin_f64",
            Acos => "acos_f64",
            Sinh => "sinh_f64",
            Cosh => "cosh_f64",
            Tanh => "tanh_f64",
            Asinh => "asinh_f64",
            Acosh => "acosh_f64",
            Atanh => "atanh_f64",
            IsNan => "is_nan_f64",
            Sigmoid => "sigmoid_f64",
            Softplus => "softplus_f64",
            RoundOdd => "round_odd",
            _ => return None,
        })
    }

    /// Whether a float64 has the function.
    fn is_for_f64(self) -> bool {
        use Fn1::*;
        let native =
            matches!(self, Neg | Abs | Sqrt | Reciprocal | Floor | Ceil | Round | IsPosInf | IsNegInf);
        native || self.name_f64().is_some()
    }

    /// Whether an integer of 64 bits has the function.
    fn is_for_integers(self) -> bool {
        use Fn1::*;
        matches!(self, Neg | Abs | Sign | Not | BitNot | Floor | Ceil | Round | RoundOdd)
    }
}

fn one(f: Fn1, (x, scalar): (String, Scalar), used: &mut BTreeSet<&'static str>) -> String {
    let double = scalar == Scalar::F64;
    if let Some(name) = f.name_f64().filter(|_| double) {
        return call(name, &x, used);
    }
    let builtin = match f {
        Fn1::Neg if scalar == Scalar::U32 => return format!("(0u - {x})"),
        Fn1::Neg if scalar.is_wide_integer() => return call("neg_64", &x, used),
        Fn1::Neg => return format!("(-{x})"),
        Fn1::Not => return format!("(!{x})"),
        Fn1::BitNot => return format!("(~{x})"),
        Fn1::Abs if matches!(scalar, Scalar::U32 | Scalar::U64) => return x,
        Fn1::Floor | Fn1::Ceil | Fn1::Round if !scalar.is_float() => return x,
        Fn1::Sign if scalar == Scalar::U32 => return format!("min({x}, 1u)"),
        Fn1::Sign if scalar == Scalar::U64 => return call("sign_u64", &x, used),
        Fn1::Sign if scalar == Scalar::I64 => return call("sign_i64", &x, used),
        Fn1::Abs if scalar == Scalar::I64 => return call("abs_i64", &x, used),
        Fn1::Reciprocal if double => return format!("(1.0lf / {x})"),
        Fn1::RoundOdd => {
            let name = match scalar {
                Scalar::I32 => "round_odd_i32",
                Scalar::U32 => "round_odd_u32",
                Scalar::I64 => "round_odd_i64",
                Scalar::U64 => "round_odd_u64",
                _ => return x,
            };
            return call(name, &x, used);
        }
        Fn1::IsPosInf if double => return format!("(bitcast<u64>({x}) == 0x7ff0000000000000lu)"),
        Fn1::IsNegInf if double => return format!("(bitcast<u64>({x}) == 0xfff0000000000000lu)"),
        Fn1::Reciprocal => return format!("(1.0 / {x})"),
        Fn1::Abs => "abs",
        Fn1::Sign if scalar == Scalar::F32 => return call("sign_full", &x, used),
        Fn1::Sign => "sign",
        Fn1::Sqrt => "sqrt",
        Fn1::Cos => return call("cos_full", &x, used),
        Fn1::Sin => return call("sin_full", &x, used),
        Fn1::Tan => return call("tan_full", &x, used),
        Fn1::Asin => return call("asin_full", &x, used),
        Fn1::Acos => return call("acos_full", &x, used),
        Fn1::Floor => "floor",
        Fn1::Ceil => "ceil",
        Fn1::Round => "round",
        Fn1::ExpM1 => return call("exp_m1", &x, used),
        Fn1::Exp => return call("exp_full", &x, used),
        Fn1::Log => return call("log_full", &x, used),
        Fn1::Atan => return call("atan_full", &x, used),
        Fn1::Sinh => return call("sinh_full", &x, used),
        Fn1::Cosh => return call("cosh_full", &x, used),
        Fn1::Tanh => return call("tanh_full", &x, used),
        Fn1::Asinh => return call("asinh_full", &x, used),
        Fn1::Acosh => return call("acosh_full", &x, used),
        Fn1::Atanh => return call("atanh_full", &x, used),
        Fn1::Erf => return call("erf", &x, used),
        Fn1::IsNan => return call("is_nan", &x, used),
        Fn1::IsPosInf => return format!("(bitcast<u32>({x}) == 0x7f800000u)"),
        Fn1::IsNegInf => return format!("(bitcast<u32>({x}) == 0xff800000u)"),
        Fn1::Sigmoid => return call("sigmoid", &x, used),
        Fn1::RoundE8m0(mode, saturate) => {
            // The smallest fraction that rounds up.
            let from: u32 = match mode {
                RoundMode::Up => 1,
                RoundMode::Nearest => 1 << 22,
                RoundMode::Down => 1 << 23,
            };
            return call("round_e8m0", &format!("{x}, {from}u, {saturate}"), used);
        }
        Fn1::Softplus => return call("softplus", &x, used),
    };
    format!("{builtin}({x})")
}

/// How a function of pairs is called for `f(a, b)`.
enum PairCall {
    Plain,
    Swapped,
    Not,
    SwappedNot,
}

impl Fn2 {
    /// The function of `shaders/math_i64.wgsl` that computes this one. The operators of bits are WGSL's own.
    fn of_pairs(self, signed: bool) -> Option<(&'static str, PairCall)> {
        let less = if signed { "less_i64" } else { "less_u64" };
        Some(match (self, signed) {
            (Fn2::Add, _) => ("add_64", PairCall::Plain),
            (Fn2::Sub, _) => ("sub_64", PairCall::Plain),
            (Fn2::Mul, _) => ("mul_64", PairCall::Plain),
            (Fn2::Div | Fn2::DivRounded, true) => ("div_i64", PairCall::Plain),
            (Fn2::Div | Fn2::DivRounded, false) => ("div_u64", PairCall::Plain),
            (Fn2::Rem, true) => ("rem_floor_i64", PairCall::Plain),
            (Fn2::FMod, true) => ("rem_i64", PairCall::Plain),
            (Fn2::Rem | Fn2::FMod, false) => ("rem_u64", PairCall::Plain),
            (Fn2::Min, true) => ("min_i64", PairCall::Plain),
            (Fn2::Min, false) => ("min_u64", PairCall::Plain),
            (Fn2::Max, true) => ("max_i64", PairCall::Plain),
            (Fn2::Max, false) => ("max_u64", PairCall::Plain),
            (Fn2::Pow, true) => ("pow_i64", PairCall::Plain),
            (Fn2::Pow, false) => ("pow_u64", PairCall::Plain),
            (Fn2::ShiftLeft, _) => ("shift_left_64", PairCall::Plain),
            (Fn2::ShiftRight, true) => ("shift_right_i64", PairCall::Plain),
            (Fn2::ShiftRight, false) => ("shift_right_u64", PairCall::Plain),
            (Fn2::Equal, _) => ("equal_64", PairCall::Plain),
            (Fn2::Less, _) => (less, PairCall::Plain),
            (Fn2::Greater, _) => (less, PairCall::Swapped),
            (Fn2::GreaterOrEqual, _) => (less, PairCall::Not),
            (Fn2::LessOrEqual, _) => (less, PairCall::SwappedNot),
            _ => return None,
        })
    }
}

fn two(f: Fn2, (a, scalar): (String, Scalar), b: String, used: &mut BTreeSet<&'static str>) -> String {
    let float = scalar == Scalar::F32;
    if scalar == Scalar::F64 {
        let name = match f {
            Fn2::Rem => Some("rem_floor_f64"),
            Fn2::FMod => Some("fmod_f64"),
            Fn2::Pow => Some("pow_f64"),
            Fn2::Min => Some("min_f64"),
            Fn2::Max => Some("max_f64"),
            _ => None,
        };
        if let Some(name) = name {
            return call(name, &format!("{a}, {b}"), used);
        }
    }
    if scalar.is_wide_integer()
        && let Some((name, way)) = f.of_pairs(scalar == Scalar::I64)
    {
        return match way {
            PairCall::Plain => call(name, &format!("{a}, {b}"), used),
            PairCall::Swapped => call(name, &format!("{b}, {a}"), used),
            PairCall::Not => format!("!{}", call(name, &format!("{a}, {b}"), used)),
            PairCall::SwappedNot => format!("!{}", call(name, &format!("{b}, {a}"), used)),
        };
    }
    let operator = match f {
        Fn2::Add => "+",
        Fn2::Sub => "-",
        Fn2::Mul => "*",
        Fn2::DivRounded if float => return call("divide", &format!("{a}, {b}"), used),
        Fn2::Div | Fn2::DivRounded => "/",
        Fn2::Equal => "==",
        Fn2::Less | Fn2::LessOrEqual | Fn2::Greater | Fn2::GreaterOrEqual if scalar == Scalar::Bool => {
            let (a, b) = (format!("select(0u, 1u, {a})"), format!("select(0u, 1u, {b})"));
            return two(f, (a, Scalar::U32), b, used);
        }
        Fn2::Less => "<",
        Fn2::LessOrEqual => "<=",
        Fn2::Greater => ">",
        Fn2::GreaterOrEqual => ">=",
        Fn2::And => "&&",
        Fn2::Or => "||",
        Fn2::Xor => "!=",
        Fn2::BitAnd => "&",
        Fn2::BitOr => "|",
        Fn2::BitXor => "^",
        Fn2::ShiftLeft if scalar == Scalar::I32 => return call("shift_left_i32", &format!("{a}, {b}"), used),
        Fn2::ShiftRight if scalar == Scalar::I32 => {
            return call("shift_right_i32", &format!("{a}, {b}"), used);
        }
        Fn2::ShiftLeft => return call("shift_left", &format!("{a}, {b}"), used),
        Fn2::ShiftRight => return call("shift_right", &format!("{a}, {b}"), used),
        Fn2::Rem if float => return call("rem_floor_f32", &format!("{a}, {b}"), used),
        Fn2::Rem if scalar == Scalar::I32 => return call("rem_floor_i32", &format!("{a}, {b}"), used),
        Fn2::Rem | Fn2::FMod if !float => "%",
        Fn2::Rem | Fn2::FMod => return call("fmod", &format!("{a}, {b}"), used),
        Fn2::PowFloat if scalar == Scalar::I32 => return call("pow_i32_f32", &format!("{a}, {b}"), used),
        Fn2::PowFloat => return call("pow_u32_f32", &format!("{a}, {b}"), used),
        Fn2::Pow if float => return call("pow_full", &format!("{a}, {b}"), used),
        Fn2::Pow if scalar == Scalar::I32 => return call("pow_i32", &format!("{a}, {b}"), used),
        Fn2::Pow => return call("pow_u32", &format!("{a}, {b}"), used),
        Fn2::Min if float => return call("min_full", &format!("{a}, {b}"), used),
        Fn2::Max if float => return call("max_full", &format!("{a}, {b}"), used),
        Fn2::MulOverflows if scalar == Scalar::I32 => {
            return call("mul_overflows_i32", &format!("{a}, {b}"), used);
        }
        Fn2::MulOverflows => return call("mul_overflows_u32", &format!("{a}, {b}"), used),
        Fn2::PowOverflows if scalar == Scalar::I32 => {
            return call("pow_overflows_i32", &format!("{a}, {b}"), used);
        }
        Fn2::ShiftOverflows if scalar == Scalar::I32 => {
            return call("shift_overflows_i32", &format!("{a}, {b}"), used);
        }
        Fn2::ShiftOverflows => return call("shift_overflows_u32", &format!("{a}, {b}"), used),
        Fn2::PowOverflows => return call("pow_overflows_u32", &format!("{a}, {b}"), used),
        Fn2::Min => return format!("min({a}, {b})"),
        Fn2::Max => return format!("max({a}, {b})"),
    };
    format!("({a} {operator} {b})")
}

fn convert(to: Scalar, (x, from): (String, Scalar), used: &mut BTreeSet<&'static str>) -> String {
    match (from, to) {
        (Scalar::F32, Scalar::I64) => call("f32_to_i64", &x, used),
        (Scalar::F32, Scalar::U64) => call("f32_to_u64", &x, used),
        (Scalar::F64, Scalar::I64) => call("f64_to_i64", &x, used),
        (Scalar::F64, Scalar::U64) => call("f64_to_u64", &x, used),
        (Scalar::I32, Scalar::I64 | Scalar::U64) => call("i32_to_64", &x, used),
        (Scalar::U32, Scalar::I64 | Scalar::U64) => call("u32_to_64", &x, used),
        (Scalar::Bool, Scalar::I64 | Scalar::U64) => call("bool_to_64", &x, used),
        (Scalar::I64 | Scalar::U64, Scalar::I64 | Scalar::U64) => x,
        (Scalar::I64 | Scalar::U64, Scalar::I32) => format!("bitcast<i32>({x}.x)"),
        (Scalar::I64 | Scalar::U64, Scalar::U32) => format!("{x}.x"),
        (Scalar::I64 | Scalar::U64, Scalar::Bool) => call("is_some_64", &x, used),
        (Scalar::I64, Scalar::F32) => call("i64_to_f32", &x, used),
        (Scalar::U64, Scalar::F32) => call("u64_to_f32", &x, used),
        (Scalar::I64, Scalar::F64) => call("i64_to_f64", &x, used),
        (Scalar::U64, Scalar::F64) => call("u64_to_f64", &x, used),
        (Scalar::U32, Scalar::F32) => call("u32_to_f32", &x, used),
        (Scalar::F32, Scalar::I32) => call("f32_to_i32", &x, used),
        (Scalar::F64, Scalar::I32) => call("f64_to_i32", &x, used),
        (Scalar::F64, Scalar::U32) => call("f64_to_u32", &x, used),
        (Scalar::F64, Scalar::Bool) => format!("((bitcast<u64>({x}) << 1u) != 0lu)"),
        (Scalar::Bool, Scalar::F64) => format!("select(0.0lf, 1.0lf, {x})"),
        (Scalar::F32, Scalar::U32) => call("f32_to_u32", &x, used),
        // NaN is "not zero", but on some drivers x != 0.0 is false for it.
        (Scalar::F32, Scalar::Bool) => format!("((bitcast<u32>({x}) & 0x7fffffffu) != 0u)"),
        (Scalar::Bool, _) => format!("select({0}(0), {0}(1), {x})", to.wgsl()),
        (_, Scalar::Bool) => format!("({x} != {}(0))", from.wgsl()),
        _ => format!("{}({x})", to.wgsl()),
    }
}

fn bitcast(to: Scalar, (x, from): (String, Scalar), used: &mut BTreeSet<&'static str>) -> String {
    match (from.is_wide_integer(), to.is_wide_integer()) {
        (true, true) => x,
        (true, false) => call("bits_to_f64", &x, used),
        (false, true) => call("bits_of_f64", &x, used),
        (false, false) => format!("bitcast<{}>({x})", to.wgsl()),
    }
}

/// WGSL of `x`, of register type `scalar`, rounded or wrapped to `dtype`.
pub(crate) fn narrow(
    dtype: DType,
    (x, scalar): (String, Scalar),
    used: &mut BTreeSet<&'static str>,
) -> String {
    match (dtype, scalar) {
        (DType::F16, _) => call("round_f16", &x, used),
        (DType::BF16, _) => call("round_bf16", &x, used),
        (_, Scalar::Bool) => x,
        _ if dtype.bits() >= 32 => x,
        (_, Scalar::F32) => match Format::of(dtype) {
            Some(format) => round_small(format, &x, used),
            None => x,
        },
        (_, Scalar::U32) => format!("({x} & {}u)", (1u32 << dtype.bits()) - 1),
        _ => format!("(({x} << {0}u) >> {0}u)", 32 - dtype.bits()),
    }
}

fn round_small(format: Format, x: &str, used: &mut BTreeSet<&'static str>) -> String {
    let (most, beyond) = (format.most as f32, (format.beyond() as f32).to_bits());
    let arguments = format!("{x}, {}u, {}, {most:?}, {beyond}u", format.mantissa, format.least());
    let rounded = call("round_small", &arguments, used);
    if format.has_negative_zero() { rounded } else { call("without_negative_zero", &rounded, used) }
}

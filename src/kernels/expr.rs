//! Scalar expressions: the instructions by which fused code computes one element.
//!
//! Pointwise operators append instructions to a [`Builder`]. The instructions are part of a kernel's spec, so that two chains
//! of the same operators share a pipeline. Constants are parameters of the call, so that another constant makes no other
//! pipeline.

mod kept;
mod scalar;
mod wgsl;
mod wide;

pub(crate) use scalar::{Integers, Scalar};
pub(crate) use wgsl::narrow;
pub(crate) use wide::{BY_ZERO, Beyond, Wide};

use crate::DType;
use crate::shape::Shape;
use crate::shape::product;
use crate::small::RoundMode;

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
}

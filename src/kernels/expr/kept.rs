//! What keeps a driver from computing with floats as if they were real numbers.
//!
//! Within a kernel a compiler may make `x` of `(x + c) - c`, `a * (b + c)` of `a * b + a * c`, `|x|` of `sqrt(x) * sqrt(x)`,
//! 0 of `x * 0` (Mesa's algebraic rules for what is not marked exact, SPIRV-Tools' folding rules in SwiftShader, fast math of
//! Metal and DXC), and no option of wgpu forbids it. Such a rule needs an operation whose operands share a value or a constant.
//! There, a constant becomes a parameter, or one operand goes through its bits and an xor with a parameter that is 0, which no
//! compiler can see through. Operations of unrelated values, as most models have, stay as they are.

use super::{Expr, Fn1, Fn2, Instr, Reg, Scalar};

/// Beyond this many parts a value is not looked through but kept.
const MOST_PARTS: usize = 16;

/// A value as a sum, and as a product, of what is neither.
#[derive(Clone, Default)]
struct Parts {
    terms: Vec<Reg>,
    /// With whether it divides.
    factors: Vec<(Reg, bool)>,
}

impl Parts {
    fn of(value: Reg) -> Parts {
        Parts { terms: vec![value], factors: vec![(value, false)] }
    }

    fn inverse(&self) -> Vec<(Reg, bool)> {
        self.factors.iter().map(|&(reg, divides)| (reg, !divides)).collect()
    }
}

/// What to do with the operands of an operation.
#[derive(Clone, Copy, Default)]
struct Keep {
    a: bool,
    b: bool,
}

/// The expression while it is built anew.
struct Keeper {
    code: Vec<(Instr, Scalar)>,
    parts: Vec<Parts>,
    /// (value, by which zero, the same kept).
    kept: Vec<(Reg, usize, Reg)>,
    zeros: [Option<Reg>; 2],
    params: Vec<u32>,
}

/// The expression of `params`, where values that a driver could simplify with others are kept. That may take more parameters.
pub(super) fn kept(expr: &Expr, params: Vec<u32>) -> (Expr, Vec<u32>) {
    let code = Vec::with_capacity(expr.code.len());
    let mut keeper = Keeper { code, parts: vec![], kept: vec![], zeros: [None; 2], params };
    let mut now: Vec<Reg> = Vec::with_capacity(expr.code.len());
    for (instr, scalar) in &expr.code {
        let moved = instr.moved(|reg| now[reg.0 as usize]);
        now.push(keeper.add(moved, *scalar));
    }
    let outputs = expr.outputs.iter().map(|reg| now[reg.0 as usize]).collect();
    (Expr { code: keeper.code, outputs }, keeper.params)
}

impl Keeper {
    fn add(&mut self, instr: Instr, scalar: Scalar) -> Reg {
        let instr = match instr {
            Instr::Two(f, a, b) if self.scalar(a) == Scalar::F32 => {
                let (a, b) = self.apart(f, a, b);
                // What is kept now may have been kept for the other operand before.
                let (a, b) = self.apart(f, a, b);
                Instr::Two(f, a, b)
            }
            Instr::One(f, x) if self.scalar(x) == Scalar::F32 && self.inverts(f, x) => {
                Instr::One(f, self.keep(x, 0))
            }
            other => other,
        };
        self.push(instr, scalar)
    }

    /// The operands of `f` as they are to be kept.
    fn apart(&mut self, f: Fn2, a: Reg, b: Reg) -> (Reg, Reg) {
        let keep = self.judged(f, a, b);
        // By parameters of their own: the same value kept twice by one would be one again.
        (if keep.a { self.keep(a, 0) } else { a }, if keep.b { self.keep(b, 1) } else { b })
    }

    fn push(&mut self, instr: Instr, scalar: Scalar) -> Reg {
        let value = Reg(self.code.len() as u32);
        let parts = if scalar == Scalar::F32 { self.parts_of(&instr, value) } else { Parts::default() };
        self.code.push((instr, scalar));
        self.parts.push(parts);
        value
    }

    fn scalar(&self, reg: Reg) -> Scalar {
        self.code[reg.0 as usize].1
    }

    fn parts(&self, reg: Reg) -> &Parts {
        &self.parts[reg.0 as usize]
    }

    /// The value in another register, of which a compiler does not know that it is the same.
    fn keep(&mut self, value: Reg, by: usize) -> Reg {
        if self.kept.iter().any(|&(.., kept)| kept == value) {
            return value;
        }
        if let Some(&(.., kept)) = self.kept.iter().find(|(of, zero, _)| (*of, *zero) == (value, by)) {
            return kept;
        }
        let kept = match self.literal(value) {
            Some(constant) => self.param(Scalar::F32, constant.to_bits()),
            None => {
                let zero = self.zeros[by].unwrap_or_else(|| self.param(Scalar::U32, 0));
                self.zeros[by] = Some(zero);
                self.push(Instr::Kept(value, zero), Scalar::F32)
            }
        };
        self.kept.push((value, by, kept));
        kept
    }

    fn param(&mut self, scalar: Scalar, bits: u32) -> Reg {
        self.params.push(bits);
        self.push(Instr::Param((self.params.len() - 1) as u32), scalar)
    }

    fn parts_of(&self, instr: &Instr, value: Reg) -> Parts {
        let alone = Parts::of(value);
        let terms = |a, b| [&self.parts(a).terms[..], &self.parts(b).terms].concat();
        match *instr {
            // What compilers may find to be its operand, but for the sign.
            Instr::One(Fn1::Neg | Fn1::Abs | Fn1::Floor | Fn1::Ceil | Fn1::Round, x) => self.parts(x).clone(),
            Instr::Two(Fn2::Min | Fn2::Max, a, b) if self.parts(a).terms == self.parts(b).terms => {
                self.parts(a).clone()
            }
            Instr::Select { yes, no, .. } if yes == no => self.parts(yes).clone(),
            Instr::One(Fn1::Reciprocal, x) => Parts { factors: self.parts(x).inverse(), ..alone },
            Instr::Two(Fn2::Mul | Fn2::Div | Fn2::DivRounded, x, one) | Instr::Two(Fn2::Mul, one, x)
                if self.literal(one).is_some_and(|value| value.abs() == 1.0) =>
            {
                self.parts(x).clone()
            }
            Instr::Two(Fn2::Add | Fn2::Sub, a, b) => Parts { terms: terms(a, b), ..alone },
            Instr::Two(Fn2::Mul, a, b) => {
                Parts { factors: [&self.parts(a).factors[..], &self.parts(b).factors].concat(), ..alone }
            }
            Instr::Two(Fn2::Div | Fn2::DivRounded, a, b) => {
                Parts { factors: [&self.parts(a).factors[..], &self.parts(b).inverse()].concat(), ..alone }
            }
            _ => alone,
        }
    }

    fn is_root(&self, reg: Reg) -> bool {
        matches!(self.code[reg.0 as usize].0, Instr::One(Fn1::Sqrt, _))
    }

    fn literal(&self, reg: Reg) -> Option<f32> {
        match self.code[reg.0 as usize].0 {
            Instr::Literal(Scalar::F32, bits) => Some(f32::from_bits(bits)),
            _ => None,
        }
    }

    /// How many constants of the text are among the terms, respectively factors.
    fn literals<'r>(&self, parts: impl IntoIterator<Item = &'r Reg>) -> usize {
        parts.into_iter().filter(|reg| self.literal(**reg).is_some()).count()
    }

    fn factors(&self, reg: Reg) -> Vec<Reg> {
        self.parts(reg).factors.iter().map(|factor| factor.0).collect()
    }

    /// Whether the value has parts, so that there is something to simplify with.
    fn composed(&self, reg: Reg) -> bool {
        self.parts(reg).terms.len() > 1 || self.parts(reg).factors.len() > 1
    }

    /// Keeps one that has parts, or the first.
    fn one_of(&self, a: Reg, b: Reg) -> Keep {
        let first = self.composed(a) || !self.composed(b);
        Keep { a: first, b: !first }
    }

    fn judged(&self, f: Fn2, a: Reg, b: Reg) -> Keep {
        use Fn2::*;
        match f {
            Add | Sub => self.judged_sum(f, a, b),
            Mul | Div | DivRounded => self.judged_product(f, a, b),
            Equal | Less | LessOrEqual | Greater | GreaterOrEqual if self.shares_term(a, b) => {
                if self.composed(a) || self.composed(b) { self.one_of(a, b) } else { Keep::default() }
            }
            Equal | Less | LessOrEqual | Greater | GreaterOrEqual => {
                // x + 1 < 2, but not x + y < 0, which is in every ReLU.
                let literals = |reg| self.literals(&self.parts(reg).terms);
                let keep = literals(a) > 0 && literals(b) > 0 && a != b;
                if keep && (self.composed(a) || self.composed(b)) {
                    self.one_of(a, b)
                } else {
                    Keep::default()
                }
            }
            _ => Keep::default(),
        }
    }

    fn shares_term(&self, a: Reg, b: Reg) -> bool {
        let (a, b) = (&self.parts(a).terms, &self.parts(b).terms);
        a.iter().any(|term| b.contains(term))
    }

    /// Whether products among the terms of both have a factor in common.
    fn shares_factor(&self, a: Reg, b: Reg) -> bool {
        let products = |reg: Reg| {
            let terms = self.parts(reg).terms.iter().map(|&term| self.factors(term));
            terms.filter(|factors| factors.len() > 1).collect::<Vec<_>>().concat()
        };
        let (a, b) = (products(a), products(b));
        a.iter().any(|factor| b.contains(factor))
    }

    fn judged_sum(&self, f: Fn2, a: Reg, b: Reg) -> Keep {
        let (x, y) = (&self.parts(a).terms, &self.parts(b).terms);
        // x + x is exact whatever becomes of it, if that is not a * (2 * b) for x = a * b.
        let twice = a == b && f == Fn2::Add && self.parts(a).factors.len() == 1;
        if !twice && (self.shares_term(a, b) || self.shares_factor(a, b)) || x.len() + y.len() > MOST_PARTS {
            return self.one_of(a, b);
        }
        let zero = |reg| self.literal(reg) == Some(0.0);
        let (first, second) = (self.is_mask(a), self.is_mask(b));
        // 1 - mask is exact, of others the sign of zero is not.
        if (first || second) && !(f == Fn2::Sub && self.literal(a) == Some(1.0)) {
            return Keep { a: first || zero(a), b: second && a != b || zero(b) };
        }
        let constants = self.literals(x) > 0 && self.literals(y) > 0;
        let chain = x.len() + y.len() > 2;
        match (self.literal(a).is_some(), self.literal(b).is_some()) {
            // A constant that is kept is one for all elements.
            (true, _) => Keep { a: constants || chain || zero(a), b: false },
            (_, true) => Keep { b: constants || chain || zero(b), a: false },
            _ if constants => self.one_of(a, b),
            _ => Keep::default(),
        }
    }

    fn judged_product(&self, f: Fn2, a: Reg, b: Reg) -> Keep {
        let (x, y) = (&self.parts(a).factors, &self.parts(b).factors);
        let divides = f != Fn2::Mul;
        let cancels = x.iter().any(|&(reg, below)| y.contains(&(reg, below == divides)));
        let roots = x.iter().any(|factor| self.is_root(factor.0) && y.contains(factor));
        if divides && cancels && !self.composed(a) {
            // lavapipe's quotient of anything and a constant 0, or of that and anything, is 0, and this may be one.
            return Keep { a: true, b: true };
        }
        if cancels || roots || x.len() + y.len() > MOST_PARTS {
            return self.one_of(a, b);
        }
        if self.is_mask(a) || self.is_mask(b) {
            return Keep { a: self.is_mask(a), b: self.is_mask(b) };
        }
        // A reciprocal is a quotient of a constant.
        let inverse = |factors: &[(Reg, bool)]| factors.iter().any(|factor| factor.1);
        let quotients = inverse(x) || inverse(y);
        let (x, y) = (self.factors(a), self.factors(b));
        let constants = self.literals(&x) > 0 && self.literals(&y) > 0;
        // Where 1/2 stands in a product makes no difference but for subnormal numbers.
        let plain = |value: f32| value.abs() == 1.0 || value.abs() == 0.5;
        let keeps = |value: f32, moves: bool| constants || value == 0.0 || (moves && !plain(value));
        match (self.literal(a), self.literal(b)) {
            (Some(value), _) => Keep { a: keeps(value, quotients || y.len() > 1), b: false },
            // SPIRV-Tools multiplies with the inverse of a constant, which the rounding of `DivRounded` makes good.
            (_, Some(value)) => {
                Keep { b: keeps(value, f == Fn2::Div || quotients || (!divides && x.len() > 1)), a: false }
            }
            _ if constants => self.one_of(a, b),
            _ => Keep::default(),
        }
    }

    /// Whether the value is 0 or 1 by a condition, or a sum of those: compilers make a selection of a product with it, which is no
    /// NaN where the other factor is infinite.
    fn is_mask(&self, reg: Reg) -> bool {
        let chosen = |reg: Reg| match self.code[reg.0 as usize].0 {
            Instr::Convert(Scalar::F32, x) => self.scalar(x) == Scalar::Bool,
            Instr::Select { yes, no, .. } => self.literal(yes).is_some() && self.literal(no).is_some(),
            _ => false,
        };
        let terms = &self.parts(reg).terms;
        terms.iter().any(|&term| chosen(term))
            && terms.iter().all(|&term| chosen(term) || self.literal(term).is_some())
    }

    /// Whether `f` undoes what made the value, or a part of that.
    fn inverts(&self, f: Fn1, x: Reg) -> bool {
        let factors = || &self.parts(x).factors;
        let made = |by: Fn1| matches!(self.code[x.0 as usize].0, Instr::One(f, _) if f == by);
        match f {
            // Of a sum with a constant: the sign of zero.
            Fn1::Neg => self.parts(x).terms.len() > 1 && self.literals(&self.parts(x).terms) > 0,
            // A root may be -0.
            Fn1::Abs => matches!(self.parts(x).terms[..], [term] if self.is_root(term)),
            Fn1::Exp | Fn1::ExpM1 => made(Fn1::Log),
            Fn1::Log => made(Fn1::Exp),
            Fn1::Sqrt => (1..factors().len()).any(|i| factors()[..i].contains(&factors()[i])),
            Fn1::Reciprocal => {
                factors().iter().any(|&(_, divides)| divides) || self.literals(&self.factors(x)) > 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Builder;
    use super::*;

    /// How many parameters an expression of three numbers takes for what is kept.
    fn kept_in(build: impl FnOnce(&mut Builder, [Reg; 3]) -> Reg) -> usize {
        let mut builder = Builder::default();
        let loads = [0, 1, 2].map(|i| builder.load(i, Scalar::F32));
        let result = build(&mut builder, loads);
        let before = builder.params.len();
        builder.finish(vec![result]).1.len() - before
    }

    #[test]
    fn what_could_be_simplified_is_kept() {
        use Fn2::*;
        assert_eq!(
            kept_in(|e, [x, y, _]| {
                let sum = e.add(x, y);
                e.sub(sum, y)
            }),
            1
        );
        assert_eq!(kept_in(|e, [x, ..]| e.sub(x, x)), 1);
        assert_eq!(
            kept_in(|e, [x, ..]| {
                let root = e.one(Fn1::Sqrt, x);
                e.mul(root, root)
            }),
            1
        );
        assert_eq!(
            kept_in(|e, [x, y, _]| {
                let quotient = e.two(Div, x, y);
                e.mul(quotient, y)
            }),
            1
        );
        assert_eq!(
            kept_in(|e, [x, y, z]| {
                let (a, b) = (e.mul(x, y), e.mul(z, x));
                e.add(a, b)
            }),
            1
        );
        assert_eq!(
            kept_in(|e, [x, ..]| {
                let zero = e.f32(0.0);
                e.mul(x, zero)
            }),
            1
        );
        assert_eq!(
            kept_in(|e, [x, y, _]| {
                let sum = e.add(x, y);
                e.two(Less, x, sum)
            }),
            1
        );
        assert_eq!(
            kept_in(|e, [x, y, _]| {
                let (c, n) = (e.two(Less, x, y), Scalar::F32);
                let m = e.convert(c, n);
                e.mul(m, x)
            }),
            1
        );
        assert_eq!(
            kept_in(|e, [x, y, _]| {
                let one = e.f32(1.0);
                let sum = e.add(x, y);
                e.add(sum, one)
            }),
            1
        );
        assert_eq!(
            kept_in(|e, [x, ..]| {
                let once = e.one(Fn1::Reciprocal, x);
                e.one(Fn1::Reciprocal, once)
            }),
            1
        );
    }

    #[test]
    fn what_models_have_is_not() {
        // x * scale + shift, then ReLU.
        assert_eq!(
            kept_in(|e, [x, y, z]| {
                let (scaled, zero) = (e.mul(x, y), e.f32(0.0));
                let shifted = e.add(scaled, z);
                let below = e.two(Fn2::Less, shifted, zero);
                e.select(below, zero, shifted)
            }),
            0
        );
        // GELU: x * (1 + erf(x * c)) * 0.5.
        assert_eq!(
            kept_in(|e, [x, ..]| {
                let (c, one, half) = (e.f32(std::f32::consts::FRAC_1_SQRT_2), e.f32(1.0), e.f32(0.5));
                let scaled = e.mul(x, c);
                let erf = e.one(Fn1::Erf, scaled);
                let factor = e.add(one, erf);
                let product = e.mul(x, factor);
                e.mul(product, half)
            }),
            0
        );
        // Its other form, with x + c * x^3.
        assert_eq!(
            kept_in(|e, [x, ..]| {
                let c = e.f32(0.044715);
                let square = e.mul(x, x);
                let cube = e.mul(square, x);
                let scaled = e.mul(cube, c);
                e.add(x, scaled)
            }),
            0
        );
        // (x - mean) / deviation * scale.
        assert_eq!(
            kept_in(|e, [x, y, z]| {
                let difference = e.sub(x, y);
                let quotient = e.two(Fn2::Div, difference, z);
                e.mul(quotient, y)
            }),
            0
        );
        // x + x.
        assert_eq!(kept_in(|e, [x, ..]| e.add(x, x)), 0);
    }
}

//! What keeps a driver from computing with floats as if they were real numbers.
//!
//! Within a kernel a compiler may replace `(x + c) - c` by `x`, `a * b + a * c` by `a * (b + c)`, `sqrt(x) * sqrt(x)` by
//! `|x|`, and `x * 0` by 0. Mesa has algebraic rules for whatever is not marked exact, SwiftShader has SPIRV-Tools' folding
//! rules, Metal and DXC have fast math, and no option of wgpu forbids any of these. A rule of this kind needs an operation
//! whose operands share a value or a constant. In those operations a constant becomes a parameter, or one operand goes through
//! its bits and an xor with a parameter that is 0, which no compiler can see through. Operations of unrelated values, as most
//! models have, stay as they are.

use smallvec::{SmallVec, smallvec};

use super::{Expr, Fn1, Fn2, Instr, Reg, Scalar};

/// A value of more parts is kept without a look at its parts.
const MOST_PARTS: usize = 16;

/// The values that a sum adds up. Most have few, and planning makes thousands of them.
type Terms = SmallVec<[Reg; 4]>;

/// The values that a product multiplies, each with whether the product is divided by it.
type Factors = SmallVec<[(Reg, bool); 4]>;

/// A value taken apart: it is the sum of its terms, and the product of its factors. `x * y + 1` has the terms `x * y` and `1`,
/// and itself as its only factor.
#[derive(Clone, Default)]
struct Parts {
    terms: Terms,
    factors: Factors,
}

impl Parts {
    fn of(value: Reg) -> Parts {
        Parts { terms: smallvec![value], factors: smallvec![(value, false)] }
    }

    fn inverse(&self) -> Factors {
        self.factors.iter().map(|&(reg, divides)| (reg, !divides)).collect()
    }
}

/// Which operands of an operation are kept.
#[derive(Clone, Copy, Default)]
struct Keep {
    a: bool,
    b: bool,
}

/// The expression under construction.
struct Keeper {
    code: Vec<(Instr, Scalar)>,
    parts: Vec<Parts>,
    /// A value, the number of the zero that keeps it, and the register that holds it kept.
    kept: Vec<(Reg, usize, Reg)>,
    zeros: [Option<Reg>; 2],
    params: Vec<u32>,
}

/// The expression and its parameters, with each value kept that a driver could combine with others. That may take more
/// parameters.
pub(super) fn kept(expr: &Expr, params: Vec<u32>) -> (Expr, Vec<u32>) {
    let code = Vec::with_capacity(expr.code.len());
    let mut keeper = Keeper { code, parts: vec![], kept: vec![], zeros: [None; 2], params };
    let mut now: Vec<Reg> = Vec::with_capacity(expr.code.len());
    for (instr, scalar) in &expr.code {
        let moved = instr.moved(|reg| now[reg.0 as usize]);
        now.push(keeper.add(moved, *scalar));
    }
    let outputs = expr.outputs.iter().map(|reg| now[reg.0 as usize]).collect();
    (Expr { code: keeper.code, outputs, mixes: expr.mixes }, keeper.params)
}

impl Keeper {
    fn add(&mut self, instr: Instr, scalar: Scalar) -> Reg {
        let instr = match instr {
            Instr::Two(f, a, b) if self.scalar(a).is_float() => {
                let (a, b) = self.apart(f, a, b);
                // The register of the kept operand may be the other operand, if that was kept before: the pair is judged
                // again.
                let (a, b) = self.apart(f, a, b);
                Instr::Two(f, a, b)
            }
            Instr::One(f, x) if self.scalar(x).is_float() && self.inverts(f, x) => {
                Instr::One(f, self.keep(x, 0))
            }
            other => other,
        };
        self.push(instr, scalar)
    }

    /// The operands of `f`, each kept or not.
    fn apart(&mut self, f: Fn2, a: Reg, b: Reg) -> (Reg, Reg) {
        let keep = self.judged(f, a, b);
        // Each operand has a zero of its own: one value, kept twice through one parameter, would be one register again.
        (if keep.a { self.keep(a, 0) } else { a }, if keep.b { self.keep(b, 1) } else { b })
    }

    fn push(&mut self, instr: Instr, scalar: Scalar) -> Reg {
        let value = Reg(self.code.len() as u32);
        let parts = if scalar.is_float() { self.parts_of(&instr, value) } else { Parts::default() };
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

    /// The same value in another register; a compiler does not know that it is the same.
    fn keep(&mut self, value: Reg, by: usize) -> Reg {
        if self.kept.iter().any(|&(.., kept)| kept == value) {
            return value;
        }
        if let Some(&(.., kept)) = self.kept.iter().find(|(of, zero, _)| (*of, *zero) == (value, by)) {
            return kept;
        }
        let kept = match self.literal(value) {
            Some(constant) if self.scalar(value) == Scalar::F64 => {
                let bits = f64::from(constant).to_bits();
                self.param(Scalar::F64, &[bits as u32, (bits >> 32) as u32])
            }
            Some(constant) => self.param(Scalar::F32, &[constant.to_bits()]),
            None => {
                let zero = self.zeros[by].unwrap_or_else(|| self.param(Scalar::U32, &[0]));
                self.zeros[by] = Some(zero);
                self.push(Instr::Kept(value, zero), self.scalar(value))
            }
        };
        self.kept.push((value, by, kept));
        kept
    }

    fn param(&mut self, scalar: Scalar, words: &[u32]) -> Reg {
        let first = self.params.len() as u32;
        self.params.extend(words);
        self.push(Instr::Param(first), scalar)
    }

    fn parts_of(&self, instr: &Instr, value: Reg) -> Parts {
        let alone = Parts::of(value);
        let terms = |a, b| self.parts(a).terms.iter().chain(&self.parts(b).terms).copied().collect();
        match *instr {
            // Compilers may find these to be their operand, except for its sign.
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
                let factors = self.parts(a).factors.iter().chain(&self.parts(b).factors).copied();
                Parts { factors: factors.collect(), ..alone }
            }
            Instr::Two(Fn2::Div | Fn2::DivRounded, a, b) => {
                let factors = self.parts(a).factors.iter().copied().chain(self.parts(b).inverse());
                Parts { factors: factors.collect(), ..alone }
            }
            _ => alone,
        }
    }

    fn is_root(&self, reg: Reg) -> bool {
        matches!(self.code[reg.0 as usize].0, Instr::One(Fn1::Sqrt, _))
    }

    fn literal(&self, reg: Reg) -> Option<f32> {
        match self.code[reg.0 as usize].0 {
            Instr::Literal(Scalar::F32 | Scalar::F64, bits) => Some(f32::from_bits(bits)),
            _ => None,
        }
    }

    /// The number of constants of the text among `parts`.
    fn literals<'r>(&self, parts: impl IntoIterator<Item = &'r Reg>) -> usize {
        parts.into_iter().filter(|reg| self.literal(**reg).is_some()).count()
    }

    fn factors(&self, reg: Reg) -> Terms {
        self.parts(reg).factors.iter().map(|factor| factor.0).collect()
    }

    /// Whether the value has more than one part, so that a compiler can simplify it.
    fn composed(&self, reg: Reg) -> bool {
        self.parts(reg).terms.len() > 1 || self.parts(reg).factors.len() > 1
    }

    /// Keeps the operand that has parts; the first, if both or none have.
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
                // A compiler can simplify x + 1 < 2, but not x + y < 0, which the ReLU of a sum computes.
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

    /// Whether a product among the terms of `a` has a factor in common with a product among the terms of `b`.
    fn shares_factor(&self, a: Reg, b: Reg) -> bool {
        let products = |reg: Reg| {
            let terms = self.parts(reg).terms.iter().map(|&term| self.factors(term));
            terms.filter(|factors| factors.len() > 1).flatten().collect::<Terms>()
        };
        let (a, b) = (products(a), products(b));
        a.iter().any(|factor| b.contains(factor))
    }

    fn judged_sum(&self, f: Fn2, a: Reg, b: Reg) -> Keep {
        let (x, y) = (&self.parts(a).terms, &self.parts(b).terms);
        // x + x is exact, however it is computed, unless x = a * b and a compiler computes a * (2 * b).
        let twice = a == b && f == Fn2::Add && self.parts(a).factors.len() == 1;
        if !twice && (self.shares_term(a, b) || self.shares_factor(a, b)) || x.len() + y.len() > MOST_PARTS {
            return self.one_of(a, b);
        }
        let zero = |reg| self.literal(reg) == Some(0.0);
        let (first, second) = (self.is_mask(a), self.is_mask(b));
        // 1 - mask is exact; in other sums with a mask the sign of a zero may change.
        if (first || second) && !(f == Fn2::Sub && self.literal(a) == Some(1.0)) {
            return Keep { a: first || zero(a), b: second && a != b || zero(b) };
        }
        let constants = self.literals(x) > 0 && self.literals(y) > 0;
        let chain = x.len() + y.len() > 2;
        match (self.literal(a).is_some(), self.literal(b).is_some()) {
            // A kept constant is one parameter for all elements.
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
            // lavapipe computes x / 0 and 0 / x as 0 where that 0 is a constant, and either operand may be that constant.
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
        // The place of 1/2 in a product makes a difference for subnormal numbers only.
        let plain = |value: f32| value.abs() == 1.0 || value.abs() == 0.5;
        let keeps = |value: f32, moves: bool| constants || value == 0.0 || (moves && !plain(value));
        match (self.literal(a), self.literal(b)) {
            (Some(value), _) => Keep { a: keeps(value, quotients || y.len() > 1), b: false },
            // SPIRV-Tools multiplies by the inverse of a constant instead of dividing; the rounding of `DivRounded` corrects
            // that.
            (_, Some(value)) => {
                Keep { b: keeps(value, f == Fn2::Div || quotients || (!divides && x.len() > 1)), a: false }
            }
            _ if constants => self.one_of(a, b),
            _ => Keep::default(),
        }
    }

    /// Whether the value is a mask: 0 or 1 by a condition, or a sum of masks and constants. Compilers turn a product with a
    /// mask into a selection, which gives 0 where 0 * infinity is NaN.
    fn is_mask(&self, reg: Reg) -> bool {
        let chosen = |reg: Reg| match self.code[reg.0 as usize].0 {
            Instr::Convert(Scalar::F32 | Scalar::F64, x) => self.scalar(x) == Scalar::Bool,
            Instr::Select { yes, no, .. } => self.literal(yes).is_some() && self.literal(no).is_some(),
            _ => false,
        };
        let terms = &self.parts(reg).terms;
        terms.iter().any(|&term| chosen(term))
            && terms.iter().all(|&term| chosen(term) || self.literal(term).is_some())
    }

    /// Whether `f` undoes the function that computed `x`, or a part of it.
    fn inverts(&self, f: Fn1, x: Reg) -> bool {
        let factors = || &self.parts(x).factors;
        let made = |by: Fn1| matches!(self.code[x.0 as usize].0, Instr::One(f, _) if f == by);
        match f {
            // -(x + c), computed as -x - c, may be a zero of the other sign.
            Fn1::Neg => self.parts(x).terms.len() > 1 && self.literals(&self.parts(x).terms) > 0,
            // sqrt(-0) is -0, so |sqrt(x)| is not sqrt(x).
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

    /// The number of parameters that keeping takes in an expression of three numbers.
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

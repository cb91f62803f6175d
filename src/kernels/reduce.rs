//! Reductions: each row of a strided view is folded once or twice to a value, and results are computed from the values.
//!
//! An operator gives expressions: `map`, which makes of each element what is folded; `finish`, which makes a value of the
//! folded number; and the results, one for each row or one for each element. Softmax takes a maximum, a sum, and a result for
//! each element; `ArgMax` takes a maximum, and the minimum of the positions that hold it.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::{Expr, Scalar};
use super::fused::{Fused, Index, Operand};
use super::{Kernel, Slot, Spec, element, given, template, whole};

/// Operands of the expressions: the element, in [`RowPass::Fold::map`] and in results for each element; and the folded number,
/// in [`RowPass::Fold::finish`].
pub(crate) const ELEMENT: usize = 0;
/// The value of the first, and of the second, pass.
pub(crate) const VALUES: [usize; 2] = [1, 2];
/// The element's position in its row, an i32.
pub(crate) const POSITION: usize = 3;
/// The first operand that is one of the further tensors ([`Side`]).
pub(crate) const FIRST_SIDE: usize = 4;

/// Which invocations share a row, or a part of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Share {
    /// One invocation folds it alone.
    Alone,
    /// The lanes of a subgroup of this known size share it, without a barrier.
    Subgroup(usize),
    /// The invocations of a workgroup share it, through workgroup memory.
    Workgroup,
}

impl Share {
    /// Invocations per workgroup.
    fn workgroup(self) -> usize {
        match self {
            Share::Alone => 64,
            Share::Subgroup(size) => SUBGROUPS * size,
            Share::Workgroup => 128,
        }
    }

    /// Invocations that share a row.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Share::Alone => 1,
            Share::Subgroup(size) => size,
            Share::Workgroup => self.workgroup(),
        }
    }

    /// Rows, or parts of rows, that a workgroup folds.
    pub(crate) fn rows(self) -> usize {
        self.workgroup() / self.lanes()
    }
}

/// Subgroups in a workgroup; each folds a row of its own.
const SUBGROUPS: usize = 4;

/// How two values become one. The order of combinations depends on the row's length alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Combine {
    Sum,
    Product,
    /// The greatest, and the least; NaN wins.
    Max,
    Min,
    /// The greatest number; what a NaN does is left open.
    MaxNumber,
}

/// Functions of `shaders/math.wgsl` that [`Combine`] calls.
const CALLED: [&str; 16] = [
    "infinity_f64",
    "max_f64",
    "min_f64",
    "infinity",
    "max_full",
    "min_full",
    "add_64",
    "mul_64",
    "max_i64",
    "max_u64",
    "min_i64",
    "min_u64",
    "add_checked_i32",
    "add_checked_u32",
    "mul_checked_i32",
    "mul_checked_u32",
];

impl Combine {
    /// For integers: whether the combination of many 32-bit values may need more than 32 bits.
    pub(crate) fn grows(self, scalar: Scalar) -> bool {
        matches!(self, Combine::Sum | Combine::Product) && !scalar.is_float()
    }

    fn identity(self, scalar: Scalar) -> &'static str {
        use Combine::*;
        match (self, scalar) {
            (Sum, Scalar::F32) => "0.0",
            (Sum, Scalar::F64) => "0.0lf",
            (Sum, Scalar::I32) => "0i",
            (Sum, Scalar::I64 | Scalar::U64) => "vec2<u32>(0u, 0u)",
            (Sum, _) => "0u",
            (Product, Scalar::F32) => "1.0",
            (Product, Scalar::F64) => "1.0lf",
            (Product, Scalar::I32) => "1i",
            (Product, Scalar::I64 | Scalar::U64) => "vec2<u32>(1u, 0u)",
            (Product, _) => "1u",
            (Max | MaxNumber, Scalar::F32) => "-infinity()",
            (Max | MaxNumber, Scalar::F64) => "-infinity_f64()",
            (Max | MaxNumber, Scalar::I32) => "i32(-2147483647 - 1)",
            (Max | MaxNumber, Scalar::I64) => "vec2<u32>(0u, 0x80000000u)",
            (Max | MaxNumber, Scalar::U64) => "vec2<u32>(0u, 0u)",
            (Max | MaxNumber, _) => "0u",
            (Min, Scalar::F32) => "infinity()",
            (Min, Scalar::F64) => "infinity_f64()",
            (Min, Scalar::I32) => "2147483647i",
            (Min, Scalar::I64) => "vec2<u32>(0xffffffffu, 0x7fffffffu)",
            (Min, Scalar::U64) => "vec2<u32>(0xffffffffu, 0xffffffffu)",
            (Min, _) => "4294967295u",
        }
    }

    fn wgsl(self, scalar: Scalar, wide: bool) -> &'static str {
        use Combine::*;
        match self {
            Sum if scalar.is_wide_integer() => "add_64(a, b)",
            Product if scalar.is_wide_integer() => "mul_64(a, b)",
            Max | MaxNumber if scalar == Scalar::I64 => "max_i64(a, b)",
            Max | MaxNumber if scalar == Scalar::U64 => "max_u64(a, b)",
            Min if scalar == Scalar::I64 => "min_i64(a, b)",
            Min if scalar == Scalar::U64 => "min_u64(a, b)",
            Sum if wide && scalar == Scalar::I32 => "add_checked_i32(a, b)",
            Sum if wide && !scalar.is_float() => "add_checked_u32(a, b)",
            Product if wide && scalar == Scalar::I32 => "mul_checked_i32(a, b)",
            Product if wide && !scalar.is_float() => "mul_checked_u32(a, b)",
            Sum => "a + b",
            Product => "a * b",
            Max if scalar == Scalar::F64 => "max_f64(a, b)",
            Min if scalar == Scalar::F64 => "min_f64(a, b)",
            Max if scalar == Scalar::F32 => "max_full(a, b)",
            Min if scalar == Scalar::F32 => "min_full(a, b)",
            Max | MaxNumber => "max(a, b)",
            Min => "min(a, b)",
        }
    }
}

/// How a row's value comes about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RowPass {
    /// From a tensor with one value for each row, which earlier calls have computed.
    Given(Scalar),
    /// From all elements: `map` of each, combined, and `finish` of the combination.
    Fold { combine: Combine, map: Expr, finish: Expr },
}

impl RowPass {
    fn scalar(&self) -> Scalar {
        match self {
            RowPass::Given(scalar) => *scalar,
            RowPass::Fold { finish, .. } => scalar_of(finish),
        }
    }
}

/// What a result, or a further tensor, has one element for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Each {
    Row,
    Element,
}

/// A further tensor that expressions read: the scale of a layer normalization, for example, has one number for each element of
/// a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Side {
    /// The number of the operand in the expressions.
    pub(crate) operand: usize,
    pub(crate) scalar: Scalar,
    /// How its element is found: from the row's number, or from the index of the row's element.
    pub(crate) index: Index,
    pub(crate) each: Each,
}

/// One reduction. Tensors: the input, the sides, the given values, the epilogue's, the results. Params: `count` (rows x
/// parts), `length` (of a row), `parts` (into which a row is cut), `rows`, then size and stride of each kept and of each
/// reduced dimension, outermost first; the index params of the sides; the constants of maps, finishes and results, in that
/// order, pass by pass; the epilogue's.
///
/// Result 0 goes through the epilogue. Where rows are cut into parts, a result for each row is one for each part: that of part
/// `i` of row `r` is element `r * parts + i`, or element `i * rows + r` if `across`. With 3 rows in 4 parts, part 1 of row 2
/// is element 9, or 5.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reduce {
    pub(crate) share: Share,
    /// Whether every row begins at a vector and consists of whole vectors of neighbours in memory.
    pub(crate) vector: bool,
    /// Whether neighbouring invocations take neighbouring rows, rather than neighbouring parts of one row.
    pub(crate) across: bool,
    pub(crate) scalar: Scalar,
    /// Numbers of kept and of reduced dimensions.
    pub(crate) kept: usize,
    pub(crate) reduced: usize,
    pub(crate) sides: Vec<Side>,
    pub(crate) passes: Vec<RowPass>,
    pub(crate) results: Vec<(Each, Expr)>,
    pub(crate) epilogue: Fused,
    /// Whether sums and products are 64-bit integers: the kernel then reports those that do not fit 32 bits.
    pub(crate) wide: bool,
    /// Whether result 0 is written to the input's memory.
    pub(crate) in_place: bool,
}

fn scalar_of(expr: &Expr) -> Scalar {
    expr.output_scalars().first().copied().unwrap_or(Scalar::F32)
}

/// Names of the size and stride parameters of `rank` dimensions.
fn dims(name: &str, rank: usize) -> impl Iterator<Item = String> {
    (0..rank).flat_map(move |d| [format!("{name}_size{d}"), format!("{name}_stride{d}")])
}

/// A WGSL function from the number of a row, or of an element in a row, to its index in memory.
fn place_function(name: &str, rank: usize) -> String {
    let mut text = format!("fn {name}_at(n: u32) -> u32 {{\n");
    text += match rank {
        0 => "  return 0u;\n",
        _ => "  var i = n;\n  var at = 0u;\n",
    };
    for d in (1..rank).rev() {
        text += &format!("  at += (i % p.{name}_size{d}) * p.{name}_stride{d};\n  i /= p.{name}_size{d};\n");
    }
    if rank > 0 {
        text += &format!("  return at + i * p.{name}_stride0;\n");
    }
    text + "}\n"
}

impl Reduce {
    /// The expressions in the order of their constants, each with the prefix that its constants' names have.
    fn exprs(&self) -> Vec<(String, &Expr)> {
        let mut exprs = Vec::new();
        for (k, pass) in self.passes.iter().enumerate() {
            if let RowPass::Fold { map, finish, .. } = pass {
                exprs.push((format!("map{k}"), map));
                exprs.push((format!("finish{k}"), finish));
            }
        }
        exprs.extend(self.results.iter().enumerate().map(|(k, (_, expr))| (format!("result{k}"), expr)));
        exprs
    }

    /// A side as fused code that only finds an index.
    fn indexed(&self, side: &Side) -> Fused {
        Fused { expr: Expr::default(), operands: vec![Operand { scalar: side.scalar, index: side.index }] }
    }

    fn prefix(side: &Side) -> String {
        format!("s{}_", side.operand)
    }

    fn side_index(&self, side: &Side) -> String {
        let o = if side.each == Each::Row { "row" } else { "at" };
        self.indexed(side).index(&Self::prefix(side), 0, o)
    }

    /// A WGSL function of one expression, which may read the values of the first `passes` passes.
    fn function(
        &self,
        name: &str,
        expr: &Expr,
        input: Scalar,
        passes: usize,
        used: &mut BTreeSet<&'static str>,
    ) -> String {
        let load = |operand: usize, place: Option<&str>| match (operand, place) {
            (_, Some(place)) => format!("s{operand}[{place}]"),
            (ELEMENT, _) => "e".into(),
            (POSITION, _) => "i32(column)".into(),
            (operand, _) if operand < FIRST_SIDE => format!("v{}", operand - VALUES[0]),
            _ => match self.sides.iter().find(|side| side.operand == operand) {
                Some(Side { each: Each::Row, .. }) => format!("q{operand}"),
                Some(side) => format!("s{operand}[{}]", self.side_index(side)),
                None => "0".into(),
            },
        };
        let (lines, outputs) = expr.wgsl(load, |i| format!("p.{name}_c{i}"), ("at", "true"), used);
        let mut parameters = format!("e: {}, at: u32, column: u32, row: u32", input.word());
        for (k, pass) in self.passes.iter().enumerate().take(passes) {
            parameters += &format!(", v{k}: {}", pass.scalar().word());
        }
        for side in self.sides.iter().filter(|side| side.each == Each::Row) {
            parameters += &format!(", q{}: {}", side.operand, side.scalar.word());
        }
        format!(
            "fn {name}({parameters}) -> {} {{\n  {}\n  return {};\n}}\n",
            scalar_of(expr).word(),
            lines.join("\n  "),
            outputs.first().cloned().unwrap_or_default()
        )
    }

    /// The arguments, after the first, of a function that reads the values of the first `passes` passes.
    fn arguments(&self, passes: usize) -> String {
        let values = (0..passes).map(|k| format!(", v{k}"));
        let sides = self.sides.iter().filter(|side| side.each == Each::Row);
        values.chain(sides.map(|side| format!(", q{}", side.operand))).collect()
    }

    fn result_name(&self, k: usize) -> String {
        if k == 0 && self.in_place { "x".into() } else { format!("y{k}") }
    }

    /// The register type of result `k`.
    fn result_scalar(&self, k: usize) -> Scalar {
        match self.results.get(k) {
            Some(_) if k == 0 => scalar_of(&self.epilogue.expr),
            Some((_, expr)) => scalar_of(expr),
            None => Scalar::F32,
        }
    }
}

impl Spec for Reduce {
    fn label(&self) -> String {
        let folds = self.passes.iter().filter_map(|pass| match pass {
            RowPass::Fold { combine, .. } => Some(format!("_{combine:?}").to_lowercase()),
            RowPass::Given(_) => None,
        });
        let kind = match self.share {
            Share::Alone => "reduce",
            Share::Subgroup(_) => "reduce_subgroup",
            Share::Workgroup => "reduce_group",
        };
        let each = if self.results.iter().any(|r| r.0 == Each::Element) { "_each" } else { "" };
        format!("{kind}{}{each}", folds.collect::<String>())
    }

    fn slots(&self) -> Vec<Slot> {
        let word = |scalar| element(scalar, false);
        let x = element(self.scalar, self.vector);
        let mut slots = vec![Slot { name: "x".into(), element: x, written: self.in_place }];
        slots.extend(self.sides.iter().map(|s| Slot::read(format!("s{}", s.operand), word(s.scalar))));
        for (k, pass) in self.passes.iter().enumerate() {
            if let RowPass::Given(scalar) = pass {
                slots.push(Slot::read(format!("g{k}"), word(*scalar)));
            }
        }
        slots.extend(self.epilogue.bound().map(|(i, o)| Slot::read(format!("e{i}"), word(o.scalar))));
        for k in usize::from(self.in_place)..self.results.len() {
            let vector = self.vector && self.results[k].0 == Each::Element;
            slots.push(Slot::write(self.result_name(k), element(self.result_scalar(k), vector)));
        }
        slots
    }

    fn params(&self) -> Vec<String> {
        let mut names: Vec<String> = ["count", "length", "parts", "rows"].map(String::from).into();
        names.extend(dims("kept", self.kept));
        names.extend(dims("reduced", self.reduced));
        names.extend(self.sides.iter().flat_map(|side| self.indexed(side).params(&Self::prefix(side))));
        for (name, expr) in self.exprs() {
            names.extend((0..expr.param_count()).map(|i| format!("{name}_c{i}")));
        }
        names.extend(self.epilogue.params("e"));
        names
    }

    fn takes_wide(&self) -> bool {
        // No device passes 64 bits from lane to lane.
        let folds = self.passes.iter().all(|pass| match pass {
            RowPass::Fold { map, .. } => !scalar_of(map).is_wide(),
            RowPass::Given(_) => true,
        });
        folds || !matches!(self.share, Share::Subgroup(_))
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let mut functions = place_function("kept", self.kept) + &place_function("reduced", self.reduced);
        for side in &self.sides {
            functions += &self.indexed(side).index_functions(&Self::prefix(side));
        }
        let mut folds = Vec::new();
        let mut given = Vec::new();
        for (k, pass) in self.passes.iter().enumerate() {
            let RowPass::Fold { combine, map, finish } = pass else {
                given.push(k);
                continue;
            };
            let scalar = scalar_of(map);
            functions += &self.function(&format!("map{k}"), map, self.scalar, k, used);
            functions += &self.function(&format!("finish{k}"), finish, scalar, k, used);
            let (word, value, identity) =
                (scalar.word(), combine.wgsl(scalar, self.wide), combine.identity(scalar));
            functions +=
                &format!("fn combine{k}(a: {word}, b: {word}) -> {word} {{\n  return {value};\n}}\n");
            let called = |name: &&str| value.contains(*name) || identity.contains(*name);
            used.extend(CALLED.into_iter().filter(called));
            // The distances over which lanes combine their values: from half the subgroup's size down to 1.
            let halves = std::iter::successors(Some(self.share.lanes() / 2), |s| Some(s / 2));
            let steps: Vec<usize> = halves.take_while(|&s| s > 0).collect();
            folds.push(context!(k, word, identity, steps, arguments => self.arguments(k)));
        }
        let (mut by_row, mut by_element) = (Vec::new(), Vec::new());
        for (k, (each, expr)) in self.results.iter().enumerate() {
            functions += &self.function(&format!("result{k}"), expr, self.scalar, self.passes.len(), used);
            let result = context!(k, name => self.result_name(k), word => self.result_scalar(k).word());
            if *each == Each::Row { by_row.push(result) } else { by_element.push(result) }
        }
        functions += &self.epilogue.function("epilogue", "e", used);
        let sides = self.sides.iter().filter(|side| side.each == Each::Row);
        let sides: Vec<_> =
            sides.map(|side| context!(operand => side.operand, index => self.side_index(side))).collect();
        let share = match self.share {
            Share::Alone => "alone",
            Share::Subgroup(_) => "subgroup",
            Share::Workgroup => "workgroup",
        };
        let (workgroup, lanes) = (self.share.workgroup(), self.share.lanes());
        let zero = format!("{}(0)", self.scalar.word());
        let context = context!(
            workgroup, lanes, share, zero, given, sides, folds, by_row, by_element,
            vector => self.vector, by => if self.vector { " * 4u" } else { "" }, across => self.across, arguments => self.arguments(self.passes.len()),
        );
        functions + "\n" + &template::render("reduce", context)
    }

    fn reports(&self) -> bool {
        self.wide || self.exprs().iter().any(|(_, expr)| expr.reports()) || self.epilogue.expr.reports()
    }

    fn fits(&self, params: &[u32]) -> Result<(), &'static str> {
        // The strides stand behind count, length, parts and rows.
        let strides = |first: usize, rank: usize| (first..first + rank).map(|dim| 4 + 2 * dim + 1);
        let neighbours = |stride: usize| {
            let (size, stride) = (params.get(stride - 1), params.get(stride));
            size == Some(&1) || (stride == Some(&1) && size == params.get(1))
        };
        let vectors = whole(params, strides(0, self.kept).chain([1]))
            && strides(self.kept, self.reduced).all(neighbours);
        given("rows of whole vectors", !self.vector || vectors)
    }

    fn in_place(&self, slot: usize) -> Option<Kernel> {
        let elements = self.results.len() == 1 && self.results[0].0 == Each::Element;
        let fits =
            slot == 0 && !self.in_place && elements && self.result_scalar(0).word() == self.scalar.word();
        fits.then(|| Reduce { in_place: true, ..self.clone() }.into())
    }
}

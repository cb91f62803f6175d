//! Operators in the forms of opset versions before 7 (Max, Mean, Min and Sum: before 8), and of a few later ones. Each becomes
//! nodes of the newest version, so that nothing else knows the old forms. Where only dtypes were added, an operator's own row says
//! so.
//!
//! History: binary operators 1 and 6 broadcast if `broadcast` is set, and `axis` is then the first axis of A that B has;
//! `consumed_inputs` of version 1 is a hint. Cast 1 names its dtype; Concat 1 has a default axis; Reshape 1, Pad 1 and Upsample 1
//! have attributes for inputs; Split 1 may have an input; Tile 1 repeats along one axis; Dropout 1 and 6 have `is_test`; Selu 1
//! has other constants; the exponent of LpPool 1 and GlobalLpPool 1 is a float.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{Attr, DType, NodeDef, Op, Row, Types, Why, refuse, types};
use crate::graph::ValueId;

/// The operator in the versions up to `last`.
const fn old(
    name: &'static str,
    last: i64,
    types: Types,
    parse: fn(&NodeDef) -> Result<Op, Why>,
    cases: fn() -> Vec<Case>,
) -> Row {
    Row { domain: "", name, opsets: (1, last), types, parse, cases }
}

const ARITHMETIC: Types = types![T T -> T; T: FLOATS WORDS@6];
const LOGIC: Types = types![bool bool -> bool];
const COMPARISON: Types = types![T T -> bool; T: FLOATS];
const VARIADIC: Types = types![[T] -> T; T: FLOATS];
const UNARY: Types = types![T -> T; T: FLOATS];

pub(crate) const ROWS: &[Row] = &[
    old("Add", 6, ARITHMETIC, binary, || binary_cases("Add")),
    old("Sub", 6, ARITHMETIC, binary, || binary_cases("Sub")),
    old("Mul", 6, ARITHMETIC, binary, || binary_cases("Mul")),
    old("Div", 6, ARITHMETIC, binary, || binary_cases("Div")),
    old("Pow", 6, types![T T -> T; T: FLOATS], binary, || binary_cases("Pow")),
    old("And", 6, LOGIC, binary, || logic_cases("And")),
    old("Or", 6, LOGIC, binary, || logic_cases("Or")),
    old("Xor", 6, LOGIC, binary, || logic_cases("Xor")),
    old("Equal", 6, types![T T -> bool; T: INDICES BOOL], binary, || logic_cases("Equal")),
    old("Greater", 6, COMPARISON, binary, || binary_cases("Greater")),
    old("Less", 6, COMPARISON, binary, || binary_cases("Less")),
    old("PRelu", 6, types![T T -> T; T: FLOATS], prelu, prelu_cases),
    old("Gemm", 6, types![T T T -> T; T: FLOATS], gemm, gemm_cases),
    old("Max", 7, VARIADIC, variadic, || variadic_cases("Max")),
    old("Min", 7, VARIADIC, variadic, || variadic_cases("Min")),
    old("Sum", 7, VARIADIC, variadic, || variadic_cases("Sum")),
    old("Mean", 7, VARIADIC, variadic, || variadic_cases("Mean")),
    old("Cast", 5, types![T1 -> T2; T1 T2: NUMBERS BOOL], cast, cast_cases),
    old("Concat", 3, VARIADIC, concat, concat_cases),
    old("Reshape", 4, UNARY, reshape, reshape_cases),
    old("Tile", 5, types![T T T -> T; T: FLOATS], tile, tile_cases),
    old("Pad", 1, UNARY, pad, pad_cases),
    old("Split", 1, types![T T -> [T]; T: FLOATS], split, split_cases),
    old("Dropout", 6, types![T -> T T; T: FLOATS], dropout, dropout_cases),
    old("Selu", 5, UNARY, selu, selu_cases),
    old("LpPool", 1, UNARY, lp_pool, lp_pool_cases),
    old("GlobalLpPool", 1, UNARY, lp_pool, global_lp_pool_cases),
    old("Upsample", 6, types![T -> T; T: FLOATS INDICES BOOL], upsample, upsample_cases),
];

/// `b`, so that its first axis stands at `axis` of `a`: an axis of one element follows for each axis that `a` has beyond.
fn aligned(body: &mut Body, a: ValueId, b: ValueId, axis: i64, clipped: bool) -> Result<ValueId, Why> {
    let (a_shape, b_shape) = (body.node("Shape", &[a])?, body.node("Shape", &[b])?);
    let (a_rank, b_rank) = (body.node("Shape", &[a_shape])?, body.node("Shape", &[b_shape])?);
    let from_axis = match axis {
        0.. => {
            let axis = body.list(&[axis]);
            body.node("Sub", &[a_rank, axis])?
        }
        // The axis counts from the last one of `a`.
        _ => body.list(&[axis.saturating_neg()]),
    };
    let mut beyond = body.node("Sub", &[from_axis, b_rank])?;
    if clipped {
        let none = body.list(&[0]);
        beyond = body.node("Max", &[beyond, none])?;
    }
    let one = Attr::Tensor(case::list(&[1]));
    let ones = body.with("ConstantOfShape", &[("value", one)], &[beyond])?;
    let shape = body.joined(&[b_shape, ones])?;
    body.node("Reshape", &[b, shape])
}

fn binary(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let (a, mut b) = (body.input(0)?, body.input(1)?);
    if def.attributes.flag("broadcast", false)?
        && let Some(axis) = def.attributes.int("axis")?
    {
        b = aligned(&mut body, a, b, axis, false)?;
    }
    let y = body.node(def.op_type, &[a, b])?;
    body.finish(&[y])
}

/// The slope has an element for each channel, which is axis 1, or one for all.
fn prelu(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let (x, slope) = (body.input(0)?, body.input(1)?);
    let slope = aligned(&mut body, x, slope, 1, true)?;
    let y = body.node("PRelu", &[x, slope])?;
    body.finish(&[y])
}

fn gemm(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let inputs = [body.input(0)?, body.input(1)?, body.input(2)?];
    let kept = body.kept(&["alpha", "beta", "transA", "transB"]);
    let y = body.with("Gemm", &kept, &inputs)?;
    body.finish(&[y])
}

fn variadic(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let inputs = (0..def.inputs.len()).map(|i| body.input(i)).collect::<Result<Vec<_>, Why>>()?;
    let y = body.node(def.op_type, &inputs)?;
    body.finish(&[y])
}

fn cast(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let to = match def.attributes.string_or("to", "")?.as_str() {
        "FLOAT" => DType::F32,
        "FLOAT16" => DType::F16,
        "DOUBLE" => DType::F64,
        "BOOL" => DType::Bool,
        "INT8" => DType::I8,
        "INT16" => DType::I16,
        "INT32" => DType::I32,
        "INT64" => DType::I64,
        "UINT8" => DType::U8,
        "UINT16" => DType::U16,
        "UINT32" => DType::U32,
        "UINT64" => DType::U64,
        other => refuse!("attribute 'to' is '{other}', which is no data type of this version"),
    };
    let x = body.input(0)?;
    let y = body.cast(x, to)?;
    body.finish(&[y])
}

fn concat(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let inputs = (0..def.inputs.len()).map(|i| body.input(i)).collect::<Result<Vec<_>, Why>>()?;
    let axis = Attr::Int(def.attributes.int_or("axis", 1)?);
    let y = body.with("Concat", &[("axis", axis)], &inputs)?;
    body.finish(&[y])
}

fn reshape(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let x = body.input(0)?;
    let y = match def.attributes.ints("shape")? {
        Some(shape) => body.reshaped(x, &shape)?,
        None => refuse!("attribute 'shape' is required"),
    };
    body.finish(&[y])
}

fn tile(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let (x, tiles, axis) = (body.input(0)?, body.input(1)?, body.input(2)?);
    let number = |body: &mut Body, x: ValueId| {
        let x = body.cast(x, DType::I64)?;
        body.reshaped(x, &[1])
    };
    let (tiles, axis) = (number(&mut body, tiles)?, number(&mut body, axis)?);
    let shape = body.node("Shape", &[x])?;
    let rank = body.node("Shape", &[shape])?;
    let one = Attr::Tensor(case::list(&[1]));
    let ones = body.with("ConstantOfShape", &[("value", one)], &[rank])?;
    let repeats = body.with("ScatterElements", &[("axis", Attr::Int(0))], &[ones, axis, tiles])?;
    let y = body.node("Tile", &[x, repeats])?;
    body.finish(&[y])
}

fn pad(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let x = body.input(0)?;
    let Some(pads) = def.attributes.ints("paddings")? else { refuse!("attribute 'paddings' is required") };
    let (pads, value) = (body.list(&pads), body.number(def.attributes.float_or("value", 0.0)?, x)?);
    let kept = body.kept(&["mode"]);
    let y = body.with("Pad", &kept, &[x, pads, value])?;
    body.finish(&[y])
}

fn split(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let x = body.input(0)?;
    let sizes = match (body.optional(1), def.attributes.ints("split")?) {
        (Some(sizes), _) => Some(body.cast(sizes, DType::I64)?),
        (None, Some(sizes)) => Some(body.list(&sizes)),
        (None, None) => None,
    };
    let mut attributes = vec![("axis", Attr::Int(def.attributes.int_or("axis", 0)?))];
    if sizes.is_none() {
        attributes.push(("num_outputs", Attr::Int(def.listed.len() as i64)));
    }
    let outputs = body.outputs("Split", &attributes, &[Some(x), sizes], def.listed.len())?;
    body.finish(&outputs)
}

fn dropout(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    if !def.attributes.flag("is_test", false)? {
        refuse!("without is_test the node drops elements at random; set it to 1 for inference");
    }
    let x = body.input(0)?;
    let [y, mask] = body.call("Dropout", &[], &[Some(x)])?;
    let mask = body.node("CastLike", &[mask, x])?;
    body.finish(&[y, mask])
}

fn selu(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let x = body.input(0)?;
    let alpha = Attr::Float(def.attributes.float_or("alpha", 1.6732)?);
    let gamma = Attr::Float(def.attributes.float_or("gamma", 1.0507)?);
    let y = body.with("Selu", &[("alpha", alpha), ("gamma", gamma)], &[x])?;
    body.finish(&[y])
}

fn lp_pool(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let x = body.input(0)?;
    let p = def.attributes.float_or("p", 2.0)?;
    if p.fract() != 0.0 || !(1.0..=1e6).contains(&p) {
        refuse!("attribute 'p' is {p}, and must be a whole number from 1 on");
    }
    let mut attributes = body.kept(&["auto_pad", "kernel_shape", "pads", "strides"]);
    attributes.push(("p", Attr::Int(p as i64)));
    let y = body.with(def.op_type, &attributes, &[x])?;
    body.finish(&[y])
}

fn upsample(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let x = body.input(0)?;
    let scale = |key: &str| match def.attributes.float(key)? {
        Some(scale) => Ok::<f32, Why>(scale),
        None => refuse!("attribute '{key}' is required"),
    };
    let scales = [1.0, 1.0, scale("height_scale")?, scale("width_scale")?];
    let scales = body.constant(case::values(&[4], &scales));
    let mode = match def.attributes.string_or("mode", "nearest")?.as_str() {
        "nearest" => "nearest",
        "bilinear" => "linear",
        other => refuse!("mode '{other}' is neither nearest nor bilinear"),
    };
    let attributes = [
        ("mode", Attr::String(mode.into())),
        ("coordinate_transformation_mode", Attr::String("asymmetric".into())),
        ("nearest_mode", Attr::String("floor".into())),
    ];
    let [y] = body.call("Resize", &attributes, &[Some(x), None, Some(scales)])?;
    body.finish(&[y])
}

fn new(op: &str, name: &str) -> Case {
    Case::new(op, name).opset(6)
}

fn binary_cases(op: &'static str) -> Vec<Case> {
    let of = |name: &str, a: &[usize], b: &[usize]| {
        let case = new(op, name).tolerance(Tolerance::TRANSCENDENTAL);
        case.input(case::uniform(a, 0.5, 2.0)).input(case::uniform(b, 0.5, 2.0))
    };
    let broadcast = |name: &str, a: &[usize], b: &[usize]| of(name, a, b).int("broadcast", 1);
    vec![
        of("old", &[2, 3], &[2, 3]),
        broadcast("old_suffix", &[2, 3, 4], &[4]),
        broadcast("old_one", &[2, 3], &[1]),
        broadcast("old_axis", &[2, 3, 4, 5], &[3, 4]).int("axis", 1),
        broadcast("old_first_axis", &[2, 3], &[2]).int("axis", 0),
        broadcast("old_negative_axis", &[2, 3, 4], &[3]).int("axis", -2),
        of("version_1", &[2, 3], &[2, 3]).opset(1).ints("consumed_inputs", &[0, 0]),
    ]
}

fn logic_cases(op: &'static str) -> Vec<Case> {
    let flags = |n: usize| (0..n).map(|i| i % 3 == 0).collect::<Vec<_>>();
    let of = |name: &str, a: &[usize], b: &[usize]| {
        let (m, n) = (a.iter().product(), b.iter().product());
        let case = new(op, name).tolerance(Tolerance::EXACT).int("broadcast", 1);
        case.input(case::bools(a, &flags(m))).input(case::bools(b, &flags(n)))
    };
    vec![of("old_suffix", &[2, 3], &[3]), of("old_axis", &[2, 3, 4], &[2, 3]).int("axis", 0)]
}

fn prelu_cases() -> Vec<Case> {
    let of = |name: &str, x: &[usize], slope: &[usize]| {
        new("PRelu", name).input(case::random(x)).input(case::random(slope))
    };
    vec![
        of("old_channels", &[2, 3, 4, 5], &[3]),
        of("old_one", &[2, 3, 4], &[1]),
        of("old_matrix", &[4, 3], &[3]),
        of("old_line", &[4], &[1]),
    ]
}

fn gemm_cases() -> Vec<Case> {
    let of = |name: &str, c: &[usize]| {
        let case = new("Gemm", name).tolerance(Tolerance::ACCUMULATION);
        case.input(case::random(&[3, 5])).input(case::random(&[4, 5])).input(case::random(c)).int("transB", 1)
    };
    vec![of("old", &[3, 4]), of("old_row", &[4]).int("broadcast", 1).float("alpha", 0.5)]
}

fn variadic_cases(op: &'static str) -> Vec<Case> {
    let x = |low: f32| case::uniform(&[2, 3], low, low + 1.0);
    vec![
        new(op, "old").input(x(0.0)).input(x(0.2)).input(x(-0.3)),
        new(op, "version_7").opset(7).input(x(0.0)),
    ]
}

fn cast_cases() -> Vec<Case> {
    let of = |to: &str, x: &[f32]| {
        Case::new("Cast", &format!("old_{to}"))
            .opset(1)
            .tolerance(Tolerance::EXACT)
            .string("to", to)
            .input(case::values(&[x.len()], x))
    };
    vec![of("INT32", &[1.5, -2.0]), of("BOOL", &[0.0, -2.0]), of("FLOAT16", &[0.25, 7.0])]
}

fn concat_cases() -> Vec<Case> {
    let case = Case::new("Concat", "old").opset(1).tolerance(Tolerance::EXACT);
    vec![case.input(case::random(&[2, 3])).input(case::random(&[2, 1]))]
}

fn reshape_cases() -> Vec<Case> {
    let case = Case::new("Reshape", "old").opset(1).tolerance(Tolerance::EXACT);
    vec![case.ints("shape", &[0, -1]).input(case::random(&[2, 3, 4]))]
}

fn tile_cases() -> Vec<Case> {
    let number = |x: f32| case::values(&[], &[x]);
    let case = Case::new("Tile", "old").opset(1).tolerance(Tolerance::EXACT);
    vec![case.input(case::random(&[2, 3])).constant(number(3.0)).constant(number(1.0))]
}

fn pad_cases() -> Vec<Case> {
    let case = Case::new("Pad", "old").opset(1).tolerance(Tolerance::EXACT);
    vec![case.ints("paddings", &[0, 1, 2, 0]).float("value", 1.5).input(case::random(&[2, 3]))]
}

fn split_cases() -> Vec<Case> {
    let new = |name: &str| Case::new("Split", name).opset(1).tolerance(Tolerance::EXACT).outputs(2);
    vec![
        new("old").input(case::random(&[4, 3])),
        new("old_sizes").int("axis", 1).ints("split", &[1, 2]).input(case::random(&[4, 3])),
        new("old_input").input(case::random(&[4, 3])).constant(case::values(&[2], &[3.0f32, 1.0])),
    ]
}

fn dropout_cases() -> Vec<Case> {
    let case = new("Dropout", "old").tolerance(Tolerance::EXACT).int("is_test", 1).outputs(2);
    vec![case.input(case::random(&[2, 3]))]
}

fn selu_cases() -> Vec<Case> {
    let case = Case::new("Selu", "old").opset(1).tolerance(Tolerance::TRANSCENDENTAL);
    vec![case.input(case::uniform(&[9], -3.0, 3.0))]
}

fn lp_pool_cases() -> Vec<Case> {
    let case = Case::new("LpPool", "old").opset(1).tolerance(Tolerance::ACCUMULATION);
    vec![case.float("p", 3.0).ints("kernel_shape", &[2, 2]).input(case::random(&[1, 2, 4, 5]))]
}

fn global_lp_pool_cases() -> Vec<Case> {
    let case = Case::new("GlobalLpPool", "old").opset(1).tolerance(Tolerance::ACCUMULATION);
    vec![case.float("p", 2.0).input(case::random(&[1, 2, 4, 5]))]
}

fn upsample_cases() -> Vec<Case> {
    let of = |mode: &str| {
        let case = new("Upsample", &format!("old_{mode}")).string("mode", mode);
        case.float("height_scale", 2.0).float("width_scale", 3.0).input(case::random(&[1, 2, 2, 3]))
    };
    vec![of("nearest"), of("bilinear")]
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::evaluated;
    use super::*;

    #[test]
    fn an_axis_says_where_the_second_operand_stands() {
        let of = |axis: i64, b: &[f32]| {
            let case = new("Add", "axis").int("broadcast", 1).int("axis", axis);
            let a = case::values(&[2, 3], &[0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0]);
            evaluated(&case.input(a).input(case::values(&[b.len()], b)))
        };
        let rows = [10.0, 11.0, 12.0, 23.0, 24.0, 25.0];
        assert_eq!((of(0, &[10.0, 20.0]), of(-2, &[10.0, 20.0])), (rows.to_vec(), rows.to_vec()));
        assert_eq!(of(1, &[10.0, 20.0, 30.0]), [10.0, 21.0, 32.0, 13.0, 24.0, 35.0]);
    }

    #[test]
    fn slopes_are_those_of_channels() {
        let x = case::values(&[1, 2, 2], &[-1.0f32, 2.0, -3.0, 4.0]);
        let case = new("PRelu", "channels").input(x).input(case::values(&[2], &[0.5f32, 0.25]));
        assert_eq!(evaluated(&case), [-0.5, 2.0, -0.75, 4.0]);
    }

    #[test]
    fn one_axis_is_repeated() {
        let number = |x: f32| case::values(&[], &[x]);
        let case = Case::new("Tile", "axis").opset(1).input(case::values(&[2, 1], &[1.0f32, 2.0]));
        assert_eq!(evaluated(&case.constant(number(2.0)).constant(number(1.0))), [1.0, 1.0, 2.0, 2.0]);
    }
}

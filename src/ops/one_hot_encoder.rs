//! ai.onnx.ml OneHotEncoder: a vector for each element, with 1 at the place of its category.
//!
//! History: 1. A float is truncated to a whole number first.

use super::case::{self, Case, Tolerance};
use super::scores::{ml, ml_case};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_elements, refuse, required, types};
use crate::array::Numbers;
use crate::facts::Fact;
use crate::kernels::expr::{Fn1, Fn2, Scalar};
use crate::plan::Lower;

/// The categories.
#[derive(Clone, Debug)]
pub(crate) struct OneHotEncoder {
    categories: Categories,
    /// Whether an element of no category becomes zeros; otherwise it is an error.
    zeros: bool,
}

#[derive(Clone, Debug)]
enum Categories {
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

pub(crate) const ROWS: &[Row] =
    &[ml("OneHotEncoder", 1, types![T -> float32; T: STRING F32 F64 INDICES], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let ints = def.attributes.ints("cats_int64s")?.unwrap_or_default();
    let texts = def.attributes.strings("cats_strings")?.unwrap_or_default();
    let categories = match (ints.is_empty(), texts.is_empty()) {
        (false, true) => Categories::Ints(ints),
        (true, false) => Categories::Texts(texts),
        _ => refuse!("either 'cats_int64s' or 'cats_strings' must name the categories"),
    };
    let sorted = |mut order: Vec<usize>, equal: &dyn Fn(usize, usize) -> std::cmp::Ordering| {
        order.sort_by(|&a, &b| equal(a, b));
        order.windows(2).any(|pair| equal(pair[0], pair[1]).is_eq())
    };
    let all = (0..categories.len()).collect();
    let twice = match &categories {
        Categories::Ints(ints) => sorted(all, &|a, b| ints[a].cmp(&ints[b])),
        Categories::Texts(texts) => sorted(all, &|a, b| texts[a].cmp(&texts[b])),
    };
    if twice {
        refuse!("a category is named twice");
    }
    Ok(OneHotEncoder { categories, zeros: def.attributes.flag("zeros", true)? }.into())
}

impl Categories {
    fn len(&self) -> usize {
        match self {
            Categories::Ints(ints) => ints.len(),
            Categories::Texts(texts) => texts.len(),
        }
    }
}

impl Operator for OneHotEncoder {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if (x.dtype == DType::String) != matches!(self.categories, Categories::Texts(_)) {
            refuse!("the input is {}, and the categories are of the other kind", x.dtype);
        }
        Ok(vec![Fact::new(DType::F32, [&x.shape[..], &[self.categories.len()]].concat())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let count = self.categories.len();
        let mut values = vec![0.0; x.len() * count];
        for (i, values) in values.chunks_mut(count).enumerate() {
            let place = match (&self.categories, &x.data) {
                (Categories::Texts(texts), Numbers::Text(x)) => texts.iter().position(|text| *text == x[i]),
                (Categories::Ints(ints), Numbers::Int(x)) => {
                    ints.iter().position(|&int| i128::from(int) == x[i])
                }
                // A category that float64 does not hold is no float.
                (Categories::Ints(ints), Numbers::Float(x)) => ints
                    .iter()
                    .position(|&int| int as f64 == x[i].trunc() && int as f64 as i128 == int.into()),
                _ => None,
            };
            match place {
                Some(place) => values[place] = 1.0,
                None if self.zeros => {}
                None => refuse!("element {i} is of no category, and 'zeros' is 0"),
            }
        }
        Ok(vec![Array::float(DType::F32, &[&x.shape[..], &[count]].concat(), values)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        Ok(of_elements(inputs, outputs).times(2))
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        let Categories::Ints(categories) = &self.categories else {
            refuse!("the device does not compute with strings");
        };
        if !self.zeros {
            refuse!("the device does not check for elements of no category; set 'zeros' to 1");
        }
        let (x, input) = (cx.fact(0)?, cx.input(0)?);
        let scalar = cx.scalar(input);
        let word = |&category: &i64| match (scalar, i32::try_from(category)) {
            // No float equals a category that float32 does not hold.
            (Scalar::F32, _) if category as f32 as i128 != category.into() => Ok(f32::NAN.to_bits()),
            (Scalar::F32, _) => Ok((category as f32).to_bits()),
            (_, Ok(category)) => Ok(category as u32),
            (_, Err(_)) => Err(Why::too_wide(category)),
        };
        // Nor does any float64 equal one that float64 does not hold.
        let double = |&category: &i64| match category as f64 {
            held if held as i128 == category.into() => held,
            _ => f64::NAN,
        };
        let table = if scalar == Scalar::F64 {
            cx.doubles(&categories.iter().map(double).collect::<Vec<f64>>())?
        } else {
            let words = categories.iter().map(word).collect::<Result<Vec<u32>, Why>>()?;
            cx.words(words.len(), || words)?
        };
        let shape = [&x.shape[..], &[1]].concat();
        cx.elementwise(0, &[(input, &shape), (table, &[categories.len()])], |e, regs| {
            let mut element = regs[0];
            if scalar.is_float() {
                let (zero, floor, ceil) =
                    (e.float(element, 0.0), e.one(Fn1::Floor, element), e.one(Fn1::Ceil, element));
                let negative = e.two(Fn2::Less, element, zero);
                element = e.select(negative, ceil, floor);
            }
            let category = e.bitcast(regs[1], scalar);
            let hit = e.two(Fn2::Equal, element, category);
            e.convert(hit, Scalar::F32)
        })
    }
}

fn cases() -> Vec<Case> {
    let new = |case: &str, categories: &[i64]| {
        ml_case("OneHotEncoder", case).ints("cats_int64s", categories).tolerance(Tolerance::EXACT)
    };
    let x = || case::integers(&[3, 4], -3, 4);
    let floats = [1.0f32, 1.9, -2.5, -0.5, 2.0, f32::NAN, f32::INFINITY, -1.0];
    vec![
        new("int64", &[3, -2, 0, 100]).input(x()),
        new("int32", &[3, -2]).input(case::converted(&x(), DType::I32)),
        new("float32", &[1, -2, 0, -1, (1 << 24) + 1]).input(case::values(&[2, 4], &floats)),
        new("one category", &[2]).input(x()),
        new("scalar", &[2, 5]).input(case::values(&[], &[5i64])),
        new("empty", &[2, 5]).input(case::integers(&[0, 2], 0, 3)),
        new("rank 3", &[2, 1, 0]).input(case::integers(&[2, 3, 1], -1, 3)),
    ]
}

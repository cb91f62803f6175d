//! Steps through integers: indices, quantised values, narrow types.

use super::bounds::Bounds;
use super::{Open, OpenValue};
use crate::DType;
use crate::graph::ValueId;
use crate::ops::{Attr, case};

fn index_of_most(g: &mut Open) -> Option<(OpenValue, ValueId, f64)> {
    let x = g.pick_exact()?;
    let axis = g.axis(&x)?;
    if x.sizes(axis).any(|n| n == 0) {
        return None;
    }
    let op = g.dice.of(&["ArgMax", "ArgMin"]);
    let flags = [
        ("axis", Attr::Int(axis as i64)),
        ("keepdims", Attr::Int(g.dice.below(2) as i64)),
        ("select_last_index", Attr::Int(g.dice.below(2) as i64)),
    ];
    let most = x.most(&[axis]) as f64;
    let id = g.inner(op, &flags, &[x.id])?;
    Some((x, id, most))
}

pub(super) fn arg(g: &mut Open) -> Option<()> {
    let (x, index, most) = index_of_most(g)?;
    let id = g.inner("Cast", &[("to", Attr::Int(1))], &[index])?;
    g.take(&[x.id], &[(id, Bounds { size: most, unit: 1.0, error: 0.0 })])
}

pub(super) fn one_hot(g: &mut Open) -> Option<()> {
    let (x, index, _) = index_of_most(g)?;
    let depth = g.sketch.constant(case::values(&[], &[g.dice.of(&[3i64, 5])]));
    let values = g.sketch.constant(case::values(&[2], &[0.0f32, 1.0]));
    let id = g.inner("OneHot", &[("axis", Attr::Int(-1))], &[index, depth, values])?;
    g.take(&[x.id], &[(id, Bounds { size: 1.0, unit: 1.0, error: 0.0 })])
}

/// Scales that are powers of two, so that exact values are rounded to the same integer on both sides.
pub(super) fn scales(g: &mut Open, x: &OpenValue) -> (ValueId, ValueId, Vec<(&'static str, Attr)>) {
    let axis = (0..x.rank()).find(|&axis| x.fixed(axis).is_some_and(|n| n > 0)).filter(|_| g.dice.one_in(2));
    let (shape, attributes) = match axis {
        Some(axis) => (vec![x.fixed(axis).unwrap_or(1)], vec![("axis", Attr::Int(axis as i64))]),
        None => (vec![], vec![]),
    };
    let count: usize = shape.iter().product();
    let scales: Vec<f32> = (0..count).map(|_| g.dice.of(&[0.25, 0.5, 1.0])).collect();
    let scale = g.sketch.constant(case::values(&shape, &scales));
    (scale, g.sketch.constant(case::values(&shape, &vec![3u8; count])), attributes)
}

pub(super) fn quantize(g: &mut Open) -> Option<()> {
    let x = g.pick_exact()?;
    let (scale, zero, attributes) = scales(g, &x);
    let integers = g.inner("QuantizeLinear", &attributes, &[x.id, scale, zero])?;
    let id = g.inner("DequantizeLinear", &attributes, &[integers, scale, zero])?;
    g.take(&[x.id], &[(id, Bounds { size: 256.0, unit: 0.25, error: 0.0 })])
}

pub(super) fn integer_product(g: &mut Open) -> Option<()> {
    let x = g.pick_exact()?;
    let k = x.fixed(x.rank().checked_sub(1)?).filter(|&k| k > 0)?;
    let (scale, zero) = (g.sketch.scalar(0.5), g.sketch.constant(case::values(&[], &[7u8])));
    let left = g.inner("QuantizeLinear", &[], &[x.id, scale, zero])?;
    let n = g.dice.of(&[1, 4, 7, 16]);
    let weights: Vec<u8> = (0..k * n).map(|_| g.dice.below(5) as u8).collect();
    let weights = g.sketch.constant(case::values(&[k, n], &weights));
    let sum = g.inner("MatMulInteger", &[], &[left, weights, zero])?;
    let id = g.inner("Cast", &[("to", Attr::Int(1))], &[sum])?;
    g.take(&[x.id], &[(id, Bounds { size: 1024.0 * k as f64, unit: 1.0, error: 0.0 })])
}

pub(super) fn cast(g: &mut Open) -> Option<()> {
    let x = g.pick_exact().filter(|x| x.bounds.size / x.bounds.unit <= 256.0)?;
    let to = g.dice.of(&[10, 16]);
    let narrow = g.inner("Cast", &[("to", Attr::Int(to))], &[x.id])?;
    let relu = g.inner("Relu", &[], &[narrow])?;
    let id = g.inner("Cast", &[("to", Attr::Int(1))], &[relu])?;
    g.take(&[x.id], &[(id, x.bounds)])
}

pub(super) fn integers(g: &mut Open) -> Option<()> {
    let x = g.pick_exact().filter(|x| x.bounds.size <= 1000.0)?;
    let to = g.dice.of(&[6, 7]);
    let list = |numbers: &[i64]| {
        if to == 7 { case::list(numbers) } else { case::converted(&case::list(numbers), DType::I32) }
    };
    let (three, five) = (g.sketch.constant(list(&[3])), g.sketch.constant(list(&[5])));
    let whole = g.inner("Cast", &[("to", Attr::Int(to))], &[x.id])?;
    let more = g.inner("Mul", &[], &[whole, three])?;
    let op = g.dice.of(&["Mod", "Div", "Add"]);
    let result = g.inner(op, &[], &[more, five])?;
    let id = g.inner("Cast", &[("to", Attr::Int(1))], &[result])?;
    g.take(&[x.id], &[(id, Bounds { size: 3.0 * x.bounds.size + 8.0, unit: 1.0, error: 0.0 })])
}

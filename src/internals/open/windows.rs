//! Steps that move a window over an image.

use super::bounds::{Bounds, FUNCTION, GRID, ROUNDING};
use super::rows::reduced;
use super::{Open, OpenValue};
use crate::ops::Attr;

/// A window over the axes after the second.
fn window(g: &mut Open, spatial: usize) -> (Vec<usize>, Vec<(&'static str, Attr)>) {
    let kernel: Vec<usize> = (0..spatial).map(|_| g.dice.of(&[1, 2, 3, 3])).collect();
    let (begin, end) = (g.dice.below(2) as i64, g.dice.below(2) as i64);
    let pads =
        kernel.iter().map(|&k| begin.min(k as i64 - 1)).chain(kernel.iter().map(|&k| end.min(k as i64 - 1)));
    let stride = g.dice.of(&[1, 1, 1, 2, 3]);
    (
        kernel.clone(),
        vec![("pads", Attr::Ints(pads.collect())), ("strides", Attr::Ints(vec![stride; spatial]))],
    )
}

pub(super) fn image(g: &mut Open) -> Option<(OpenValue, usize)> {
    let x = g.pick();
    let c = if (3..=4).contains(&x.rank()) { x.fixed(1) } else { None };
    c.filter(|&c| c > 0).map(|c| (x, c))
}

pub(super) fn conv(g: &mut Open) -> Option<()> {
    let (x, c) = image(g)?;
    let spatial = x.rank() - 2;
    let (kernel, mut attributes) = window(g, spatial);
    let group = g.dice.of(&[1, 1, 1, c]);
    let filters = g.dice.of(&[1, 3, 4, 8, 16, 20]);
    let filters = if group > 1 { c * g.dice.of(&[1, 1, 2]) } else { filters };
    if g.dice.one_in(5) {
        attributes.push(("dilations", Attr::Ints(vec![2; spatial])));
    }
    attributes.push(("group", Attr::Int(group as i64)));
    let mut shape = vec![filters, c / group];
    shape.extend(&kernel);
    g.terms = shape[1..].iter().product();
    let mut bounds = x.bounds.product(GRID).times(g.terms);
    let mut inputs = vec![x.id, g.constant(&shape)];
    if g.dice.one_in(2) {
        inputs.push(g.constant(&[filters]));
        bounds = bounds.sum(GRID);
    }
    g.node("Conv", &attributes, &inputs, bounds)
}

pub(super) fn conv_transpose(g: &mut Open) -> Option<()> {
    let (x, c) = image(g)?;
    let (kernel, attributes) = window(g, x.rank() - 2);
    let filters = g.dice.of(&[1, 3, 4]);
    let mut shape = vec![c, filters];
    shape.extend(&kernel);
    g.terms = c * kernel.iter().product::<usize>();
    let weights = g.constant(&shape);
    g.node("ConvTranspose", &attributes, &[x.id, weights], x.bounds.product(GRID).times(g.terms))
}

pub(super) fn pool(g: &mut Open) -> Option<()> {
    let (x, _) = image(g)?;
    let (kernel, mut attributes) = window(g, x.rank() - 2);
    attributes.push(("kernel_shape", Attr::Ints(kernel.iter().map(|&k| k as i64).collect())));
    match g.dice.below(3) {
        0 => {
            attributes.push(("count_include_pad", Attr::Int(g.dice.below(2) as i64)));
            let bounds = Bounds::rounded(x.bounds.size, x.bounds.error + 9.0 * ROUNDING * x.bounds.size);
            g.node("AveragePool", &attributes, &[x.id], bounds)
        }
        _ => g.node("MaxPool", &attributes, &[x.id], x.bounds),
    }
}

pub(super) fn global_pool(g: &mut Open) -> Option<()> {
    let (x, _) = image(g)?;
    if x.shapes.iter().flatten().any(|shape| shape[2..].contains(&0)) {
        return None;
    }
    let n = x.most(&(2..x.rank()).collect::<Vec<_>>());
    match g.dice.below(2) {
        0 => g.node("GlobalMaxPool", &[], &[x.id], x.bounds),
        _ => g.node("GlobalAveragePool", &[], &[x.id], reduced("ReduceMean", x.bounds, n)),
    }
}

pub(super) fn local_norm(g: &mut Open) -> Option<()> {
    let (x, _) = image(g)?;
    let (size, error) = (x.bounds.size, x.bounds.error);
    let bounds = Bounds::rounded(size, 2.0 * error + FUNCTION * size);
    g.node("LRN", &[("size", Attr::Int(3)), ("bias", Attr::Float(1.0))], &[x.id], bounds)
}

//! ai.onnx.ml ZipMap: each row of a matrix as a map from a label to a number.
//!
//! History: 1. The keys of a map are in order. Of a label that is listed twice, the first place counts, as in ONNX Runtime.

use std::sync::Arc;

use super::scores::{ClassLabels, matrix, ml};
use super::{
    Array, Datum, HostOperator, HostValue, Kind, Leaf, NodeDef, Op, Operator, Row, Why, Work, product,
    refuse, required, types,
};
use crate::facts::Fact;
use crate::heap;

/// ZipMap.
#[derive(Clone, Debug)]
pub(crate) struct ZipMap {
    labels: ClassLabels,
    /// The columns in the order of their labels, each label once.
    order: Vec<usize>,
}

pub(crate) const ROWS: &[Row] = &[ml("ZipMap", 1, types![float32 -> T; T: CONTAINERS], parse, Vec::new)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let ints = def.attributes.ints("classlabels_int64s")?.unwrap_or_default();
    let texts = def.attributes.strings("classlabels_strings")?.unwrap_or_default();
    let labels = match (ints.is_empty(), texts.is_empty()) {
        (false, true) => ClassLabels::Ints(ints),
        (true, false) => ClassLabels::Texts(texts),
        _ => refuse!("either 'classlabels_int64s' or 'classlabels_strings' must name the keys"),
    };
    let mut order: Vec<usize> = (0..labels.len()).collect();
    // A stable order: the first of equal labels comes first.
    match &labels {
        ClassLabels::Ints(ints) => {
            order.sort_by_key(|&i| ints[i]);
            order.dedup_by_key(|&mut i| ints[i]);
        }
        ClassLabels::Texts(texts) => {
            order.sort_by_key(|&i| &texts[i]);
            order.dedup_by_key(|&mut i| &texts[i]);
        }
    }
    Ok(ZipMap { labels, order }.into())
}

impl HostOperator for ZipMap {
    fn kinds(&self, _: &[Option<&Kind>]) -> Vec<Kind> {
        vec![Kind::Map.sequence_of()]
    }

    fn apply(&self, inputs: &[Option<&HostValue>]) -> Result<Vec<HostValue>, Why> {
        let x = required(inputs, 0)?.array()?;
        let (rows, columns) = matrix(&x.shape)?;
        if columns != self.labels.len() {
            refuse!("there are {columns} columns, and {} labels", self.labels.len());
        }
        let keys = Leaf::Array(Arc::new(self.labels.array(&self.order)));
        let mut maps: Vec<HostValue> = heap::reserved("a sequence of maps", rows)?;
        for row in 0..rows {
            let source = |i: usize| Some(row * columns + self.order[i]);
            let values = x.gather(&[self.order.len()], source, None);
            maps.push(Datum::Map { keys: keys.clone(), values: values.into() });
        }
        Ok(vec![maps.into()])
    }

    fn reads_elements(&self, _: usize) -> bool {
        true
    }

    fn work(&self, inputs: &[Option<&HostValue>]) -> Result<Work, Why> {
        let x = required(inputs, 0)?.leaf()?;
        let rows = product(&x.shape()[..x.shape().len().saturating_sub(1)]);
        let each = size_of::<HostValue>() + size_of::<Array>() + size_of::<usize>();
        Ok((Work::array(x.dtype(), x.shape())).temporary(rows, each))
    }
}

impl Operator for ZipMap {
    fn host(&self) -> Option<&dyn HostOperator> {
        Some(self)
    }

    fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        refuse!("it makes maps")
    }

    fn eval(&self, _: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        refuse!("it makes maps")
    }
}

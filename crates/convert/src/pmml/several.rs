//! Trees that follow several branches where a predicate is unknown: `weightedConfidence` and `aggregateNodes`.

use std::rc::Rc;

use super::converter::Converter;
use super::model::Outcome;
use super::predicate::Test;
use super::scope::Scope;
use super::tree;
use super::xml::Element;
use crate::Result;
use crate::graph::Type;

/// How branches are put together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Together {
    /// The shares of classes, weighted by the records of each branch.
    Weighted,
    /// The records of each class in all leaves that are reached.
    Records,
}

impl<'x> Converter<'x> {
    /// Computes every node for every row, and adds up those that count.
    pub(super) fn several_branches(
        &mut self,
        model: Element<'x>,
        scope: &Scope<'x>,
        classes: Option<Rc<Vec<String>>>,
    ) -> Result<Outcome> {
        let strategy = model.required("missingValueStrategy")?;
        let how = if strategy == "aggregateNodes" { Together::Records } else { Together::Weighted };
        let classes = classes.ok_or_else(|| model.wrong(format!("{strategy} is for classification only")))?;
        let last_counts = tree::last_counts(model)?;
        let mut shares = self.branches(model.needs("Node")?, scope, &classes, how, last_counts)?;
        if how == Together::Records {
            let all = self.graph.reduce("ReduceSum", &shares, 1, true);
            shares = self.graph.op("Div", &[&shares, &all]);
        }
        // One row of a tree without predicates becomes as many as there are examples.
        let zeros = self.filled(0.0);
        let shares = self.graph.op("Add", &[&shares, &zeros]);
        self.most_probable(model, classes, shares)
    }

    /// The shares or records of each class below a node: [n or 1, classes].
    fn branches(
        &mut self,
        node: Element<'x>,
        scope: &Scope<'x>,
        classes: &Rc<Vec<String>>,
        how: Together,
        last_counts: bool,
    ) -> Result<String> {
        self.graph.room(classes.len())?;
        let children: Vec<Element<'x>> = node.all("Node").collect();
        if children.is_empty() {
            return self.row(node, classes, how);
        }
        let count = children.len() as i64;
        let (mut columns, mut records, mut below) = (vec![], vec![], vec![]);
        for child in &children {
            let test: Test = self.predicate_of(scope, *child)?;
            columns.push(self.column(&test));
            records.push(if how == Together::Weighted { tree::records(*child)? } else { 1.0 });
            below.push(self.branches(*child, scope, classes, how, last_counts)?);
        }
        let known = self.graph.concat(&columns);
        // The first child that does not refuse the row decides: if it takes the row, it counts alone, and if that is unknown, all
        // that do not refuse it count.
        let refused = self.graph.by("Equal", &known, 0.0);
        let open = self.graph.op("Not", &[&refused]);
        let open = self.graph.cast(&open, Type::Double);
        let first = self.graph.greatest(&open);
        let place = self.graph.cast(&first, Type::Int64);
        let decides =
            self.graph.with("GatherElements", &[&known, &place], vec![crate::graph::int("axis", 1)]);
        let several = self.graph.op("IsNaN", &[&decides]);
        let records = self.graph.doubles(&[1, count], &records);
        let places: Vec<f64> = (0..count).map(|place| place as f64).collect();
        let places = self.graph.doubles(&[1, count], &places);
        let alone = self.graph.op("Equal", &[&places, &first]);
        let alone = self.graph.cast(&alone, Type::Double);
        let (weighted, alone) =
            (self.graph.op("Mul", &[&open, &records]), self.graph.op("Mul", &[&alone, &open]));
        let mut weights = self.graph.op("Where", &[&several, &weighted, &alone]);
        let all = self.graph.reduce("ReduceSum", &weights, 1, true);
        if how == Together::Weighted {
            weights = self.graph.op("Div", &[&weights, &all]);
        }
        let mut sum = self.filled(0.0);
        for (at, below) in below.iter().enumerate() {
            let weight = self.graph.columns(&weights, &[at as i64]);
            let (counts, zero) = (self.graph.by("Greater", &weight, 0.0), self.graph.scalar(0.0));
            let own = self.graph.op("Mul", &[&weight, below]);
            let own = self.graph.op("Where", &[&counts, &own, &zero]);
            sum = self.graph.op("Add", &[&sum, &own]);
        }
        let nobody = self.graph.by("Equal", &all, 0.0);
        let instead = match last_counts {
            true => self.row(node, classes, how)?,
            false => self.graph.scalar(f64::NAN),
        };
        Ok(self.graph.op("Where", &[&nobody, &instead, &sum]))
    }

    /// What a node says by itself: [1, classes].
    fn row(&mut self, node: Element<'x>, classes: &Rc<Vec<String>>, how: Together) -> Result<String> {
        let row = match how {
            Together::Weighted => tree::leaf(node, Some(classes))?.shares,
            Together::Records => tree::counts(node, classes, "recordCount")?,
        };
        Ok(self.graph.doubles(&[1, row.len() as i64], &row))
    }
}

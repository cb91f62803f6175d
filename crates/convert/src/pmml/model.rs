//! Kinds of models, and what they give.

use std::rc::Rc;

use super::converter::Converter;
use super::output::Field;
use super::scope::Scope;
use super::value::{DataType, Value};
use super::xml::{Element, short};
use crate::Result;

/// What a model gives for each row.
pub(super) struct Outcome {
    /// What it predicts.
    pub(super) value: Value,
    pub(super) classes: Option<Classes>,
    pub(super) affinities: Option<Affinities>,
    /// What the models of a chain give.
    pub(super) within: Vec<Field>,
}

/// Classes, and the probability of each.
#[derive(Clone)]
pub(super) struct Classes {
    pub(super) texts: Rc<Vec<String>>,
    /// float64 [n, classes].
    pub(super) probabilities: String,
}

/// Clusters, and the distance or similarity of each.
#[derive(Clone)]
pub(super) struct Affinities {
    pub(super) names: Rc<Vec<String>>,
    /// float64 [n, clusters].
    pub(super) table: String,
}

impl Outcome {
    pub(super) fn of(value: Value) -> Outcome {
        Outcome { value, classes: None, affinities: None, within: vec![] }
    }
}

/// What converts a model: its element, its fields, and the classes of a classifier.
type Kind<'x> = fn(&mut Converter<'x>, Element<'x>, &Scope<'x>, Option<Rc<Vec<String>>>) -> Result<Outcome>;

/// The kinds of models.
fn kind<'x>(model: Element<'x>) -> Option<Kind<'x>> {
    let kind: Kind<'x> = match model.name() {
        "ClusteringModel" => Converter::clustering_model,
        "GeneralRegressionModel" => Converter::general_regression,
        "MiningModel" => Converter::mining_model,
        "NeuralNetwork" => Converter::neural_network,
        "RegressionModel" => Converter::regression_model,
        "Scorecard" => Converter::scorecard,
        "SupportVectorMachineModel" => Converter::support_vectors,
        "TreeModel" => Converter::tree_model,
        _ => return None,
    };
    Some(kind)
}

/// Whether an element is a model of a kind that has a converter.
pub(super) fn is_model(element: Element) -> bool {
    kind(element).is_some()
}

/// The place of a class. Tools write the classes of a numeric target as 1 and as 1.0, in one document.
pub(super) fn class_place(classes: &[String], text: &str, at: Element) -> Result<usize> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let equal = || classes.iter().position(|class| number(text).is_some() && number(class) == number(text));
    let place = classes.iter().position(|class| class == text).or_else(equal);
    place.ok_or_else(|| at.wrong(format!("'{}' is no value of the target", short(text))))
}

impl<'x> Converter<'x> {
    /// The outcome of a model, and the fields that its Output declares. `classes` are those of the ensemble that it is part of.
    pub(super) fn model(
        &mut self,
        model: Element<'x>,
        around: &Scope<'x>,
        classes: Option<Rc<Vec<String>>>,
        top: bool,
    ) -> Result<(Outcome, Vec<Field>)> {
        self.deeper(model)?;
        if model.attribute("isScorable") == Some("false") {
            return Err(model.wrong("isScorable=\"false\" says that the model gives no results"));
        }
        let scope = self.model_scope(model, around, top)?;
        let classes = self.classes_of(model, classes)?;
        let kind = kind(model).ok_or_else(|| model.wrong("models of this kind are not supported"))?;
        let outcome = kind(self, model, &scope, classes)?;
        let mut outcome = self.targets(model, outcome)?;
        let fields = self.output_fields(model, &mut outcome, &scope)?;
        self.depth -= 1;
        Ok((outcome, fields))
    }

    /// The classes of a classifier, in the order of the target's declaration if it has values.
    pub(super) fn classes_of(
        &self,
        model: Element<'x>,
        inherited: Option<Rc<Vec<String>>>,
    ) -> Result<Option<Rc<Vec<String>>>> {
        if model.required("functionName")? != "classification" {
            return Ok(None);
        }
        if inherited.is_some() {
            return Ok(inherited);
        }
        let target = self.target(model).and_then(|target| self.dictionary.get(target));
        let declared = target.into_iter().flat_map(|target| target.all("Value"));
        let declared = declared.filter(|value| matches!(value.attribute("property"), None | Some("valid")));
        let mut classes: Vec<String> =
            declared.filter_map(|value| value.attribute("value")).map(String::from).collect();
        if classes.is_empty() {
            let named = model.0.descendants().map(Element).filter_map(|element| match element.name() {
                "ScoreDistribution" => element.attribute("value"),
                "Node" => element.attribute("score"),
                "RegressionTable" | "SupportVectorMachine" => element.attribute("targetCategory"),
                _ => None,
            });
            classes = named.map(String::from).collect();
        }
        super::schema::distinct(&mut classes);
        match classes.is_empty() {
            true => Err(model.wrong(
                "the classes are not known; declare them as Value elements of the target's DataField",
            )),
            false => Ok(Some(Rc::new(classes))),
        }
    }

    /// The type of the classes.
    pub(super) fn class_type(&self, model: Element<'x>) -> Result<DataType> {
        let target = self.target(model).and_then(|target| self.dictionary.get(target));
        Ok(target.map(|target| DataType::of(*target)).transpose()?.flatten().unwrap_or(DataType::String))
    }

    /// The outcome of probabilities [n, classes]: the first of the most probable classes.
    pub(super) fn most_probable(
        &mut self,
        model: Element<'x>,
        texts: Rc<Vec<String>>,
        probabilities: String,
    ) -> Result<Outcome> {
        let place = self.graph.greatest(&probabilities);
        let value = Value::places(place, &texts, self.class_type(model)?);
        Ok(Outcome { classes: Some(Classes { texts, probabilities }), ..Outcome::of(value) })
    }

    /// Columns of some classes as columns of all; those of no column are 0.
    pub(super) fn spread(&mut self, columns: String, of: &[usize], classes: usize) -> String {
        if of.iter().copied().eq(0..classes) {
            return columns;
        }
        let zeros = self.filled(0.0);
        let with_zero = self.graph.concat(&[columns, zeros]);
        let place = |class| of.iter().position(|own| *own == class).unwrap_or(of.len()) as i64;
        let places: Vec<i64> = (0..classes).map(place).collect();
        self.graph.columns(&with_zero, &places)
    }
}

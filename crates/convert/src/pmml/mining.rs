//! MiningModel: models side by side, or one after the other.

use std::rc::Rc;

use super::converter::Converter;
use super::forest::Forest;
use super::model::{Classes, Outcome};
use super::output::Field;
use super::predicate::Test;
use super::scope::Scope;
use super::value::{DataType, Meaning, Value};
use super::xml::Element;
use crate::Result;
use crate::graph::{Type, int};

/// The models of an ensemble.
struct Ensemble {
    /// What each predicts: [n, models].
    values: String,
    /// The probabilities of each: [n, models, classes].
    shares: Option<String>,
    weights: Vec<f64>,
    /// Where each takes part: float64 [n, models], 1 or 0; `None` if all always do.
    mask: Option<String>,
}

impl<'x> Converter<'x> {
    pub(super) fn mining_model(
        &mut self,
        model: Element<'x>,
        scope: &Scope<'x>,
        classes: Option<Rc<Vec<String>>>,
    ) -> Result<Outcome> {
        let segmentation = model.needs("Segmentation")?;
        let mut segments = Vec::new();
        for segment in segmentation.all("Segment") {
            let within = segment.children().find(|child| super::model::is_model(*child));
            let within = within.or_else(|| segment.children().find(|child| child.name().ends_with("Model")));
            let within =
                within.ok_or_else(|| segment.wrong("it holds no model of a kind that is supported"))?;
            segments.push((segment, within));
        }
        if segments.is_empty() {
            return Err(segmentation.wrong("it needs a Segment"));
        }
        match segmentation.required("multipleModelMethod")? {
            "modelChain" => self.chain(&segments, scope),
            "selectFirst" => self.first(&segments, scope, classes),
            "selectAll" => Err(segmentation.wrong(
                "selectAll gives any number of results, which no output of a model can hold; take the models out one by one",
            )),
            method => {
                let ensemble = self.ensemble_of(&segments, scope, classes.as_ref())?;
                let ensemble = self.treated_missing(ensemble, segmentation)?;
                match classes {
                    Some(classes) => self.vote(model, method, ensemble, classes),
                    None => self.combined(segmentation, method, ensemble),
                }
            }
        }
    }

    /// One model after the other: what each gives is a field for those after it, and the last one's outcome is the whole's.
    fn chain(&mut self, segments: &[(Element<'x>, Element<'x>)], scope: &Scope<'x>) -> Result<Outcome> {
        let (mut last, mut given) = (None, vec![]);
        let scope = Scope::new(Some(scope));
        for (segment, model) in segments {
            let test = self.predicate_of(&scope, *segment)?;
            let (mut outcome, fields) = self.model(*model, &scope, None, false)?;
            let holds = match test {
                Test::Always => None,
                test => {
                    let column = self.column(&test);
                    Some(self.graph.by("Equal", &column, 1.0))
                }
            };
            for Field { name, mut value, is_final } in fields {
                if let Some(holds) = &holds {
                    let none = self.graph.scalar(f64::NAN);
                    value.tensor = self.graph.op("Where", &[holds, &value.tensor, &none]);
                }
                scope.set(&name, value.clone());
                given.retain(|before: &Field| before.name != name);
                given.push(Field { name, value, is_final });
            }
            if let (Some(holds), Some(before)) = (&holds, &last) {
                outcome = self.either_of(*segment, holds, outcome, before)?;
            } else if let Some(holds) = &holds {
                let none = self.graph.scalar(f64::NAN);
                outcome.value.tensor = self.graph.op("Where", &[holds, &outcome.value.tensor, &none]);
                if let Some(classes) = &mut outcome.classes {
                    classes.probabilities = self.graph.op("Where", &[holds, &classes.probabilities, &none]);
                }
            }
            last = Some(outcome);
        }
        let last: Option<Outcome> = last;
        let last = last.ok_or_else(|| segments[0].0.wrong("it needs a model"))?;
        Ok(Outcome { within: given, ..last })
    }

    /// The outcome of the first model whose predicate holds.
    fn first(
        &mut self,
        segments: &[(Element<'x>, Element<'x>)],
        scope: &Scope<'x>,
        classes: Option<Rc<Vec<String>>>,
    ) -> Result<Outcome> {
        let mut whole: Option<Outcome> = None;
        for (segment, model) in segments.iter().rev() {
            let test = self.predicate_of(scope, *segment)?;
            let (mut outcome, _) = self.model(*model, scope, classes.clone(), false)?;
            if test != Test::Always {
                let column = self.column(&test);
                let holds = self.graph.by("Equal", &column, 1.0);
                match &whole {
                    Some(after) => outcome = self.either_of(*segment, &holds, outcome, after)?,
                    None => {
                        let none = self.graph.scalar(f64::NAN);
                        outcome.value.tensor =
                            self.graph.op("Where", &[&holds, &outcome.value.tensor, &none]);
                        if let Some(classes) = &mut outcome.classes {
                            classes.probabilities =
                                self.graph.op("Where", &[&holds, &classes.probabilities, &none]);
                        }
                    }
                }
            }
            whole = Some(outcome);
        }
        whole.ok_or_else(|| segments[0].0.wrong("it needs a model"))
    }

    /// One outcome where a condition holds, and otherwise the other.
    fn either_of(&mut self, at: Element<'x>, holds: &str, a: Outcome, b: &Outcome) -> Result<Outcome> {
        let meaning = match (&a.value.meaning, &b.value.meaning) {
            (Meaning::Place(texts, _), Meaning::Place(others, _)) if texts == others => {
                a.value.meaning.clone()
            }
            (Meaning::Number(a), Meaning::Number(b)) => {
                Meaning::Number(if a == b { *a } else { DataType::Double })
            }
            _ => return Err(at.wrong("its model gives another kind of result than those of other segments")),
        };
        let tensor = self.graph.op("Where", &[holds, &a.value.tensor, &b.value.tensor]);
        let mut outcome = Outcome::of(Value { tensor, meaning });
        if let (Some(a), Some(b)) = (&a.classes, &b.classes) {
            let probabilities = self.graph.op("Where", &[holds, &a.probabilities, &b.probabilities]);
            outcome.classes = Some(Classes { texts: a.texts.clone(), probabilities });
        }
        Ok(outcome)
    }

    /// Converts the models of an ensemble; trees are walked together.
    fn ensemble_of(
        &mut self,
        segments: &[(Element<'x>, Element<'x>)],
        scope: &Scope<'x>,
        classes: Option<&Rc<Vec<String>>>,
    ) -> Result<Ensemble> {
        let (mut forest, mut order, mut tests) = (Forest::default(), vec![], vec![]);
        let (mut values, mut shares) = (vec![], vec![]);
        let (trees, others): (Vec<_>, Vec<_>) =
            segments.iter().partition(|(_, model)| self.is_tree(*model) && model.child("Targets").is_none());
        for (segment, model) in trees {
            order.push(segment);
            tests.push(self.predicate_of(scope, segment)?);
            let own = self.model_scope(model, scope, false)?;
            let classes = self.classes_of(model, classes.cloned())?;
            self.plant(model, &own, classes.as_ref(), &mut forest)?;
        }
        if !forest.roots.is_empty() {
            let said = self.walked(forest);
            values.push(said.scores);
            shares.extend(said.shares);
        }
        for (segment, model) in others {
            order.push(segment);
            tests.push(self.predicate_of(scope, segment)?);
            let (outcome, _) = self.model(model, scope, classes.cloned(), false)?;
            if let Some(own) = outcome.classes {
                let axes = self.graph.ints(&[1], &[1]);
                shares.push(self.graph.op("Unsqueeze", &[&own.probabilities, &axes]));
            }
            values.push(outcome.value.tensor);
        }
        let mut weights = Vec::new();
        for segment in order {
            weights.push(segment.number::<f64>("weight")?.unwrap_or(1.0));
        }
        let mask = match tests.iter().all(|test| *test == Test::Always) {
            true => None,
            false => {
                let columns: Vec<String> = tests.iter().map(|test| self.column(test)).collect();
                let columns = self.graph.concat(&columns);
                let holds = self.graph.by("Equal", &columns, 1.0);
                Some(self.graph.cast(&holds, Type::Double))
            }
        };
        let shares = (!shares.is_empty()).then(|| self.graph.concat(&shares));
        Ok(Ensemble { values: self.graph.concat(&values), shares, weights, mask })
    }

    /// Models that give nothing count as left out, if the document says so.
    fn treated_missing(&mut self, mut ensemble: Ensemble, segmentation: Element<'x>) -> Result<Ensemble> {
        if segmentation.number::<f64>("missingThreshold")?.is_some_and(|threshold| threshold < 1.0) {
            return Err(segmentation.wrong("missingThreshold below 1 is not supported; remove it"));
        }
        match segmentation.attribute("missingPredictionTreatment") {
            None | Some("continue" | "returnMissing") => {}
            Some("skipSegment") => {
                let missing = self.graph.op("IsNaN", &[&ensemble.values]);
                let here = self.graph.op("Not", &[&missing]);
                let here = self.graph.cast(&here, Type::Double);
                ensemble.mask = Some(match ensemble.mask {
                    Some(mask) => self.graph.op("Mul", &[&mask, &here]),
                    None => here,
                });
            }
            Some(other) => return Err(segmentation.unknown("missingPredictionTreatment", other)),
        }
        Ok(ensemble)
    }

    /// The weight of each model in each row: [n or 1, models].
    fn weights(&mut self, ensemble: &Ensemble, weighted: bool) -> String {
        let count = ensemble.weights.len();
        let weights = if weighted { ensemble.weights.clone() } else { vec![1.0; count] };
        let weights = self.graph.doubles(&[1, count as i64], &weights);
        match &ensemble.mask {
            Some(mask) => self.graph.op("Mul", &[mask, &weights]),
            None => weights,
        }
    }

    /// A sum over models of what those that take part say, times their weights.
    fn weighted_sum(&mut self, x: &str, weights: &str, mask: Option<&String>) -> String {
        let x = match mask {
            // What a model that takes no part says may be missing.
            Some(mask) => {
                let (part, zero) = (self.graph.by("Equal", mask, 1.0), self.graph.scalar(0.0));
                self.graph.op("Where", &[&part, x, &zero])
            }
            None => x.into(),
        };
        let product = self.graph.op("Mul", &[&x, weights]);
        self.graph.reduce("ReduceSum", &product, 1, true)
    }

    fn combined(&mut self, at: Element<'x>, method: &str, ensemble: Ensemble) -> Result<Outcome> {
        let weighted = matches!(method, "weightedAverage" | "weightedSum" | "x-weightedSum");
        let weights = self.weights(&ensemble, weighted);
        let value =
            match method {
                "sum" | "weightedSum" | "x-weightedSum" => {
                    self.weighted_sum(&ensemble.values, &weights, ensemble.mask.as_ref())
                }
                "average" | "weightedAverage" => {
                    let sum = self.weighted_sum(&ensemble.values, &weights, ensemble.mask.as_ref());
                    let whole = self.graph.reduce("ReduceSum", &weights, 1, true);
                    self.graph.op("Div", &[&sum, &whole])
                }
                "max" => {
                    let values = match &ensemble.mask {
                        Some(mask) => {
                            let (part, least) =
                                (self.graph.by("Equal", mask, 1.0), self.graph.scalar(f64::NEG_INFINITY));
                            self.graph.op("Where", &[&part, &ensemble.values, &least])
                        }
                        None => ensemble.values.clone(),
                    };
                    let greatest = self.graph.reduce("ReduceMax", &values, 1, true);
                    let sum = self.weighted_sum(&ensemble.values, &weights, ensemble.mask.as_ref());
                    self.graph.missing_with(&sum, &greatest)
                }
                "median" if ensemble.mask.is_none() => {
                    let count = ensemble.weights.len() as i64;
                    let (sorted, _) = self.graph.sorted(&ensemble.values, count);
                    let middle = self.graph.columns(&sorted, &[(count - 1) / 2, count / 2]);
                    let middle = self.graph.reduce("ReduceMean", &middle, 1, true);
                    let sum = self.graph.reduce("ReduceSum", &ensemble.values, 1, true);
                    self.graph.missing_with(&sum, &middle)
                }
                // The first of the sorted numbers at which half of the weight is reached.
                "weightedMedian" | "x-weightedMedian" if ensemble.mask.is_none() => {
                    let count = ensemble.weights.len() as i64;
                    let (sorted, places) = self.graph.sorted(&ensemble.values, count);
                    let half = ensemble.weights.iter().sum::<f64>() / 2.0;
                    let own = self.graph.doubles(&[count], &ensemble.weights);
                    let own = self.graph.op("Gather", &[&own, &places]);
                    let axis = self.graph.ints(&[], &[1]);
                    let reached = self.graph.op("CumSum", &[&own, &axis]);
                    let reached = self.graph.by("GreaterOrEqual", &reached, half);
                    let reached = self.graph.cast(&reached, Type::Double);
                    let place = self.graph.with("ArgMax", &[&reached], vec![int("axis", 1)]);
                    let middle = self.graph.with("GatherElements", &[&sorted, &place], vec![int("axis", 1)]);
                    let sum = self.graph.reduce("ReduceSum", &ensemble.values, 1, true);
                    self.graph.missing_with(&sum, &middle)
                }
                "median" | "weightedMedian" | "x-weightedMedian" => return Err(at.wrong(
                    "the median of models with predicates, or of which some are skipped, is not supported",
                )),
                other => return Err(at.unknown("multipleModelMethod", other)),
            };
        Ok(Outcome::of(Value::double(value)))
    }

    fn vote(
        &mut self,
        model: Element<'x>,
        method: &str,
        ensemble: Ensemble,
        classes: Rc<Vec<String>>,
    ) -> Result<Outcome> {
        let weighted = method.starts_with("weighted") || method.starts_with("x-weighted");
        let weights = self.weights(&ensemble, weighted);
        let axes = self.graph.ints(&[1], &[2]);
        let each = self.graph.op("Unsqueeze", &[&weights, &axes]);
        let mask = ensemble.mask.as_ref().map(|mask| self.graph.op("Unsqueeze", &[mask, &axes]));
        let said = match (method, &ensemble.shares) {
            ("majorityVote" | "weightedMajorityVote", _) => {
                let places: Vec<f64> = (0..classes.len()).map(|place| place as f64).collect();
                let places = self.graph.doubles(&[1, 1, places.len() as i64], &places);
                let labels = self.graph.op("Unsqueeze", &[&ensemble.values, &axes]);
                let votes = self.graph.op("Equal", &[&labels, &places]);
                self.graph.cast(&votes, Type::Double)
            }
            ("average" | "weightedAverage" | "sum" | "weightedSum" | "x-weightedSum", Some(shares)) => {
                shares.clone()
            }
            ("max" | "median" | "weightedMedian", _) => {
                return Err(model.wrong(format!("multipleModelMethod=\"{method}\" of classifiers is not supported; average leads to a like result")));
            }
            (other, _) => return Err(model.unknown("multipleModelMethod", other)),
        };
        let sum = self.weighted_sum(&said, &each, mask.as_ref());
        let middle = self.graph.ints(&[1], &[1]);
        let sum = self.graph.op("Squeeze", &[&sum, &middle]);
        // Shares of all votes; of average ones, of all weights.
        let whole = match method {
            "average" | "weightedAverage" => self.graph.reduce("ReduceSum", &weights, 1, true),
            _ => self.graph.reduce("ReduceSum", &sum, 1, true),
        };
        let probabilities = self.graph.op("Div", &[&sum, &whole]);
        self.most_probable(model, classes, probabilities)
    }
}

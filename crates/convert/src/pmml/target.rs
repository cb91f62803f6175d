//! Targets: what becomes of a prediction.

use super::converter::Converter;
use super::model::{Outcome, class_place};
use super::value::{DataType, Meaning, Value};
use super::xml::Element;
use crate::Result;

impl<'x> Converter<'x> {
    pub(super) fn targets(&mut self, model: Element<'x>, mut outcome: Outcome) -> Result<Outcome> {
        let Some(targets) = model.child("Targets") else { return Ok(outcome) };
        let mut all = targets.all("Target");
        let Some(target) = all.next() else { return Ok(outcome) };
        if let Some(second) = all.next() {
            return Err(
                second.wrong("a model with several targets is not supported; give each a model of its own")
            );
        }
        if let Some(default) = target.child("TargetValue") {
            outcome = self.defaults(target, default, outcome)?;
        }
        if !matches!(outcome.value.meaning, Meaning::Number(_)) {
            return Ok(outcome);
        }
        let mut y = outcome.value.tensor;
        let mut data_type = outcome.value.meaning;
        for (bound, beyond) in [("min", "Less"), ("max", "Greater")] {
            let Some(number) = target.number::<f64>(bound)? else { continue };
            let (outside, number) = (self.graph.by(beyond, &y, number), self.graph.scalar(number));
            y = self.graph.op("Where", &[&outside, &number, &y]);
        }
        if let Some(factor) = target.number::<f64>("rescaleFactor")?.filter(|&factor| factor != 1.0) {
            y = self.graph.by("Mul", &y, factor);
        }
        if let Some(constant) = target.number::<f64>("rescaleConstant")?.filter(|&constant| constant != 0.0) {
            y = self.graph.by("Add", &y, constant);
        }
        if let Some(how) = target.attribute("castInteger") {
            y = match how {
                "round" => {
                    let more = self.graph.by("Add", &y, 0.5);
                    self.graph.op("Floor", &[&more])
                }
                "ceiling" => self.graph.op("Ceil", &[&y]),
                "floor" => self.graph.op("Floor", &[&y]),
                other => return Err(target.unknown("castInteger", other)),
            };
            data_type = Meaning::Number(DataType::Integer);
        }
        outcome.value = Value { tensor: y, meaning: data_type };
        Ok(outcome)
    }

    /// What a prediction is where the model gives none.
    fn defaults(
        &mut self,
        target: Element<'x>,
        default: Element<'x>,
        mut outcome: Outcome,
    ) -> Result<Outcome> {
        let Some(classes) = &mut outcome.classes else {
            if let Some(number) = default.number::<f64>("defaultValue")? {
                outcome.value.tensor = self.graph.unless_missing(&outcome.value.tensor, number);
            }
            return Ok(outcome);
        };
        let mut priors = vec![0.0; classes.texts.len()];
        let mut known = false;
        for value in target.all("TargetValue") {
            let prior = value.number::<f64>("priorProbability")?;
            let place =
                value.attribute("value").and_then(|text| class_place(&classes.texts, text, value).ok());
            if let (Some(prior), Some(place)) = (prior, place) {
                (priors[place], known) = (prior, true);
            }
        }
        if known {
            let most =
                (1..priors.len()).fold(0, |best, at| if priors[at] > priors[best] { at } else { best });
            let priors = self.graph.doubles(&[1, priors.len() as i64], &priors);
            let missing = self.graph.op("IsNaN", &[&outcome.value.tensor]);
            classes.probabilities = self.graph.op("Where", &[&missing, &priors, &classes.probabilities]);
            outcome.value.tensor = self.graph.unless_missing(&outcome.value.tensor, most as f64);
        }
        Ok(outcome)
    }
}

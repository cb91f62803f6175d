//! Output: the fields that a model gives.

use super::converter::Converter;
use super::model::{Outcome, class_place};
use super::scope::Scope;
use super::value::{DataType, Value};
use super::xml::{Element, short};
use crate::Result;

/// A field of an Output.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: Value,
    /// Whether it is an output of the whole, if its model is; models after its own may name it anyway.
    pub(super) is_final: bool,
}

impl<'x> Converter<'x> {
    /// The fields of a model's Output, and of those of the models that it chains.
    pub(super) fn output_fields(
        &mut self,
        model: Element<'x>,
        outcome: &mut Outcome,
        scope: &Scope<'x>,
    ) -> Result<Vec<Field>> {
        let scope = Scope::new(Some(scope));
        if let Some(target) = self.target(model) {
            scope.set(target, outcome.value.clone());
        }
        let mut fields = std::mem::take(&mut outcome.within);
        for field in &fields {
            scope.set(&field.name, field.value.clone());
        }
        for field in model.child("Output").into_iter().flat_map(|output| output.all("OutputField")) {
            let name = field.required("name")?;
            let value = self.output_field(field, outcome, &scope)?;
            let value = self.cast(value, DataType::of(field)?, field)?;
            scope.set(name, value.clone());
            let is_final = field.attribute("isFinalResult") != Some("false");
            fields.retain(|within| within.name != name);
            fields.push(Field { name: name.into(), value, is_final });
        }
        Ok(fields)
    }

    fn output_field(&mut self, field: Element<'x>, outcome: &Outcome, scope: &Scope<'x>) -> Result<Value> {
        if field.attribute("segmentId").is_some() {
            return Err(field.wrong("results of single segments are not supported; remove the OutputField"));
        }
        let wanted = field.attribute("value");
        match field.attribute("feature").unwrap_or("predictedValue") {
            "predictedValue" | "predictedDisplayValue" => Ok(outcome.value.clone()),
            "transformedValue" | "decision" => self.expression_of(scope, field),
            "probability" => {
                let classes = outcome
                    .classes
                    .as_ref()
                    .ok_or_else(|| field.wrong("the model gives no probabilities"))?;
                let column = match wanted {
                    Some(text) => {
                        let place = class_place(&classes.texts, text, field)?;
                        self.graph.columns(&classes.probabilities, &[place as i64])
                    }
                    None => self.of_place(&classes.probabilities.clone(), &outcome.value.tensor),
                };
                Ok(Value::double(column))
            }
            "clusterId" | "entityId" if outcome.affinities.is_some() => Ok(outcome.value.clone()),
            feature @ ("affinity" | "entityAffinity" | "clusterAffinity") => {
                let affinities =
                    outcome.affinities.as_ref().ok_or_else(|| field.unknown("feature", feature))?;
                let column = match wanted {
                    Some(text) => {
                        let place = affinities.names.iter().position(|name| name == text);
                        let place =
                            place.ok_or_else(|| field.wrong(format!("'{}' is no cluster", short(text))))?;
                        self.graph.columns(&affinities.table, &[place as i64])
                    }
                    None => self.of_place(&affinities.table.clone(), &outcome.value.tensor),
                };
                Ok(Value::double(column))
            }
            other => {
                Err(field
                    .wrong(format!("feature=\"{}\" is not supported; remove the OutputField", short(other))))
            }
        }
    }

    /// The element of each row of a table at a place; missing where the place is.
    fn of_place(&mut self, table: &str, place: &str) -> String {
        let at = self.graph.unless_missing(place, 0.0);
        let at = self.graph.cast(&at, crate::graph::Type::Int64);
        let own = self.graph.with("GatherElements", &[table, &at], vec![crate::graph::int("axis", 1)]);
        self.graph.missing_with(place, &own)
    }
}

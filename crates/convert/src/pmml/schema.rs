//! The data dictionary and mining schemas: what values are valid, and what becomes of others.

use std::collections::BTreeMap;

use super::converter::Converter;
use super::scope::Scope;
use super::value::{Meaning, OTHER, Value, number};
use super::xml::Element;
use crate::Result;

/// For each field, the texts that it is compared with anywhere. Those of a derived field belong to the fields that it is made of,
/// and those within functions to all.
pub(super) fn texts<'x>(root: Element<'x>) -> BTreeMap<&'x str, Vec<String>> {
    let mut found: BTreeMap<&'x str, Vec<String>> = BTreeMap::new();
    let mut of_functions = Vec::new();
    let mut sources: Vec<(&'x str, &'x str)> = Vec::new();
    for node in root.0.descendants().filter(|node| node.is_element()) {
        let element = Element(node);
        let field = ["field", "predictorName", "name"].iter().find_map(|name| element.attribute(name));
        match (element.name(), field) {
            ("DataField", Some(field)) => {
                let values = element.all("Value").filter_map(|value| value.attribute("value"));
                found.entry(field).or_default().extend(values.map(String::from));
            }
            ("SimpleSetPredicate", Some(field)) => {
                let values = element.child("Array").and_then(|array| array.array().ok());
                found.entry(field).or_default().extend(values.unwrap_or_default());
            }
            (
                "SimplePredicate" | "NormDiscrete" | "CategoricalPredictor" | "PPCell" | "MiningField",
                Some(field),
            ) => {
                let values = ["value", "missingValueReplacement", "invalidValueReplacement"];
                let values = values.iter().filter_map(|name| element.attribute(name));
                found.entry(field).or_default().extend(values.map(String::from));
            }
            ("MapValues", _) => {
                for pair in element.all("FieldColumnPair") {
                    let (Some(field), Some(column)) = (pair.attribute("field"), pair.attribute("column"))
                    else {
                        continue;
                    };
                    let column = column.rsplit(':').next().unwrap_or(column);
                    let rows = element.child("InlineTable").into_iter().flat_map(|table| table.all("row"));
                    let cells = rows.flat_map(|row| row.children().filter(|cell| cell.name() == column));
                    found.entry(field).or_default().extend(cells.map(|cell| cell.text()));
                }
            }
            ("Apply", _) => {
                let constants: Vec<String> =
                    element.all("Constant").map(|constant| constant.text()).collect();
                for field in element.all("FieldRef").filter_map(|field| field.attribute("field")) {
                    found.entry(field).or_default().extend(constants.clone());
                }
            }
            ("DefineFunction", _) => {
                let within = node.descendants().map(Element).filter(|each| each.name() == "Constant");
                of_functions.extend(within.map(|constant| constant.text()));
            }
            ("DerivedField", Some(derived)) => {
                let within = node.descendants().filter(|node| node.tag_name().name() == "FieldRef");
                sources.extend(within.filter_map(|node| Some((derived, node.attribute("field")?))));
            }
            _ => {}
        }
    }
    for texts in found.values_mut() {
        distinct(texts);
    }
    // Fields that are made of each other in a row as long as this; a document has few.
    for _ in 0..8 {
        let mut grown = false;
        for (derived, source) in &sources {
            let Some(texts) = found.get(derived).cloned() else { continue };
            let own = found.entry(source).or_default();
            let before = own.len();
            own.extend(texts);
            distinct(own);
            grown |= own.len() > before;
        }
        if !grown {
            break;
        }
    }
    distinct(&mut of_functions);
    if !of_functions.is_empty() {
        for name in root
            .child("DataDictionary")
            .into_iter()
            .flat_map(|data| data.all("DataField"))
            .filter_map(|field| field.attribute("name"))
        {
            let own = found.entry(name).or_default();
            own.extend(of_functions.clone());
            distinct(own);
        }
    }
    found
}

/// Leaves the first of equal texts.
pub(super) fn distinct(texts: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    texts.retain(|text| seen.insert(text.clone()));
}

impl<'x> Converter<'x> {
    /// The field that a model predicts.
    pub(super) fn target(&self, model: Element<'x>) -> Option<&'x str> {
        let mut fields = model.child("MiningSchema")?.all("MiningField");
        let target =
            fields.find(|field| matches!(field.attribute("usageType"), Some("target" | "predicted")));
        match target {
            Some(target) => target.attribute("name"),
            // Before version 4 the schema need not name it.
            None => ["targetFieldName", "targetVariableName"].iter().find_map(|name| model.attribute(name)),
        }
    }

    /// The fields of a model: what its schema makes of those around it, and what its local transformations derive.
    pub(super) fn model_scope(
        &mut self,
        model: Element<'x>,
        around: &Scope<'x>,
        top: bool,
    ) -> Result<Scope<'x>> {
        let scope = Scope::new(Some(around));
        for field in model.needs("MiningSchema")?.all("MiningField") {
            let name = field.required("name")?;
            if !matches!(field.attribute("usageType"), None | Some("active" | "supplementary"))
                || !around.has(name)
            {
                continue;
            }
            let treated =
                ["missingValueReplacement", "missingValueTreatment", "outliers", "invalidValueTreatment"];
            let is_treated = treated.iter().any(|name| field.attribute(name).is_some());
            let declared = self.dictionary.get(name).copied().filter(|_| top);
            if is_treated || declared.is_some() {
                let value = self.field(around, name, field)?;
                let value = self.treated(value, field, declared)?;
                scope.set(name, value.clone());
                // What the document derives sees what the model's schema makes of a field.
                if top {
                    around.set(name, value);
                }
            }
        }
        scope.derive(model.child("LocalTransformations"))?;
        Ok(scope)
    }

    /// What a field's schema makes of its value. Validity is that which the data dictionary declares, and checked at the top only.
    fn treated(
        &mut self,
        mut value: Value,
        field: Element<'x>,
        declared: Option<Element<'x>>,
    ) -> Result<Value> {
        let at = declared.unwrap_or(field);
        for missing in values(declared, "missing") {
            let Some(missing) = value.constant(missing, at)? else { continue };
            let (equal, none) = (self.graph.by("Equal", &value.tensor, missing), self.graph.scalar(f64::NAN));
            value.tensor = self.graph.op("Where", &[&equal, &none, &value.tensor]);
        }
        if let Some(invalid) = self.invalid_of(&value, declared)? {
            let replacement = match field.attribute("invalidValueTreatment") {
                None | Some("returnInvalid") => {
                    self.refuse_rows(&invalid);
                    None
                }
                Some("asIs") => None,
                Some("asMissing") => Some(f64::NAN),
                Some("asValue") => {
                    let text = field.required("invalidValueReplacement")?;
                    Some(value.constant(text, field)?.unwrap_or(OTHER))
                }
                Some(other) => return Err(field.unknown("invalidValueTreatment", other)),
            };
            if let Some(replacement) = replacement {
                let replacement = self.graph.scalar(replacement);
                value.tensor = self.graph.op("Where", &[&invalid, &replacement, &value.tensor]);
            }
        }
        self.treat_outliers(&mut value, field)?;
        if let Some(text) = field.attribute("missingValueReplacement") {
            let replacement = value.constant(text, field)?.unwrap_or(OTHER);
            value.tensor = self.graph.unless_missing(&value.tensor, replacement);
        }
        match field.attribute("missingValueTreatment") {
            Some("returnInvalid") => {
                let missing = self.graph.op("IsNaN", &[&value.tensor]);
                self.refuse_rows(&missing);
            }
            None | Some("asIs" | "asMean" | "asMode" | "asMedian" | "asValue") => {}
            Some(other) => return Err(field.unknown("missingValueTreatment", other)),
        }
        Ok(value)
    }

    fn treat_outliers(&mut self, value: &mut Value, field: Element<'x>) -> Result<()> {
        let bounds = (field.number::<f64>("lowValue")?, field.number::<f64>("highValue")?);
        match field.attribute("outliers") {
            None | Some("asIs") => {}
            Some(treatment @ ("asMissingValues" | "asExtremeValues")) => {
                for (bound, beyond) in [(bounds.0, "Less"), (bounds.1, "Greater")] {
                    let Some(bound) = bound else { continue };
                    let outside = self.graph.by(beyond, &value.tensor, bound);
                    let instead =
                        self.graph.scalar(if treatment == "asMissingValues" { f64::NAN } else { bound });
                    value.tensor = self.graph.op("Where", &[&outside, &instead, &value.tensor]);
                }
            }
            Some(other) => return Err(field.unknown("outliers", other)),
        }
        Ok(())
    }

    /// Where the value is not valid, if the dictionary says what is; a missing value is not invalid.
    fn invalid_of(&mut self, value: &Value, declared: Option<Element<'x>>) -> Result<Option<String>> {
        let Some(declared) = declared else { return Ok(None) };
        let valid: Vec<&str> = values(Some(declared), "valid").collect();
        if let Meaning::Place(texts, _) = &value.meaning {
            let invalid: Vec<&str> = values(Some(declared), "invalid").collect();
            if valid.is_empty() && invalid.is_empty() {
                return Ok(None);
            }
            let is_valid = |text: &String| match valid.is_empty() {
                true => !invalid.contains(&text.as_str()),
                false => valid.contains(&text.as_str()),
            };
            let table: Vec<f64> = texts.iter().map(|text| f64::from(u8::from(!is_valid(text)))).collect();
            let other = if valid.is_empty() { 0.0 } else { 1.0 };
            let invalid = self.looked_up(&value.tensor, 0.0, other, &table);
            return Ok(Some(self.graph.by("Equal", &invalid, 1.0)));
        }
        let intervals: Vec<_> = declared.all("Interval").collect();
        let mut invalid: Option<String> = None;
        if !valid.is_empty() || !intervals.is_empty() {
            let mut is_valid = self.graph.op("IsNaN", &[&value.tensor]);
            for text in valid {
                let number = number(text, value.data_type(), declared)?;
                let equal = self.graph.by("Equal", &value.tensor, number);
                is_valid = self.graph.op("Or", &[&is_valid, &equal]);
            }
            for interval in intervals {
                if let Some(within) = self.within(&value.tensor, interval)? {
                    is_valid = self.graph.op("Or", &[&is_valid, &within]);
                }
            }
            invalid = Some(self.graph.op("Not", &[&is_valid]));
        }
        for text in values(Some(declared), "invalid") {
            let number = number(text, value.data_type(), declared)?;
            let equal = self.graph.by("Equal", &value.tensor, number);
            invalid = Some(match invalid {
                Some(invalid) => self.graph.op("Or", &[&invalid, &equal]),
                None => equal,
            });
        }
        Ok(invalid)
    }

    /// Whether a number is within an interval, as bool; `None` for an interval of all numbers.
    pub(super) fn within(&mut self, x: &str, interval: Element<'x>) -> Result<Option<String>> {
        let (above, below) = match interval.required("closure")? {
            "openOpen" => ("Greater", "Less"),
            "openClosed" => ("Greater", "LessOrEqual"),
            "closedOpen" => ("GreaterOrEqual", "Less"),
            "closedClosed" => ("GreaterOrEqual", "LessOrEqual"),
            other => return Err(interval.unknown("closure", other)),
        };
        let mut within: Option<String> = None;
        for (bound, compare) in [("leftMargin", above), ("rightMargin", below)] {
            let Some(bound) = interval.number::<f64>(bound)? else { continue };
            let holds = self.graph.by(compare, x, bound);
            within = Some(match within {
                Some(within) => self.graph.op("And", &[&within, &holds]),
                None => holds,
            });
        }
        Ok(within)
    }

    /// Makes the results of these rows missing.
    fn refuse_rows(&mut self, rows: &str) {
        self.invalid = Some(match self.invalid.take() {
            Some(invalid) => self.graph.op("Or", &[&invalid, rows]),
            None => rows.into(),
        });
    }
}

/// The values of a declared field that have a property.
fn values<'x>(declared: Option<Element<'x>>, property: &'static str) -> impl Iterator<Item = &'x str> {
    let values = declared.into_iter().flat_map(|declared| declared.all("Value"));
    values
        .filter(move |value| value.attribute("property").unwrap_or("valid") == property)
        .filter_map(|value| value.attribute("value"))
}

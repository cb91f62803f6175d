//! Expressions: what derived fields, functions and outputs are made of.

use std::rc::Rc;

use super::converter::Converter;
use super::scope::Scope;
use super::value::{DataType, Meaning, Value, number};
use super::xml::Element;
use crate::Result;

/// The names of elements that are expressions, or would be ones if they were supported.
pub(super) fn is_expression(element: Element) -> bool {
    matches!(
        element.name(),
        "Constant"
            | "FieldRef"
            | "NormContinuous"
            | "NormDiscrete"
            | "Discretize"
            | "MapValues"
            | "Apply"
            | "TextIndex"
            | "Aggregate"
            | "Lag"
    )
}

impl<'x> Converter<'x> {
    /// The expression that an element holds.
    pub(super) fn expression_of(&mut self, scope: &Scope<'x>, holder: Element<'x>) -> Result<Value> {
        match holder.children().find(|child| is_expression(*child)) {
            Some(expression) => self.expression(scope, expression),
            None => Err(holder.wrong("it needs an expression: FieldRef, Constant, Apply, NormContinuous, NormDiscrete, Discretize or MapValues")),
        }
    }

    pub(super) fn expression(&mut self, scope: &Scope<'x>, element: Element<'x>) -> Result<Value> {
        self.deeper(element)?;
        let value = match element.name() {
            "Constant" => self.constant(element),
            "FieldRef" => {
                let value = self.field(scope, element.required("field")?, element)?;
                self.unless_mapped(value, element)
            }
            "NormContinuous" => self.norm_continuous(scope, element),
            "NormDiscrete" => self.norm_discrete(scope, element),
            "Discretize" => self.discretize(scope, element),
            "MapValues" => self.map_values(scope, element),
            "Apply" => self.apply(scope, element),
            _ => Err(element.wrong("this expression has no counterpart in ONNX; compute the field before")),
        }?;
        self.depth -= 1;
        Ok(value)
    }

    /// The value, with what the element's `mapMissingTo` says in place of missing ones.
    pub(super) fn unless_mapped(&mut self, mut value: Value, element: Element<'x>) -> Result<Value> {
        let Some(text) = element.attribute("mapMissingTo") else { return Ok(value) };
        let number = match &value.meaning {
            Meaning::Number(data_type) => number(text, *data_type, element)?,
            Meaning::Place(texts, data_type) => {
                let mut longer = texts.to_vec();
                longer.push(text.into());
                super::schema::distinct(&mut longer);
                let longer = Rc::new(longer);
                value = Value::places(value.tensor, &longer, *data_type);
                longer.iter().position(|known| known == text).unwrap_or(0) as f64
            }
        };
        value.tensor = self.graph.unless_missing(&value.tensor, number);
        Ok(value)
    }

    fn constant(&mut self, element: Element<'x>) -> Result<Value> {
        let text = element.text();
        let data_type = match DataType::of(element)? {
            Some(data_type) => data_type,
            None if text.trim().parse::<i64>().is_ok() => DataType::Integer,
            None if element.parsed::<f64>(&text).is_ok() => DataType::Double,
            None => DataType::String,
        };
        if element.attribute("missing") == Some("true") {
            return Ok(self.missing(data_type));
        }
        if data_type == DataType::String {
            let texts = Rc::new(vec![text]);
            return Ok(Value::places(self.filled(0.0), &texts, data_type));
        }
        let number = number(&text, data_type, element)?;
        Ok(Value { tensor: self.filled(number), meaning: Meaning::Number(data_type) })
    }

    /// A value that is missing everywhere.
    pub(super) fn missing(&mut self, data_type: DataType) -> Value {
        let tensor = self.filled(f64::NAN);
        match data_type {
            DataType::String => Value::places(tensor, &Rc::new(vec![]), data_type),
            _ => Value { tensor, meaning: Meaning::Number(data_type) },
        }
    }

    fn discretize(&mut self, scope: &Scope<'x>, element: Element<'x>) -> Result<Value> {
        let x = self.field_number(scope, element.required("field")?, element)?;
        let bins: Vec<_> = element.all("DiscretizeBin").collect();
        let mut results = Vec::new();
        for bin in &bins {
            results.push(bin.required("binValue")?);
        }
        results.extend(element.attribute("defaultValue"));
        results.extend(element.attribute("mapMissingTo"));
        let results = Results::of(&results, DataType::of(element)?, element)?;
        let mut made = match element.attribute("defaultValue") {
            Some(text) => self.filled(results.number(text, element)?),
            None => self.filled(f64::NAN),
        };
        // The first interval that holds a number counts.
        for bin in bins.iter().rev() {
            let value = self.graph.scalar(results.number(bin.required("binValue")?, element)?);
            let valid = match self.within(&x, bin.needs("Interval")?)? {
                Some(within) => within,
                None => self.graph.op("Equal", &[&x, &x]),
            };
            made = self.graph.op("Where", &[&valid, &value, &made]);
        }
        let missing =
            element.attribute("mapMissingTo").map(|text| results.number(text, element)).transpose()?;
        Ok(self.results(results, &[x], &made, missing))
    }

    fn map_values(&mut self, scope: &Scope<'x>, element: Element<'x>) -> Result<Value> {
        let table = element
            .child("InlineTable")
            .ok_or_else(|| element.wrong("it needs an InlineTable; other tables are not supported"))?;
        let output = element.required("outputColumn")?;
        let cell = |row: Element<'x>, column: &str| {
            // A prefix is part of a column's name, and none of the name of an element.
            let column = column.rsplit(':').next().unwrap_or(column);
            let cell = row.children().find(|cell| cell.name() == column);
            cell.map(|cell| cell.text()).ok_or_else(|| row.wrong(format!("it has no column {column}")))
        };
        let mut keys = Vec::new();
        for pair in element.all("FieldColumnPair") {
            let value = self.field(scope, pair.required("field")?, pair)?;
            keys.push((value, pair.required("column")?));
        }
        let rows: Vec<_> = table.all("row").collect();
        let cells = rows.iter().map(|row| cell(*row, output)).collect::<Result<Vec<String>>>()?;
        let mut texts: Vec<&str> = cells.iter().map(String::as_str).collect();
        texts.extend(element.attribute("defaultValue"));
        texts.extend(element.attribute("mapMissingTo"));
        let results = Results::of(&texts, DataType::of(element)?, element)?;
        let default = element
            .attribute("defaultValue")
            .map(|text| results.number(text, element))
            .transpose()?
            .unwrap_or(f64::NAN);
        let made = match &keys[..] {
            [] => return Err(element.wrong("it needs a FieldColumnPair")),
            [(Value { tensor, meaning: Meaning::Place(texts, _) }, column)] => {
                self.graph.room(texts.len())?;
                let mut to = vec![default; texts.len()];
                let places: std::collections::HashMap<&str, usize> =
                    texts.iter().enumerate().map(|(at, text)| (text.as_str(), at)).collect();
                for (row, text) in rows.iter().zip(&cells).rev() {
                    if let Some(&place) = places.get(cell(*row, column)?.as_str()) {
                        to[place] = results.number(text, element)?;
                    }
                }
                self.looked_up(tensor, f64::NAN, default, &to)
            }
            keys => {
                let mut made = self.filled(default);
                for (row, text) in rows.iter().zip(&cells).rev() {
                    let mut all: Option<String> = None;
                    for (value, column) in keys {
                        let number = value.constant(&cell(*row, column)?, *row)?.unwrap_or(-3.0);
                        let equal = self.graph.by("Equal", &value.tensor, number);
                        all = Some(match all {
                            Some(all) => self.graph.op("And", &[&all, &equal]),
                            None => equal,
                        });
                    }
                    let (Some(all), to) = (all, self.graph.scalar(results.number(text, element)?)) else {
                        continue;
                    };
                    made = self.graph.op("Where", &[&all, &to, &made]);
                }
                made
            }
        };
        let missing =
            element.attribute("mapMissingTo").map(|text| results.number(text, element)).transpose()?;
        let keys: Vec<String> = keys.into_iter().map(|(value, _)| value.tensor).collect();
        Ok(self.results(results, &keys, &made, missing))
    }

    /// What was made, and where a key is missing what `missing` says.
    fn results(&mut self, results: Results, keys: &[String], made: &str, missing: Option<f64>) -> Value {
        let (mut made, missing) = (made.to_string(), self.graph.scalar(missing.unwrap_or(f64::NAN)));
        for key in keys {
            let is_missing = self.graph.op("IsNaN", &[key]);
            made = self.graph.op("Where", &[&is_missing, &missing, &made]);
        }
        Value { tensor: made, meaning: results.0 }
    }
}

/// What the results of a table mean.
struct Results(Meaning);

impl Results {
    /// Numbers if the type or all texts say so, and otherwise texts.
    fn of(texts: &[&str], data_type: Option<DataType>, at: Element) -> Result<Results> {
        let data_type =
            data_type.unwrap_or_else(|| match texts.iter().all(|text| at.parsed::<f64>(text).is_ok()) {
                true => DataType::Double,
                false => DataType::String,
            });
        if data_type != DataType::String {
            return Ok(Results(Meaning::Number(data_type)));
        }
        let mut texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
        super::schema::distinct(&mut texts);
        Ok(Results(Meaning::Place(Rc::new(texts), data_type)))
    }

    fn number(&self, text: &str, at: Element) -> Result<f64> {
        let value = Value { tensor: String::new(), meaning: self.0.clone() };
        Ok(value.constant(text, at)?.unwrap_or(f64::NAN))
    }
}

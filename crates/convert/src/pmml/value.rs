//! Values of fields: a column of float64, and what its numbers mean.

use std::rc::Rc;

use super::converter::Converter;
use super::xml::{Element, short};
use crate::Result;
use crate::graph::{Type, int};

/// The types of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataType {
    String,
    Integer,
    Float,
    Double,
    Boolean,
}

impl DataType {
    /// What an element's attribute `dataType` says.
    pub(super) fn of(element: Element) -> Result<Option<DataType>> {
        Ok(Some(match element.attribute("dataType") {
            None => return Ok(None),
            Some("string") => DataType::String,
            Some("integer") => DataType::Integer,
            Some("float") => DataType::Float,
            Some("double") => DataType::Double,
            Some("boolean") => DataType::Boolean,
            Some(other) => {
                let what = format!(
                    "dataType=\"{}\" is not supported; dates and times have no counterpart in ONNX, so convert such a field to a number before",
                    short(other)
                );
                return Err(element.wrong(what));
            }
        }))
    }

    /// The type of an input or output.
    pub(super) fn onnx(self) -> Type {
        match self {
            DataType::String => Type::String,
            DataType::Integer => Type::Int64,
            DataType::Float => Type::Float,
            DataType::Double => Type::Double,
            DataType::Boolean => Type::Bool,
        }
    }
}

/// The place of a text that is in no list.
pub(super) const OTHER: f64 = -1.0;

/// What the numbers of a column mean.
#[derive(Clone, Debug)]
pub(super) enum Meaning {
    /// Numbers; those of a float are rounded to float32, and truth is 1 or 0.
    Number(DataType),
    /// Places in a list of texts, or [`OTHER`]; and the type that the texts stand for.
    Place(Rc<Vec<String>>, DataType),
}

/// A column [n, 1] of float64; NaN is missing.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) tensor: String,
    pub(super) meaning: Meaning,
}

impl Value {
    pub(super) fn double(tensor: String) -> Value {
        Value { tensor, meaning: Meaning::Number(DataType::Double) }
    }

    pub(super) fn truth(tensor: String) -> Value {
        Value { tensor, meaning: Meaning::Number(DataType::Boolean) }
    }

    pub(super) fn places(tensor: String, texts: &Rc<Vec<String>>, data_type: DataType) -> Value {
        Value { tensor, meaning: Meaning::Place(texts.clone(), data_type) }
    }

    pub(super) fn data_type(&self) -> DataType {
        match self.meaning {
            Meaning::Number(data_type) | Meaning::Place(_, data_type) => data_type,
        }
    }

    /// The number that a text stands for where it is compared with this value; `None` if the value is never equal to it.
    pub(super) fn constant(&self, text: &str, at: Element) -> Result<Option<f64>> {
        match &self.meaning {
            Meaning::Number(data_type) => number(text, *data_type, at).map(Some),
            Meaning::Place(texts, _) => {
                Ok(texts.iter().position(|known| known == text).map(|place| place as f64))
            }
        }
    }
}

/// The number that a text is for a type.
pub(super) fn number(text: &str, data_type: DataType, at: Element) -> Result<f64> {
    match (data_type, text.trim()) {
        // R writes them in capitals.
        (DataType::Boolean, text) if text.eq_ignore_ascii_case("true") => Ok(1.0),
        (DataType::Boolean, text) if text.eq_ignore_ascii_case("false") => Ok(0.0),
        (DataType::Float, text) => at.parsed::<f32>(text).map(f64::from),
        (_, text) => at.parsed(text),
    }
}

impl<'x> Converter<'x> {
    /// What stands in a table for each row: for a missing value, for a text in no list, and for each place.
    pub(super) fn looked_up(&mut self, places: &str, missing: f64, other: f64, table: &[f64]) -> String {
        let mut rows = vec![missing, other];
        rows.extend(table);
        let table = self.graph.doubles(&[rows.len() as i64], &rows);
        let at = self.rows(places);
        self.graph.op("Gather", &[&table, &at])
    }

    /// The rows of such a table.
    fn rows(&mut self, places: &str) -> String {
        let places = self.graph.unless_missing(places, -2.0);
        let places = self.graph.by("Add", &places, 2.0);
        self.graph.cast(&places, Type::Int64)
    }

    /// The value as numbers: texts are read as such, and those that are none are missing.
    pub(super) fn as_number(&mut self, value: &Value) -> String {
        match &value.meaning {
            Meaning::Number(_) => value.tensor.clone(),
            Meaning::Place(texts, data_type) => {
                let read = |text: &String| match (data_type, text.trim()) {
                    (DataType::Boolean, text) if text.eq_ignore_ascii_case("true") => 1.0,
                    (DataType::Boolean, text) if text.eq_ignore_ascii_case("false") => 0.0,
                    (_, text) => text.parse().unwrap_or(f64::NAN),
                };
                let table: Vec<f64> = texts.iter().map(read).collect();
                self.looked_up(&value.tensor, f64::NAN, f64::NAN, &table)
            }
        }
    }

    /// The places of the value's texts in another list.
    pub(super) fn among(&mut self, value: &Value, texts: &Rc<Vec<String>>, at: Element) -> Result<String> {
        let Meaning::Place(own, _) = &value.meaning else {
            let Meaning::Number(data_type) = value.meaning else { unreachable!() };
            let mut found = self.filled(OTHER);
            for (place, text) in texts.iter().enumerate() {
                let Ok(number) = number(text, data_type, at) else { continue };
                let (equal, place) =
                    (self.graph.by("Equal", &value.tensor, number), self.graph.scalar(place as f64));
                found = self.graph.op("Where", &[&equal, &place, &found]);
            }
            return Ok(self.graph.missing_with(&value.tensor, &found));
        };
        if Rc::ptr_eq(own, texts) || own == texts {
            return Ok(value.tensor.clone());
        }
        self.graph.room(own.len())?;
        let place =
            |text: &String| texts.iter().position(|known| known == text).map_or(OTHER, |place| place as f64);
        let table: Vec<f64> = own.iter().map(place).collect();
        Ok(self.looked_up(&value.tensor, f64::NAN, OTHER, &table))
    }

    /// A value as another type.
    pub(super) fn cast(&mut self, value: Value, to: Option<DataType>, at: Element) -> Result<Value> {
        let Some(to) = to else { return Ok(value) };
        let tensor = match (&value.meaning, to) {
            (Meaning::Place(..), DataType::String) => {
                let Meaning::Place(texts, _) = &value.meaning else { unreachable!() };
                return Ok(Value::places(value.tensor.clone(), texts, to));
            }
            (Meaning::Number(DataType::Boolean), DataType::String) => {
                let texts = Rc::new(vec!["false".to_string(), "true".to_string()]);
                return Ok(Value::places(value.tensor, &texts, to));
            }
            (_, DataType::String) => {
                return Err(at.wrong(
                    "a number cannot become a text; declare the field as a string or compare numbers",
                ));
            }
            (Meaning::Number(from), to) if *from == to => return Ok(value),
            (_, DataType::Float) => {
                let number = self.as_number(&value);
                let float = self.graph.cast(&number, Type::Float);
                self.graph.cast(&float, Type::Double)
            }
            _ => self.as_number(&value),
        };
        Ok(Value { tensor, meaning: Meaning::Number(to) })
    }

    /// A column with the same number in each row.
    pub(super) fn filled(&mut self, number: f64) -> String {
        let rows = self.rows_of_input.clone();
        let shape = self.graph.op("Shape", &[&rows]);
        let number = self.graph.scalar(number);
        self.graph.op("Expand", &[&number, &shape])
    }

    /// The value as an output has it. Where `invalid` holds, it is missing.
    pub(super) fn as_output(&mut self, value: &Value, data_type: DataType) -> String {
        let to = data_type.onnx();
        match (&value.meaning, data_type) {
            (Meaning::Place(texts, _), DataType::String) => {
                let mut rows = vec![String::new(), String::new()];
                rows.extend(texts.iter().cloned());
                let (table, at) = (self.graph.texts(&rows), self.rows(&value.tensor));
                self.graph.with("Gather", &[&table, &at], vec![int("axis", 0)])
            }
            (Meaning::Place(texts, _), DataType::Integer)
                if texts.iter().all(|text| text.trim().parse::<i64>().is_ok()) =>
            {
                let mut rows = vec![i64::MIN; 2];
                rows.extend(texts.iter().filter_map(|text| text.trim().parse::<i64>().ok()));
                let (table, at) = (self.graph.ints(&[rows.len() as i64], &rows), self.rows(&value.tensor));
                self.graph.with("Gather", &[&table, &at], vec![int("axis", 0)])
            }
            (_, DataType::Boolean) => {
                let number = self.as_number(value);
                self.graph.by("Equal", &number, 1.0)
            }
            (_, DataType::Integer) => {
                let number = self.as_number(value);
                let number = self.graph.unless_missing(&number, i64::MIN as f64);
                self.graph.cast(&number, to)
            }
            (_, DataType::Double) => self.as_number(value),
            _ => {
                let number = self.as_number(value);
                self.graph.cast(&number, to)
            }
        }
    }
}

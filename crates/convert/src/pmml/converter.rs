//! From a document to a model.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::model::Outcome;
use super::output::Field;
use super::scope::Scope;
use super::value::{DataType, Meaning, Value};
use super::xml::{Element, short};
use crate::Result;
use crate::graph::{Graph, Type, ints, strings};

/// The graph that is being made, and what the whole document declares.
pub(super) struct Converter<'x> {
    pub(super) graph: Graph,
    /// The fields of the data dictionary.
    pub(super) dictionary: HashMap<&'x str, Element<'x>>,
    /// The functions that the document defines.
    pub(super) functions: HashMap<&'x str, Element<'x>>,
    /// What a field that holds texts is compared with somewhere.
    texts: BTreeMap<&'x str, Vec<String>>,
    /// A tensor with as many rows as there are examples.
    pub(super) rows_of_input: String,
    /// Where an input is invalid, and the result therefore missing: bool [n, 1].
    pub(super) invalid: Option<String>,
    /// How deep expressions, fields and functions are in each other.
    pub(super) depth: usize,
}

pub(super) fn convert(root: Element, length: usize) -> Result<Vec<u8>> {
    let model = root.children().find(|child| super::model::is_model(*child));
    let model = model.ok_or_else(|| {
        let other = root.children().find(|child| child.name().ends_with("Model"));
        other
            .unwrap_or(root)
            .wrong("it is, or holds, no model of a kind that is supported; the README lists them")
    })?;
    let title = model.attribute("modelName").unwrap_or("model");
    let mut converter = Converter {
        graph: Graph::new(title, length),
        dictionary: named(root.child("DataDictionary"), "DataField")?,
        functions: named(root.child("TransformationDictionary"), "DefineFunction")?,
        texts: super::schema::texts(root),
        rows_of_input: String::new(),
        invalid: None,
        depth: 0,
    };
    let scope = Scope::new(None);
    converter.inputs(model, &scope)?;
    scope.derive(root.child("TransformationDictionary"))?;
    let (outcome, outputs) = converter.model(model, &scope, None, true)?;
    let classes = outcome.classes.as_ref().map(|classes| classes.texts.join("\n"));
    converter.outputs(model, outcome, outputs)?;
    let metadata = classes.map(|classes| ("classes".to_string(), classes)).into_iter().collect();
    converter.graph.model(&format!("converted from PMML, {}", model.name()), metadata)
}

fn named<'x>(of: Option<Element<'x>>, name: &'static str) -> Result<HashMap<&'x str, Element<'x>>> {
    let mut named = HashMap::new();
    for child in of.into_iter().flat_map(|of| of.all(name)) {
        let own = child.required("name")?;
        if named.insert(own, child).is_some() {
            return Err(child.wrong(format!("there is another with the name '{}'", short(own))));
        }
    }
    Ok(named)
}

impl<'x> Converter<'x> {
    /// Makes the inputs, one for each active field.
    fn inputs(&mut self, model: Element<'x>, scope: &Scope<'x>) -> Result<()> {
        let schema = model.needs("MiningSchema")?;
        for field in schema.all("MiningField") {
            match field.attribute("usageType") {
                None | Some("active") => {}
                Some(
                    "target" | "predicted" | "supplementary" | "group" | "order" | "frequencyWeight"
                    | "analysisWeight",
                ) => continue,
                Some(other) => return Err(field.unknown("usageType", other)),
            }
            let name = field.required("name")?;
            if scope.has(name) {
                return Err(field.wrong(format!("the field '{}' is there twice", short(name))));
            }
            // A field that is derived has no input of its own.
            let Some(&declared) = self.dictionary.get(name) else { continue };
            let data_type =
                DataType::of(declared)?.ok_or_else(|| declared.wrong("it needs the attribute dataType"))?;
            if name.is_empty() || name.starts_with('/') {
                return Err(declared.wrong("a name of a field may not be empty, nor begin with '/'"));
            }
            self.graph.input(name, data_type.onnx());
            if self.rows_of_input.is_empty() {
                self.rows_of_input = name.into();
            }
            let value = self.input(name, data_type);
            scope.set(name, value);
        }
        match self.rows_of_input.is_empty() {
            true => Err(schema.wrong("the model needs at least one active field of the data dictionary")),
            false => Ok(()),
        }
    }

    /// The column of an input.
    fn input(&mut self, name: &'x str, data_type: DataType) -> Value {
        if data_type != DataType::String {
            let tensor = match data_type {
                DataType::Double => name.to_string(),
                _ => self.graph.cast(name, Type::Double),
            };
            return Value { tensor, meaning: Meaning::Number(data_type) };
        }
        let mut texts = self.texts.get(name).cloned().unwrap_or_default();
        texts.retain(|text| !text.is_empty());
        let texts = Rc::new(texts);
        let mut keys: Vec<String> = texts.to_vec();
        keys.push(String::new());
        let mut places: Vec<i64> = (0..texts.len() as i64).collect();
        places.push(-2);
        let attributes = vec![
            strings("keys_strings", &keys),
            ints("values_int64s", places),
            crate::graph::int("default_int64", -1),
        ];
        let places = self.graph.large("ai.onnx.ml", "LabelEncoder", &[name], attributes);
        let number = self.graph.cast(&places, Type::Double);
        let (missing, none) = (self.graph.by("Less", &number, -1.5), self.graph.scalar(f64::NAN));
        let tensor = self.graph.op("Where", &[&missing, &none, &number]);
        Value::places(tensor, &texts, data_type)
    }

    /// Makes the outputs.
    fn outputs(&mut self, model: Element<'x>, outcome: Outcome, fields: Vec<Field>) -> Result<()> {
        let target = self.target(model).and_then(|target| self.dictionary.get(target)).copied();
        let data_type = match target {
            Some(target) => DataType::of(target)?.unwrap_or(DataType::Double),
            None => outcome.value.data_type(),
        };
        let mut taken: Vec<&str> = vec![];
        for Field { name, value, .. } in fields.iter().filter(|field| field.is_final) {
            let clash = self.dictionary.contains_key(name.as_str()) && self.is_input(model, name);
            if clash || name.is_empty() || name.starts_with('/') || taken.contains(&name.as_str()) {
                let what =
                    format!("the name '{}' of an output is that of another value; rename it", short(name));
                return Err(model.wrong(what));
            }
            taken.push(name);
            self.output_value(name, value, value.data_type());
        }
        let is_label = matches!(outcome.value.meaning, Meaning::Place(..));
        let main = if is_label { "label" } else { "prediction" };
        if !taken.contains(&main) && !self.is_input(model, main) {
            self.output_value(main, &outcome.value, data_type);
        }
        let tables = [
            ("probabilities", outcome.classes.map(|classes| classes.probabilities)),
            ("affinities", outcome.affinities.map(|affinities| affinities.table)),
        ];
        for (name, table) in tables {
            let Some(table) = table.filter(|_| !taken.contains(&name) && !self.is_input(model, name)) else {
                continue;
            };
            let table = self.if_valid(&table);
            self.graph.output(&table, name, Type::Double, &[None, None]);
        }
        Ok(())
    }

    fn is_input(&self, model: Element, name: &str) -> bool {
        let schema = model.child("MiningSchema").into_iter().flat_map(|schema| schema.all("MiningField"));
        schema
            .filter(|field| matches!(field.attribute("usageType"), None | Some("active")))
            .any(|field| field.attribute("name") == Some(name))
    }

    fn output_value(&mut self, name: &str, value: &Value, data_type: DataType) {
        let tensor = self.if_valid(&value.tensor);
        let value = Value { tensor, meaning: value.meaning.clone() };
        let tensor = self.as_output(&value, data_type);
        self.graph.output(&tensor, name, data_type.onnx(), &[None, Some(1)]);
    }

    /// The numbers, but missing where an input is invalid.
    fn if_valid(&mut self, tensor: &str) -> String {
        let Some(invalid) = self.invalid.clone() else { return tensor.into() };
        let none = self.graph.scalar(f64::NAN);
        self.graph.op("Where", &[&invalid, &none, tensor])
    }

    /// One step deeper; the caller takes it back.
    pub(super) fn deeper(&mut self, at: Element) -> Result<()> {
        self.graph.room(0)?;
        self.depth += 1;
        match self.depth > MOST_STEPS {
            true => {
                Err(at.wrong(format!("fields, functions and models are nested deeper than {MOST_STEPS}")))
            }
            false => Ok(()),
        }
    }
}

/// How deep what an expression names may be in each other: each step is a call.
const MOST_STEPS: usize = 400;

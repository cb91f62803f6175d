//! NeuralNetwork.

use std::collections::HashMap;
use std::rc::Rc;

use super::converter::Converter;
use super::model::{Outcome, class_place};
use super::scope::Scope;
use super::value::Value;
use super::xml::{Element, short};
use crate::Result;

/// The layers so far, and where each neuron is: its layer and column.
#[derive(Default)]
struct Neurons<'x> {
    layers: Vec<(String, usize)>,
    places: HashMap<&'x str, (usize, usize)>,
}

impl<'x> Neurons<'x> {
    fn of(&self, id: &str, at: Element<'x>) -> Result<(usize, usize)> {
        self.places
            .get(id)
            .copied()
            .ok_or_else(|| at.wrong(format!("no neuron before has the id '{}'", short(id))))
    }

    fn add(&mut self, tensor: String, ids: Vec<&'x str>) {
        for (column, id) in ids.iter().enumerate() {
            self.places.insert(id, (self.layers.len(), column));
        }
        self.layers.push((tensor, ids.len()));
    }
}

impl<'x> Converter<'x> {
    pub(super) fn neural_network(
        &mut self,
        model: Element<'x>,
        scope: &Scope<'x>,
        classes: Option<Rc<Vec<String>>>,
    ) -> Result<Outcome> {
        let mut neurons = Neurons::default();
        let (mut columns, mut ids) = (vec![], vec![]);
        for input in model.needs("NeuralInputs")?.all("NeuralInput") {
            let value = self.expression_of(scope, input.needs("DerivedField")?)?;
            columns.push(self.as_number(&value));
            ids.push(input.required("id")?);
        }
        neurons.add(self.graph.concat(&columns), ids);
        for layer in model.all("NeuralLayer") {
            self.layer(model, layer, &mut neurons)?;
        }
        let outputs: Vec<Element<'x>> = model.needs("NeuralOutputs")?.all("NeuralOutput").collect();
        let mut values = Vec::new();
        for output in &outputs {
            let (layer, column) = neurons.of(output.required("outputNeuron")?, *output)?;
            let value = self.graph.columns(&neurons.layers[layer].0.clone(), &[column as i64]);
            let derived = output.needs("DerivedField")?;
            let meaning = derived.children().find(|child| super::expression::is_expression(*child));
            values.push((value, meaning.ok_or_else(|| derived.wrong("it needs an expression"))?));
        }
        let Some(classes) = classes else {
            let [(y, meaning)] = &values[..] else {
                return Err(model.wrong("a regression needs exactly one NeuralOutput"));
            };
            let y = match meaning.name() {
                "FieldRef" => y.clone(),
                "NormContinuous" => self.denormalised(y, *meaning)?,
                _ => return Err(meaning.wrong("the output of a regression is a FieldRef or NormContinuous")),
            };
            return Ok(Outcome::of(Value::double(y)));
        };
        let (mut columns, mut places) = (vec![], vec![]);
        for (value, meaning) in values {
            if meaning.name() != "NormDiscrete" {
                return Err(meaning.wrong("the output of a classification is a NormDiscrete"));
            }
            let text = meaning.required("value")?;
            places.push(class_place(&classes, text, meaning)?);
            columns.push(value);
        }
        let probabilities = self.graph.concat(&columns);
        let probabilities = self.spread(probabilities, &places, classes.len());
        self.most_probable(model, classes, probabilities)
    }

    fn layer(&mut self, model: Element<'x>, layer: Element<'x>, neurons: &mut Neurons<'x>) -> Result<()> {
        let own: Vec<Element<'x>> = layer.all("Neuron").collect();
        // The layers that this one reads, side by side.
        let mut read: Vec<usize> = vec![];
        for connection in own.iter().flat_map(|neuron| neuron.all("Con")) {
            let (from, _) = neurons.of(connection.required("from")?, connection)?;
            if !read.contains(&from) {
                read.push(from);
            }
        }
        read.sort_unstable();
        let (mut starts, mut width) = (HashMap::new(), 0);
        for from in &read {
            starts.insert(*from, width);
            width += neurons.layers[*from].1;
        }
        if own.is_empty() || read.is_empty() {
            return Err(layer.wrong("it needs neurons with connections"));
        }
        self.graph.room(width.saturating_mul(own.len()))?;
        let (mut weights, mut biases, mut ids) = (vec![0.0; width * own.len()], vec![], vec![]);
        for (column, neuron) in own.iter().enumerate() {
            for connection in neuron.all("Con") {
                let (from, place) = neurons.of(connection.required("from")?, connection)?;
                let weight = connection.number::<f64>("weight")?;
                let weight = weight.ok_or_else(|| connection.wrong("it needs the attribute weight"))?;
                weights[(starts[&from] + place) * own.len() + column] += weight;
            }
            biases.push(neuron.number::<f64>("bias")?.unwrap_or(0.0));
            ids.push(neuron.required("id")?);
        }
        let tensors: Vec<String> = read.iter().map(|from| neurons.layers[*from].0.clone()).collect();
        let x = self.graph.concat(&tensors);
        let bias = self.graph.doubles(&[1, biases.len() as i64], &biases);
        let z = self.linear(&x, &weights, own.len(), &bias);
        let setting = |name| layer.attribute(name).or_else(|| model.attribute(name));
        let threshold = layer.number::<f64>("threshold")?.or(model.number::<f64>("threshold")?);
        let function = setting("activationFunction")
            .ok_or_else(|| layer.wrong("it needs the attribute activationFunction"))?;
        let mut y = self.activated(function, &z, threshold.unwrap_or(0.0), layer)?;
        y = match setting("normalizationMethod").unwrap_or("none") {
            "none" => y,
            method @ ("softmax" | "simplemax") => self.normalised(method, &y, own.len(), layer)?,
            other => return Err(layer.unknown("normalizationMethod", other)),
        };
        neurons.add(y, ids);
        Ok(())
    }

    fn activated(&mut self, function: &str, z: &str, threshold: f64, at: Element<'x>) -> Result<String> {
        Ok(match function {
            "identity" => z.into(),
            "logistic" => self.graph.op("Sigmoid", &[z]),
            "tanh" => self.graph.op("Tanh", &[z]),
            "exponential" => self.graph.op("Exp", &[z]),
            "reciprocal" => self.graph.from("Div", 1.0, z),
            "square" => self.graph.op("Mul", &[z, z]),
            "sine" => self.graph.op("Sin", &[z]),
            "cosine" => self.graph.op("Cos", &[z]),
            "threshold" => {
                let above = self.graph.by("Greater", z, threshold);
                self.graph.truth(&above, z)
            }
            "Gauss" => {
                let square = self.graph.op("Mul", &[z, z]);
                let minus = self.graph.op("Neg", &[&square]);
                self.graph.op("Exp", &[&minus])
            }
            "Elliott" => {
                let size = self.graph.op("Abs", &[z]);
                let more = self.graph.by("Add", &size, 1.0);
                self.graph.op("Div", &[z, &more])
            }
            "arctan" => {
                let angle = self.graph.op("Atan", &[z]);
                self.graph.by("Mul", &angle, 2.0 / std::f64::consts::PI)
            }
            "rectifier" => {
                let (below, zero) = (self.graph.by("Less", z, 0.0), self.graph.scalar(0.0));
                self.graph.op("Where", &[&below, &zero, z])
            }
            other => return Err(at.unknown("activationFunction", other)),
        })
    }
}

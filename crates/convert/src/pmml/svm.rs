//! SupportVectorMachineModel.

use std::collections::HashMap;
use std::rc::Rc;

use super::converter::Converter;
use super::model::{Outcome, class_place};
use super::scope::Scope;
use super::value::Value;
use super::xml::{Element, short};
use crate::Result;
use crate::graph::Type;

impl<'x> Converter<'x> {
    pub(super) fn support_vectors(
        &mut self,
        model: Element<'x>,
        scope: &Scope<'x>,
        classes: Option<Rc<Vec<String>>>,
    ) -> Result<Outcome> {
        let dictionary = model.needs("VectorDictionary")?;
        let mut fields = Vec::new();
        for field in dictionary.needs("VectorFields")?.children() {
            fields.push(match field.name() {
                "FieldRef" => self.field_number(scope, field.required("field")?, field)?,
                "CategoricalPredictor" => {
                    let value = self.field(scope, field.required("name")?, field)?;
                    let own = value.constant(field.required("value")?, field)?.unwrap_or(f64::NAN);
                    let equal = self.graph.by("Equal", &value.tensor, own);
                    let truth = self.graph.truth(&equal, &value.tensor);
                    self.graph.by("Mul", &truth, field.number::<f64>("coefficient")?.unwrap_or(1.0))
                }
                _ => return Err(field.wrong("it is no field of vectors")),
            });
        }
        let machines: Vec<Element<'x>> = model.all("SupportVectorMachine").collect();
        if fields.is_empty() || machines.is_empty() {
            return Err(model.wrong("it needs vector fields and a SupportVectorMachine"));
        }
        let x = self.graph.concat(&fields);
        let sums = match model.attribute("svmRepresentation") {
            None | Some("SupportVectors") => self.machines(model, &x, fields.len(), dictionary, &machines)?,
            Some("Coefficients") => {
                let weights = machines.iter().map(|machine| coefficients(*machine, fields.len()));
                self.weighted(&x, &weights.collect::<Result<Vec<_>>>()?, fields.len(), &machines)?
            }
            Some(other) => return Err(model.unknown("svmRepresentation", other)),
        };
        let Some(classes) = classes else {
            return match machines[..] {
                [_] => Ok(Outcome::of(Value::double(sums))),
                _ => Err(model.wrong("a regression needs exactly one SupportVectorMachine")),
            };
        };
        let place = self.winner(model, &sums, &machines, &classes)?;
        let place = self.graph.greatest(&place);
        Ok(Outcome::of(Value::places(place, &classes, self.class_type(model)?)))
    }

    /// The sum of each machine: [n, machines].
    fn machines(
        &mut self,
        model: Element<'x>,
        x: &str,
        width: usize,
        dictionary: Element<'x>,
        machines: &[Element<'x>],
    ) -> Result<String> {
        let (mut vectors, mut places) = (vec![], HashMap::new());
        for vector in dictionary.all("VectorInstance") {
            self.graph.room(vectors.len() + width)?;
            places.insert(vector.required("id")?, places.len());
            vectors.extend(coordinates(vector, width)?);
        }
        let kernel = self.kernel(model, x, &vectors, width)?;
        let mut all = Vec::new();
        for machine in machines {
            let own: Vec<Element<'x>> = machine.needs("SupportVectors")?.all("SupportVector").collect();
            self.graph
                .room(all.len() + 1)
                .and(self.graph.room(places.len().saturating_mul(machines.len())))?;
            let mut weights = vec![0.0; places.len()];
            for (vector, weight) in own.iter().zip(coefficients(*machine, own.len())?) {
                let id = vector.required("vectorId")?;
                let place = places
                    .get(id)
                    .ok_or_else(|| vector.wrong(format!("no vector has the id '{}'", short(id))))?;
                weights[*place] += weight;
            }
            all.push(weights);
        }
        self.weighted(&kernel, &all, places.len(), machines)
    }

    /// `x` [n, k] by the weights of each machine, and its absolute value.
    fn weighted(
        &mut self,
        x: &str,
        weights: &[Vec<f64>],
        width: usize,
        machines: &[Element<'x>],
    ) -> Result<String> {
        let mut biases = Vec::new();
        for machine in machines {
            biases.push(machine.needs("Coefficients")?.number::<f64>("absoluteValue")?.unwrap_or(0.0));
        }
        let turned: Vec<f64> = (0..width).flat_map(|row| weights.iter().map(move |own| own[row])).collect();
        let bias = self.graph.doubles(&[1, biases.len() as i64], &biases);
        Ok(self.linear(x, &turned, machines.len(), &bias))
    }

    /// The kernel of each row with each vector: [n, vectors].
    fn kernel(&mut self, model: Element<'x>, x: &str, vectors: &[f64], width: usize) -> Result<String> {
        let count = vectors.len() / width;
        let turned: Vec<f64> =
            (0..width).flat_map(|row| (0..count).map(move |v| vectors[v * width + row])).collect();
        let weights = self.graph.doubles(&[width as i64, count as i64], &turned);
        let product = self.graph.op("MatMul", &[x, &weights]);
        let kernel = model.children().find(|child| child.name().ends_with("KernelType"));
        let kernel = kernel.ok_or_else(|| model.wrong("it needs a kernel, such as RadialBasisKernelType"))?;
        let parameter = |name, default| Ok(kernel.number::<f64>(name)?.unwrap_or(default));
        let (gamma, coef0) = (parameter("gamma", 1.0)?, parameter("coef0", 1.0)?);
        Ok(match kernel.name() {
            "LinearKernelType" => product,
            "PolynomialKernelType" | "SigmoidKernelType" => {
                let scaled = self.graph.by("Mul", &product, gamma);
                let sum = self.graph.by("Add", &scaled, coef0);
                match kernel.name() {
                    "SigmoidKernelType" => self.graph.op("Tanh", &[&sum]),
                    _ => self.graph.by("Pow", &sum, parameter("degree", 1.0)?),
                }
            }
            "RadialBasisKernelType" => {
                // The square of a distance: both squares, less twice the product.
                let squares: Vec<f64> =
                    vectors.chunks_exact(width).map(|v| v.iter().map(|x| x * x).sum()).collect();
                let squares = self.graph.doubles(&[1, count as i64], &squares);
                let own = self.graph.op("Mul", &[x, x]);
                let own = self.graph.reduce("ReduceSum", &own, 1, true);
                let sum = self.graph.op("Add", &[&own, &squares]);
                let twice = self.graph.by("Mul", &product, 2.0);
                let distance = self.graph.op("Sub", &[&sum, &twice]);
                let scaled = self.graph.by("Mul", &distance, -gamma);
                self.graph.op("Exp", &[&scaled])
            }
            _ => return Err(kernel.wrong("this kernel is not supported")),
        })
    }

    /// A number for each class, of which the greatest wins: [n, classes].
    fn winner(
        &mut self,
        model: Element<'x>,
        sums: &str,
        machines: &[Element<'x>],
        classes: &[String],
    ) -> Result<String> {
        let place = |machine: Element<'x>, name: &str| class_place(classes, machine.required(name)?, machine);
        let max_wins = model.attribute("maxWins") == Some("true");
        let pairs = machines.iter().all(|machine| machine.attribute("alternateTargetCategory").is_some());
        if !pairs && model.attribute("classificationMethod") == Some("OneAgainstOne") {
            return Err(
                model.wrong("OneAgainstOne needs the attribute alternateTargetCategory of each machine")
            );
        }
        if !pairs {
            let places = machines
                .iter()
                .map(|machine| place(*machine, "targetCategory"))
                .collect::<Result<Vec<_>>>()?;
            let values = if max_wins { sums.into() } else { self.graph.op("Neg", &[sums]) };
            if places.len() != classes.len() {
                return Err(model.wrong("OneAgainstAll needs a machine for each class"));
            }
            return Ok(self.spread(values, &places, classes.len()));
        }
        // Each machine votes for one of its two classes.
        let (mut first, mut second, mut bounds) = (vec![], vec![], vec![]);
        for machine in machines {
            for (name, votes) in [("targetCategory", &mut first), ("alternateTargetCategory", &mut second)] {
                let own = place(*machine, name)?;
                votes.extend((0..classes.len()).map(|class| f64::from(u8::from(class == own))));
            }
            let threshold = machine.number::<f64>("threshold")?.or(model.number::<f64>("threshold")?);
            bounds.push(threshold.unwrap_or(0.0));
        }
        let bounds = self.graph.doubles(&[1, bounds.len() as i64], &bounds);
        let holds = self.graph.op(if max_wins { "Greater" } else { "Less" }, &[sums, &bounds]);
        let holds = self.graph.cast(&holds, Type::Double);
        let holds = self.graph.missing_with(sums, &holds);
        let other = self.graph.from("Sub", 1.0, &holds);
        let zeros = self.graph.scalar(0.0);
        let first = self.linear(&holds, &first, classes.len(), &zeros);
        Ok(self.linear(&other, &second, classes.len(), &first))
    }
}

/// The coefficients of a machine.
fn coefficients(machine: Element, count: usize) -> Result<Vec<f64>> {
    let coefficients = machine.needs("Coefficients")?;
    let values = coefficients.all("Coefficient").map(|each| Ok(each.number::<f64>("value")?.unwrap_or(0.0)));
    let values = values.collect::<Result<Vec<f64>>>()?;
    match values.len() == count {
        true => Ok(values),
        false => {
            Err(coefficients
                .wrong(format!("there are {} coefficients, and {count} are needed", values.len())))
        }
    }
}

/// The numbers of a vector.
fn coordinates(vector: Element, width: usize) -> Result<Vec<f64>> {
    if let Some(array) = vector.child("Array") {
        let numbers = array.numbers()?;
        return match numbers.len() == width {
            true => Ok(numbers),
            false => Err(array.wrong(format!("it has {} numbers, and {width} are needed", numbers.len()))),
        };
    }
    let array = vector.needs("REAL-SparseArray")?;
    let text = |name| array.child(name).map(|part: Element| part.text()).unwrap_or_default();
    let (indices, entries) = (text("Indices"), text("REAL-Entries"));
    let mut numbers = vec![array.number::<f64>("defaultValue")?.unwrap_or(0.0); width];
    let entries: Vec<&str> = entries.split_whitespace().collect();
    let indices: Vec<&str> = indices.split_whitespace().collect();
    if indices.len() != entries.len() {
        return Err(array.wrong("it has another number of indices than of entries"));
    }
    for (index, entry) in indices.iter().zip(entries) {
        let place = array.parsed::<usize>(index)?.checked_sub(1).and_then(|place| numbers.get_mut(place));
        *place.ok_or_else(|| array.wrong("an index is outside of the fields"))? = array.parsed(entry)?;
    }
    Ok(numbers)
}

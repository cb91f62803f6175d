//! RegressionModel.

use std::rc::Rc;

use super::converter::Converter;
use super::model::{Outcome, class_place};
use super::scope::Scope;
use super::value::{DataType, Meaning, Value};
use super::xml::{Element, short};
use crate::Result;

impl<'x> Converter<'x> {
    pub(super) fn regression_model(
        &mut self,
        model: Element<'x>,
        scope: &Scope<'x>,
        classes: Option<Rc<Vec<String>>>,
    ) -> Result<Outcome> {
        let tables: Vec<Element<'x>> = model.all("RegressionTable").collect();
        let method = model.attribute("normalizationMethod").unwrap_or("none");
        let sums = self.tables(scope, &tables)?;
        let Some(classes) = classes else {
            let [_] = tables[..] else {
                return Err(model.wrong("a regression needs exactly one RegressionTable"));
            };
            let value = match method {
                "none" => sums,
                "softmax" => self.inverse_link("logit", &sums, model)?,
                method => self.inverse_link(method, &sums, model)?,
            };
            return Ok(Outcome::of(Value::double(value)));
        };
        let mut places = Vec::new();
        for table in &tables {
            let text = table.required("targetCategory")?;
            places.push(class_place(&classes, text, *table)?);
        }
        if tables.len() < 2 {
            return Err(model.wrong("a classification needs a RegressionTable for each class"));
        }
        let target = self.target(model).and_then(|target| self.dictionary.get(target));
        let is_ordinal = target.is_some_and(|target| target.attribute("optype") == Some("ordinal"));
        let shares = match is_ordinal && !matches!(method, "none" | "softmax" | "simplemax") {
            true => self.cumulative(method, &sums, tables.len(), model)?,
            false => self.normalised(method, &sums, tables.len(), model)?,
        };
        let probabilities = self.spread(shares, &places, classes.len());
        self.most_probable(model, classes, probabilities)
    }

    /// The sum of each table: [n, tables].
    fn tables(&mut self, scope: &Scope<'x>, tables: &[Element<'x>]) -> Result<String> {
        let (mut columns, mut weights): (Vec<String>, Vec<Vec<f64>>) = (vec![], vec![]);
        let mut intercepts = Vec::new();
        for (at, table) in tables.iter().enumerate() {
            let mut add = |column: String, weight: f64| {
                let place = columns.iter().position(|known| *known == column).unwrap_or_else(|| {
                    columns.push(column);
                    weights.push(vec![0.0; tables.len()]);
                    columns.len() - 1
                });
                weights[place][at] += weight;
            };
            intercepts.push(table.number::<f64>("intercept")?.unwrap_or(0.0));
            // The categories of each field, in one table of coefficients.
            let mut categories: Vec<(&'x str, Vec<Element<'x>>)> = vec![];
            for term in table.children() {
                let coefficient = |name| {
                    term.number::<f64>(name)?
                        .ok_or_else(|| term.wrong(format!("it needs the attribute {name}")))
                };
                match term.name() {
                    "NumericPredictor" => {
                        let mut column = self.field_number(scope, term.required("name")?, term)?;
                        let exponent = term.number::<f64>("exponent")?.unwrap_or(1.0);
                        if exponent != 1.0 {
                            let power = self.graph.by("Pow", &column, exponent);
                            column = self.graph.missing_with(&column, &power);
                        }
                        add(column, coefficient("coefficient")?);
                    }
                    "CategoricalPredictor" => {
                        let name = term.required("name")?;
                        coefficient("coefficient")?;
                        match categories.iter_mut().find(|of| of.0 == name) {
                            Some(of) => of.1.push(term),
                            None => categories.push((name, vec![term])),
                        }
                    }
                    "PredictorTerm" => {
                        let mut product: Option<String> = None;
                        for field in term.all("FieldRef") {
                            let factor = self.field_number(scope, field.required("field")?, field)?;
                            product = Some(match product {
                                Some(product) => self.graph.op("Mul", &[&product, &factor]),
                                None => factor,
                            });
                        }
                        add(
                            product.ok_or_else(|| term.wrong("it needs fields"))?,
                            coefficient("coefficient")?,
                        );
                    }
                    _ => {}
                }
            }
            for (name, terms) in categories {
                let value = self.field(scope, name, terms[0])?;
                add(self.categories(&value, &terms)?, 1.0);
            }
        }
        self.graph.room(columns.len().saturating_mul(tables.len()))?;
        let bias = self.graph.doubles(&[1, intercepts.len() as i64], &intercepts);
        if columns.is_empty() {
            let zeros = self.filled(0.0);
            return Ok(self.graph.op("Add", &[&zeros, &bias]));
        }
        let x = self.graph.concat(&columns);
        Ok(self.linear(&x, &weights.concat(), tables.len(), &bias))
    }

    /// `x` [n, k] by weights [k, m], and a bias.
    pub(super) fn linear(&mut self, x: &str, weights: &[f64], columns: usize, bias: &str) -> String {
        let dims = [(weights.len() / columns) as i64, columns as i64];
        let weights = self.graph.doubles(&dims, weights);
        let product = self.graph.op("MatMul", &[x, &weights]);
        self.graph.op("Add", &[&product, bias])
    }

    /// The coefficient of the field's value; 0 for other values and where it is missing.
    fn categories(&mut self, value: &Value, terms: &[Element<'x>]) -> Result<String> {
        let mut coefficients = Vec::new();
        for term in terms {
            let coefficient = term.number::<f64>("coefficient")?.unwrap_or(0.0);
            coefficients.push((value.constant(term.required("value")?, *term)?, coefficient));
        }
        if let Meaning::Place(texts, DataType::String) = &value.meaning {
            let mut table = vec![0.0; texts.len()];
            for (place, coefficient) in coefficients {
                if let Some(place) = place {
                    table[place as usize] += coefficient;
                }
            }
            return Ok(self.looked_up(&value.tensor, 0.0, 0.0, &table));
        }
        let mut sum = self.filled(0.0);
        for (number, coefficient) in coefficients {
            let equal = self.graph.by("Equal", &value.tensor, number.unwrap_or(f64::NAN));
            let (coefficient, zero) = (self.graph.scalar(coefficient), self.graph.scalar(0.0));
            let own = self.graph.op("Where", &[&equal, &coefficient, &zero]);
            sum = self.graph.op("Add", &[&sum, &own]);
        }
        Ok(sum)
    }

    /// Probabilities of classes that have no order, from the sums of their tables.
    pub(super) fn normalised(
        &mut self,
        method: &str,
        sums: &str,
        count: usize,
        at: Element<'x>,
    ) -> Result<String> {
        match method {
            "softmax" => Ok(self.graph.with("Softmax", &[sums], vec![crate::graph::int("axis", 1)])),
            "simplemax" => {
                let whole = self.graph.reduce("ReduceSum", sums, 1, true);
                Ok(self.graph.op("Div", &[sums, &whole]))
            }
            // The last class has what the others leave.
            "none" => {
                let all: Vec<i64> = (0..count as i64 - 1).collect();
                let first = self.graph.columns(sums, &all);
                Ok(self.with_rest(&first))
            }
            _ if count == 2 => {
                let first = self.graph.columns(sums, &[0]);
                let first = self.inverse_link(method, &first, at)?;
                Ok(self.with_rest(&first))
            }
            _ => self.inverse_link(method, sums, at),
        }
    }

    /// Probabilities of classes in an order, each of whose sums stands for the class and those before it.
    fn cumulative(&mut self, method: &str, sums: &str, count: usize, at: Element<'x>) -> Result<String> {
        let all: Vec<i64> = (0..count as i64 - 1).collect();
        let up_to = self.graph.columns(sums, &all);
        let up_to = self.inverse_link(method, &up_to, at)?;
        let (one, zero) = (self.filled(1.0), self.filled(0.0));
        let ends = self.graph.concat(&[up_to.clone(), one]);
        let starts = self.graph.concat(&[zero, up_to]);
        Ok(self.graph.op("Sub", &[&ends, &starts]))
    }

    /// Probabilities, and one more class that has the rest.
    pub(super) fn with_rest(&mut self, first: &str) -> String {
        let sum = self.graph.reduce("ReduceSum", first, 1, true);
        let rest = self.graph.from("Sub", 1.0, &sum);
        self.graph.concat(&[first.into(), rest])
    }

    /// The mean that belongs to a linear predictor.
    pub(super) fn inverse_link(&mut self, method: &str, y: &str, at: Element<'x>) -> Result<String> {
        Ok(match method {
            "logit" => self.graph.op("Sigmoid", &[y]),
            "probit" => self.normal(y),
            "exp" => self.graph.op("Exp", &[y]),
            "cloglog" => {
                let power = self.graph.op("Exp", &[y]);
                let power = self.graph.op("Neg", &[&power]);
                let power = self.graph.op("Exp", &[&power]);
                self.graph.from("Sub", 1.0, &power)
            }
            "loglog" => {
                let minus = self.graph.op("Neg", &[y]);
                let power = self.graph.op("Exp", &[&minus]);
                let power = self.graph.op("Neg", &[&power]);
                self.graph.op("Exp", &[&power])
            }
            "cauchit" => {
                let angle = self.graph.op("Atan", &[y]);
                let share = self.graph.by("Div", &angle, std::f64::consts::PI);
                self.graph.by("Add", &share, 0.5)
            }
            other => {
                return Err(
                    at.wrong(format!("the normalisation or link '{}' is not supported here", short(other)))
                );
            }
        })
    }
}

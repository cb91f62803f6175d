//! GeneralRegressionModel.

use std::collections::HashMap;
use std::rc::Rc;

use super::converter::Converter;
use super::model::{Outcome, class_place};
use super::scope::Scope;
use super::value::Value;
use super::xml::{Element, short};
use crate::Result;

impl<'x> Converter<'x> {
    pub(super) fn general_regression(
        &mut self,
        model: Element<'x>,
        scope: &Scope<'x>,
        classes: Option<Rc<Vec<String>>>,
    ) -> Result<Outcome> {
        let kind = model.required("modelType")?;
        let parameters = self.parameters(model, scope)?;
        let cells: Vec<Element<'x>> = model.needs("ParamMatrix")?.all("PCell").collect();
        let Some(classes) = classes else {
            let mut sum = self.predictor(model, scope, &parameters, &cells)?;
            sum = match kind {
                "regression" | "generalLinear" => sum,
                "generalizedLinear" => self.mean(model, scope, &sum)?,
                other => return Err(model.unknown("modelType", other)),
            };
            return Ok(Outcome::of(Value::double(sum)));
        };
        let place = |text: &str, at: Element<'x>| class_place(&classes, text, at);
        // The categories that have parameters, and those of all of them.
        let mut own: Vec<(usize, Vec<Element<'x>>)> = vec![];
        let common: Vec<Element<'x>> =
            cells.iter().copied().filter(|cell| cell.attribute("targetCategory").is_none()).collect();
        for cell in &cells {
            let Some(category) = cell.attribute("targetCategory") else { continue };
            let category = place(category, *cell)?;
            match own.iter_mut().find(|known| known.0 == category) {
                Some(known) => known.1.push(*cell),
                None => own.push((category, vec![*cell])),
            }
        }
        let reference =
            model.attribute("targetReferenceCategory").map(|text| place(text, model)).transpose()?;
        if own.is_empty() {
            // The parameters are those of the one class that is not the reference.
            let class = (0..classes.len())
                .find(|class| Some(*class) != reference && (reference.is_some() || *class > 0));
            own.push((class.ok_or_else(|| model.wrong("it needs two classes"))?, vec![]));
        }
        if kind == "ordinalMultinomial" {
            own.sort_by_key(|known| known.0);
        }
        let mut sums = Vec::new();
        for (_, cells) in &own {
            let all = [&common[..], cells].concat();
            sums.push(self.predictor(model, scope, &parameters, &all)?);
        }
        let rest = match reference {
            Some(reference) => reference,
            None => {
                let rest = (0..classes.len()).rev().find(|class| own.iter().all(|known| known.0 != *class));
                rest.ok_or_else(|| model.wrong("it needs the attribute targetReferenceCategory"))?
            }
        };
        let mut places: Vec<usize> = own.iter().map(|known| known.0).collect();
        let shares = match kind {
            "multinomialLogistic" => {
                sums.push(self.filled(0.0));
                let sums = self.graph.concat(&sums);
                self.normalised("softmax", &sums, places.len() + 1, model)?
            }
            "ordinalMultinomial" => {
                let sums = self.graph.concat(&sums);
                let link = model.attribute("cumulativeLink").unwrap_or("logit");
                let up_to = self.inverse_link(link, &sums, model)?;
                let (one, zero) = (self.filled(1.0), self.filled(0.0));
                let (ends, starts) =
                    (self.graph.concat(&[up_to.clone(), one]), self.graph.concat(&[zero, up_to]));
                self.graph.op("Sub", &[&ends, &starts])
            }
            "generalizedLinear" if own.len() == 1 => {
                let mean = self.mean(model, scope, &sums[0])?;
                self.with_rest(&mean)
            }
            other => return Err(model.unknown("modelType", other)),
        };
        places.push(rest);
        let probabilities = self.spread(shares, &places, classes.len());
        self.most_probable(model, classes, probabilities)
    }

    /// The value of each parameter: the product of the cells of its row of the predictor-to-parameter matrix.
    fn parameters(&mut self, model: Element<'x>, scope: &Scope<'x>) -> Result<HashMap<&'x str, String>> {
        let names = |list: &'static str| {
            let predictors = model.child(list).into_iter().flat_map(|list| list.all("Predictor"));
            predictors.filter_map(|predictor| predictor.attribute("name")).collect::<Vec<&str>>()
        };
        let (factors, covariates) = (names("FactorList"), names("CovariateList"));
        let factor = model.child("FactorList").into_iter().flat_map(|list| list.all("Predictor"));
        if let Some(matrix) = factor.filter_map(|factor| factor.child("Matrix")).next() {
            return Err(
                matrix.wrong("contrast matrices are not supported; write their columns as derived fields")
            );
        }
        let mut values = HashMap::new();
        for parameter in model.needs("ParameterList")?.all("Parameter") {
            values.insert(parameter.required("name")?, String::new());
        }
        for cell in model.child("PPMatrix").into_iter().flat_map(|matrix| matrix.all("PPCell")) {
            let (name, text) = (cell.required("predictorName")?, cell.required("value")?);
            let value = self.field(scope, name, cell)?;
            let factor = if covariates.contains(&name) {
                let x = self.as_number(&value);
                match cell.parsed::<f64>(text)? {
                    1.0 => x,
                    power => {
                        let raised = self.graph.by("Pow", &x, power);
                        self.graph.missing_with(&x, &raised)
                    }
                }
            } else if factors.contains(&name) {
                let own = value.constant(text, cell)?.unwrap_or(-3.0);
                let equal = self.graph.by("Equal", &value.tensor, own);
                self.graph.truth(&equal, &value.tensor)
            } else {
                return Err(cell.wrong(format!("'{}' is neither a factor nor a covariate", short(name))));
            };
            let parameter = cell.required("parameterName")?;
            let product =
                values.get_mut(parameter).ok_or_else(|| cell.wrong("no parameter has this parameterName"))?;
            *product = match product.is_empty() {
                true => factor,
                false => self.graph.op("Mul", &[product, &factor]),
            };
        }
        // A parameter without cells is the intercept.
        for value in values.values_mut().filter(|value| value.is_empty()) {
            *value = self.filled(1.0);
        }
        Ok(values)
    }

    /// The sum of parameters times their coefficients, and the offset.
    fn predictor(
        &mut self,
        model: Element<'x>,
        scope: &Scope<'x>,
        parameters: &HashMap<&'x str, String>,
        cells: &[Element<'x>],
    ) -> Result<String> {
        let (mut columns, mut weights) = (vec![], vec![]);
        for cell in cells {
            let name = cell.required("parameterName")?;
            let column = parameters
                .get(name)
                .ok_or_else(|| cell.wrong(format!("no parameter has the name '{}'", short(name))))?;
            columns.push(column.clone());
            weights
                .push(cell.number::<f64>("beta")?.ok_or_else(|| cell.wrong("it needs the attribute beta"))?);
        }
        let offset = match model.attribute("offsetVariable") {
            Some(name) => self.field_number(scope, name, model)?,
            None => self.filled(model.number::<f64>("offsetValue")?.unwrap_or(0.0)),
        };
        if columns.is_empty() {
            return Ok(offset);
        }
        let x = self.graph.concat(&columns);
        Ok(self.linear(&x, &weights, 1, &offset))
    }

    /// The mean that belongs to a linear predictor, times the number of trials.
    fn mean(&mut self, model: Element<'x>, scope: &Scope<'x>, sum: &str) -> Result<String> {
        let parameter = model.number::<f64>("linkParameter")?;
        let needed = || parameter.ok_or_else(|| model.wrong("the link needs the attribute linkParameter"));
        let mean = match model.required("linkFunction")? {
            "identity" => sum.to_string(),
            "log" => self.graph.op("Exp", &[sum]),
            "inverse" => self.graph.from("Div", 1.0, sum),
            "logc" => {
                let power = self.graph.op("Exp", &[sum]);
                self.graph.from("Sub", 1.0, &power)
            }
            "negbin" => {
                let minus = self.graph.op("Neg", &[sum]);
                let power = self.graph.op("Exp", &[&minus]);
                let less = self.graph.by("Sub", &power, 1.0);
                self.graph.from("Div", 1.0 / needed()?, &less)
            }
            "power" => match needed()? {
                0.0 => self.graph.op("Exp", &[sum]),
                power => self.graph.by("Pow", sum, 1.0 / power),
            },
            "oddspower" => match needed()? {
                0.0 => self.graph.op("Sigmoid", &[sum]),
                power => {
                    let more = self.graph.by("Mul", sum, power);
                    let more = self.graph.by("Add", &more, 1.0);
                    let raised = self.graph.by("Pow", &more, -1.0 / power);
                    let more = self.graph.by("Add", &raised, 1.0);
                    self.graph.from("Div", 1.0, &more)
                }
            },
            link => self.inverse_link(link, sum, model)?,
        };
        Ok(match (model.attribute("trialsVariable"), model.number::<f64>("trialsValue")?) {
            (Some(name), _) => {
                let trials = self.field_number(scope, name, model)?;
                self.graph.op("Mul", &[&mean, &trials])
            }
            (None, Some(trials)) => self.graph.by("Mul", &mean, trials),
            (None, None) => mean,
        })
    }
}

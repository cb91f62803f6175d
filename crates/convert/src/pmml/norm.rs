//! NormContinuous and NormDiscrete.

use super::converter::Converter;
use super::scope::Scope;
use super::value::{Meaning, Value, number};
use super::xml::Element;
use crate::Result;

impl<'x> Converter<'x> {
    /// A line through points; before the first and after the last the line goes on.
    pub(super) fn norm_continuous(&mut self, scope: &Scope<'x>, element: Element<'x>) -> Result<Value> {
        let x = self.field_number(scope, element.required("field")?, element)?;
        let (points, outliers) = (points(element)?, element.attribute("outliers").unwrap_or("asIs"));
        let first = points[0];
        let last = points[points.len() - 1];
        let mut y = String::new();
        for (at, pair) in points.windows(2).enumerate() {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let along = self.graph.by("Sub", &x, x0);
            let along = self.graph.by("Mul", &along, (y1 - y0) / (x1 - x0));
            let line = self.graph.by("Add", &along, y0);
            y = match at {
                0 => line,
                _ => {
                    let beyond = self.graph.by("GreaterOrEqual", &x, x0);
                    self.graph.op("Where", &[&beyond, &line, &y])
                }
            };
        }
        let ends = match outliers {
            "asIs" => None,
            "asMissingValues" => Some((f64::NAN, f64::NAN)),
            "asExtremeValues" => Some((first.1, last.1)),
            other => return Err(element.unknown("outliers", other)),
        };
        if let Some((low, high)) = ends {
            for (compare, bound, instead) in [("Less", first.0, low), ("Greater", last.0, high)] {
                let (outside, instead) = (self.graph.by(compare, &x, bound), self.graph.scalar(instead));
                y = self.graph.op("Where", &[&outside, &instead, &y]);
            }
        }
        if let Some(instead) = element.number::<f64>("mapMissingTo")? {
            let (missing, instead) = (self.graph.op("IsNaN", &[&x]), self.graph.scalar(instead));
            y = self.graph.op("Where", &[&missing, &instead, &y]);
        }
        Ok(Value::double(y))
    }

    /// The number whose NormContinuous is `y`: the line through the points, read the other way.
    pub(super) fn denormalised(&mut self, y: &str, element: Element<'x>) -> Result<String> {
        let points = points(element)?;
        let rising = points[points.len() - 1].1 >= points[0].1;
        let mut x = String::new();
        for (at, pair) in points.windows(2).enumerate() {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let along = self.graph.by("Sub", y, y0);
            let along = self.graph.by("Mul", &along, (x1 - x0) / (y1 - y0));
            let line = self.graph.by("Add", &along, x0);
            x = match at {
                0 => line,
                _ => {
                    let beyond = self.graph.by(if rising { "GreaterOrEqual" } else { "LessOrEqual" }, y, y0);
                    self.graph.op("Where", &[&beyond, &line, &x])
                }
            };
        }
        Ok(x)
    }

    /// 1 where the field has the value, and otherwise 0.
    pub(super) fn norm_discrete(&mut self, scope: &Scope<'x>, element: Element<'x>) -> Result<Value> {
        let value = self.field(scope, element.required("field")?, element)?;
        let text = element.required("value")?;
        let number = match &value.meaning {
            Meaning::Number(data_type) => number(text, *data_type, element)?,
            Meaning::Place(..) => value.constant(text, element)?.unwrap_or(-3.0),
        };
        let equal = self.graph.by("Equal", &value.tensor, number);
        let truth = self.graph.truth(&equal, &value.tensor);
        let truth = match element.number::<f64>("mapMissingTo")? {
            Some(instead) => self.graph.unless_missing(&truth, instead),
            None => truth,
        };
        Ok(Value::double(truth))
    }
}

/// The points of the lines, from left to right.
fn points(element: Element) -> Result<Vec<(f64, f64)>> {
    let mut points = Vec::new();
    for point in element.all("LinearNorm") {
        let (Some(x), Some(y)) = (point.number::<f64>("orig")?, point.number::<f64>("norm")?) else {
            return Err(point.wrong("it needs the attributes orig and norm"));
        };
        if points.last().is_some_and(|&(before, _)| x <= before) {
            return Err(point.wrong("the points must be in the order of orig"));
        }
        points.push((x, y));
    }
    match points.len() {
        0 | 1 => Err(element.wrong("it needs two elements LinearNorm or more")),
        _ => Ok(points),
    }
}

//! ClusteringModel with centers.

use std::rc::Rc;

use super::converter::Converter;
use super::model::{Affinities, Outcome};
use super::scope::Scope;
use super::value::{DataType, Value};
use super::xml::{Element, short};
use crate::Result;
use crate::graph::Type;

impl<'x> Converter<'x> {
    pub(super) fn clustering_model(
        &mut self,
        model: Element<'x>,
        scope: &Scope<'x>,
        _: Option<Rc<Vec<String>>>,
    ) -> Result<Outcome> {
        if model.attribute("modelClass").is_some_and(|class| class != "centerBased") {
            return Err(model.wrong("only clusters with centers are supported (modelClass=\"centerBased\")"));
        }
        let measure = model.needs("ComparisonMeasure")?;
        let fields: Vec<Element<'x>> = model
            .all("ClusteringField")
            .filter(|field| field.attribute("isCenterField") != Some("false"))
            .collect();
        let clusters: Vec<Element<'x>> = model.all("Cluster").collect();
        if fields.is_empty() || clusters.is_empty() {
            return Err(model.wrong("it needs elements ClusteringField and Cluster"));
        }
        let (mut centers, mut names) = (vec![], vec![]);
        for (at, cluster) in clusters.iter().enumerate() {
            let array = cluster.needs("Array")?;
            let center = array.numbers()?;
            if center.len() != fields.len() {
                return Err(array.wrong(format!(
                    "it has {} numbers, and {} are needed",
                    center.len(),
                    fields.len()
                )));
            }
            centers.extend(center);
            names.push(cluster.attribute("id").map_or_else(|| (at + 1).to_string(), String::from));
        }
        let table = self.affinities(model, measure, scope, &fields, &centers)?;
        let nearness = match measure.required("kind")? {
            "distance" => self.graph.op("Neg", &[&table]),
            "similarity" => table.clone(),
            other => return Err(measure.unknown("kind", other)),
        };
        let place = self.graph.greatest(&nearness);
        let names = Rc::new(names);
        let value = Value::places(place, &names, DataType::String);
        Ok(Outcome { affinities: Some(Affinities { names, table }), ..Outcome::of(value) })
    }

    /// The distance or similarity of each row and cluster: [n, clusters]. Fields that are missing are left out, and the sum is scaled
    /// up as if they were like the others.
    fn affinities(
        &mut self,
        model: Element<'x>,
        measure: Element<'x>,
        scope: &Scope<'x>,
        fields: &[Element<'x>],
        centers: &[f64],
    ) -> Result<String> {
        let count = fields.len() as i64;
        let (mut columns, mut weights) = (vec![], vec![]);
        for field in fields {
            let name = field.required("field")?;
            let declared = self.dictionary.get(name).and_then(|declared| declared.attribute("isCyclic"));
            if declared == Some("1") {
                return Err(field.wrong(format!(
                    "the distance of a field with isCyclic=\"1\" is not supported; derive its sine and cosine from '{}'",
                    short(name)
                )));
            }
            columns.push(self.field_number(scope, name, *field)?);
            weights.push(field.number::<f64>("fieldWeight")?.unwrap_or(1.0));
        }
        let x = self.graph.concat(&columns);
        let axis = self.graph.ints(&[1], &[1]);
        let x = self.graph.op("Unsqueeze", &[&x, &axis]);
        let centers = self.graph.doubles(&[1, centers.len() as i64 / count, count], centers);
        let difference = self.graph.op("Sub", &[&x, &centers]);
        let difference = self.graph.op("Abs", &[&difference]);
        let function = measure.attribute("compareFunction").unwrap_or("absDiff");
        let compared = self.compared(&difference, function, fields)?;
        let weights = self.graph.doubles(&[1, 1, count], &weights);
        let adjusted = self.adjustment(model, &x, count)?;
        let kind = measure
            .children()
            .next()
            .ok_or_else(|| measure.wrong("it needs a measure, such as squaredEuclidean"))?;
        let power = match kind.name() {
            "euclidean" | "squaredEuclidean" => 2.0,
            "cityBlock" => 1.0,
            "chebychev" => 1.0,
            "minkowski" => {
                let power = kind.number::<f64>("p-parameter")?;
                power.ok_or_else(|| kind.wrong("it needs the attribute p-parameter"))?
            }
            _ => return Err(kind.wrong("this measure is not supported; euclidean, squaredEuclidean, cityBlock, chebychev and minkowski are")),
        };
        let raised = match power {
            1.0 => compared,
            2.0 => self.graph.op("Mul", &[&compared, &compared]),
            power => self.graph.by("Pow", &compared, power),
        };
        let own = self.graph.op("Mul", &[&raised, &weights]);
        let own = self.graph.unless_missing(&own, 0.0);
        if kind.name() == "chebychev" {
            let greatest = self.graph.reduce("ReduceMax", &own, 2, false);
            return Ok(self.graph.missing_with(&adjusted, &greatest));
        }
        let sum = self.graph.reduce("ReduceSum", &own, 2, false);
        let sum = self.graph.op("Mul", &[&sum, &adjusted]);
        Ok(match kind.name() {
            "euclidean" => self.graph.op("Sqrt", &[&sum]),
            "minkowski" => self.graph.by("Pow", &sum, 1.0 / power),
            _ => sum,
        })
    }

    /// The weight of all fields over that of those that are not missing: [n, 1].
    fn adjustment(&mut self, model: Element<'x>, x: &str, count: i64) -> Result<String> {
        let weights = match model.child("MissingValueWeights") {
            Some(weights) => weights.needs("Array")?.numbers()?,
            None => vec![1.0; count as usize],
        };
        if weights.len() as i64 != count {
            return Err(model.wrong("MissingValueWeights needs a number for each field"));
        }
        let row = self.graph.doubles(&[1, 1, count], &weights);
        let missing = self.graph.op("IsNaN", &[x]);
        let zero = self.graph.scalar(0.0);
        let here = self.graph.op("Where", &[&missing, &zero, &row]);
        let here = self.graph.reduce("ReduceSum", &here, 2, false);
        let (none, nothing) = (self.graph.by("Equal", &here, 0.0), self.graph.scalar(f64::NAN));
        let here = self.graph.op("Where", &[&none, &nothing, &here]);
        Ok(self.graph.from("Div", weights.iter().sum(), &here))
    }

    /// How far or how like each field is, by the function that it or the model names.
    fn compared(&mut self, difference: &str, of_model: &str, fields: &[Element<'x>]) -> Result<String> {
        let mut columns = Vec::new();
        if fields.iter().all(|field| field.attribute("compareFunction").unwrap_or(of_model) == "absDiff") {
            return Ok(difference.into());
        }
        for (at, field) in fields.iter().enumerate() {
            let place = self.graph.ints(&[1], &[at as i64]);
            let own = self.graph.with("Gather", &[difference, &place], vec![crate::graph::int("axis", 2)]);
            columns.push(match field.attribute("compareFunction").unwrap_or(of_model) {
                "absDiff" => own,
                "delta" | "equal" => {
                    let same = self.graph.by("Equal", &own, 0.0);
                    let same = self.graph.cast(&same, Type::Double);
                    let same = self.graph.missing_with(&own, &same);
                    match field.attribute("compareFunction").unwrap_or(of_model) {
                        "equal" => same,
                        _ => self.graph.from("Sub", 1.0, &same),
                    }
                }
                "gaussSim" => {
                    let scale = field.number::<f64>("similarityScale")?;
                    let scale = scale.ok_or_else(|| field.wrong("it needs the attribute similarityScale"))?;
                    let square = self.graph.op("Mul", &[&own, &own]);
                    let scaled = self.graph.by("Mul", &square, -std::f64::consts::LN_2 / (scale * scale));
                    self.graph.op("Exp", &[&scaled])
                }
                other => return Err(field.unknown("compareFunction", other)),
            });
        }
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        Ok(self.graph.with("Concat", &columns, vec![crate::graph::int("axis", 2)]))
    }
}

//! Predicates: true, false, or unknown where a value is missing.

use super::converter::Converter;
use super::scope::Scope;
use super::value::{DataType, Meaning, Value};
use super::xml::Element;
use crate::Result;

/// How a tree compares a column with a number; TreeEnsemble's modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    LessOrEqual = 0,
    Less = 1,
    GreaterOrEqual = 2,
    Greater = 3,
    Equal = 4,
}

impl Compare {
    fn operator(self) -> &'static str {
        match self {
            Compare::LessOrEqual => "LessOrEqual",
            Compare::Less => "Less",
            Compare::GreaterOrEqual => "GreaterOrEqual",
            Compare::Greater => "Greater",
            Compare::Equal => "Equal",
        }
    }
}

/// A predicate. A comparison is unknown where its column is missing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Always,
    Never,
    Compare {
        column: String,
        compare: Compare,
        value: f64,
        /// Whether it holds where the comparison does not.
        negated: bool,
    },
}

impl Test {
    /// A column of truth.
    fn of(column: String) -> Test {
        Test::Compare { column, compare: Compare::GreaterOrEqual, value: 0.5, negated: false }
    }

    /// Whether one of the two holds, and not both, where neither is unknown.
    pub(super) fn is_opposite(&self, other: &Test) -> bool {
        let (
            Test::Compare { column: a, compare, value, negated },
            Test::Compare { column: b, compare: c, value: w, negated: n },
        ) = (self, other)
        else {
            return false;
        };
        let opposite = match compare {
            Compare::LessOrEqual => Some(Compare::Greater),
            Compare::Less => Some(Compare::GreaterOrEqual),
            Compare::GreaterOrEqual => Some(Compare::Less),
            Compare::Greater => Some(Compare::LessOrEqual),
            Compare::Equal => None,
        };
        a == b && value == w && ((compare == c && negated != n) || (opposite == Some(*c) && negated == n))
    }
}

/// The elements that are predicates.
pub(super) fn is_predicate(element: Element) -> bool {
    matches!(
        element.name(),
        "SimplePredicate" | "SimpleSetPredicate" | "CompoundPredicate" | "True" | "False"
    )
}

impl<'x> Converter<'x> {
    /// The predicate that an element holds.
    pub(super) fn predicate_of(&mut self, scope: &Scope<'x>, holder: Element<'x>) -> Result<Test> {
        match holder.children().find(|child| is_predicate(*child)) {
            Some(predicate) => self.predicate(scope, predicate),
            None => Err(holder.wrong(
                "it needs a predicate: True, SimplePredicate, SimpleSetPredicate or CompoundPredicate",
            )),
        }
    }

    pub(super) fn predicate(&mut self, scope: &Scope<'x>, element: Element<'x>) -> Result<Test> {
        match element.name() {
            "True" => Ok(Test::Always),
            "False" => Ok(Test::Never),
            "SimplePredicate" => self.simple(scope, element),
            "SimpleSetPredicate" => {
                let value = self.field(scope, element.required("field")?, element)?;
                let members = element.needs("Array")?.array()?;
                let is_in = self.is_in(&value, &members, element)?;
                Ok(match element.required("booleanOperator")? {
                    "isIn" => Test::of(is_in),
                    "isNotIn" => Test::of(self.graph.from("Sub", 1.0, &is_in)),
                    other => return Err(element.unknown("booleanOperator", other)),
                })
            }
            "CompoundPredicate" => {
                let mut parts = Vec::new();
                for part in element.children().filter(|child| is_predicate(*child)) {
                    let test = self.predicate(scope, part)?;
                    parts.push(self.column(&test));
                }
                let mut parts = parts.into_iter();
                let first = parts.next().ok_or_else(|| element.wrong("it needs predicates"))?;
                let how = element.required("booleanOperator")?;
                if !matches!(how, "and" | "or" | "xor" | "surrogate") {
                    return Err(element.unknown("booleanOperator", how));
                }
                let mut whole = first;
                for part in parts {
                    whole = match how {
                        "and" => self.both(&whole, &part),
                        "or" => self.either(&whole, &part),
                        "xor" => {
                            let difference = self.graph.op("Sub", &[&whole, &part]);
                            self.graph.op("Abs", &[&difference])
                        }
                        _ => {
                            let unknown = self.graph.op("IsNaN", &[&whole]);
                            self.graph.op("Where", &[&unknown, &part, &whole])
                        }
                    };
                }
                Ok(Test::of(whole))
            }
            _ => Err(element.wrong("it is no predicate")),
        }
    }

    fn simple(&mut self, scope: &Scope<'x>, element: Element<'x>) -> Result<Test> {
        let value = self.field(scope, element.required("field")?, element)?;
        let operator = element.required("operator")?;
        if matches!(operator, "isMissing" | "isNotMissing") {
            let missing = self.is_missing(&value.tensor, operator == "isMissing");
            return Ok(Test::of(missing));
        }
        let compare = match operator {
            "equal" | "notEqual" => Compare::Equal,
            "lessThan" => Compare::Less,
            "lessOrEqual" => Compare::LessOrEqual,
            "greaterThan" => Compare::Greater,
            "greaterOrEqual" => Compare::GreaterOrEqual,
            other => return Err(element.unknown("operator", other)),
        };
        let text = element.required("value")?;
        let is_equality = matches!(operator, "equal" | "notEqual");
        if !is_equality && matches!(value.meaning, Meaning::Place(_, DataType::String)) {
            return Err(element.wrong(format!(
                "{operator} of texts is not supported; name the texts in a SimpleSetPredicate"
            )));
        }
        let (value, number) = match is_equality {
            // A text that is in no list equals none.
            true => {
                let number = value.constant(text, element)?;
                (value, number.unwrap_or(-3.0))
            }
            false => {
                let tensor = self.as_number(&value);
                (Value::double(tensor), super::value::number(text, value.data_type(), element)?)
            }
        };
        Ok(Test::Compare { column: value.tensor, compare, value: number, negated: operator == "notEqual" })
    }

    /// Whether a value is one of the members: 1, 0 or missing.
    pub(super) fn is_in(&mut self, value: &Value, members: &[String], at: Element<'x>) -> Result<String> {
        if let Meaning::Place(texts, _) = &value.meaning {
            self.graph.room(texts.len())?;
            let members: std::collections::HashSet<&str> = members.iter().map(String::as_str).collect();
            let table: Vec<f64> =
                texts.iter().map(|text| f64::from(u8::from(members.contains(text.as_str())))).collect();
            return Ok(self.looked_up(&value.tensor, f64::NAN, 0.0, &table));
        }
        let numbers = members.iter().map(|text| super::value::number(text, value.data_type(), at));
        let numbers = numbers.collect::<Result<Vec<f64>>>()?;
        let row = self.graph.doubles(&[1, numbers.len() as i64], &numbers);
        let equal = self.graph.op("Equal", &[&value.tensor, &row]);
        let equal = self.graph.cast(&equal, crate::graph::Type::Double);
        let found = self.graph.reduce("ReduceSum", &equal, 1, true);
        let found = self.graph.by("Greater", &found, 0.0);
        Ok(self.graph.truth(&found, &value.tensor))
    }

    pub(super) fn is_missing(&mut self, tensor: &str, is: bool) -> String {
        let missing = self.graph.op("IsNaN", &[tensor]);
        let missing = self.graph.cast(&missing, crate::graph::Type::Double);
        if is { missing } else { self.graph.from("Sub", 1.0, &missing) }
    }

    /// Both hold: false where one is false, else unknown where one is unknown.
    pub(super) fn both(&mut self, a: &str, b: &str) -> String {
        let (p, q) = (self.graph.by("Equal", a, 0.0), self.graph.by("Equal", b, 0.0));
        let any = self.graph.op("Or", &[&p, &q]);
        let (zero, product) = (self.graph.scalar(0.0), self.graph.op("Mul", &[a, b]));
        self.graph.op("Where", &[&any, &zero, &product])
    }

    /// One holds: true where one is true, else unknown where one is unknown.
    pub(super) fn either(&mut self, a: &str, b: &str) -> String {
        let (p, q) = (self.graph.by("Equal", a, 1.0), self.graph.by("Equal", b, 1.0));
        let any = self.graph.op("Or", &[&p, &q]);
        let (one, product) = (self.graph.scalar(1.0), self.graph.op("Mul", &[a, b]));
        self.graph.op("Where", &[&any, &one, &product])
    }

    /// The test as a column: 1, 0 or missing.
    pub(super) fn column(&mut self, test: &Test) -> String {
        match test {
            Test::Always => self.filled(1.0),
            Test::Never => self.filled(0.0),
            Test::Compare { column, compare, value, negated } => {
                let holds = self.graph.by(compare.operator(), column, *value);
                let truth = self.graph.truth(&holds, column);
                if *negated { self.graph.from("Sub", 1.0, &truth) } else { truth }
            }
        }
    }
}

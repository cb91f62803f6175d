//! Apply: the functions of the standard, and those that a document defines.

use std::rc::Rc;

use super::converter::Converter;
use super::expression::is_expression;
use super::scope::Scope;
use super::value::{DataType, Meaning, Value};
use super::xml::{Element, short};
use crate::Result;

/// Functions of one number that are an operator of ONNX.
const UNARY: &[(&str, &str)] = &[
    ("exp", "Exp"),
    ("ln", "Log"),
    ("sqrt", "Sqrt"),
    ("abs", "Abs"),
    ("floor", "Floor"),
    ("ceil", "Ceil"),
    ("rint", "Round"),
    ("sin", "Sin"),
    ("cos", "Cos"),
    ("tan", "Tan"),
    ("asin", "Asin"),
    ("acos", "Acos"),
    ("atan", "Atan"),
    ("sinh", "Sinh"),
    ("cosh", "Cosh"),
    ("tanh", "Tanh"),
];

/// Comparisons of numbers.
const COMPARISONS: &[(&str, &str)] = &[
    ("lessThan", "Less"),
    ("lessOrEqual", "LessOrEqual"),
    ("greaterThan", "Greater"),
    ("greaterOrEqual", "GreaterOrEqual"),
];

/// Arithmetic of two numbers, and reductions of what is not missing.
const ARITHMETIC: &[(&str, &str)] = &[("+", "Add"), ("-", "Sub"), ("*", "Mul"), ("/", "Div")];
const AGGREGATES: &[&str] = &["min", "max", "sum", "avg", "product"];

fn named(table: &[(&'static str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|entry| entry.0 == name).map(|entry| entry.1)
}

impl<'x> Converter<'x> {
    pub(super) fn apply(&mut self, scope: &Scope<'x>, element: Element<'x>) -> Result<Value> {
        let name = element.required("function")?;
        let mut arguments = Vec::new();
        for argument in element.children().filter(|child| is_expression(*child)) {
            arguments.push(self.expression(scope, argument)?);
        }
        match element.attribute("invalidValueTreatment") {
            None | Some("returnInvalid" | "asIs" | "asMissing") => {}
            Some(other) => return Err(element.unknown("invalidValueTreatment", other)),
        }
        let missing: Vec<String> = arguments.iter().map(|value| value.tensor.clone()).collect();
        let value = match self.functions.get(name).copied() {
            Some(defined) => self.call(defined, arguments, element)?,
            None => self.standard(name, &arguments, element)?,
        };
        // A result that is missing although no argument is takes the default.
        let mut value = match element.attribute("defaultValue") {
            Some(text) => {
                let mut mapped = self.with_text(value, text, element)?;
                mapped.0.tensor = self.graph.unless_missing(&mapped.0.tensor, mapped.1);
                mapped.0
            }
            None => value,
        };
        if let Some(text) = element.attribute("mapMissingTo") {
            let (mapped, number) = self.with_text(value, text, element)?;
            value = mapped;
            let number = self.graph.scalar(number);
            for tensor in missing {
                let is_missing = self.graph.op("IsNaN", &[&tensor]);
                value.tensor = self.graph.op("Where", &[&is_missing, &number, &value.tensor]);
            }
        }
        Ok(value)
    }

    /// A value whose list has a text, and the text's number.
    fn with_text(&mut self, value: Value, text: &str, at: Element<'x>) -> Result<(Value, f64)> {
        let value = match &value.meaning {
            Meaning::Place(texts, data_type) => {
                let mut longer = texts.to_vec();
                longer.push(text.into());
                super::schema::distinct(&mut longer);
                Value::places(value.tensor, &Rc::new(longer), *data_type)
            }
            Meaning::Number(_) => value,
        };
        let number = value.constant(text, at)?.unwrap_or(f64::NAN);
        Ok((value, number))
    }

    /// A function of the document.
    fn call(&mut self, defined: Element<'x>, arguments: Vec<Value>, at: Element<'x>) -> Result<Value> {
        let scope = Scope::new(None);
        let parameters: Vec<_> = defined.all("ParameterField").collect();
        if parameters.len() != arguments.len() {
            return Err(at.wrong(format!(
                "the function takes {} arguments, and gets {}",
                parameters.len(),
                arguments.len()
            )));
        }
        for (parameter, argument) in parameters.iter().zip(arguments) {
            let argument = match (&argument.meaning, DataType::of(*parameter)?) {
                (_, None | Some(DataType::String)) => argument,
                (_, to) => self.cast(argument, to, at)?,
            };
            scope.set(parameter.required("name")?, argument);
        }
        let value = self.expression_of(&scope, defined)?;
        self.cast(value, DataType::of(defined)?, defined)
    }

    fn standard(&mut self, name: &str, arguments: &[Value], at: Element<'x>) -> Result<Value> {
        let count = |least: usize, most: usize| match (least..=most).contains(&arguments.len()) {
            true => Ok(()),
            false => Err(at.wrong(format!("{} may not take {} arguments", short(name), arguments.len()))),
        };
        match name {
            "isMissing" | "isNotMissing" | "isValid" | "isNotValid" => {
                count(1, 1)?;
                let is = matches!(name, "isMissing" | "isNotValid");
                return Ok(Value::truth(self.is_missing(&arguments[0].tensor, is)));
            }
            "equal" | "notEqual" => {
                count(2, 2)?;
                let equal = self.equal(&arguments[0], &arguments[1], at)?;
                let truth = if name == "equal" { equal } else { self.graph.from("Sub", 1.0, &equal) };
                return Ok(Value::truth(truth));
            }
            "isIn" | "isNotIn" => {
                count(2, usize::MAX)?;
                let mut found = self.equal(&arguments[0], &arguments[1], at)?;
                for member in &arguments[2..] {
                    let equal = self.equal(&arguments[0], member, at)?;
                    found = self.either(&found, &equal);
                }
                let truth = if name == "isIn" { found } else { self.graph.from("Sub", 1.0, &found) };
                return Ok(Value::truth(truth));
            }
            "if" => {
                count(2, 3)?;
                return self.choose(&arguments[0], &arguments[1], arguments.get(2), at);
            }
            _ => {}
        }
        let numbers: Vec<String> = arguments.iter().map(|value| self.as_number(value)).collect();
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        if let Some(operator) = named(COMPARISONS, name) {
            count(2, 2)?;
            if arguments.iter().any(|value| value.data_type() == DataType::String) {
                return Err(at.wrong(format!("{name} of texts is not supported; use isIn or equal")));
            }
            let holds = self.graph.op(operator, &numbers);
            let truth = self.graph.truth(&holds, numbers[0]);
            return Ok(Value::truth(self.graph.missing_with(numbers[1], &truth)));
        }
        if let Some(operator) = named(ARITHMETIC, name) {
            count(2, 2)?;
            let of = |value: &Value| matches!(value.data_type(), DataType::Integer | DataType::Boolean);
            let whole = arguments.iter().all(of);
            let tensor = self.graph.op(operator, &numbers);
            let data_type = if whole { DataType::Integer } else { DataType::Double };
            // The standard divides whole numbers to a whole number.
            let tensor = match whole && name == "/" {
                true => self.truncated(&tensor),
                false => tensor,
            };
            return Ok(Value { tensor, meaning: Meaning::Number(data_type) });
        }
        if AGGREGATES.contains(&name) {
            count(1, usize::MAX)?;
            return Ok(Value::double(self.aggregate(name, &numbers)));
        }
        if let Some(operator) = named(UNARY, name) {
            count(1, 1)?;
            return Ok(Value::double(self.graph.op(operator, &numbers)));
        }
        let tensor = match name {
            "and" | "or" => {
                count(2, usize::MAX)?;
                let mut whole = numbers[0].to_string();
                for part in &numbers[1..] {
                    whole = if name == "and" { self.both(&whole, part) } else { self.either(&whole, part) };
                }
                return Ok(Value::truth(whole));
            }
            "not" => {
                count(1, 1)?;
                return Ok(Value::truth(self.graph.from("Sub", 1.0, numbers[0])));
            }
            "pow" => {
                count(2, 2)?;
                let power = self.graph.op("Pow", &numbers);
                // 1 to any power is 1, and so is anything to the power 0: not where a value is missing.
                let power = self.graph.missing_with(numbers[0], &power);
                self.graph.missing_with(numbers[1], &power)
            }
            "threshold" => {
                count(2, 2)?;
                let above = self.graph.op("Greater", &numbers);
                let truth = self.graph.truth(&above, numbers[0]);
                self.graph.missing_with(numbers[1], &truth)
            }
            "log10" => {
                count(1, 1)?;
                let ln = self.graph.op("Log", &numbers);
                self.graph.by("Div", &ln, std::f64::consts::LN_10)
            }
            "ln1p" => {
                count(1, 1)?;
                let more = self.graph.by("Add", numbers[0], 1.0);
                self.graph.op("Log", &[&more])
            }
            "expm1" => {
                count(1, 1)?;
                let power = self.graph.op("Exp", &numbers);
                self.graph.by("Sub", &power, 1.0)
            }
            "round" => {
                count(1, 1)?;
                let more = self.graph.by("Add", numbers[0], 0.5);
                self.graph.op("Floor", &[&more])
            }
            "modulo" => {
                count(2, 2)?;
                let ratio = self.graph.op("Div", &numbers);
                let ratio = self.graph.op("Floor", &[&ratio]);
                let whole = self.graph.op("Mul", &[&ratio, numbers[1]]);
                self.graph.op("Sub", &[numbers[0], &whole])
            }
            "hypot" => {
                count(2, 2)?;
                let squares = numbers.iter().map(|x| self.graph.op("Mul", &[x, x])).collect::<Vec<_>>();
                let sum = self.graph.op("Add", &[&squares[0], &squares[1]]);
                self.graph.op("Sqrt", &[&sum])
            }
            "erf" => {
                count(1, 1)?;
                self.graph.op("Erf", &numbers)
            }
            "stdNormalCDF" => {
                count(1, 1)?;
                self.normal(numbers[0])
            }
            _ => {
                let what = format!(
                    "the function '{}' is not supported; compute the field before, or define the function in TransformationDictionary",
                    short(name)
                );
                return Err(at.wrong(what));
            }
        };
        Ok(Value::double(tensor))
    }

    /// The share of the normal distribution below `x`.
    pub(super) fn normal(&mut self, x: &str) -> String {
        let scaled = self.graph.by("Div", x, std::f64::consts::SQRT_2);
        let erf = self.graph.op("Erf", &[&scaled]);
        let half = self.graph.by("Mul", &erf, 0.5);
        self.graph.by("Add", &half, 0.5)
    }

    fn truncated(&mut self, x: &str) -> String {
        let (sign, size) = (self.graph.op("Sign", &[x]), self.graph.op("Abs", &[x]));
        let size = self.graph.op("Floor", &[&size]);
        self.graph.op("Mul", &[&sign, &size])
    }

    /// Whether two values are equal: 1, 0 or missing.
    fn equal(&mut self, a: &Value, b: &Value, at: Element<'x>) -> Result<String> {
        let (x, y) = match (&a.meaning, &b.meaning) {
            (Meaning::Place(texts, _), _) => {
                let (x, y) = (a.tensor.clone(), self.among(b, texts, at)?);
                // Texts in no list are not known to be equal.
                (x, self.other_to(&y))
            }
            (_, Meaning::Place(texts, _)) => {
                let (x, y) = (self.among(a, texts, at)?, b.tensor.clone());
                (self.other_to(&x), y)
            }
            _ => (a.tensor.clone(), b.tensor.clone()),
        };
        let equal = self.graph.op("Equal", &[&x, &y]);
        let truth = self.graph.truth(&equal, &x);
        Ok(self.graph.missing_with(&y, &truth))
    }

    /// Places, of which that of texts in no list equals no other.
    fn other_to(&mut self, places: &str) -> String {
        let other = self.graph.by("Equal", places, super::value::OTHER);
        let never = self.graph.scalar(-3.0);
        self.graph.op("Where", &[&other, &never, places])
    }

    fn choose(
        &mut self,
        condition: &Value,
        then: &Value,
        otherwise: Option<&Value>,
        at: Element<'x>,
    ) -> Result<Value> {
        let condition = self.as_number(condition);
        let missing;
        let otherwise = match otherwise {
            Some(otherwise) => otherwise,
            None => {
                missing = self.missing(then.data_type());
                &missing
            }
        };
        let (a, b, meaning) = match (&then.meaning, &otherwise.meaning) {
            (Meaning::Number(a), Meaning::Number(b)) => {
                let data_type = if a == b { *a } else { DataType::Double };
                (then.tensor.clone(), otherwise.tensor.clone(), Meaning::Number(data_type))
            }
            (Meaning::Place(a, data_type), Meaning::Place(b, _)) => {
                let mut all = a.to_vec();
                all.extend(b.iter().cloned());
                super::schema::distinct(&mut all);
                let (all, data_type) = (Rc::new(all), *data_type);
                (
                    self.among(then, &all, at)?,
                    self.among(otherwise, &all, at)?,
                    Meaning::Place(all, data_type),
                )
            }
            _ => {
                return Err(at.wrong("one result is a text, and the other a number; give both the same type"));
            }
        };
        let holds = self.graph.by("Equal", &condition, 1.0);
        let chosen = self.graph.op("Where", &[&holds, &a, &b]);
        Ok(Value { tensor: self.graph.missing_with(&condition, &chosen), meaning })
    }

    /// A reduction of the numbers that are not missing; missing if all are.
    fn aggregate(&mut self, name: &str, numbers: &[&str]) -> String {
        let owned: Vec<String> = numbers.iter().map(|number| number.to_string()).collect();
        let all = self.graph.concat(&owned);
        let neutral = match name {
            "min" => f64::INFINITY,
            "max" => f64::NEG_INFINITY,
            "product" => 1.0,
            _ => 0.0,
        };
        let missing = self.graph.op("IsNaN", &[&all]);
        let missing = self.graph.cast(&missing, crate::graph::Type::Double);
        let here = self.graph.from("Sub", 1.0, &missing);
        let count = self.graph.reduce("ReduceSum", &here, 1, true);
        let known = self.graph.unless_missing(&all, neutral);
        let whole = match name {
            "min" => self.graph.reduce("ReduceMin", &known, 1, true),
            "max" => self.graph.reduce("ReduceMax", &known, 1, true),
            "product" => {
                let mut whole = String::new();
                for at in 0..numbers.len() {
                    let one = self.graph.columns(&known, &[at as i64]);
                    whole = if at == 0 { one } else { self.graph.op("Mul", &[&whole, &one]) };
                }
                whole
            }
            _ => self.graph.reduce("ReduceSum", &known, 1, true),
        };
        let whole = if name == "avg" { self.graph.op("Div", &[&whole, &count]) } else { whole };
        let (none, missing) = (self.graph.by("Equal", &count, 0.0), self.graph.scalar(f64::NAN));
        self.graph.op("Where", &[&none, &missing, &whole])
    }
}

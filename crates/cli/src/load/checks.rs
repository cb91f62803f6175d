//! What is known of the answers: expected arrays, and the classes of rows.

use std::path::Path;

use sardonyx::{Tensor, Tolerance, shown};

use super::client::{Answer, Port};
use super::questions::{of_rows, piece};
use super::{Args, Failure};
use crate::{files, numpy};

/// What is known of an answer.
#[derive(Clone, Debug)]
pub(super) struct Checks {
    expected: Vec<(String, Tensor)>,
    tolerance: Tolerance,
    labels: Option<Labels>,
}

#[derive(Clone, Debug)]
struct Labels {
    output: String,
    /// The class of each row.
    classes: Vec<String>,
}

/// What was found in an answer.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Why it is wrong.
    pub(super) difference: Option<String>,
    pub(super) labelled_rows: u64,
    pub(super) right_rows: u64,
}

impl Checks {
    pub(super) fn read(args: &Args, outputs: &[Port]) -> Result<Checks, Failure> {
        let expected = match &args.expect {
            Some(path) => expected(path, outputs)?,
            None => Vec::new(),
        };
        let labels = match &args.labels {
            Some(path) => Some(Labels { output: label_output(args, outputs)?, classes: classes(path)? }),
            None => None,
        };
        let tolerance = Tolerance { relative: args.tolerance, absolute: args.tolerance };
        Ok(Checks { expected, tolerance, labels })
    }

    pub(super) fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.expected.is_empty() && self.labels.is_none()
    }

    /// Refuses what is not known of exactly this number of rows.
    pub(super) fn of_rows(&self, rows: usize) -> Result<(), Failure> {
        for (name, tensor) in &self.expected {
            of_rows("--expect", name, tensor, rows)?;
        }
        match self.labels.as_ref().map_or(rows, |labels| labels.classes.len()) {
            count if count == rows => Ok(()),
            count => {
                Err(format!("--labels: the file has {count} lines, and --inputs has {rows} rows").into())
            }
        }
    }

    /// What is known of the rows from `start` to `end`.
    pub(super) fn piece(&self, start: usize, end: usize) -> Result<Checks, Failure> {
        let expected =
            self.expected.iter().map(|(name, tensor)| Ok((name.clone(), piece(tensor, start, end)?)));
        let labels = self.labels.as_ref().map(|labels| Labels {
            output: labels.output.clone(),
            classes: labels.classes[start..end].to_vec(),
        });
        Ok(Checks { expected: expected.collect::<Result<_, Failure>>()?, tolerance: self.tolerance, labels })
    }

    /// Compares an answer with what is known; otherwise why it cannot be read.
    pub(super) fn check(&self, answer: Answer) -> Result<Checked, String> {
        let outputs = answer.outputs()?;
        let output = |name: &str| outputs.iter().find(|(output, _)| output == name).map(|(_, tensor)| tensor);
        let mut checked = Checked::default();
        for (name, expected) in &self.expected {
            let actual = output(name).ok_or_else(|| format!("it has no output '{}'", shown(name)))?;
            let difference =
                actual.difference(expected, self.tolerance).map_err(|error| error.to_string())?;
            if let Some(difference) = difference {
                checked.difference = Some(format!("output '{}': {difference}", shown(name)));
                break;
            }
        }
        if let Some(Labels { output: name, classes }) = &self.labels {
            let tensor = output(name).ok_or_else(|| format!("it has no output '{}'", shown(name)))?;
            let found = predicted(tensor, classes.len()).ok_or_else(|| {
                format!(
                    "output '{}' says no class of {} rows: {:?}",
                    shown(name),
                    classes.len(),
                    tensor.shape()
                )
            })?;
            checked.labelled_rows = classes.len() as u64;
            checked.right_rows =
                classes.iter().zip(&found).filter(|(label, found)| same(label, found)).count() as u64;
        }
        Ok(checked)
    }
}

fn expected(path: &Path, outputs: &[Port]) -> Result<Vec<(String, Tensor)>, Failure> {
    let output = |name: &str| outputs.iter().find(|output| output.name == name);
    let dtype = |name: &str| output(name)?.dtype().ok();
    numpy::read_npz(path, &dtype, "numpy.savez gives it a name", |names| {
        let unknown = names.iter().find(|name| output(name).is_none());
        let gives: Vec<String> = outputs.iter().map(|output| format!("'{}'", shown(&output.name))).collect();
        match unknown {
            Some(name) => {
                let why =
                    format!("'{}': the model has no such output; it gives {}", shown(name), gives.join(", "));
                Err(files::failed(path, why))
            }
            None if names.is_empty() => {
                Err(files::failed(path, "has no arrays, so nothing would be compared"))
            }
            None => Ok(()),
        }
    })
}

fn label_output(args: &Args, outputs: &[Port]) -> Result<String, Failure> {
    let Some(name) = &args.labels_output else {
        let first = outputs.first().map(|output| output.name.clone());
        return first.ok_or_else(|| {
            "--labels: the model's metadata lists no outputs; name one (--labels-output)".into()
        });
    };
    match outputs.iter().any(|output| output.name == *name) {
        true => Ok(name.clone()),
        false => {
            let gives: Vec<String> =
                outputs.iter().map(|output| format!("'{}'", shown(&output.name))).collect();
            let gives = gives.join(", ");
            Err(format!("--labels-output {}: the model has no such output; it gives {gives}", shown(name))
                .into())
        }
    }
}

fn classes(path: &Path) -> Result<Vec<String>, Failure> {
    let text =
        String::from_utf8(files::read(path)?).map_err(|_| files::failed(path, "is no text in UTF-8"))?;
    Ok(text.lines().map(|line| line.trim().to_string()).collect())
}

/// The class of each row: the row's element, or where it has several, the place of the greatest. NaN is never the greatest.
fn predicted(tensor: &Tensor, rows: usize) -> Option<Vec<String>> {
    if rows == 0 || tensor.shape().first() != Some(&rows) || tensor.is_empty() {
        return None;
    }
    if let Some(strings) = tensor.strings() {
        return (strings.len() == rows).then(|| strings.to_vec());
    }
    let numbers = tensor.to_f64().ok()?;
    let class = |row: &[f64]| match row {
        [one] => one.to_string(),
        row => {
            let places = row.iter().enumerate().filter(|(_, x)| !x.is_nan());
            // Of equal ones the first, as numpy's argmax has it.
            let greatest = places.reduce(|best, next| if next.1 > best.1 { next } else { best });
            greatest.map_or(String::new(), |(place, _)| place.to_string())
        }
    };
    Some(numbers.chunks(numbers.len() / rows).map(class).collect())
}

/// Whether two texts name the same class: `1.0` is `1`.
fn same(label: &str, found: &str) -> bool {
    label == found
        || matches!((label.parse::<f64>(), found.parse::<f64>()), (Ok(label), Ok(found)) if label == found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_rows() {
        let scores = Tensor::from_vec(&[2, 3], vec![0.1f32, 0.7, 0.7, f32::NAN, -2.0, -1.0]).unwrap();
        assert_eq!(predicted(&scores, 2).unwrap(), ["1", "2"]);
        let numbers = Tensor::from_vec(&[2], vec![4i64, -1]).unwrap();
        assert_eq!(predicted(&numbers, 2).unwrap(), ["4", "-1"]);
        let texts = Tensor::from_strings(&[2, 1], ["cat", "dog"].map(String::from).to_vec()).unwrap();
        assert_eq!(predicted(&texts, 2).unwrap(), ["cat", "dog"]);
        assert_eq!(predicted(&scores, 3), None);
        assert!(same("1.0", "1") && same("cat", "cat") && !same("1", "2") && !same("nan", "nan "));
    }
}

//! What a run's outputs are: their numbers, the likeliest classes, and how far they are from what is expected.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::number::{self, short};
use super::{Failure, counted, files, numpy};
use sardonyx::{DType, Difference, Dim, Model, Outputs, Tensor, Tolerance, shown};

/// The heading of these options in a command's help.
const HEADING: &str = "Outputs";

#[derive(Debug, clap::Args)]
pub(super) struct OutputArgs {
    /// Write the outputs, by name, to an .npz file.
    #[arg(long, value_name = "F.npz", help_heading = HEADING)]
    pub(super) outputs: Option<PathBuf>,
    /// Print the outputs' elements, at most 1000 of each.
    #[arg(long, help_heading = HEADING)]
    print: bool,
    /// Print the N greatest elements of each row of the outputs, with their places.
    #[arg(long, value_name = "N", help_heading = HEADING, value_parser = number::whole::<1>, allow_negative_numbers = true)]
    top: Option<u64>,
    /// The names of the places that --top prints, one on each line of a text file.
    #[arg(long, value_name = "F", requires = "top", help_heading = HEADING)]
    labels: Option<PathBuf>,
    /// Compare the outputs with the arrays of an .npz file; exit with 1 if one differs by more than the tolerance.
    #[arg(long, value_name = "F.npz", help_heading = HEADING)]
    expect: Option<PathBuf>,
    /// How far an element may be from the expected one: X + X * |expected|.
    #[arg(long, value_name = "X", default_value = "1e-3", requires = "expect", help_heading = HEADING, value_parser = number::tolerance, allow_negative_numbers = true)]
    tolerance: f64,
    /// Exit with 1 if an output has a NaN or an infinity, and no input has one.
    #[arg(long, help_heading = HEADING)]
    fail_on_nan: bool,
}

/// The most elements of an output that are printed, and the most rows of which the greatest elements are.
const MOST_PRINTED: usize = 1000;
const MOST_ROWS: usize = 16;

/// The width of printed rows.
const WIDTH: usize = 100;

/// What was found in the outputs.
pub(super) struct Findings {
    /// Lines for people.
    pub(super) text: String,
    pub(super) json: Value,
    /// Whether everything that was to be checked is in order.
    pub(super) good: bool,
    /// A complaint about numbers that are none.
    pub(super) warning: Option<String>,
    /// Whether it is more than a warning.
    pub(super) is_failure: bool,
}

/// What the command line asks of the outputs, with its files read.
pub(super) struct Wanted<'a> {
    args: &'a OutputArgs,
    labels: Vec<String>,
    expected: Vec<(String, Tensor)>,
}

impl OutputArgs {
    /// Reads the files that are compared with, and refuses what could not be compared or written: before the model runs.
    pub(super) fn read(&self, model: &Model) -> Result<Wanted<'_>, Failure> {
        self.outputs.as_deref().map_or(Ok(()), files::check_target)?;
        let labels = self.labels.as_deref().map_or(Ok(vec![]), labels)?;
        if let Some(path) = &self.labels {
            let last = |output: &sardonyx::ValueInfo| match output.shape.as_ref().and_then(|dims| dims.last())
            {
                Some(Dim::Known(classes)) => Some((output.name.clone(), *classes)),
                _ => None,
            };
            let wrong = model.outputs().iter().filter_map(last).find(|(_, classes)| *classes != labels.len());
            wrong.map_or(Ok(()), |(name, classes)| Err(too_few(path, &labels, &name, classes)))?;
        }
        let Some(path) = &self.expect else { return Ok(Wanted { args: self, labels, expected: vec![] }) };
        let names: Vec<&str> = model.outputs().iter().map(|output| output.name.as_str()).collect();
        let advice = match names.first() {
            Some(name) => {
                format!("numpy.savez(F, **{{'{}': array}}) writes one with the output's name", shown(name))
            }
            None => "the model has no outputs".into(),
        };
        let expected = numpy::read_npz(path, &|_| None, &advice, |held| {
            let unknown = held.iter().find(|name| !names.contains(&name.as_str()));
            match (unknown, held) {
                (Some(name), _) => Err(files::failed(
                    path,
                    format!("'{}': the model has no such output; it has {}", shown(name), quoted(&names)),
                )),
                (None, []) => Err(files::failed(path, "holds no array, so that nothing can be compared")),
                _ => Ok(()),
            }
        })?;
        Ok(Wanted { args: self, labels, expected })
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{}'", shown(name))).collect::<Vec<_>>().join(", ")
}

/// The failure of labels whose number is not that of an output's places.
fn too_few(path: &Path, labels: &[String], output: &str, classes: usize) -> Failure {
    let (lines, places) = (counted(labels.len(), "line"), counted(classes, "place"));
    files::failed(path, format!("has {lines}, and output '{}' has {places} in a row", shown(output)))
}

fn labels(path: &Path) -> Result<Vec<String>, Failure> {
    let text = String::from_utf8(files::read(path)?).map_err(|_| files::failed(path, "is no text file"))?;
    Ok(text.lines().map(str::to_string).collect())
}

impl Wanted<'_> {
    /// Prints and compares.
    pub(super) fn look<'t>(
        &self,
        inputs: impl Iterator<Item = &'t Tensor>,
        outputs: &Outputs,
    ) -> Result<Findings, Failure> {
        let mut findings =
            Findings { text: String::new(), json: json!({}), good: true, warning: None, is_failure: false };
        if self.args.print {
            for (name, tensor) in outputs {
                findings.text += &elements(name, tensor);
                findings.json["print"][name] = elements_in_json(tensor);
            }
        }
        if let Some(count) = self.args.top.map(|count| usize::try_from(count).unwrap_or(usize::MAX)) {
            for (name, tensor) in outputs {
                self.top(name, tensor, count, &mut findings)?;
            }
        }
        if let Some(path) = &self.args.expect {
            self.compare(path, outputs, &mut findings)?;
        }
        self.look_for_nan(inputs, outputs, &mut findings);
        Ok(findings)
    }

    fn top(&self, name: &str, tensor: &Tensor, count: usize, findings: &mut Findings) -> Result<(), Failure> {
        let Ok(values) = tensor.to_f64() else { return Ok(()) };
        let Some(&classes) = tensor.shape().last().filter(|&&classes| classes > 0) else { return Ok(()) };
        if !self.labels.is_empty() && self.labels.len() != classes {
            let path = self.args.labels.as_deref().unwrap_or(Path::new(""));
            return Err(too_few(path, &self.labels, name, classes));
        }
        let mut rows = Vec::new();
        for (row, values) in values.chunks(classes).take(MOST_ROWS).enumerate() {
            let mut order: Vec<usize> = (0..classes).filter(|&i| !values[i].is_nan()).collect();
            order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
            order.truncate(count);
            let place = if values.len() == tensor.len() { String::new() } else { format!(" row {row}") };
            findings.text += &format!("top       {}{place}\n", shown(name));
            for &i in &order {
                let label = self.labels.get(i).map_or(String::new(), |label| format!("  {}", shown(label)));
                findings.text += &format!("  {:>12} {i:>6}{label}\n", short(values[i]));
            }
            let entry = |&i: &usize| json!({ "place": i, "value": number::json(values[i]), "label": self.labels.get(i) });
            rows.push(Value::Array(order.iter().map(entry).collect()));
        }
        let left = (tensor.len() / classes).saturating_sub(MOST_ROWS);
        if left > 0 {
            findings.text += &format!("          and {}\n", counted(left, "more row"));
        }
        findings.json["top"][name] = Value::Array(rows);
        Ok(())
    }

    fn compare(&self, path: &Path, outputs: &Outputs, findings: &mut Findings) -> Result<(), Failure> {
        let tolerance = Tolerance { relative: self.args.tolerance, absolute: self.args.tolerance };
        for (name, expected) in &self.expected {
            let Some(actual) = outputs.get(name) else {
                return Err(files::failed(path, format!("'{}': the run gave no such output", shown(name))));
            };
            let difference = actual.difference(expected, tolerance)?;
            let verdict = match &difference {
                None => {
                    let far = greatest(expected, actual)
                        .map_or(String::new(), |far| format!("; the greatest difference is {}", short(far)));
                    let x = short(self.args.tolerance);
                    format!("as expected, within {x} + {x} * |expected|{far}")
                }
                Some(difference) => {
                    let first = differing(difference, expected.dtype());
                    format!("not as expected: {first}{}", far(expected, actual, tolerance))
                }
            };
            findings.text += &format!("expect    {}: {verdict}\n", shown(name));
            findings.json["expect"][name] = json!({
                "good": difference.is_none(),
                "difference": difference.as_ref().map(|difference| differing(difference, expected.dtype())),
                "greatest_difference": greatest(expected, actual).map(number::rounded),
            });
            findings.good &= findings.json["expect"][name]["good"] == true;
        }
        Ok(())
    }

    fn look_for_nan<'t>(
        &self,
        mut inputs: impl Iterator<Item = &'t Tensor>,
        outputs: &Outputs,
        findings: &mut Findings,
    ) {
        if inputs.any(|tensor| not_finite(tensor) > 0) {
            return;
        }
        let found = outputs.iter().map(|(name, tensor)| (name, not_finite(tensor)));
        let named: Vec<String> = found
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("output '{}' has {count}", shown(name)))
            .collect();
        if !named.is_empty() {
            findings.warning = Some(format!("NaN or infinity, which no input has: {}", named.join(", ")));
            findings.is_failure = self.args.fail_on_nan;
            findings.good &= !findings.is_failure;
        }
    }
}

/// The first difference, with as many digits as tell the numbers apart.
fn differing(difference: &Difference, dtype: DType) -> String {
    let Difference::Number { element, expected, actual } = difference else { return difference.to_string() };
    let full = |value: f64| match dtype {
        // The digits of the wider type would say nothing.
        DType::F32 | DType::F16 | DType::BF16 => (value as f32).to_string(),
        _ => value.to_string(),
    };
    let (wanted, got) = match (short(*expected), short(*actual)) {
        (wanted, got) if wanted == got || !dtype.is_float() => (full(*expected), full(*actual)),
        texts => texts,
    };
    format!("element {element}: expected {wanted}, got {got}")
}

/// How many elements differ, and by how much at most.
fn far(expected: &Tensor, actual: &Tensor, tolerance: Tolerance) -> String {
    let (Ok(wanted), Ok(got)) = (expected.to_f64(), actual.to_f64()) else { return String::new() };
    if wanted.len() != got.len() || expected.shape() != actual.shape() {
        return String::new();
    }
    let allowed = |wanted: &f64| tolerance.absolute + tolerance.relative * wanted.abs();
    let differ = wanted
        .iter()
        .zip(&got)
        .filter(|(wanted, got)| apart(**wanted, **got) > allowed(wanted) || apart(**wanted, **got).is_nan());
    let greatest =
        greatest(expected, actual).map_or(String::new(), |far| format!(", at most by {}", short(far)));
    format!("; {} of {} differ{greatest}", differ.count(), counted(got.len(), "element"))
}

fn greatest(expected: &Tensor, actual: &Tensor) -> Option<f64> {
    let (wanted, got) = (expected.to_f64().ok()?, actual.to_f64().ok()?);
    let differences = wanted.iter().zip(&got).map(|(wanted, got)| apart(*wanted, *got));
    (expected.shape() == actual.shape())
        .then(|| differences.fold(0.0, f64::max))
        .filter(|far| far.is_finite())
}

fn apart(wanted: f64, got: f64) -> f64 {
    if wanted == got || (wanted.is_nan() && got.is_nan()) { 0.0 } else { (wanted - got).abs() }
}

/// The elements, row by row.
fn elements(name: &str, tensor: &Tensor) -> String {
    let texts: Vec<String> = if let Some(strings) = tensor.strings() {
        strings.iter().take(MOST_PRINTED).map(|text| format!("\"{}\"", shown(text))).collect()
    } else if let Ok(values) = tensor.to_f64() {
        let exact = !tensor.dtype().is_float();
        let text = |value: &f64| if exact { value.to_string() } else { short(*value) };
        values.iter().take(MOST_PRINTED).map(text).collect()
    } else {
        return format!("{}: {} elements cannot be printed\n", shown(name), tensor.dtype());
    };
    let mut text = format!("{}: {}{:?}\n", shown(name), tensor.dtype(), tensor.shape());
    let row = tensor.shape().last().copied().unwrap_or(1).max(1);
    let widest = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
    for elements in texts.chunks(row) {
        // A row that is too long goes on in the next line, further to the right.
        for (i, line) in elements.chunks((WIDTH / (widest + 1)).max(1)).enumerate() {
            let padded: Vec<String> = line.iter().map(|text| format!("{text:>widest$}")).collect();
            text += &format!("{}{}\n", if i == 0 { "  " } else { "    " }, padded.join(" "));
        }
    }
    let left = tensor.len() - texts.len();
    if left > 0 {
        text += &format!("  and {left} more; --outputs F.npz writes all\n");
    }
    text
}

/// The same in JSON: the first elements, row by row, and how many are left out.
fn elements_in_json(tensor: &Tensor) -> Value {
    let elements: Vec<Value> = if let Some(strings) = tensor.strings() {
        strings.iter().take(MOST_PRINTED).map(|text| text.as_str().into()).collect()
    } else {
        let values = tensor.to_f64().unwrap_or_default().into_iter().take(MOST_PRINTED);
        match tensor.dtype().is_float() {
            true => values.map(number::json).collect(),
            // Whole numbers beyond 2^53 are rounded.
            false if tensor.dtype() == DType::U64 => values.map(|value| (value as u64).into()).collect(),
            false => values.map(|value| (value as i64).into()).collect(),
        }
    };
    let left = tensor.len() - elements.len();
    json!({ "elements": elements, "left_out": left })
}

/// Elements that are decoded at once, as the reference's arrays take more memory than tensors. The number makes whole bytes of
/// the narrowest types.
const PIECE: usize = 1 << 16;

/// The tensor's elements, piece by piece; `None` for strings.
fn pieces(tensor: &Tensor) -> Option<impl Iterator<Item = Option<Tensor>>> {
    let (dtype, bytes, count) = (tensor.dtype(), tensor.bytes(), tensor.len());
    let piece = move |start: usize| {
        let n = PIECE.min(count - start);
        let at = dtype.bytes_of(start)?;
        Tensor::from_raw(dtype, &[n], bytes[at..at + dtype.bytes_of(n)?].to_vec()).ok()
    };
    (dtype != DType::String).then(|| (0..count).step_by(PIECE).map(piece))
}

/// The number of NaNs and infinities.
fn not_finite(tensor: &Tensor) -> usize {
    let Some(statistics) = statistics(tensor).filter(|_| tensor.dtype().is_float()) else { return 0 };
    statistics.nan + statistics.infinite
}

/// The least, the greatest and the mean number, without NaN and infinities, and the numbers of these. The first three are absent if no
/// number is left.
#[derive(Default)]
struct Statistics {
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
    nan: usize,
    infinite: usize,
}

fn statistics(tensor: &Tensor) -> Option<Statistics> {
    let (mut statistics, mut sum, mut count) = (Statistics::default(), 0.0, 0usize);
    for piece in pieces(tensor)? {
        for value in piece?.to_f64().ok()? {
            if value.is_nan() {
                statistics.nan += 1;
                continue;
            }
            statistics.infinite += usize::from(value.is_infinite());
            statistics.min = Some(statistics.min.map_or(value, |min| min.min(value)));
            statistics.max = Some(statistics.max.map_or(value, |max| max.max(value)));
            (sum, count) = (sum + value, count + 1);
        }
    }
    statistics.mean = (count > 0).then(|| sum / count as f64);
    Some(statistics)
}

/// A tensor in one line.
pub(super) fn line(name: &str, tensor: &Tensor) -> String {
    let head = format!("{}: {}{:?}", shown(name), tensor.dtype(), tensor.shape());
    let nan = |nan: usize| if nan > 0 { format!(" NaN {nan}") } else { String::new() };
    match (statistics(tensor), tensor.strings()) {
        (_, Some(strings)) => {
            let first: Vec<String> =
                strings.iter().take(3).map(|text| format!("\"{}\"", shown(text))).collect();
            format!("{head} [{}]", first.join(", "))
        }
        (Some(Statistics { min: Some(min), max: Some(max), mean: Some(mean), nan: count, .. }), _) => {
            // Whole numbers are printed in full.
            let (min, max) = match tensor.dtype().is_float() {
                true => (short(min), short(max)),
                false => (min.to_string(), max.to_string()),
            };
            format!("{head} min {min} max {max} mean {}{}", short(mean), nan(count))
        }
        (Some(Statistics { nan: count, .. }), _) => format!("{head}{}", nan(count)),
        (None, _) => head,
    }
}

/// A tensor in JSON.
pub(super) fn json_of(name: &str, tensor: &Tensor) -> Value {
    let statistics = statistics(tensor);
    json!({
        "name": name,
        "dtype": tensor.dtype().name(),
        "shape": tensor.shape(),
        "min": statistics.as_ref().and_then(|s| s.min).map(number::json),
        "max": statistics.as_ref().and_then(|s| s.max).map(number::json),
        "mean": statistics.as_ref().and_then(|s| s.mean).map(number::json),
        "nan": statistics.as_ref().map(|s| s.nan),
        "infinite": statistics.as_ref().map(|s| s.infinite),
    })
}

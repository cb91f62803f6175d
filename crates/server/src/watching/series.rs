//! The series of numbers that a model's inputs and outputs are watched by.

use sardonyx::Tensor;

use super::numbers::{Numbers, summary};
use super::plan::{has_rows, row_dims, row_length};
use super::sketch::Learned;
use crate::config::{Config, Port};

/// A row with more elements is watched by its summary.
const MOST_FEATURES: usize = 64;

/// The series of a model at most.
const MOST_SERIES: usize = 256;

/// The rows of a request that are looked at.
const MOST_ROWS: usize = 32;

/// The elements of a row that are looked at.
const MOST_ELEMENTS: usize = 16_384;

/// The elements of a row of scores, of which the greatest is looked for.
const MOST_SCORES: usize = 65_536;

/// The inputs and outputs of a model, and the series of each.
#[derive(Debug)]
pub(super) struct Layout {
    ports: Vec<Watched>,
    /// The names of all series, and whether each is one of classes.
    pub(super) series: Vec<(String, bool)>,
}

#[derive(Debug)]
struct Watched {
    name: String,
    output: bool,
    rows: bool,
    /// The index of the first series.
    first: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    /// One series for each element of a row.
    Features(usize),
    /// The mean, the standard deviation, the share of zeros, the share of what is not finite, and, if `true`, the size.
    Summary(bool),
    /// The bytes of texts.
    Text,
    /// The index of the greatest score.
    Class,
}

impl Layout {
    pub(super) fn of(config: &Config) -> Layout {
        let mut layout = Layout { ports: Vec::new(), series: Vec::new() };
        let batch = config.max_batch > 0;
        for port in &config.inputs {
            layout.add(port, batch, false);
        }
        for port in &config.outputs {
            if port.dtype.is_float() && is_of_classes(port, batch) {
                layout.push(port, (batch, true), What::Class, vec![format!("{}.class", port.name)]);
            }
            layout.add(port, batch, true);
        }
        layout
    }

    fn add(&mut self, port: &Port, batch: bool, output: bool) {
        let name = &port.name;
        if port.dtype == sardonyx::DType::String {
            return self.push(port, (batch, output), What::Text, vec![format!("{name}.bytes")]);
        }
        let length = row_length(port, batch);
        let left = MOST_SERIES - self.series.len();
        let (what, names) = match length {
            Some(1) => (What::Features(1), vec![name.clone()]),
            Some(length) if length <= MOST_FEATURES.min(left) => {
                (What::Features(length), (0..length).map(|i| format!("{name}[{i}]")).collect())
            }
            _ => {
                let mut of = vec!["mean", "std", "zeros", "not_finite"];
                of.extend(length.is_none().then_some("size"));
                (What::Summary(length.is_none()), of.iter().map(|of| format!("{name}.{of}")).collect())
            }
        };
        self.push(port, (batch, output), what, names);
    }

    fn push(&mut self, port: &Port, (batch, output): (bool, bool), what: What, names: Vec<String>) {
        let first = self.series.len();
        if first + names.len() > MOST_SERIES {
            tracing::warn!(tensor = port.name, "its drift is not watched: the model has too many features");
            return;
        }
        let of_classes = matches!(what, What::Class);
        let rows = has_rows(port, batch);
        self.ports.push(Watched { name: port.name.clone(), output, rows, first, what });
        self.series.extend(names.into_iter().map(|name| (name, of_classes)));
    }

    /// What a baseline is learned by.
    pub(super) fn learned(&self) -> Vec<Learned> {
        let learned = |(_, classes): &(String, bool)| match classes {
            true => Learned::classes(),
            false => Learned::numbers(),
        };
        self.series.iter().map(learned).collect()
    }

    /// Takes the values of a request's rows, with the index of the series of each. Returns the number of rows.
    pub(super) fn observe(
        &self,
        inputs: &[(String, Tensor)],
        outputs: &[(String, Tensor)],
        mut take: impl FnMut(usize, f64),
    ) -> usize {
        let mut most = 0;
        for port in &self.ports {
            let tensors = if port.output { outputs } else { inputs };
            if let Some((_, tensor)) = tensors.iter().find(|(name, _)| *name == port.name) {
                most = most.max(port.observe(tensor, &mut take));
            }
        }
        most
    }
}

impl Watched {
    fn observe(&self, tensor: &Tensor, take: &mut impl FnMut(usize, f64)) -> usize {
        let rows = if self.rows { tensor.shape().first().copied().unwrap_or(1) } else { 1 };
        let length = tensor.len().checked_div(rows).unwrap_or(0);
        let step = rows.div_ceil(MOST_ROWS).max(1);
        let looked = (0..rows).step_by(step);
        let count = looked.len();
        if let Some(strings) = tensor.strings() {
            if matches!(self.what, What::Text) {
                for row in looked {
                    let texts = strings[row * length..(row + 1) * length].iter();
                    take(self.first, texts.take(MOST_ELEMENTS).map(String::len).sum::<usize>() as f64);
                }
                return count;
            }
            return 0; // The client wants classes as texts in place of the output.
        }
        let Some(numbers) = Numbers::of(tensor) else { return 0 };
        for row in looked {
            let start = row * length;
            match self.what {
                What::Features(of) => {
                    (0..of.min(length)).for_each(|i| take(self.first + i, numbers.get(start + i)));
                }
                What::Summary(with_size) => {
                    let found = summary(&numbers, start, length, MOST_ELEMENTS);
                    let values = [found.mean, found.std, found.zeros, found.not_finite];
                    values.into_iter().enumerate().for_each(|(i, value)| take(self.first + i, value));
                    if with_size {
                        take(self.first + values.len(), length as f64);
                    }
                }
                What::Class if length <= MOST_SCORES => {
                    let scores = (0..length).map(|i| numbers.get(start + i));
                    let greatest = scores.enumerate().filter(|(_, score)| !score.is_nan());
                    let greatest = greatest.fold(None, |best: Option<(usize, f64)>, (i, score)| match best {
                        Some((_, least)) if least >= score => best,
                        _ => Some((i, score)),
                    });
                    take(self.first, greatest.map_or(f64::NAN, |(class, _)| class as f64));
                }
                What::Class | What::Text => {}
            }
        }
        count
    }
}

/// Whether a row has one score for each of several classes.
fn is_of_classes(port: &Port, batch: bool) -> bool {
    let dims = row_dims(port, batch);
    dims.iter().filter(|dim| **dim != Some(1)).count() == 1 && row_length(port, batch).is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use super::super::tests::config;
    use super::*;

    fn observed(
        layout: &Layout,
        inputs: &[(&str, Tensor)],
        outputs: &[(&str, Tensor)],
    ) -> Vec<(String, f64)> {
        let owned = |of: &[(&str, Tensor)]| -> Vec<(String, Tensor)> {
            of.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect()
        };
        let mut taken = Vec::new();
        layout.observe(&owned(inputs), &owned(outputs), |series, value| {
            taken.push((layout.series[series].0.clone(), value));
        });
        taken
    }

    #[test]
    fn features_classes_and_summaries() {
        let layout = Layout::of(&config(
            8,
            &[("x", sardonyx::DType::F32, &[Some(2)]), ("image", sardonyx::DType::U8, &[Some(100)])],
            &[("y", sardonyx::DType::F32, &[Some(3)])],
            &[],
        ));
        let x = Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let mut pixels = [7u8; 100];
        pixels[..50].fill(5);
        let image = Tensor::from_slice(&[1, 100], &pixels).unwrap();
        let y = Tensor::from_slice(&[2, 3], &[0.0f32, 9.0, 1.0, f32::NAN, -1.0, -1.0]).unwrap();
        let found = observed(&layout, &[("x", x), ("image", image)], &[("y", y)]);
        let of = |name: &str| -> Vec<f64> {
            found.iter().filter(|(of, _)| of == name).map(|(_, value)| *value).collect()
        };
        assert_eq!((of("x[0]"), of("x[1]")), (vec![1.0, 3.0], vec![2.0, 4.0]));
        let near = |name: &str, expected: f64| (of(name)[0] - expected).abs() < 1e-12;
        assert!(near("image.mean", 6.0) && near("image.std", 1.0));
        assert_eq!((of("image.zeros"), of("image.not_finite")), (vec![0.0], vec![0.0]));
        assert_eq!(of("y.class"), [1.0, 1.0], "a NaN is no greatest score, and of equals the first is");
        assert_eq!(of("y[1]"), [9.0, -1.0]);
        assert!(!found.iter().any(|(name, _)| name == "image.size"));
    }

    #[test]
    fn texts_sizes_and_bounds() {
        let layout = Layout::of(&config(
            0,
            &[("ids", sardonyx::DType::I64, &[None, None]), ("text", sardonyx::DType::String, &[None])],
            &[],
            &[],
        ));
        let ids = Tensor::from_slice(&[1, 3], &[1i64, 0, 5]).unwrap();
        let text = Tensor::from_strings(&[2], vec!["é".into(), String::new()]).unwrap();
        let found = observed(&layout, &[("ids", ids), ("text", text)], &[]);
        for expected in [("ids.mean", 2.0), ("ids.zeros", 1.0 / 3.0), ("ids.size", 3.0), ("text.bytes", 2.0)]
        {
            assert!(found.contains(&(expected.0.into(), expected.1)), "{expected:?} of {found:?}");
        }
        let many = Tensor::zeros(sardonyx::DType::I64, &[100_000, 1]).unwrap();
        assert!(observed(&layout, &[("ids", many)], &[]).len() <= 5 * MOST_ROWS);
        let names: Vec<String> = (0..200).map(|i| format!("x{i}")).collect();
        let wide: Vec<(&str, sardonyx::DType, &[Option<usize>])> =
            names.iter().map(|name| (name.as_str(), sardonyx::DType::F32, &[Some(60)][..])).collect();
        assert!(Layout::of(&config(1, &wide, &[], &[])).series.len() <= MOST_SERIES);
    }
}

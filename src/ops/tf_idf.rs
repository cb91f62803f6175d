//! TfIdfVectorizer: how often n-grams of a list occur in a row of words or of numbers.
//!
//! History: 9. An n-gram is found in words that stand next to each other, or with the same number of words, up to a greatest one, between
//! each two.

use std::collections::BTreeMap;

use super::case::{self, Case};
use super::{
    Array, Attr, DType, NodeDef, Op, Operator, Row, Types, Why, Work, of_elements, onnx, refuse, required,
    sorting, types,
};
use crate::array::Numbers;
use crate::facts::{Fact, MAX_COUNT};

/// TfIdfVectorizer.
#[derive(Clone, Debug)]
pub(crate) struct TfIdf {
    pool: GramPool,
    /// The lengths of the n-grams that count.
    lengths: (usize, usize),
    /// The greatest number of words that are left out.
    most_skipped: usize,
    mode: Mode,
    /// The weight of each n-gram; empty if all are 1.
    weights: Vec<f64>,
    /// The column of each n-gram.
    columns: Vec<usize>,
    /// The number of columns.
    width: usize,
}

/// The numbers of the n-grams that a list of words, or of numbers, is.
#[derive(Clone, Debug)]
enum GramPool {
    Ints(BTreeMap<Vec<i64>, usize>),
    Texts(BTreeMap<Vec<String>, usize>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// The number of occurrences.
    Count,
    /// The weight, if there is an occurrence.
    Weight,
    /// The product of both.
    Both,
}

const TYPES: Types = types![T -> T1; T: STRING INDICES, T1: F32];

pub(crate) const ROWS: &[Row] = &[onnx("TfIdfVectorizer", 9, TYPES, parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let needed = |name: &str| match def.attributes.int(name)? {
        Some(value) => match usize::try_from(value) {
            Ok(value) => Ok(value),
            Err(_) => refuse!("attribute '{name}' is {value}, and must not be negative"),
        },
        None => refuse!("attribute '{name}' is required"),
    };
    let lengths = (needed("min_gram_length")?, needed("max_gram_length")?);
    if lengths.0 == 0 || lengths.1 < lengths.0 {
        refuse!("the n-grams have {} to {} words, which is impossible", lengths.0, lengths.1);
    }
    let mode = match def.attributes.string_or("mode", "")?.as_str() {
        "TF" => Mode::Count,
        "IDF" => Mode::Weight,
        "TFIDF" => Mode::Both,
        other => refuse!("mode is '{other}', and must be TF, IDF or TFIDF"),
    };
    let starts = def.attributes.ints("ngram_counts")?.unwrap_or_default();
    let pool = match (def.attributes.ints("pool_int64s")?, def.attributes.strings("pool_strings")?) {
        (Some(ints), None) => GramPool::Ints(grams(&ints, &starts)?),
        (None, Some(texts)) => GramPool::Texts(grams(&texts, &starts)?),
        _ => refuse!("either 'pool_int64s' or 'pool_strings' must list the n-grams"),
    };
    let columns = def.attributes.ints("ngram_indexes")?.unwrap_or_default();
    let columns: Option<Vec<usize>> =
        columns.into_iter().map(|column| usize::try_from(column).ok()).collect();
    let Some(columns) = columns.filter(|all| !all.is_empty()) else {
        refuse!("'ngram_indexes' must have a column for each n-gram, and none that is negative")
    };
    let weights = def.attributes.floats("weights")?.unwrap_or_default();
    let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
    if !weights.is_empty() && weights.len() != columns.len() {
        refuse!("there are {} weights, and {} n-grams", weights.len(), columns.len());
    }
    let count = match &pool {
        GramPool::Ints(all) => all.values().max(),
        GramPool::Texts(all) => all.values().max(),
    };
    if count.is_some_and(|&last| last >= columns.len()) {
        refuse!("there are more n-grams than the {} columns of 'ngram_indexes'", columns.len());
    }
    let width = columns.iter().max().map_or(0, |last| last.saturating_add(1));
    if width > MAX_COUNT {
        refuse!("'ngram_indexes' has the column {}, which is too large", width - 1);
    }
    let most_skipped = needed("max_skip_count")?;
    Ok(TfIdf { pool, lengths, most_skipped, mode, weights, columns, width }.into())
}

/// The n-grams of a pool, with their numbers. `starts`: where those of one word begin, of two, ...
fn grams<T: Clone + Ord>(pool: &[T], starts: &[i64]) -> Result<BTreeMap<Vec<T>, usize>, Why> {
    let starts: Option<Vec<usize>> = starts.iter().map(|start| usize::try_from(*start).ok()).collect();
    let Some(starts) = starts.filter(|starts| !starts.is_empty()) else {
        refuse!("'ngram_counts' must say where the n-grams of each length begin")
    };
    let (mut grams, mut number) = (BTreeMap::new(), 0);
    for (i, &start) in starts.iter().enumerate() {
        let (end, length) = (starts.get(i + 1).copied().unwrap_or(pool.len()), i + 1);
        let Some(part) = pool.get(start..end).filter(|part| part.len().is_multiple_of(length)) else {
            refuse!(
                "the n-grams of {length} words lie from {start} to {end} of {}, which is impossible",
                pool.len()
            )
        };
        for gram in part.chunks(length) {
            grams.entry(gram.to_vec()).or_insert(number);
            number += 1;
        }
    }
    Ok(grams)
}

impl TfIdf {
    /// The result for a row of words.
    fn row<T: Clone + Ord>(&self, grams: &BTreeMap<Vec<T>, usize>, words: &[T], row: &mut [f64]) {
        let mut gram = Vec::new();
        for length in self.lengths.0..=self.lengths.1.min(words.len()) {
            // Words on their own have nothing between them.
            let skips = if length == 1 { 0 } else { self.most_skipped.min(words.len()) };
            for skip in 0..=skips {
                let reach = (length - 1) * (skip + 1);
                for first in 0..words.len().saturating_sub(reach) {
                    gram.clear();
                    gram.extend((0..length).map(|i| words[first + i * (skip + 1)].clone()));
                    if let Some(&number) = grams.get(&gram) {
                        self.found(number, row);
                    }
                }
            }
        }
    }

    fn found(&self, number: usize, row: &mut [f64]) {
        let weight = self.weights.get(number).copied().unwrap_or(1.0);
        let place = &mut row[self.columns[number]];
        match self.mode {
            Mode::Count => *place += 1.0,
            Mode::Weight => *place = weight,
            Mode::Both => *place += weight,
        }
    }

    /// The rows and the columns of the input, and the shape of the result.
    fn shapes(&self, shape: &[usize]) -> Result<(usize, usize, Vec<usize>), Why> {
        match *shape {
            [] => Ok((1, 1, vec![self.width])),
            [columns] => Ok((1, columns, vec![self.width])),
            [rows, columns] => Ok((rows, columns, vec![rows, self.width])),
            _ => refuse!("the input has {} dimensions, and must have 1 or 2", shape.len()),
        }
    }
}

impl Operator for TfIdf {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        if (x.dtype == DType::String) != matches!(self.pool, GramPool::Texts(_)) {
            refuse!("the input is {}, and the n-grams are of the other kind", x.dtype);
        }
        Ok(vec![Fact::new(DType::F32, self.shapes(&x.shape)?.2)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (rows, columns, shape) = self.shapes(&x.shape)?;
        let mut values = vec![0.0; rows * self.width];
        for (i, row) in values.chunks_mut(self.width).enumerate() {
            let words = i * columns..(i + 1) * columns;
            match (&self.pool, &x.data) {
                (GramPool::Ints(grams), Numbers::Int(all)) => {
                    let words: Vec<i64> = all[words].iter().map(|&word| word as i64).collect();
                    self.row(grams, &words, row);
                }
                (GramPool::Texts(grams), Numbers::Text(all)) => self.row(grams, &all[words], row),
                _ => refuse!("the input and the n-grams are of different kinds"),
            }
        }
        Ok(vec![Array::float(DType::F32, &shape, values)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let x = required(inputs, 0)?;
        let (rows, columns, _) = self.shapes(&x.shape)?;
        let longest = self.lengths.1.min(columns);
        let skips = self.most_skipped.min(columns).saturating_add(1);
        let work = of_elements(inputs, outputs).temporary(columns, size_of::<i64>());
        // Each n-gram is copied, and looked up among the others in their order.
        Ok(work.steps(&[rows, columns, longest, longest, skips, sorting(self.columns.len())]))
    }

    fn is_for_host(&self) -> bool {
        true
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str, mode: &str| {
        let case = Case::new("TfIdfVectorizer", name).string("mode", mode);
        let case = case.int("min_gram_length", 1).int("max_gram_length", 2).int("max_skip_count", 1);
        case.ints("ngram_counts", &[0, 3]).ints("ngram_indexes", &[1, 0, 4, 2, 3])
    };
    let pool = |case: Case| {
        let words = ["a", "b", "c", "a", "b", "c", "a"].map(String::from).to_vec();
        case.attr("pool_strings", Attr::Strings(words))
    };
    let words = || case::texts(&[2, 4], &["a", "b", "c", "a", "c", "x", "a", "b"]);
    let weights = |case: Case| case.attr("weights", Attr::Floats(vec![0.5, 2.0, 3.0, 0.25, 7.0]));
    vec![
        pool(new("strings", "TF")).input(words()),
        weights(pool(new("weights", "TFIDF"))).input(words()),
        weights(pool(new("any occurrence", "IDF"))).input(words()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case::evaluated;

    /// `a b c a` has `a` twice, `b` and `c` once, `a b` and `c a` once, and with one word left out neither.
    #[test]
    fn n_grams_are_counted() {
        let values: Vec<Vec<f64>> =
            cases().iter().map(|case| evaluated(case).unwrap()[0].floats().unwrap().to_vec()).collect();
        assert_eq!(values[0], [1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(values[1][..5], [2.0, 1.0, 0.25, 7.0, 3.0]);
        assert_eq!(values[2][..5], [2.0, 0.5, 0.25, 7.0, 3.0]);
    }
}

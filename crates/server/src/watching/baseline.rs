//! The baseline of a model: how it is learned, kept in a file, and compared with what comes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sardonyx::Tensor;
use serde::{Deserialize, Serialize};

use super::drift::{self, Distance};
use super::plan::DriftPlan;
use super::series::Layout;
use super::sketch::{BLOCKS, Learned, Reference, Window};
use crate::{Failure, Reason};

/// The name of the file in the folder of a version, or of a model.
pub const FILE: &str = "baseline.json";

/// The file while it is written.
pub(crate) const UNFINISHED: &str = "baseline.json.new";

/// The distances that metrics and statistics name.
const SHOWN: usize = 10;

/// A baseline as its file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// The rows that it was learned from.
    rows: u64,
    series: BTreeMap<String, Reference>,
}

impl Baseline {
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn parse(json: &[u8]) -> Result<Baseline, String> {
        let baseline: Baseline = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        for (name, reference) in &baseline.series {
            reference.check().map_err(|text| format!("series '{}': {text}", name.escape_default()))?;
        }
        Ok(baseline)
    }
}

/// The drift of one version.
#[derive(Debug)]
pub(super) struct Drift {
    pub(super) plan: DriftPlan,
    layout: Layout,
    /// Where a baseline that was learned is written.
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` while the baseline is learned.
    watched: Option<Watched>,
    learned: Vec<Learned>,
    learned_rows: usize,
    /// The rows that the baseline is learned from.
    wanted_rows: usize,
    /// Why the baseline is not in its file.
    unwritten: Option<String>,
}

#[derive(Debug)]
struct Watched {
    baseline: Baseline,
    /// Of each series that the baseline has.
    windows: Vec<Option<Window>>,
    /// The rows of the window's latest part.
    part: usize,
}

/// How far a version is from its baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DriftShown {
    /// `learning`, `collecting` until half of the window is full, or `watching`.
    pub state: &'static str,
    /// The rows that the baseline was learned from up to now.
    pub baseline_rows: u64,
    /// The rows that it needs, while it is learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted_rows: Option<u64>,
    /// The rows that are compared with it.
    pub rows: u64,
    /// The rows of the window.
    pub window_rows: usize,
    /// The number of series.
    pub series: usize,
    /// The greatest population stability index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi_max: Option<f64>,
    /// The greatest statistic of Kolmogorov and Smirnov.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ks_max: Option<f64>,
    /// The series with the greatest indices, the greatest first.
    pub top: Vec<SeriesShown>,
    /// Why the baseline could not be written into the model's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unwritten: Option<String>,
}

/// How far a series is from its baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesShown {
    /// Such as `x[3]`, `image.mean` or `scores.class`.
    pub name: String,
    /// The population stability index.
    pub psi: f64,
    /// Kolmogorov and Smirnov's statistic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ks: Option<f64>,
    /// The probability of a statistic as great without drift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ks_probability: Option<f64>,
}

impl Drift {
    pub(super) fn new(plan: DriftPlan, layout: Layout, file: PathBuf, baseline: Option<Baseline>) -> Drift {
        let state = State {
            watched: baseline.map(|baseline| Watched::new(baseline, &layout)),
            learned: layout.learned(),
            learned_rows: 0,
            wanted_rows: plan.learn,
            unwritten: None,
        };
        Drift { plan, layout, file, state: Mutex::new(state) }
    }

    /// Takes a request into account. Blocks while a baseline is written.
    pub(super) fn observe(&self, inputs: &[(String, Tensor)], outputs: &[(String, Tensor)]) {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(watched) = &mut state.watched {
            watched.observe(&self.layout, inputs, outputs, self.plan.window);
            return;
        }
        let learned = &mut state.learned;
        state.learned_rows += self.layout.observe(inputs, outputs, |series, value| {
            learned[series].add(value);
        });
        if state.learned_rows < state.wanted_rows {
            return;
        }
        let named = self.layout.series.iter().zip(&state.learned);
        let series = named.map(|((name, _), learned)| (name.clone(), learned.reference()));
        // A series without a value, as that of an input that nobody sends, has nothing to be compared with.
        let series = series.filter(|(_, reference)| reference.check().is_ok()).collect();
        let baseline = Baseline { rows: state.learned_rows as u64, series };
        state.watched = Some(Watched::new(baseline.clone(), &self.layout));
        state.learned = self.layout.learned();
        state.unwritten = None;
        drop(guard);
        if let Err(error) = write(&self.file, &baseline) {
            tracing::warn!(%error, "a baseline is not written into the model's folder, and lasts until the model is loaded anew");
            self.state().unwritten = Some(error.kind().to_string());
        }
    }

    /// Forgets the baseline, and learns another from the next `rows`.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if there are too few or too many of them.
    pub(super) fn learn(&self, rows: Option<usize>) -> Result<usize, Failure> {
        let rows = rows.unwrap_or(self.plan.learn);
        if !(100..=10_000_000).contains(&rows) {
            return Err(Failure::new(Reason::Invalid, "a baseline is learned from 100 to 10000000 rows"));
        }
        let mut state = self.state();
        (state.watched, state.learned) = (None, self.layout.learned());
        (state.learned_rows, state.wanted_rows) = (0, rows);
        Ok(rows)
    }

    /// The baseline as JSON; `None` while it is learned.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        serde_json::to_value(&self.state().watched.as_ref()?.baseline).ok()
    }

    pub(super) fn shown(&self) -> DriftShown {
        let state = self.state();
        let mut shown = DriftShown {
            state: "learning",
            baseline_rows: state.learned_rows as u64,
            wanted_rows: Some(state.wanted_rows as u64),
            rows: 0,
            window_rows: self.plan.window,
            series: self.layout.series.len(),
            psi_max: None,
            ks_max: None,
            top: Vec::new(),
            unwritten: state.unwritten.clone(),
        };
        let Some(watched) = &state.watched else { return shown };
        (shown.baseline_rows, shown.wanted_rows) = (watched.baseline.rows, None);
        let distances = watched.distances(&self.layout);
        drop(state);
        shown.rows = distances.iter().map(|(_, distance)| distance.rows).max().unwrap_or(0);
        // Of few rows, the index is great by chance.
        let enough = (self.plan.window / 2) as u64;
        shown.state = if shown.rows >= enough { "watching" } else { "collecting" };
        let mut top: Vec<SeriesShown> = distances
            .into_iter()
            .filter(|(_, distance)| distance.rows >= enough && distance.psi.is_finite())
            .map(|(name, distance)| SeriesShown {
                name,
                psi: distance.psi,
                ks: distance.ks.map(|(d, _)| d),
                ks_probability: distance.ks.map(|(_, p)| p),
            })
            .collect();
        let greatest = |of: fn(&SeriesShown) -> Option<f64>| top.iter().filter_map(of).max_by(f64::total_cmp);
        (shown.psi_max, shown.ks_max) = (greatest(|of| Some(of.psi)), greatest(|of| of.ks));
        top.sort_by(|a, b| b.psi.total_cmp(&a.psi));
        top.truncate(SHOWN);
        shown.top = top;
        shown
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn new(baseline: Baseline, layout: &Layout) -> Watched {
        let window = |(name, classes): &(String, bool)| {
            let reference = baseline.series.get(name)?;
            let of_classes = matches!(reference.bins, super::sketch::Bins::Classes(_));
            (of_classes == *classes).then(|| Window::new(&reference.bins))
        };
        let windows: Vec<_> = layout.series.iter().map(window).collect();
        if let Some(at) = windows.iter().position(Option::is_none) {
            let series = &layout.series[at].0;
            tracing::warn!(series, "the baseline lacks series of the model; their drift is not watched");
        }
        Watched { baseline, windows, part: 0 }
    }

    fn observe(
        &mut self,
        layout: &Layout,
        inputs: &[(String, Tensor)],
        outputs: &[(String, Tensor)],
        window_rows: usize,
    ) {
        let Watched { baseline, windows, part } = self;
        if *part >= window_rows.div_ceil(BLOCKS) {
            windows.iter_mut().flatten().for_each(Window::turn);
            *part = 0;
        }
        *part += layout.observe(inputs, outputs, |series, value| {
            let name = &layout.series[series].0;
            if let (Some(window), Some(reference)) = (&mut windows[series], baseline.series.get(name)) {
                window.add(reference.bins.index(value));
            }
        });
    }

    fn distances(&self, layout: &Layout) -> Vec<(String, Distance)> {
        let distance = |((name, _), window): (&(String, bool), &Option<Window>)| {
            let reference = self.baseline.series.get(name)?;
            Some((name.clone(), drift::distance(reference, &window.as_ref()?.counts())))
        };
        layout.series.iter().zip(&self.windows).filter_map(distance).collect()
    }
}

/// Writes the file wholly or not at all.
fn write(file: &Path, baseline: &Baseline) -> std::io::Result<()> {
    let unfinished = file.with_file_name(UNFINISHED);
    let mut json = serde_json::to_vec(baseline).map_err(std::io::Error::other)?;
    json.push(b'\n');
    let mut out = std::fs::File::create(&unfinished)?;
    out.write_all(&json)?;
    out.sync_all()?;
    std::fs::rename(unfinished, file)
}

//! What is watched, as metrics. Series of drift are named for the few that have drifted most.

use std::sync::Arc;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::{Accuracy, Watching};
use crate::metrics::{counter, family, gauge, label, labels};
use crate::serving::Served;

/// The families of metrics of what is watched; none if nothing is.
pub(crate) fn families(watching: &Watching, served: &[Arc<Served>]) -> Vec<MetricFamily> {
    let mut families = Families::default();
    for served in served {
        let Some(watched) = served.watched() else { continue };
        let with = |more: &[(&str, &str)]| -> Vec<LabelPair> {
            let more = more.iter().map(|(name, value)| label(name, value));
            labels(served).into_iter().chain(more).collect()
        };
        if let Some(feedback) = watched.feedback() {
            for (over, accuracy) in [("all", feedback.all), ("window", feedback.window)] {
                let Accuracy { rows, top1, top_k, mean_absolute_error } = accuracy;
                if over == "all" {
                    families.add(FEEDBACK_ROWS, counter(with(&[]), rows));
                }
                let k = feedback.k.to_string();
                for (top, share) in [("1", top1), (k.as_str(), top_k.filter(|_| feedback.k > 1))] {
                    let labels = with(&[("top", top), ("over", over)]);
                    share.into_iter().for_each(|share| families.add(ACCURACY, gauge(labels.clone(), share)));
                }
                if let Some(error) = mean_absolute_error {
                    families.add(ERROR, gauge(with(&[("over", over)]), error));
                }
            }
            for (reason, count) in
                [("unknown", feedback.unknown), ("repeated", feedback.repeated), ("unkept", feedback.unkept)]
            {
                families.add(FEEDBACK_LOST, counter(with(&[("reason", reason)]), count));
            }
        }
        if let Some(drift) = watched.drift() {
            families.add(BASELINE_ROWS, gauge(with(&[]), drift.baseline_rows as f64));
            families.add(DRIFT_ROWS, gauge(with(&[]), drift.rows as f64));
            for (of, greatest) in [(PSI_MAX, drift.psi_max), (KS_MAX, drift.ks_max)] {
                greatest.into_iter().for_each(|greatest| families.add(of, gauge(with(&[]), greatest)));
            }
            for series in drift.top {
                let labels = with(&[("series", &series.name)]);
                families.add(PSI, gauge(labels.clone(), series.psi));
                series.ks.into_iter().for_each(|ks| families.add(KS, gauge(labels.clone(), ks)));
            }
        }
    }
    let counts = watching.counts();
    for (of, count) in [("drift", counts.drift_dropped), ("payloads", counts.payloads_dropped)] {
        families.add(DROPPED, counter(vec![label("of", of)], count));
    }
    for (outcome, count) in [("written", counts.payloads_written), ("failed", counts.payloads_failed)] {
        families.add(PAYLOADS, counter(vec![label("outcome", outcome)], count));
    }
    families.0
}

/// A name, what it means, and whether it counts.
type Name = (&'static str, &'static str, bool);

const FEEDBACK_ROWS: Name =
    ("sardonyx_feedback_rows_total", "Number of rows that there was feedback on", true);
const FEEDBACK_LOST: Name = (
    "sardonyx_feedback_lost_total",
    "Number of feedbacks that were not known or came again, and of predictions that could not be kept",
    true,
);
const ACCURACY: Name = (
    "sardonyx_accuracy",
    "Share of rows whose right class was among those with the greatest scores, by feedback",
    false,
);
const ERROR: Name =
    ("sardonyx_mean_absolute_error", "Mean distance of values from the right ones, by feedback", false);
const BASELINE_ROWS: Name =
    ("sardonyx_baseline_rows", "Number of rows that the baseline was learned from", false);
const DRIFT_ROWS: Name = ("sardonyx_drift_rows", "Number of rows that are compared with the baseline", false);
const PSI_MAX: Name =
    ("sardonyx_drift_psi_max", "Population stability index of the series that has drifted most", false);
const KS_MAX: Name = ("sardonyx_drift_ks_max", "Greatest statistic of Kolmogorov and Smirnov", false);
const PSI: Name = (
    "sardonyx_drift_psi",
    "Population stability index against the baseline, of the series that have drifted most",
    false,
);
const KS: Name = ("sardonyx_drift_ks", "Statistic of Kolmogorov and Smirnov of the same series", false);
const DROPPED: Name =
    ("sardonyx_watching_dropped_total", "Number of requests that there was no time to look at", true);
const PAYLOADS: Name = ("sardonyx_payloads_total", "Number of lines of the payload log", true);

#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    fn add(&mut self, (name, help, counts): Name, metric: Metric) {
        if let Some(found) = self.0.iter_mut().find(|found| found.name() == name) {
            found.mut_metric().push(metric);
            return;
        }
        let kind = if counts { MetricType::COUNTER } else { MetricType::GAUGE };
        self.0.push(family(name, help, kind, [metric]));
    }
}

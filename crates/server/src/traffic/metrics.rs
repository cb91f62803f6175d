//! Metrics of shadows, by model, the version that answers, and the one that shadows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::proto::{LabelPair, MetricFamily, MetricType};

use super::Traffic;
use super::shadow::{Name, Pair, shown};
use crate::metrics::{counter, family, gauge, label};
use crate::serving::Served;

/// A counter of a pair.
type OfPair = fn(&Pair) -> u64;

const COUNTERS: [(&str, &str, OfPair); 4] = [
    (
        "sardonyx_shadow_elements_total",
        "Number of elements of answers that were compared with those of a shadow",
        |pair| pair.sum().elements,
    ),
    (
        "sardonyx_shadow_elements_beyond_total",
        "Number of those that differ by more than the tolerance",
        |pair| pair.sum().beyond,
    ),
    (
        "sardonyx_shadow_rows_total",
        "Number of rows of scores that were compared with those of a shadow",
        |pair| pair.sum().rows,
    ),
    (
        "sardonyx_shadow_rows_agreed_total",
        "Number of those whose greatest score is that of the same class",
        |pair| pair.sum().agreed,
    ),
];

type Count = fn(&Pair) -> &AtomicU64;

/// What became of copies.
const OUTCOMES: [(&str, Count); 4] = [
    ("compared", |pair| &pair.compared),
    ("failed", |pair| &pair.failed),
    ("dropped", |pair| &pair.dropped),
    ("incomparable", |pair| &pair.incomparable),
];

/// The metrics of the pairs whose versions are among `served`.
pub(crate) fn families(traffic: &Traffic, served: &[Arc<Served>]) -> Vec<MetricFamily> {
    let is = |model: &str, version: &str| {
        served.iter().any(|served| shown(model, &served.config().name, served.version()) == version)
    };
    let pairs = traffic.shadows.all(is);
    let outcomes = pairs.iter().flat_map(|(name, pair)| {
        OUTCOMES.map(|(outcome, count)| {
            let labels = [labels(name), vec![label("outcome", outcome)]].concat();
            counter(labels, count(pair).load(Ordering::Relaxed))
        })
    });
    let mut families = vec![family(
        "sardonyx_shadow_requests_total",
        "Number of copies of requests for a shadow",
        MetricType::COUNTER,
        outcomes,
    )];
    for (name, help, value) in COUNTERS {
        let metrics = pairs.iter().map(|(name, pair)| counter(labels(name), value(pair)));
        families.push(family(name, help, MetricType::COUNTER, metrics));
    }
    families.push(family(
        "sardonyx_shadow_difference_max",
        "Greatest difference of two numbers of an answer and a shadow's",
        MetricType::GAUGE,
        pairs.iter().map(|(name, pair)| gauge(labels(name), pair.sum().greatest)),
    ));
    families
}

fn labels(name: &Name) -> Vec<LabelPair> {
    vec![label("model", &name.model), label("version", &name.version), label("shadow", &name.shadow)]
}

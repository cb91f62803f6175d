//! What the machine does: its processors and memory, and its GPUs, under the names that Triton gives these metrics. What cannot be
//! found out has no metric.

mod nvidia;
mod proc;
mod sysfs;

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use prometheus::proto::{LabelPair, MetricFamily, MetricType};

use crate::metrics::{counter_of, family, gauge, label};
use nvidia::Nvml;
use proc::CpuTimes;

/// What one GPU tells; `None` for what it does not.
#[derive(Clone, Debug, Default, PartialEq)]
struct Gpu {
    /// Its own name of itself, such as NVIDIA's UUID or its address on the PCI bus.
    name: String,
    /// From 0 to 1.
    utilization: Option<f64>,
    memory_total: Option<u64>,
    memory_used: Option<u64>,
    watts: Option<f64>,
    watts_limit: Option<f64>,
    joules: Option<f64>,
}

/// The processors' times when they were last looked at, and the share of work between the last two looks that differ.
static LAST: Mutex<Option<(CpuTimes, f64)>> = Mutex::new(None);

/// The metrics of the machine. Reads files of the kernel, which takes no time to speak of, and asks NVIDIA's driver.
pub(crate) fn families() -> Vec<MetricFamily> {
    let root = Path::new("/");
    let mut families = Vec::new();
    let mut one = |name: &str, help: &str, value: Option<f64>| {
        families.push(family(name, help, MetricType::GAUGE, value.map(|value| gauge(Vec::new(), value))));
    };
    one("nv_cpu_utilization", "Share of the processors' time in use, from 0 to 1", cpu_utilization(root));
    let memory = proc::memory(root);
    one("nv_cpu_memory_total_bytes", "Bytes of memory", memory.map(|(total, _)| total as f64));
    one("nv_cpu_memory_used_bytes", "Bytes of memory in use", memory.map(|(_, used)| used as f64));
    static NVML: OnceLock<Option<Nvml>> = OnceLock::new();
    let mut gpus = NVML.get_or_init(Nvml::open).as_ref().map(Nvml::gpus).unwrap_or_default();
    gpus.extend(sysfs::gpus(root));
    families.extend(of_gpus(&gpus));
    families
}

fn cpu_utilization(root: &Path) -> Option<f64> {
    let now = proc::cpu_times(root)?;
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let (since, before) = (*last).unwrap_or((CpuTimes::default(), 0.0));
    // Two who look at almost the same time see no time pass.
    let share = now.share_since(since).unwrap_or(before);
    *last = Some((now, share));
    Some(share)
}

/// A number of a GPU.
type OfGpu = fn(&Gpu) -> Option<f64>;

const OF_GPUS: [(&str, &str, MetricType, OfGpu); 6] = [
    ("nv_gpu_utilization", "Share of the GPU's time in use, from 0 to 1", MetricType::GAUGE, |gpu| {
        gpu.utilization
    }),
    ("nv_gpu_memory_total_bytes", "Bytes of the GPU's memory", MetricType::GAUGE, |gpu| {
        gpu.memory_total.map(|bytes| bytes as f64)
    }),
    ("nv_gpu_memory_used_bytes", "Bytes of the GPU's memory in use", MetricType::GAUGE, |gpu| {
        gpu.memory_used.map(|bytes| bytes as f64)
    }),
    ("nv_gpu_power_usage", "Watts that the GPU takes", MetricType::GAUGE, |gpu| gpu.watts),
    ("nv_gpu_power_limit", "Watts that the GPU may take", MetricType::GAUGE, |gpu| gpu.watts_limit),
    (
        "nv_energy_consumption",
        "Joules that the GPU has taken since its driver was loaded",
        MetricType::COUNTER,
        |gpu| gpu.joules,
    ),
];

fn of_gpus(gpus: &[Gpu]) -> Vec<MetricFamily> {
    let labels = |gpu: &Gpu| -> Vec<LabelPair> { vec![label("gpu_uuid", &gpu.name)] };
    OF_GPUS
        .iter()
        .map(|(name, help, kind, value)| {
            let metric = |gpu: &Gpu| {
                let value = value(gpu)?;
                Some(match kind {
                    MetricType::COUNTER => counter_of(labels(gpu), value),
                    _ => gauge(labels(gpu), value),
                })
            };
            family(name, help, *kind, gpus.iter().filter_map(metric))
        })
        .collect()
}

/// The text of a small file of the kernel, without the white space around it.
fn text(file: &Path) -> Option<String> {
    Some(std::fs::read_to_string(file).ok()?.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gpu_does_not_tell_has_no_metric() {
        let gpu = Gpu { name: "GPU-1".into(), utilization: Some(0.5), joules: Some(2.5), ..Gpu::default() };
        let shown: Vec<_> = of_gpus(&[gpu])
            .into_iter()
            .filter_map(|family| {
                let metric = family.get_metric().first()?.clone();
                let value = metric.get_gauge().get_value() + metric.get_counter().get_value();
                Some((family.name().to_string(), metric.get_label()[0].value().to_string(), value))
            })
            .collect();
        let gpu = |name: &str, value| (name.to_string(), "GPU-1".to_string(), value);
        assert_eq!(shown, [gpu("nv_gpu_utilization", 0.5), gpu("nv_energy_consumption", 2.5)]);
        assert!(of_gpus(&[]).iter().all(|family| family.get_metric().is_empty()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory_and_processors() {
        let families = families();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            family.get_metric()[0].get_gauge().get_value()
        };
        assert!((0.0..=1.0).contains(&value("nv_cpu_utilization")));
        assert!(value("nv_cpu_memory_used_bytes") < value("nv_cpu_memory_total_bytes"));
    }
}

//! GPUs of AMD and Intel, as their drivers tell in /sys/class/drm. Those of NVIDIA tell nothing there.

use std::path::Path;

use super::{Gpu, text};

/// The GPUs, in the order of their numbers. Those that tell nothing are left out.
pub(super) fn gpus(root: &Path) -> Vec<Gpu> {
    let Ok(entries) = std::fs::read_dir(root.join("sys/class/drm")) else { return Vec::new() };
    // `card0` is a GPU, and `card0-DP-1` one of its sockets.
    let number = |name: &str| name.strip_prefix("card")?.parse::<u32>().ok();
    let mut cards: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((number(entry.file_name().to_str()?)?, entry.path().join("device")))
        })
        .collect();
    cards.sort_unstable();
    cards.iter().filter_map(|(number, device)| gpu(*number, device)).collect()
}

fn gpu(number: u32, device: &Path) -> Option<Gpu> {
    let whole = |file: &Path| text(file)?.parse::<u64>().ok();
    let gpu = Gpu {
        name: address(device).unwrap_or_else(|| format!("card{number}")),
        utilization: whole(&device.join("gpu_busy_percent")).map(|percent| percent.min(100) as f64 / 100.0),
        memory_total: whole(&device.join("mem_info_vram_total")),
        memory_used: whole(&device.join("mem_info_vram_used")),
        // Microwatts and microjoules of the hardware monitor; Intel's has no power, but energy.
        watts: monitored(device, &["power1_average", "power1_input"]).map(|power| power as f64 / 1e6),
        watts_limit: monitored(device, &["power1_cap"]).map(|power| power as f64 / 1e6),
        joules: monitored(device, &["energy1_input"]).map(|energy| energy as f64 / 1e6),
    };
    let tells = gpu.utilization.is_some() || gpu.memory_total.is_some() || gpu.watts.is_some();
    (tells || gpu.joules.is_some()).then_some(gpu)
}

/// The GPU's address on the PCI bus.
fn address(device: &Path) -> Option<String> {
    let text = text(&device.join("uevent"))?;
    text.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME=")).map(str::to_string)
}

fn monitored(device: &Path, files: &[&str]) -> Option<u64> {
    let mut monitors: Vec<_> =
        std::fs::read_dir(device.join("hwmon")).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    monitors.sort_unstable();
    let value = |file: std::path::PathBuf| text(&file)?.parse().ok();
    monitors.iter().find_map(|monitor| files.iter().find_map(|file| value(monitor.join(file))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let file = root.join("sys/class/drm").join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    #[test]
    fn gpus_of_amd_and_intel() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert!(gpus(root).is_empty());
        for (file, text) in [
            ("card1/device/uevent", "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_SLOT_NAME=0000:03:00.0\n"),
            ("card1/device/gpu_busy_percent", "37\n"),
            ("card1/device/mem_info_vram_total", "17163091968\n"),
            ("card1/device/mem_info_vram_used", "1073741824\n"),
            ("card1/device/hwmon/hwmon4/power1_average", "61000000\n"),
            ("card1/device/hwmon/hwmon4/power1_cap", "220000000\n"),
            ("card1-DP-1/status", "connected\n"),
            ("card0/device/uevent", "DRIVER=i915\nPCI_SLOT_NAME=0000:00:02.0\n"),
            ("card0/device/hwmon/hwmon2/energy1_input", "2500000\n"),
            // NVIDIA's tell nothing, and neither does a broken file.
            ("card2/device/uevent", "DRIVER=nvidia\nPCI_SLOT_NAME=0000:41:00.0\n"),
            ("card3/device/gpu_busy_percent", "many\n"),
            ("version", "drm 1.1.0\n"),
        ] {
            put(root, file, text);
        }
        let intel = Gpu { name: "0000:00:02.0".into(), joules: Some(2.5), ..Gpu::default() };
        let amd = Gpu {
            name: "0000:03:00.0".into(),
            utilization: Some(0.37),
            memory_total: Some(17_163_091_968),
            memory_used: Some(1_073_741_824),
            watts: Some(61.0),
            watts_limit: Some(220.0),
            joules: None,
        };
        assert_eq!(gpus(root), [intel, amd]);
    }
}

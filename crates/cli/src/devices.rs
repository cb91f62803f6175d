//! `sardonyx devices`: every adapter of the machine.

use super::{Verdict, bytes, print, print_json};
use sardonyx::AdapterSummary;

pub(super) fn main(json: bool) -> Verdict {
    let adapters = sardonyx::adapters();
    if json {
        print_json(&serde_json::json!({ "adapters": adapters }))?;
    } else if adapters.is_empty() {
        print("no adapters; models run on the CPU reference (--device cpu)\n")?;
    } else {
        print(&adapters.iter().map(text).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(true)
}

/// `DiscreteGpu` as people write it.
fn words(kind: &str) -> &str {
    match kind {
        "DiscreteGpu" => "discrete GPU",
        "IntegratedGpu" => "integrated GPU",
        "VirtualGpu" => "virtual GPU",
        _ => "another kind",
    }
}

fn text(adapter: &AdapterSummary) -> String {
    let software = if adapter.software { ", software" } else { "" };
    let (low, high) = adapter.subgroup_sizes;
    let subgroups = if low == high { low.to_string() } else { format!("{low} to {high}") };
    // Software says so in its own word.
    let kind = if adapter.software { String::new() } else { format!(", {}", words(&adapter.kind)) };
    let usable = match &adapter.below_floor {
        Some(reason) => format!("\n  cannot be used: {reason}"),
        None => String::new(),
    };
    let index = adapter.index.map_or(String::new(), |index| format!("{index}: "));
    let auto = if adapter.auto { " (what `auto` takes)" } else { "" };
    let pci = adapter.pci.as_ref().map_or(String::new(), |pci| format!(", PCI {pci}"));
    let memory = adapter.memory_bytes.map_or(String::new(), |memory| format!("\n  memory {}", bytes(memory)));
    format!(
        "{index}{}{auto}\n  backend {}{kind}{software}{pci}\n  driver {}{memory}\n  features {}\n  subgroups of {subgroups}\n  \
         {} per binding, {} per buffer, {} storage buffers, {} of workgroup memory, {} invocations, \
         offsets in multiples of {}{usable}\n",
        adapter.name,
        adapter.backend,
        adapter.driver,
        adapter.features.join(" "),
        bytes(adapter.max_storage_buffer_binding_size),
        bytes(adapter.max_buffer_size),
        adapter.max_storage_buffers_per_shader_stage,
        bytes(adapter.max_compute_workgroup_storage_size.into()),
        adapter.max_compute_invocations_per_workgroup,
        adapter.min_storage_buffer_offset_alignment,
    )
}

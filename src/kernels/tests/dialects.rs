//! Every variant in the languages of the drivers: SPIR-V, MSL and HLSL.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

use naga::back::{hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};

use super::{Variant, every_variant};

/// As wgpu asks for where the driver has no robust buffer access.
const BOUNDS: BoundsCheckPolicies = BoundsCheckPolicies {
    index: BoundsCheckPolicy::Restrict,
    buffer: BoundsCheckPolicy::Restrict,
    image_load: BoundsCheckPolicy::Restrict,
    binding_array: BoundsCheckPolicy::Unchecked,
};

/// Writers may panic; that is a complaint as any other.
fn caught<T, E: std::fmt::Display>(write: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(write)) {
        Ok(written) => written.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            Err(format!("panicked: {}", text.unwrap_or_default()))
        }
    }
}

fn spirv(variant: &Variant) -> Result<Vec<u32>, String> {
    let options = spv::Options {
        lang_version: (1, 3),
        bounds_check_policies: BOUNDS,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ..spv::Options::default()
    };
    caught(|| spv::write_vec(&variant.module, &variant.info, &options, None))
}

#[test]
fn writes_spirv() {
    every_variant(|variant| spirv(variant).map(drop));
}

#[test]
fn writes_msl() {
    every_variant(|variant| {
        let options = msl::Options {
            lang_version: (2, 4),
            bounds_check_policies: BOUNDS,
            zero_initialize_workgroup_memory: false,
            force_loop_bounding: false,
            fake_missing_bindings: true,
            ..msl::Options::default()
        };
        let pipeline = msl::PipelineOptions::default();
        caught(|| msl::write_string(&variant.module, &variant.info, &options, &pipeline)).map(drop)
    });
}

#[test]
fn writes_hlsl() {
    every_variant(|variant| {
        let options = hlsl::Options {
            // FXC's newest, and DXC's oldest where subgroups need it.
            shader_model: match variant.text.contains("subgroup") {
                false => hlsl::ShaderModel::V5_1,
                true => hlsl::ShaderModel::V6_0,
            },
            zero_initialize_workgroup_memory: false,
            force_loop_bounding: false,
            fake_missing_bindings: true,
            ..hlsl::Options::default()
        };
        let (mut text, pipeline) = (String::new(), hlsl::PipelineOptions::default());
        let mut write =
            || hlsl::Writer::new(&mut text, &options, &pipeline).write(&variant.module, &variant.info, None);
        let reflection = caught(&mut write)?;
        // A writer that refuses an entry point says so here, and writes the rest.
        reflection
            .entry_point_names
            .into_iter()
            .try_for_each(|name| name.map(drop).map_err(|e| e.to_string()))
    });
}

/// Where SPIR-V's own validator is installed, it agrees.
#[test]
fn spirv_val_accepts() {
    if Command::new("spirv-val").arg("--version").output().is_err() {
        return;
    }
    every_variant(|variant| {
        let words = spirv(variant)?;
        let validator = Command::new("spirv-val")
            .args(["--target-env", "vulkan1.1", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut validator = validator.map_err(|e| e.to_string())?;
        if let Some(mut input) = validator.stdin.take() {
            input.write_all(bytemuck::cast_slice(&words)).map_err(|e| e.to_string())?;
        }
        let output = validator.wait_with_output().map_err(|e| e.to_string())?;
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        if output.status.success() { Ok(()) } else { Err(text) }
    });
}

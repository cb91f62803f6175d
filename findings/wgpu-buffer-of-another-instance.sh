#!/usr/bin/env bash
# wgpu 30.0.1, any native backend: a device takes a buffer of another instance's device for one of its own. Each instance numbers
# its buffers from 1 on, and a device looks a number up among its own instance's. If it has a buffer of this number, that one is
# bound in place of the other, without an error. If not, wgpu panics ("does not exist"), also inside an error scope. Buffers and
# devices compare as equal across instances in the same way. Of another device of the same instance, wgpu reports an error.
# Consequence: a library that takes buffers of its host must find out itself whose they are (`Gpu::owns`).
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat > "$folder/Cargo.toml" <<'TOML'
[package]
name = "another-instance"
version = "0.0.0"
edition = "2024"

[dependencies]
pollster = "=0.4.0"
wgpu = { version = "=30.0.1", default-features = false, features = ["std", "wgsl", "noop"] }
TOML
cat > "$folder/src/main.rs" <<'RUST'
use std::panic::{AssertUnwindSafe, catch_unwind};

fn buffer(device: &wgpu::Device) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE;
    device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false })
}

/// The error of binding `buffer` on `device`; the outer error is a panic.
fn bound(device: &wgpu::Device, buffer: &wgpu::Buffer) -> std::thread::Result<Option<wgpu::Error>> {
    let ty = wgpu::BufferBindingType::Storage { read_only: true };
    let entry = wgpu::BindGroupLayoutEntry {
        binding: 0,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &[entry] };
    let layout = &device.create_bind_group_layout(&descriptor);
    let entries = &[wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }];
    catch_unwind(AssertUnwindSafe(|| {
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries });
        pollster::block_on(scope.pop())
    }))
}

fn main() {
    let [(own, _queue), (other, _other_queue)] = [(); 2].map(|()| wgpu::Device::noop(&Default::default()));
    let ours = buffer(&own);
    let theirs = [buffer(&other), buffer(&other)];
    assert!(ours == theirs[0], "buffers of two instances differ now");
    assert!(matches!(bound(&own, &theirs[0]), Ok(None)), "the buffer of another instance is refused now");
    assert!(bound(&own, &theirs[1]).is_err(), "a buffer with another number is no panic now");
}
RUST
# The panic is caught, and shown.
RUST_BACKTRACE=0 cargo run --quiet --manifest-path "$folder/Cargo.toml"

#!/usr/bin/env bash
# wgpu 30.0.1 on Vulkan (seen on Mesa 22.3.6's lavapipe): on a device with MemoryHints::MemoryUsage, one buffer that is made anew
# a little larger each time keeps several times its size reserved. wgpu cuts memory from blocks; each new block is twice as large
# as the one before, up to 32 MiB, and a buffer gets memory of its own only where it is larger than the next block. When the large
# buffer is dropped, a small neighbour keeps its block, with a hole that the next, larger buffer does not fit.
# Seen: buffers of 7 and 15 MiB, then one of 18, 22, 25, 27, 28 MiB in turn with 2 MiB kept beside each: 188 MiB reserved for
# 60 MiB. With MemoryHints::Manual and blocks of 4 to 8 MiB it is 62 MiB.
# Consequence: the hint for little memory is not the one for a program whose one large buffer grows.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat > "$folder/Cargo.toml" <<'TOML'
[package]
name = "blocks"
version = "0.0.0"
edition = "2024"

[dependencies]
pollster = "=0.4.0"
wgpu = { version = "=30.0.1", default-features = false, features = ["std", "wgsl", "vulkan"] }
TOML
cat > "$folder/src/main.rs" <<'RUST'
const MIB: u64 = 1 << 20;

fn reserved(hints: wgpu::MemoryHints) -> u64 {
    let instance = wgpu::Instance::default();
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let adapter = adapters.into_iter().next().expect("a Vulkan device");
    let descriptor = wgpu::DeviceDescriptor { memory_hints: hints, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("a device");
    let buffer = |mib: u64| {
        let (size, usage) = (mib * MIB, wgpu::BufferUsages::STORAGE);
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let mut kept = vec![buffer(7), buffer(15)];
    let mut large = None;
    for mib in [18, 22, 25, 27, 28] {
        drop(large.take());
        queue.submit([]);
        device.poll(wgpu::PollType::wait_indefinitely()).expect("idle");
        large = Some(buffer(mib));
        kept.push(buffer(2));
    }
    let report = device.generate_allocator_report().expect("a report");
    let [reserved, used] = [report.total_reserved_bytes, report.total_allocated_bytes].map(|bytes| bytes / MIB);
    println!("{reserved} MiB reserved for {used} MiB");
    reserved
}

fn main() {
    let hint = reserved(wgpu::MemoryHints::MemoryUsage);
    let manual =
        reserved(wgpu::MemoryHints::Manual { suballocated_device_memory_block_size: 4 * MIB..8 * MIB });
    assert!(hint >= 180, "MemoryUsage reserves {hint} MiB now");
    assert!(manual <= 66, "blocks of 4 to 8 MiB reserve {manual} MiB now");
}
RUST
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"
cargo run --quiet --manifest-path "$folder/Cargo.toml"

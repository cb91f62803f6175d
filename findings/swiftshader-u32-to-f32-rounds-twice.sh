#!/usr/bin/env bash
# SwiftShader of Debian 12's chromium-common 150.0.7871.100-1~deb12u1 converts u32 to f32 with two roundings from 2^31 on: it converts
# the lower 31 bits, and adds 2^31. So f32(4294967167u) is 4294967296, although 4294967040 is nearer (127 away, and not 129), and one
# in six numbers from 2^31 on goes to the farther neighbour. WGSL allows either neighbour, so this is no error; but one expects the
# nearest, as Mesa's lavapipe gives.
# Consequence: a cast that must be right to the last bit cannot use f32() of a u32.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check wgpu==0.32.0 numpy==2.3.5
(cd "$folder" && apt-get download -qq chromium-common=150.0.7871.100-1~deb12u1 && dpkg -x chromium-common_*.deb .)
sed "s#\"library_path\": *\"[^\"]*\"#\"library_path\": \"$folder/usr/lib/chromium/libvk_swiftshader.so\"#" \
  "$folder/usr/lib/chromium/vk_swiftshader_icd.json" > "$folder/icd.json"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}" VK_DRIVER_FILES="$folder/icd.json"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import wgpu
from wgpu.utils.compute import compute_with_buffers

adapter = next(a for a in wgpu.gpu.enumerate_adapters_sync() if "SwiftShader" in a.info["device"])
wgpu.utils.device.get_default_device = lambda: adapter.request_device_sync()
shader = """
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] = f32(x[id.x]); }
"""
rng = np.random.default_rng(0)
x = np.concatenate([np.array([4294967167], np.uint32), rng.integers(0, 2**32, 20000, dtype=np.uint32)])
y = np.frombuffer(compute_with_buffers({0: x}, {1: (len(x), "f")}, shader, n=len(x))[1], np.float32)
right = x.astype(np.float32)
wrong = y != right
print(f"{wrong.sum()} of {len(x)} differ from the nearest float32; the least of them is {x[wrong].min()}")
print(f"f32({x[0]}u) = {int(y[0])}, and the nearest is {int(right[0])}")
lower = (x & 0x7FFFFFFF).astype(np.float32)
twice = np.where(x >> 31, lower + np.float32(2**31), lower)
assert np.array_equal(y, twice), "it is computed in another way"
assert wrong.any() and x[wrong].min() >= 2**31, "it rounds once"
PYTHON

#!/usr/bin/env bash
# Mesa 22.3.6's lavapipe (Debian 12: mesa-vulkan-drivers 22.3.6-1+deb12u2) computes WGSL's log of a subnormal float32 as if its
# fraction belonged to a normal number of exponent -127: log(x) is (-127 + log2(1 + x / 2^-126)) * ln 2. So log(1e-45) is -88.03
# and not -103.28, log(1e-40) -88.02 and not -92.10; log(0) is -infinity. WGSL lets a device take subnormal numbers for 0, whose
# logarithm is -infinity, or compute them; this is neither, and finite.
# Consequence: a shader cannot tell by its result that an argument of log was too small; it must look at the argument's bits.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check wgpu==0.32.0 numpy==2.3.5
version="$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers 2>/dev/null || true)"
if [ "$version" != 22.3.6-1+deb12u2 ]; then
  echo "needs Debian's mesa-vulkan-drivers 22.3.6-1+deb12u2, found '${version:-none}'" >&2
  exit 2
fi
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}" VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import wgpu
from wgpu.utils.compute import compute_with_buffers

adapter = next(a for a in wgpu.gpu.enumerate_adapters_sync() if "llvmpipe" in a.info["device"])
assert "22.3.6" in adapter.info["description"], adapter.info
wgpu.utils.device.get_default_device = lambda: adapter.request_device_sync()
shader = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] = log(x[id.x]); }
"""
x = np.array([1.1e-38, 1e-40, 1e-45, 0.0, 1.2e-38], np.float32)
y = np.frombuffer(compute_with_buffers({0: x}, {1: (len(x), "f")}, shader, n=len(x))[1], np.float32)
with np.errstate(divide="ignore"):
    right = np.log(x.astype(np.float64))
for argument, result, exact in zip(x, y, right):
    print(f"log({argument:g}) = {result:g}, exactly {exact:g}")
as_normal = (-127 + np.log2(1 + x[:3].astype(np.float64) / 2.0**-126)) * np.log(2)
assert np.allclose(y[:3], as_normal, rtol=0, atol=1e-4), "subnormals changed"
assert y[3] == -np.inf and abs(y[4] - right[4]) < 1e-4, "0 or normal numbers changed"
PYTHON

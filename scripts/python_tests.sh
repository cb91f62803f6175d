#!/usr/bin/env bash
# Tests the Python package: builds the wheel as tests need it, installs it into an environment of its own, and runs the tests
# of crates/python/tests on every software adapter and on the reference, and those of examples/python. Needs what scripts/wheel.sh needs.
set -euo pipefail
[ $# -eq 0 ] || { echo "usage: scripts/python_tests.sh (no options)"; exit 2; }
cd "$(dirname "$0")/.."
. scripts/vulkan.sh
. scripts/python.sh

ensure_vulkan
add_swiftshader || true
scripts/wheel.sh dev
python3 -m venv --clear target/python
target/python/bin/pip install -q --disable-pip-version-check \
  target/wheels/*.whl onnx==1.23.2 onnxruntime==1.31.1 ml_dtypes==0.6.0 mypy==2.4.1 pyright==1.1.414 \
  skl2onnx==1.20.0 onnxmltools==1.16.0 scikit-learn==1.9.1 lightgbm==4.7.0 xgboost-cpu==3.2.0 pandas==3.1.1 \
  -r examples/python/requirements.txt httpx==0.28.1 distributed==2026.8.0
target/python/bin/python -m mypy --strict -p sardonyx
target/python/bin/python -m mypy.stubtest sardonyx._native
if command -v node >/dev/null; then
  target/python/bin/pyright --pythonpath target/python/bin/python crates/python/python/sardonyx
else
  echo "left out: pyright, which needs node"
fi
devices=llvmpipe,cpu
[ -z "${VK_ADD_DRIVER_FILES:-}" ] || devices=$devices,SwiftShader
echo "left out: what needs more than 400 MB of packages: Ray, programs of others, models of TensorFlow, CatBoost, JAX, PaddlePaddle and PyTorch (scripts/python_long.sh)"
SARDONYX_TEST_DEVICES=$devices target/python/bin/python -m unittest discover -s crates/python/tests
ensure_python onnx==1.23.2 onnxruntime==1.31.1
data/venv/bin/python scripts/models.py data/models
DEVICE=${devices%%,*} target/python/bin/python -m unittest discover -s examples/python/tests

#!/usr/bin/env bash
# python_long.sh [ray|tensorflow|programs]...: the tests of the Python package that need more than 400 MB of packages, each in
# an environment of its own, which is removed when they pass: a Ray cluster of two nodes (1 GB), models of TensorFlow (1.6 GB),
# and programs of other packages (1.1 GB). All of them, if none is named. Needs what scripts/wheel.sh needs.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/vulkan.sh
. scripts/python.sh

ensure_vulkan
add_swiftshader || true
ensure_python onnx==1.23.2 onnxruntime==1.31.1
data/venv/bin/python scripts/models.py data/models
scripts/wheel.sh dev
export SARDONYX_TEST_DEVICES=llvmpipe,cpu DEVICE=llvmpipe
python="target/python-long/bin/python"

# An environment with the wheel and these packages.
with() {
  python3 -m venv --clear target/python-long
  "$python" -m pip install -q --disable-pip-version-check target/wheels/*.whl onnx==1.23.2 onnxruntime==1.31.1 "$@"
}

[ $# -gt 0 ] || set -- ray tensorflow programs
for test in "$@"; do
  case "$test" in
    ray)
      with 'ray[data,serve]==2.60.0' httpx==0.28.1 -r examples/python/requirements.txt
      "$python" examples/python/tests/ray_cluster.py
      ;;
    tensorflow)
      with tensorflow-cpu==2.21.0 tf2onnx==1.17.0
      "$python" crates/python/tests/tensorflow_convert.py
      ;;
    programs)
      { read -r packages && read -r alone; } < <(data/venv/bin/python scripts/python_programs.py packages)
      # shellcheck disable=SC2086
      with $packages && "$python" -m pip install -q --disable-pip-version-check $alone
      SARDONYX_STRICT=1 "$python" scripts/python_programs.py compare
      ;;
    *) echo "no test is called $test" >&2 && exit 2 ;;
  esac
  rm -rf target/python-long
done

#!/usr/bin/env bash
# python_long.sh [ray|programs|tensorflow|catboost|jax|paddle|torch]...: the tests of the Python package that need more than 400 MB
# of packages, each in an environment of its own, which is removed when it has passed: a Ray cluster of two nodes (1 GB), programs
# of other packages (1.1 GB), and models of TensorFlow (1.6 GB), CatBoost, JAX, PaddlePaddle (1 GB each) and PyTorch (5.5 GB). All, if none is
# named. Needs what scripts/wheel.sh needs.
set -euo pipefail
[ $# -gt 0 ] || set -- ray programs tensorflow catboost jax paddle torch
cd "$(dirname "$0")/.."
. scripts/vulkan.sh
. scripts/python.sh

ensure_vulkan
ensure_python onnx==1.23.2 onnxruntime==1.31.1
data/venv/bin/python scripts/models.py data/models
scripts/wheel.sh dev
export SARDONYX_TEST_DEVICES=llvmpipe,cpu DEVICE=llvmpipe
python=target/python-long/bin/python

# Adds packages to the environment.
with() { "$python" -m pip install -q --disable-pip-version-check "$@"; }

convert() {
  with ml_dtypes==0.6.0 onnx "${@:2}"
  "$python" crates/python/tests/large_convert.py -k "$1"
}

for test in "$@"; do
  echo "== $test"
  python3 -m venv --clear target/python-long
  with target/wheels/*.whl
  case "$test" in
    ray)
      with 'ray[data,serve]==2.60.0' onnxruntime==1.31.1 httpx==0.28.1 -r examples/python/requirements.txt
      "$python" examples/python/tests/ray_cluster.py
      ;;
    programs)
      { read -r packages && read -r alone; } < <(data/venv/bin/python scripts/python_programs.py packages)
      # shellcheck disable=SC2086
      with onnxruntime==1.31.1 $packages && with $alone
      SARDONYX_STRICT=1 "$python" scripts/python_programs.py compare
      ;;
    tensorflow)
      with tensorflow-cpu==2.21.0 tf2onnx==1.17.0 && "$python" crates/python/tests/tensorflow_convert.py
      ;;
    catboost) convert test_catboost catboost==1.2.10 ;;
    jax) convert test_jax jax2onnx==0.17.1 flax==0.12.8 ;;
    paddle) convert test_paddle paddle2onnx==2.1.0 paddlepaddle==3.3.1 ;;
    torch) convert torch torch==2.15.0 onnxscript==0.7.2 ;;
    *) echo "no test is called $test" >&2 && exit 2 ;;
  esac
  rm -rf target/python-long
done

#!/usr/bin/env bash
# test-long.sh [MODELS REFS]...: tests that take too long for every change, on every adapter present and with both classes of
# kernels: every case and 3,000 random graphs, real models at several sizes in one session, twenty minutes of sixteen threads on each
# adapter, ten minutes of a server under load with faults, and ten minutes of fuzzing of each target; and PMML against its reference,
# where there is Java. Each folder MODELS has NAME.onnx, and REFS has NAME.npz with a run's inputs (see scripts/sizes.py); the models
# of scripts/models.py are always among them. Needs what scripts/test.sh needs.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/vulkan.sh
. scripts/python.sh

ensure_vulkan
add_swiftshader || echo "no SwiftShader here: the tests run on the other adapters" >&2
ensure_python onnx==1.23.2 onnxruntime==1.31.1
data/venv/bin/python scripts/models.py data/models

SARDONYX_MODELS='' SARDONYX_SIZES=''
while [ $# -ge 2 ]; do
  sizes="data/sizes/$(printf '%s' "$(realpath "$1")" | tr -c 'a-zA-Z0-9' '-')"
  data/venv/bin/python scripts/sizes.py "$1" "$sizes" "$2"
  SARDONYX_MODELS+="${SARDONYX_MODELS:+:}$(realpath "$1")"
  SARDONYX_SIZES+="${SARDONYX_SIZES:+:}$(realpath "$sizes")"
  shift 2
done
ignored=
[ -z "$SARDONYX_MODELS" ] || { export SARDONYX_MODELS SARDONYX_SIZES && ignored=--include-ignored; }
SARDONYX_GRAPHS=3000 cargo test --quiet --all-features --test cases
cargo test --features test-data --test sizes -- --nocapture $ignored
cargo run --quiet --release -p sardonyx-testing --bin soak -- 1200
# With several arenas, glibc keeps more and more of what threads have given back, up to a bound that takes longer to find; with thresholds
# that adapt themselves, now and then a few buffers of megabytes more.
MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=131072 MALLOC_TRIM_THRESHOLD_=131072 SARDONYX_SOAK_SECONDS=600 cargo test -p sardonyx-server --test soak -- --nocapture
cargo build --quiet -p sardonyx-cli
scripts/walkthrough.sh
scripts/fuzz.sh import 600 plan 600 reference 600 npz 600 text 600
if command -v java >/dev/null; then
  scripts/pmml.sh
else
  echo "left out: PMML against JPMML, which needs java (scripts/pmml.sh)"
fi

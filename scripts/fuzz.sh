#!/usr/bin/env bash
# fuzz.sh [TARGET SECONDS]...: feeds changed files to the targets of fuzz/ (import, plan, reference, npz, text, request, config), each for
# the given time; without arguments, a minute each. Prints how many files were tried. A file that fails stays in fuzz/artifacts, and ends
# the script. With SANITIZER=none it runs without the address sanitizer, about three times as fast. RUNS=1000000 bounds the number of
# files. Needs cargo, a C++ compiler, python3, and a network of package registries.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/python.sh

[ $# -gt 0 ] || set -- import 60 plan 60 reference 60 npz 60 text 60 request 60 config 60
fuzz="$PWD/data/fuzz"
[ -x "$fuzz/bin/cargo-fuzz" ] || cargo install --quiet cargo-fuzz --version 0.13.2 --locked --root "$fuzz"

cargo run --quiet -p sardonyx-testing --bin seeds -- "$fuzz/seeds"
ensure_python onnx==1.23.2 onnxruntime==1.31.1
mkdir -p "$fuzz/seeds/npz"
data/venv/bin/python - "$fuzz/seeds/npz" <<'PYTHON'
import sys, numpy as np
arrays = {t: np.arange(6).reshape(2, 3).astype(t) for t in ("f4", "f2", "i8", "u1", "?", "U3", ">f8", "c8")}
np.savez(f"{sys.argv[1]}/stored.npz", **arrays)
np.savez_compressed(f"{sys.argv[1]}/deflated.npz", **arrays)
np.save(f"{sys.argv[1]}/columns.npy", np.asfortranarray(arrays["f4"]))
PYTHON
mkdir -p "$fuzz/seeds/request" "$fuzz/seeds/config"
body='{"id":"a","inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1.5,-2]},{"name":"s","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":"y"}],"parameters":{"priority":1}}'
printf '\377\377%s' "$body" > "$fuzz/seeds/request/json"
body='{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}'
printf "\\$(printf %03o ${#body})\\000%sabcd" "$body" > "$fuzz/seeds/request/binary"
printf 'max_batch_size: 8 input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ] dynamic_batching { preferred_batch_size: [ 4 ] }' \
  > "$fuzz/seeds/config/batches.pbtxt"

# The options of libFuzzer: a file may take 30 s and an allocation 1 GiB.
limits=(-timeout=30 -rss_limit_mb=2048 -malloc_limit_mb=1024 -print_final_stats=1 -verbosity=0)
while [ $# -ge 2 ]; do
  echo "== $1, $2 s"
  mkdir -p "$fuzz/corpus/$1"
  # cargo-fuzz wants a nightly compiler's options, which a stable one has too.
  RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$fuzz/target" "$fuzz/bin/cargo-fuzz" run --sanitizer "${SANITIZER:-address}" "$1" \
    "$fuzz/corpus/$1" "$fuzz/seeds/$1" -- "${limits[@]}" -dict="$fuzz/seeds/dictionary" -max_total_time="$2" -runs="${RUNS:--1}"
  shift 2
done

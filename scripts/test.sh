#!/usr/bin/env bash
# Passes all tests: format, lints, documentation, unit and integration tests on every adapter present, real models, and
# the ONNX suite. Installs what is missing and says so. Needs cargo, python3, and a network of package registries.
set -euo pipefail
[ $# -eq 0 ] || { echo "usage: scripts/test.sh (at most 45 minutes on two cores; no options)"; exit; }
cd "$(dirname "$0")/.."
. scripts/vulkan.sh
. scripts/python.sh

step() { printf '\n== %s (after %s s)\n' "$1" "$SECONDS"; }

step "devices"
ensure_vulkan
add_swiftshader || echo "no SwiftShader here: the tests run on the other adapters" >&2

step "format and lints"
# `cargo fmt` does not find the modules that macros declare.
find src tests benches examples crates fuzz -name target -prune -o -name '*.rs' -exec rustfmt --edition 2024 --check {} +
cargo clippy --quiet --workspace --all-targets --all-features -- -D warnings
# As a user builds them: nothing is public for tests alone.
cargo clippy --quiet -p sardonyx -p sardonyx-cli -- -D warnings
# The fuzz targets, without the fuzzer: nothing is linked, so its library may be missing.
CUSTOM_LIBFUZZER_PATH=/nowhere/libfuzzer.a CARGO_TARGET_DIR=target cargo check --quiet --manifest-path fuzz/Cargo.toml

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --all-features --no-deps

step "test data"
ensure_python onnx==1.23.2 onnxruntime==1.31.1
data/venv/bin/python scripts/models.py data/models
data/venv/bin/python scripts/onnx_suite.py make data/onnx
data/venv/bin/python scripts/onnx_types.py data/onnx_types.txt

step "tests"
cargo test --quiet --workspace --all-features

step "Python"
scripts/python_tests.sh

suite() {
  step "ONNX suite on $1"
  data/venv/bin/python scripts/onnx_suite.py run data/onnx --device "$1" --expected tests/onnx_suite.json --at-least "$2" \
    -- target/debug/sardonyx
}
target/debug/sardonyx devices
suite llvmpipe 2000
[ -z "${VK_ADD_DRIVER_FILES:-}" ] || suite SwiftShader 1930
suite cpu 1990

step "all passed"

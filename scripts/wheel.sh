#!/usr/bin/env bash
# Builds the Python wheel into target/wheels, with the release profile or the one that is named. Needs cargo, python3, and a
# network of package registries.
set -euo pipefail
[ $# -le 1 ] || { echo "usage: scripts/wheel.sh [PROFILE]"; exit 2; }
cd "$(dirname "$0")/.."
. scripts/python.sh

ensure_python maturin==1.16.0
rm -rf target/wheels
data/venv/bin/maturin build --quiet --locked --manifest-path crates/python/Cargo.toml --profile "${1:-release}" --out target/wheels
ls target/wheels/*.whl

#!/usr/bin/env bash
# Reads a scanned page on the best adapter: detects its lines, recognises them, prints them, and writes an annotated
# picture. Installs a software Vulkan driver if there is no adapter. Needs cargo, python3 with pip, and a network of
# package registries.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/vulkan.sh
. scripts/python.sh

ensure_vulkan || echo "going on with the CPU reference" >&2
ensure_python
data/venv/bin/python scripts/demo_data.py data/demo
cargo build --release --quiet --example ocr
exec target/release/examples/ocr data/demo "$@"

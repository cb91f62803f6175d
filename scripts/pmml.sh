#!/usr/bin/env bash
# Compares models that `sardonyx convert` makes of PMML with the references, on data sets of scikit-learn: 46 pipelines, written as PMML by
# the JPMML converter (package sklearn2pmml), against JPMML's own evaluator, scikit-learn, and where it reads them, sklearn-pmml-model.
# Needs Java 11 or later, and network for the packages (400 MB). What it writes stays in target/pmml.
set -euo pipefail
[ $# -eq 0 ] || { echo "usage: scripts/pmml.sh (no options)"; exit 2; }
cd "$(dirname "$0")/.."
command -v java >/dev/null || { echo "this needs java"; exit 2; }
cargo build --quiet -p sardonyx-cli
mkdir -p target/pmml
[ -x target/pmml/venv/bin/python ] || python3 -m venv target/pmml/venv
target/pmml/venv/bin/pip install -q --disable-pip-version-check scikit-learn==1.9.0 "pandas<3" sklearn2pmml==0.133.1 \
  jpmml_evaluator==0.16.0 sklearn-pmml-model==1.0.8 onnxruntime==1.31.1
target/pmml/venv/bin/python scripts/pmml.py target/pmml target/debug/sardonyx

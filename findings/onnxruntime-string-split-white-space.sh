#!/usr/bin/env bash
# ONNX says of StringSplit without a delimiter that it splits at runs of white space, and onnx's reference evaluator (1.23.2) splits
# "a\tb  c\nd" into a, b, c and d, as Python's str.split does. onnxruntime 1.31.1 splits at the space character alone: it gives two
# parts, "a\tb" and "c\nd", so that the result also has another shape.
# Consequence: tokens of texts with tabs or line breaks may differ from onnxruntime's; the specification counts here.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

node = helper.make_node("StringSplit", ["x"], ["parts", "count"])
value = helper.make_tensor_value_info
graph = helper.make_graph(
    [node], "graph", [value("x", TensorProto.STRING, [1])],
    [value("parts", TensorProto.STRING, [1, None]), value("count", TensorProto.INT64, [1])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
x = np.array(["a\tb  c\nd"], dtype=object)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
runtime = [str(part) for part in session.run(None, {"x": x})[0][0]]
reference = [str(part) for part in ReferenceEvaluator(model).run(None, {"x": x})[0][0]]
print(f"onnxruntime {runtime}, onnx's reference evaluator {reference}")
assert reference == ["a", "b", "c", "d"], "the reference evaluator changed"
assert runtime == ["a\tb", "c\nd"], "onnxruntime changed"
PYTHON

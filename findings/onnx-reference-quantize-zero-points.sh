#!/usr/bin/env bash
# onnx 1.23.2's ReferenceEvaluator computes QuantizeLinear's y = saturate(x / scale + zero_point) with the zero point for
# float4e2m1, and without it for float8e4m3fn: the same node, with zero point 2, gives 3 for x = 1 to the one and 1 to the other.
# The operator's formula has the zero point for every type.
# Consequence: expected values for float8 with a zero point that is not 0 must come from the formula.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 ml_dtypes==0.5.4
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def quantized(kind):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("Cast", ["q"], ["y"], to=TensorProto.FLOAT),
    ]
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
    zero = helper.make_tensor("zero", kind, [], [2.0])
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [1.0])
    graph = helper.make_graph(nodes, "graph", [value("x")], [value("y")], [scale, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)
    return float(ReferenceEvaluator(model).run(None, {"x": np.array([1], np.float32)})[0][0])


float8, float4 = quantized(TensorProto.FLOAT8E4M3FN), quantized(TensorProto.FLOAT4E2M1)
print(f"1 with scale 1 and zero point 2, by the formula 3: float8e4m3fn {float8}, float4e2m1 {float4}")
assert (float8, float4) == (1.0, 3.0), "the evaluator changed"
PYTHON

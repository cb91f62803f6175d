#!/usr/bin/env bash
# onnx 1.23.2's ReferenceEvaluator computes BatchNormalization of opset 9 with ONE output, which the specification calls test
# mode, by a mixture of the given statistics and those of the batch: with mean 0 and variance 1 given, epsilon 0, and the
# batch 1 .. 8, the first result is 0.4607 and not 1. The attribute `momentum` has a default, so the branch for test mode,
# which asks whether it is missing, is never taken. ONNX Runtime 1.31.1 gives 1, and so does the evaluator for opset 15.
# Consequence: expected values for models of opsets 9 to 13 must not come from this evaluator where they hold the operator.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

x = np.arange(1, 9, dtype=np.float32).reshape(2, 1, 4)
weights = {"scale": 1, "bias": 0, "mean": 0, "variance": 1}


def results(opset):
    node = helper.make_node("BatchNormalization", ["x", *weights], ["y"], epsilon=0.0)
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape)
    constants = [numpy_helper.from_array(np.array([v], np.float32), name) for name, v in weights.items()]
    graph = helper.make_graph([node], "graph", [value("x")], [value("y")], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return ReferenceEvaluator(model).run(None, {"x": x})[0], session.run(None, {"x": x})[0]


for opset, right in ((9, False), (15, True)):
    reference, runtime = results(opset)
    print(f"opset {opset}: onnx.reference {reference.ravel()[:3]}, ONNX Runtime {runtime.ravel()[:3]}, by the formula {x.ravel()[:3]}")
    assert np.array_equal(runtime, x), "ONNX Runtime changed"
    assert np.array_equal(reference, x) == right, "onnx.reference changed"
mixed_mean, mixed_variance = 0.9 * 0 + 0.1 * x.mean(), 0.9 * 1 + 0.1 * x.var()
assert np.allclose(results(9)[0], (x - mixed_mean) / np.sqrt(mixed_variance)), "the mixture changed"
PYTHON

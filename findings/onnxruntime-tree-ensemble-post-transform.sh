#!/usr/bin/env bash
# ONNX numbers the post_transform of ai.onnx.ml.TreeEnsemble (version 5): 0 none, 1 softmax, 2 logistic, 3 softmax_zero, 4 probit.
# onnxruntime 1.31.1 reads the number by an order of its own, in which 1 is logistic and 2 is softmax: a tree that gives [0, 1]
# becomes [0.5, 0.731] with 1, where softmax is [0.269, 0.731], and the other way round with 2. The older operators, which name the
# transform in words, are not affected.
# Consequence: a TreeEnsemble's scores may differ from onnxruntime's; the specification's numbers count here.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper


def scores(post_transform):
    """Two stumps, which give target 0 the weight 0 and target 1 the weight 1 on both sides of their only node."""
    floats = lambda name, values: helper.make_tensor(name, TensorProto.FLOAT, [len(values)], values)
    node = helper.make_node(
        "TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", n_targets=2, aggregate_function=1, post_transform=post_transform,
        tree_roots=[0, 1], nodes_featureids=[0, 0], nodes_splits=floats("splits", [0.5, 0.5]),
        nodes_modes=helper.make_tensor("modes", TensorProto.UINT8, [2], [0, 0]),
        nodes_truenodeids=[0, 2], nodes_trueleafs=[1, 1], nodes_falsenodeids=[1, 3], nodes_falseleafs=[1, 1],
        leaf_targetids=[0, 0, 1, 1], leaf_weights=floats("weights", [0.0, 0.0, 1.0, 1.0]),
    )
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "graph", [value("x", [1, 1])], [value("y", [1, 2])])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.zeros((1, 1), np.float32)})[0][0]


logistic, softmax = 1 / (1 + np.exp([0.0, -1.0])), np.exp([0.0, 1.0]) / (1 + np.e)
plain, one, two = scores(0), scores(1), scores(2)
print(f"no transform {plain}, 1 (softmax in ONNX) {one}, 2 (logistic in ONNX) {two}")
assert np.allclose(plain, [0, 1]), "the trees changed"
assert np.allclose(one, logistic) and np.allclose(two, softmax), "onnxruntime changed"
PYTHON

#!/usr/bin/env bash
# GridSample of ONNX (opset 20), mode "cubic", padding_mode "border", where the sampled place lies outside: onnx 1.23.2's reference
# evaluator moves the place to the border first, as both runtimes do for "linear", and gives the border's element. onnxruntime 1.31.1
# leaves the place where it is, and takes the border's element for each of the four taps that lie outside. At 3.5 of the row 0, 1, 4, 9
# the first gives 9, and the second 4 * -3/32 + 9 * 35/32 = 9.46875. ONNX's text names border values for places that are out of bounds, and
# no case of its suite has a cubic with a border. With "zeros" and "reflection" the two agree.
# Consequence: a runtime that is checked against ONNX's reference alone differs from onnxruntime on warps by a cubic.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1 numpy==2.3.5
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

row = np.tile(np.array([0, 1, 4, 9], np.float32), (1, 1, 2, 1))
# Two equal rows, and places -1.5, 0.5, 3.5 and 6 between them.
grid = np.array([[-2, 0], [-2 / 3, 0], [4 / 3, 0], [3, 0]], np.float32).reshape(1, 1, 4, 2)
results = {}
for mode in ["linear", "cubic"]:
    for padding in ["zeros", "border", "reflection"]:
        node = helper.make_node("GridSample", ["x", "grid"], ["y"], mode=mode, padding_mode=padding, align_corners=1)
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ["x", "grid", "y"]]
        graph = helper.make_graph([node], "g", values[:2], values[2:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        feed = {"x": row, "grid": grid}
        reference = ReferenceEvaluator(model).run(None, feed)[0].ravel()
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        actual = session.run(None, feed)[0].ravel()
        print(f"{mode:7} {padding:11} onnx {reference}, onnxruntime {actual}")
        results[mode, padding] = np.abs(reference - actual).max(), reference, actual
differ = [key for key, (difference, _, _) in results.items() if difference > 1e-5]
assert differ == [("cubic", "border")], differ
_, reference, actual = results["cubic", "border"]
assert reference[2] == 9 and abs(actual[2] - 9.46875) < 1e-5, "the cubic at the border changed"
PYTHON

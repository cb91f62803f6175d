"""Files that need no package to become ONNX models: PMML, and weights."""

import collections
import io
import json
import os
import pathlib
import pickle
import struct
import sys
import tempfile
import types
import unittest
import unittest.mock
import zipfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import sardonyx
from sardonyx import convert

DEVICES = os.environ.get("SARDONYX_TEST_DEVICES", "auto,cpu").split(",")

PMML = b"""<PMML version="4.4"><DataDictionary><DataField name="x" optype="continuous" dataType="double"/>
<DataField name="kind" optype="categorical" dataType="string"><Value value="a"/><Value value="b"/></DataField>
<DataField name="y" optype="categorical" dataType="string"><Value value="no"/><Value value="yes"/></DataField></DataDictionary>
<TreeModel functionName="classification"><MiningSchema><MiningField name="x"/><MiningField name="kind"/>
<MiningField name="y" usageType="target"/></MiningSchema><Node><True/>
<Node score="yes"><SimplePredicate field="kind" operator="equal" value="b"/></Node>
<Node score="no"><SimplePredicate field="x" operator="lessThan" value="1"/><ScoreDistribution value="no" recordCount="3"/>
<ScoreDistribution value="yes" recordCount="1"/></Node><Node score="yes"><True/></Node></Node></TreeModel></PMML>"""


def safetensors(**arrays):
    header, data = {}, b""
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.astype("<f4").tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def state_dictionary(**arrays):
    """An archive as `torch.save` writes one, by Python's own pickler; PyTorch's names are those of stand-ins."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch", "__qualname__": "FloatStorage"})

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError("nothing is called")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2

    class Storage:
        def __init__(self, key, elements):
            self.named = ("storage", torch.FloatStorage, key, "cpu", elements)

    class Tensor:
        def __init__(self, key, array):
            strides = tuple(stride // array.itemsize for stride in array.strides)
            self.arguments = (Storage(key, array.size), 0, array.shape, strides, False, collections.OrderedDict())

        def __reduce__(self):
            return utils._rebuild_tensor_v2, self.arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.named if isinstance(value, Storage) else None

    saved = collections.OrderedDict((name, Tensor(str(at), array)) for at, (name, array) in enumerate(arrays.items()))
    saved._metadata = collections.OrderedDict([("", {"version": 1})])
    described, archive = io.BytesIO(), io.BytesIO()
    with unittest.mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        Pickler(described, protocol=2).dump({"epoch": 3, "rate": 0.1, "state_dict": saved})
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as files:
        files.writestr("model/data.pkl", described.getvalue())
        files.writestr("model/byteorder", "little")
        for at, array in enumerate(arrays.values()):
            files.writestr(f"model/data/{at}", array.tobytes(order="A"))
        files.writestr("model/version", "3\n")
    return archive.getvalue()


class Files(unittest.TestCase):
    def test_pmml(self):
        inputs = {"x": np.array([[0.0], [2.0], [0.0]]), "kind": np.array([["a"], ["a"], ["b"]])}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "m.pmml")
            path.write_bytes(PMML)
            self.assertEqual(convert.from_pmml(path), convert.from_pmml(PMML))
        for device in DEVICES:
            with self.subTest(device=device):
                outputs = sardonyx.Session(convert.from_pmml(PMML), device).run(inputs)
                self.assertEqual(outputs.label.tolist(), [["no"], ["yes"], ["yes"]])
                self.assertEqual(outputs.probabilities.tolist(), [[0.75, 0.25], [0, 1], [0, 1]])

    def test_wrong_pmml(self):
        with self.assertRaisesRegex(ValueError, "line 6: SimplePredicate: operator=\"is\" is not supported"):
            convert.from_pmml(PMML.replace(b'"equal"', b'"is"'))

    def matrix(self):
        value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])
        constant = numpy_helper.from_array(np.zeros((2, 3), np.float32), "m")
        graph = helper.make_graph([helper.make_node("Add", ["x", "m"], ["y"])], "g", [value("x")], [value("y")], [constant])
        return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()

    def test_weights(self):
        value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])
        constants = [numpy_helper.from_array(np.zeros(2, np.float32), name) for name in ("w", "b")]
        nodes = [helper.make_node("Mul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
        graph = helper.make_graph(nodes, "g", [value("x")], [value("y")], constants)
        model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
        w, b = np.array([2, 3], np.float32), np.array([10, 20], np.float32)
        for weights in (safetensors(w=w, b=b), state_dictionary(w=w, b=b)):
            made = convert.with_weights(model, weights)
            onnx.checker.check_model(onnx.load_from_string(made))
            for device in DEVICES:
                with self.subTest(device=device):
                    outputs = sardonyx.Session(made, device).run({"x": np.ones(2, np.float32)})
                    self.assertEqual(outputs.y.tolist(), [12, 23])
        turned = convert.with_weights(self.matrix(), state_dictionary(m=np.asfortranarray([[1, 2, 3], [4, 5, 6]], np.float32)))
        self.assertEqual(sardonyx.Session(turned, "cpu").run({"x": np.zeros((2, 3), np.float32)}).y.tolist(), [[1, 2, 3], [4, 5, 6]])
        with self.assertWarnsRegex(UserWarning, "no weights for b; no initializers for c"):
            convert.with_weights(model, safetensors(w=w, c=b))
        with self.assertRaisesRegex(ValueError, r"'w' is \[2\] in the model, and \[2, 1\] in the file"):
            convert.with_weights(model, safetensors(w=w.reshape(2, 1)))


if __name__ == "__main__":
    unittest.main()

"""ONNX's backend API, under the runner of the package `onnx`. `SARDONYX_TEST_DEVICES` names the devices, separated by commas.

Every device runs every case, but for SwiftShader, which would take minutes, and runs those that begin with `test_a` to `test_c`;
`scripts/onnx_suite.py` runs all of them there.
"""

import json
import os
import pathlib
import re
import sys
import tempfile
import unittest
import unittest.mock
import warnings

import models
import numpy as np
import onnx
from onnx import helper

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
# It seeds what the package draws cases with, and so stands before the runner.
import onnx_suite  # noqa: E402
from onnx.backend.test import BackendTest  # noqa: E402

import sardonyx.backend  # noqa: E402

DEVICES = os.environ.get("SARDONYX_TEST_DEVICES", "auto,cpu").split(",")
EXPECTED = json.loads((ROOT / "tests" / "onnx_suite.json").read_text())
# Operators that Sardonyx does not have: those of training, and JPEG 2000.
ABSENT = r"^test_((adagrad|adam|momentum|nesterov_momentum)(_multiple)?|gradient_of_.*|image_decoder_decode_jpeg2k_rgb)_cpu$"
# The cases that a device runs, if not all, and how many pass at least.
PARTS = {"SwiftShader": ("^test_[a-c].*_cpu$", 650)}
WHOLE = (None, 2000)


def backend_of(device):
    """The backend with `device` where the runner says CPU, which is the only name of its two that Sardonyx has."""

    class OnDevice(sardonyx.backend.SardonyxBackend):
        @classmethod
        def prepare(cls, model, device_of_runner="CPU", **kwargs):
            assert device_of_runner == "CPU"
            return super().prepare(model, device, **kwargs)

    return OnDevice


class Runner(BackendTest):
    @classmethod
    def assert_similar_outputs(cls, ref_outputs, outputs, rtol, atol, model_dir=None):
        """The runner's own takes the length of each element of a sequence, which one without dimensions does not have."""
        np.testing.assert_equal(len(outputs), len(ref_outputs))
        pairs = [pair for ref, out in zip(ref_outputs, outputs) for pair in onnx_suite.paired(ref, out)]
        super().assert_similar_outputs([ref for ref, _ in pairs], [out for _, out in pairs], rtol, atol, model_dir)


class Official(unittest.TestCase):
    def test_the_runner_of_the_package_accepts_it(self):
        for device in DEVICES:
            # The runner writes the inputs of its own light models there.
            with self.subTest(device=device), tempfile.TemporaryDirectory() as home, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                runner = Runner(backend_of(device))
                part, least = PARTS.get(device, WHOLE)
                if part is not None:
                    runner.include(part)
                for name in onnx_suite.DRAWN:
                    runner.exclude(f"^{name}_cpu$")
                runner.exclude(ABSENT)
                for entry in EXPECTED:
                    if entry["driver"] in ("*", device):
                        # One that passes counts as a failure.
                        runner.xfail(f"^{entry['case']}_cpu$")
                result = unittest.TestResult()
                with unittest.mock.patch.dict(os.environ, ONNX_HOME=home):
                    runner.test_suite.run(result)
                failed = [f"{case.id()}\n{text}" for case, text in result.failures + result.errors]
                self.assertEqual(failed, [])
                self.assertEqual(result.unexpectedSuccesses, [])
                left_out = {case.id().split(".")[-1]: reason for case, reason in result.skipped}
                others = "doesn't support device CUDA|no matched include pattern|matched exclude pattern"
                self.assertEqual({name: why for name, why in left_out.items() if not re.search(others, why)}, {})
                self.assertGreaterEqual(result.testsRun - len(result.skipped) - len(result.expectedFailures), least)


class Functions(unittest.TestCase):
    def test_devices(self):
        for device in ("auto", "gpu", "CPU", "cpu", *DEVICES):
            self.assertTrue(sardonyx.backend.supports_device(device), device)
        for device in ("CUDA", "CUDA:1", "nothing of this name"):
            self.assertFalse(sardonyx.backend.supports_device(device), device)
        with self.assertRaises(sardonyx.NoAdapterError):
            sardonyx.backend.prepare(onnx.load_from_string(models.add()), "CUDA")

    def test_a_prepared_model(self):
        for device in DEVICES:
            prepared = sardonyx.backend.prepare(onnx.load_from_string(models.add()), device, fusion=False)
            self.assertIsInstance(prepared, onnx.backend.base.BackendRep)
            a, b = np.float32([1, 2]), np.float32([3, 5])
            for inputs in ([a, b], (a, b), {"b": b, "a": a}):
                outputs = prepared.run(inputs)
                np.testing.assert_array_equal(outputs[0], [4, 7])
                np.testing.assert_array_equal(outputs.d, [12, 35])
                np.testing.assert_array_equal(outputs["d"], [12, 35])
            with self.assertRaisesRegex(ValueError, "1 inputs are given, and there are 2: a, b"):
                prepared.run([a])
            with self.assertRaisesRegex(TypeError, "not precision"):
                prepared.run([a, b], precision=3)
        with self.assertRaises(TypeError):
            sardonyx.backend.prepare(onnx.load_from_string(models.add()), "cpu", speed="high")

    def test_a_model_once(self):
        made = onnx.load_from_string(models.unary())
        (y,) = sardonyx.backend.run_model(made, np.float32([-1, 2]), "cpu")
        np.testing.assert_array_equal(y, [0, 2])

    def test_defaults_need_not_be_given(self):
        default = helper.make_tensor("b", onnx.TensorProto.FLOAT, [1], [10])
        kind = ("n",)
        node = helper.make_node("Add", ["a", "b"], ["c"])
        infos = [("a", models.FLOAT, kind), ("b", models.FLOAT, (1,))]
        made = onnx.load_from_string(models.model([node], infos, [("c", models.FLOAT, kind)], initializers=[default]))
        self.assertEqual(sardonyx.backend.run_model(made, [np.float32([1])], "cpu").c, [11])
        feed = {"a": np.float32([1]), "b": np.float32([2])}
        self.assertEqual(sardonyx.backend.run_model(made, feed, "cpu").c, [3])

    def test_nodes(self):
        run = sardonyx.backend.run_node
        for device in DEVICES:
            x = np.float32([[1, -2], [3, 4]])
            np.testing.assert_array_equal(run(helper.make_node("Relu", ["x"], ["y"]), [x], device).y, np.maximum(x, 0))
            np.testing.assert_array_equal(run(helper.make_node("Mul", ["x", "x"], ["y"]), x, device)[0], x * x)
            clip = helper.make_node("Clip", ["x", "", "high"], ["y"])
            np.testing.assert_array_equal(run(clip, [x, np.float32(2)], device).y, np.minimum(x, 2))
            # Before opset 13, the axes were an attribute.
            squeeze = helper.make_node("Squeeze", ["x"], ["y"], axes=[0])
            self.assertEqual(run(squeeze, [x[None]], device, opset_version=11).y.shape, (2, 2))
            split = helper.make_node("Split", ["x"], ["a", "b"], num_outputs=2)
            np.testing.assert_array_equal(run(split, [x], device).b, x[1:])
            binarize = helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=2.0)
            np.testing.assert_array_equal(run(binarize, [x], device).y, x > 2)
            joined = run(helper.make_node("ConcatFromSequence", ["xs"], ["y"], axis=0), [[x, x]], device).y
            np.testing.assert_array_equal(joined, np.concatenate([x, x]))
        lower = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER")
        self.assertEqual(run(lower, [np.array(["AB"])], "cpu").y.tolist(), ["ab"])
        with self.assertRaisesRegex(ValueError, "empty sequence"):
            run(helper.make_node("SequenceLength", ["xs"], ["y"]), [[]], "cpu")

    def test_what_sardonyx_does_not_have(self):
        node = helper.make_node("Nothing", ["x"], ["y"], domain="nobody")
        made = onnx.load_from_string(
            models.model([node], [("x", models.FLOAT, (1,))], [("y", models.FLOAT, (1,))], domains=["nobody"])
        )
        self.assertFalse(sardonyx.backend.is_compatible(made))
        self.assertTrue(sardonyx.backend.is_compatible(onnx.load_from_string(models.unary())))
        with self.assertRaisesRegex(sardonyx.UnsupportedError, "Nothing"):
            sardonyx.backend.run_node(node, [np.float32([1])])


if __name__ == "__main__":
    unittest.main()

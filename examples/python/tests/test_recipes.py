"""The recipe for Dask in the README, with a cluster of two worker processes. `MODELS` as in service.py."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import onnxruntime

HERE = pathlib.Path(__file__).resolve().parents[1]
MODELS = pathlib.Path(os.environ.get("MODELS", "data/models")).resolve()


def recipe(name):
    """The program below the heading."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    text = text[text.index(f"**{name}.**") :]
    return text[text.index("```python\n") + 10 : text.index("\n```\n")]


def changed(text, changes):
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


class Recipes(unittest.TestCase):
    def test_dask(self):
        images = np.random.default_rng(0).standard_normal((6, 3, 48, 192), np.float32)
        session = onnxruntime.InferenceSession(MODELS / "ppocr2_cls.onnx", providers=["CPUExecutionProvider"])
        expected = session.run(None, {"x": images})[0]
        with tempfile.TemporaryDirectory() as folder:
            for number in range(2):
                np.save(f"{folder}/{number}.npy", images[3 * number : 3 * number + 3])
            text = changed(recipe("Dask"), {
                "/models/ppocr2_cls.onnx\"": f"{MODELS}/ppocr2_cls.onnx\", {os.environ.get('DEVICE', 'auto')!r}",
                "/images/": f"{folder}/",
                "\"tcp://scheduler:8786\"": "n_workers=2, processes=True, dashboard_address=':0'",
                "print(": f"np.save('{folder}/scores.npy', ",
            })
            program = pathlib.Path(folder, "program.py")
            program.write_text(text)
            subprocess.run([sys.executable, program], check=True, timeout=120)
            np.testing.assert_allclose(np.load(f"{folder}/scores.npy"), expected, atol=1e-4)


if __name__ == "__main__":
    unittest.main()

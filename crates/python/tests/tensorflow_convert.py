"""Models of Keras and files of TensorFlow Lite, converted and run, against TensorFlow's own answers.

Needs tensorflow-cpu==2.21.0 and tf2onnx==1.17.0, which take 1.6 GB, so that it has a place in scripts/python_long.sh alone.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np

import sardonyx
from sardonyx import convert

DEVICES = os.environ.get("SARDONYX_TEST_DEVICES", "auto,cpu").split(",")


def make(folder):
    """Writes each model, and arrays: its inputs and TensorFlow's outputs. Software adapters do not run in a process with TensorFlow."""
    import tensorflow as tf

    layer, generator = tf.keras.layers, np.random.default_rng(0)

    def save(name, made, inputs, outputs):
        (folder / f"{name}.onnx").write_bytes(made)
        given = {f"in{i}": value for i, value in enumerate(inputs)}
        np.savez(folder / f"{name}.npz", **given, **{f"out{i}": np.asarray(value) for i, value in enumerate(outputs)})

    layers = [layer.Conv2D(4, 3, activation="relu"), layer.BatchNormalization(), layer.Flatten(), layer.Dense(3, activation="softmax")]
    image = tf.keras.Sequential([layer.Input((8, 8, 3), name="image"), *layers])
    x = generator.random((5, 8, 8, 3), np.float32)
    save("keras", convert.from_keras(image), [x], [image(x)])

    a, b = layer.Input((4,), name="a"), layer.Input((4,), name="b")
    several = tf.keras.Model([a, b], [layer.Dense(2)(layer.Concatenate()([a, b])), layer.Subtract()([a, b])])
    given = list(generator.random((2, 3, 4), np.float32))
    save("several", convert.from_keras(several), given, several(given))

    path = folder / "model.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(image).convert())
    interpreter = tf.lite.Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x[:1])
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    save("tflite", convert.from_tflite(path), [x[:1]], [expected])


class Converted(unittest.TestCase):
    def test_all(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, __file__, folder], check=True, stdout=subprocess.DEVNULL)
            models = {path.stem: (path.read_bytes(), dict(np.load(path.with_suffix(".npz")))) for path in pathlib.Path(folder).glob("*.onnx")}
        self.assertEqual(sorted(models), ["keras", "several", "tflite"])
        for name, (made, arrays) in models.items():
            inputs = [array for key, array in arrays.items() if key.startswith("in")]
            expected = [array for key, array in arrays.items() if key.startswith("out")]
            names = [info.name for info in sardonyx.Model(made).inputs]
            if name != "tflite":
                self.assertEqual(names, {"keras": ["image"], "several": ["a", "b"]}[name])
            for device in DEVICES:
                with self.subTest(name, device=device):
                    outputs = sardonyx.Session(made, device).run(dict(zip(names, inputs)))
                    self.assertEqual(len(outputs), len(expected))
                    for found, wanted in zip(outputs.values(), expected):
                        np.testing.assert_allclose(found, wanted, atol=1e-5)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        make(pathlib.Path(sys.argv[1]))
    else:
        unittest.main()

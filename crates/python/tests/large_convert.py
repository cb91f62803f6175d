"""Models of libraries that take much room, converted and run, against the libraries' own answers: CatBoost, JAX, PaddlePaddle, PyTorch.

Their packages exclude each other in part, and take 0.9 to 7 GB, so that scripts/python_long.sh makes an environment for each test.
"""

import os
import tempfile
import unittest

import numpy as np

import sardonyx
from sardonyx import convert

DEVICES = os.environ.get("SARDONYX_TEST_DEVICES", "auto,cpu").split(",")


class Converted(unittest.TestCase):
    def gives(self, made, inputs, expected, names=None):
        """The model has these inputs, and gives what is expected."""
        given = [info.name for info in sardonyx.Model(made).inputs]
        if names is not None:
            self.assertEqual(given, names)
        for device in DEVICES:
            with self.subTest(device=device):
                outputs = sardonyx.Session(made, device).run(dict(zip(given, inputs)))
                self.assertEqual(len(outputs), len(expected))
                for found, wanted in zip(outputs.values(), expected):
                    if np.asarray(wanted).dtype.kind in "OU":
                        np.testing.assert_array_equal(found, wanted)
                    else:
                        np.testing.assert_allclose(found, wanted, atol=1e-5)

    def test_catboost(self):
        import catboost

        x = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
        x[::7, 1] = np.nan
        two, three = np.int64(x[:, 0] + x[:, 2] > 0), np.digitize(x[:, 0], [-0.5, 0.5])
        for labels in (two, three, np.array(["onyx", "agate"])[two], np.array(["a", "b", "c"])[three]):
            model = catboost.CatBoostClassifier(iterations=20, verbose=0, allow_writing_files=False).fit(x, labels)
            made = convert.from_catboost(model)
            self.assertEqual([info.name for info in sardonyx.Model(made).outputs], ["label", "probabilities"])
            self.gives(made, [x], [model.predict(x).reshape(-1), model.predict_proba(x)], ["X"])
        model = catboost.CatBoostRegressor(iterations=20, verbose=0, allow_writing_files=False).fit(x, x[:, 2])
        self.gives(convert.from_catboost(model), [x], [model.predict(x)[:, None]], ["X"])

    def test_jax(self):
        import jax
        import jax.numpy as jnp

        generator = np.random.default_rng(0)
        weights, x = generator.standard_normal((3, 4), np.float32), generator.standard_normal((5, 3), np.float32)

        def model(x):
            return jax.nn.softmax(jnp.tanh(x @ weights), axis=-1), x.sum(axis=0)

        self.gives(convert.from_jax(model, x), [x], model(x))
        self.gives(convert.from_jax(model, ("batch", 3)), [x[:2]], model(x[:2]))

    def test_paddle(self):
        import paddle

        layers = [paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4), paddle.nn.ReLU(), paddle.nn.Flatten(), paddle.nn.Linear(144, 5)]
        model = paddle.nn.Sequential(*layers)
        model.eval()
        x = np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32)
        expected = model(paddle.to_tensor(x)).numpy()
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/model"
            paddle.jit.save(model, path, input_spec=[paddle.static.InputSpec([None, 3, 8, 8], "float32", "image")])
            for given in (path, f"{path}.json"):
                self.gives(convert.from_paddle(given), [x], [expected], ["image"])
            with self.assertRaisesRegex(FileNotFoundError, "no .*nothing.json and no"):
                convert.from_paddle(f"{folder}/nothing")

    def test_torch(self):
        import torch

        layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5)]
        model = torch.nn.Sequential(*layers).eval()
        x = torch.randn(2, 3, 8, 8)
        expected = [model(x).detach().numpy()]
        self.gives(convert.from_torch(model, x), [x], expected, ["input"])
        several = convert.from_torch(model, torch.randn(4, 3, 8, 8), dynamic_shapes=[{0: "batch"}])
        self.gives(several, [x], expected, ["input"])
        encoder = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
        x = torch.randn(2, 7, 16)
        self.gives(convert.from_torch(encoder, x), [x], [encoder(x).detach().numpy()], ["src"])

    def test_tensors_of_torch(self):
        """PyTorch's tensors go in where they lie, and out by DLPack."""
        import models
        import torch

        for dtype, number in ((torch.float32, 1), (torch.bfloat16, 16), (torch.float16, 10), (torch.int64, 7), (torch.bool, 9)):
            x = (torch.arange(60_000) % 2).reshape(300, 200).to(dtype)
            for device in DEVICES:
                session = sardonyx.Session(models.moving(number), device)
                for given in (x, x[::2, 1::3], x.T.contiguous().T):
                    made = torch.from_dlpack(session.run_to_device({"x": given}).y)
                    self.assertEqual(made.dtype, dtype)
                    self.assertTrue(torch.equal(made, given.T))
            name, _, raw = sardonyx._arrays.plain(x, None)
            self.assertEqual((name, raw.ctypes.data), (str(dtype).removeprefix("torch."), x.data_ptr()))
        with self.assertRaisesRegex(RuntimeError, "requires grad"):
            session.run({"x": torch.ones(2, 2, requires_grad=True)})


if __name__ == "__main__":
    unittest.main()

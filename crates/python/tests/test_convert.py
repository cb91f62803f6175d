"""Models of other libraries, converted and run, against the libraries' own answers. `SARDONYX_TEST_DEVICES` names the devices."""

import os
import types
import unittest
import unittest.mock
import warnings

import lightgbm
import numpy as np
import pandas
import xgboost
from sklearn import compose, datasets, ensemble, linear_model, naive_bayes, neighbors, neural_network, pipeline, preprocessing, svm, tree

import sardonyx
from sardonyx import convert

DEVICES = os.environ.get("SARDONYX_TEST_DEVICES", "auto,cpu").split(",")

CLASSES = tuple(values.astype(np.float32) for values in datasets.load_wine(return_X_y=True))
NUMBERS = tuple(values.astype(np.float32) for values in datasets.load_diabetes(return_X_y=True))


class Converted(unittest.TestCase):
    def classifies(self, made, x, labels, probabilities):
        """The labels are equal and the probabilities within 1e-5, since the models compute in float32."""
        for device in DEVICES:
            with self.subTest(device=device):
                outputs = sardonyx.Session(made, device).run({"X": x})
                self.assertEqual(list(outputs), ["label", "probabilities"])
                np.testing.assert_array_equal(outputs.label, labels)
                np.testing.assert_allclose(outputs.probabilities, probabilities, atol=1e-5)

    def regresses(self, made, x, expected):
        for device in DEVICES:
            with self.subTest(device=device):
                found = sardonyx.Session(made, device).run({"X": x})[0]
                np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-5)

    def test_classifiers_of_sklearn(self):
        x, y = CLASSES
        labels = y.astype(np.int64)
        scaled = (
            linear_model.LogisticRegression(max_iter=1000),
            neural_network.MLPClassifier([16], max_iter=500, random_state=0),
            neighbors.KNeighborsClassifier(5),
            naive_bayes.GaussianNB(),
        )
        # A tree decides by thresholds, and the converted scaler rounds to float32 where that of scikit-learn does not.
        trees = (
            ensemble.RandomForestClassifier(20, random_state=0),
            ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0),
        )
        for model in (*(pipeline.make_pipeline(preprocessing.StandardScaler(), last) for last in scaled), *trees):
            with self.subTest(repr(model)), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(x, labels)
                made = convert.from_sklearn(model, x)
                self.classifies(made, x, model.predict(x), model.predict_proba(x))

    def test_regressors_of_sklearn(self):
        x, y = NUMBERS
        scaled = (pipeline.make_pipeline(preprocessing.StandardScaler(), last) for last in (linear_model.Ridge(), svm.SVR(C=50)))
        for model in (*scaled, tree.DecisionTreeRegressor(max_depth=4, random_state=0)):
            with self.subTest(repr(model)):
                model.fit(x, y)
                self.regresses(convert.from_sklearn(model, x), x, model.predict(x))

    def test_a_table_has_an_input_for_each_column(self):
        x, y = CLASSES
        table = pandas.DataFrame({"alcohol": x[:, 0], "color": x[:, 9], "origin": np.where(x[:, 0] > 13, "north", "south")})
        columns = compose.make_column_transformer(
            (preprocessing.StandardScaler(), ["alcohol", "color"]), (preprocessing.OneHotEncoder(), ["origin"])
        )
        model = pipeline.make_pipeline(columns, linear_model.LogisticRegression()).fit(table, y.astype(np.int64))
        feed = {name: table[[name]].to_numpy() for name in table}
        for device in DEVICES:
            outputs = sardonyx.Session(convert.from_sklearn(model, table), device).run(feed)
            np.testing.assert_array_equal(outputs.label, model.predict(table))
            np.testing.assert_allclose(outputs.probabilities, model.predict_proba(table), atol=1e-5)

    def test_lightgbm(self):
        x, y = CLASSES
        model = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1, random_state=0).fit(x, y.astype(np.int64))
        self.classifies(convert.from_lightgbm(model), x, model.predict(x), model.predict_proba(x))
        booster = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(x, y > 0), 20)
        second = booster.predict(x)
        self.classifies(convert.from_lightgbm(booster), x, second > 0.5, np.stack([1 - second, second], axis=1))
        x, y = NUMBERS
        model = lightgbm.LGBMRegressor(n_estimators=20, verbose=-1, random_state=0).fit(x, y)
        self.regresses(convert.from_lightgbm(model), x, model.predict(x))

    def test_xgboost(self):
        x, y = CLASSES
        model = xgboost.XGBClassifier(n_estimators=20).fit(x, y.astype(np.int64))
        self.classifies(convert.from_xgboost(model), x, model.predict(x), model.predict_proba(x))
        model = xgboost.XGBClassifier(n_estimators=20).fit(x, y > 0)
        self.classifies(convert.from_xgboost(model), x, model.predict(x), model.predict_proba(x))
        x, y = NUMBERS
        model = xgboost.XGBRegressor(n_estimators=20).fit(x, y)
        self.regresses(convert.from_xgboost(model), x, model.predict(x))
        self.regresses(convert.from_xgboost(model.get_booster()), x, model.predict(x))

    def test_missing_values(self):
        x, y = (values.copy() for values in NUMBERS)
        x[np.random.default_rng(0).random(x.shape) < 0.2] = np.nan
        model = lightgbm.LGBMRegressor(n_estimators=20, verbose=-1, random_state=0).fit(x, y)
        self.regresses(convert.from_lightgbm(model), x, model.predict(x))
        model = xgboost.XGBRegressor(n_estimators=20).fit(x, y)
        self.regresses(convert.from_xgboost(model), x, model.predict(x))

    def test_packages_that_are_missing(self):
        for package, library, call in (
            ("skl2onnx", "scikit-learn", lambda: convert.from_sklearn(linear_model.Ridge(), CLASSES[0])),
            ("onnxmltools", "LightGBM", lambda: convert.from_lightgbm(lightgbm.LGBMRegressor(verbose=-1).fit(*NUMBERS))),
            ("onnx", "CatBoost", lambda: convert.from_catboost(None)),
            ("jax2onnx", "JAX", lambda: convert.from_jax(None)),
            ("paddle2onnx", "PaddlePaddle", lambda: convert.from_paddle("model")),
            ("torch", "PyTorch", lambda: convert.from_torch(None)),
            ("onnxscript", "PyTorch", lambda: convert.from_torch(None)),
            ("tf2onnx", "Keras", lambda: convert.from_keras(None)),
            ("tf2onnx", "TensorFlow Lite", lambda: convert.from_tflite("model.tflite")),
            ("onnxmltools", "XGBoost", lambda: convert.from_xgboost(xgboost.XGBRegressor(n_estimators=1).fit(*NUMBERS))),
        ):
            # What needs two packages asks for torch first.
            others = {"torch": types.ModuleType("torch")} if package == "onnxscript" else {}
            with unittest.mock.patch.dict("sys.modules", {**others, package: None}):
                with self.assertRaisesRegex(ImportError, f"models of {library} needs a package: pip install {package}"):
                    call()


if __name__ == "__main__":
    unittest.main()

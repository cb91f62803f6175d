"""Models of other libraries as ONNX: one function for each library, and the package that it needs.

>>> from sardonyx import convert
>>> session = sardonyx.Session(convert.from_sklearn(pipeline, table))

Each returns the bytes of an ONNX model, and raises ImportError, which names what to install, where the package is missing. What the package
cannot convert is its own exception.

Classifiers of tables have the outputs `label` and `probabilities` (a row for each example, a column for each class); regressors have
`variable`. Networks have their outputs in their own order (`outputs[0]`), under the names of the converter.

Convert models of TensorFlow in a process of its own: it gives its LLVM to every library of the process, and drivers of Vulkan that have one of
another version (lavapipe, SwiftShader) crash then.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__all__ = ["from_keras", "from_lightgbm", "from_sklearn", "from_tflite", "from_xgboost"]


def from_sklearn(model: Any, example: Any) -> bytes:
    """An estimator or a pipeline of scikit-learn. Needs `skl2onnx`.

    `example` has the types and the columns of what the model will see: an array has one input, `X`; a table (a DataFrame) has an input for
    each column, of shape [n, 1], by its name.
    """
    made = _package("skl2onnx", "scikit-learn").to_onnx(model, example[:1], options=_plain_probabilities(model))
    return _bytes(made)


def from_keras(model: Any) -> bytes:
    """A model of Keras on TensorFlow. Needs `tf2onnx` and `tensorflow`. The inputs have the names of the model's input tensors."""
    converter = _package("tf2onnx", "Keras")
    tensorflow = _package("tensorflow", "Keras")
    given = [tensorflow.TensorSpec(each.shape, each.dtype, name=each.name) for each in model.inputs]

    def call(*values: Any) -> Any:
        return model(values[0] if len(given) == 1 else list(values), training=False)

    traced = tensorflow.function(call, input_signature=given)
    return _bytes(converter.convert.from_function(traced, input_signature=given)[0])


def from_lightgbm(model: Any) -> bytes:
    """A `Booster` of LightGBM, or a model of its scikit-learn interface. Needs `onnxmltools`. The input is `X`: float32[n, features]."""
    features = getattr(model, "n_features_in_", None) or model.num_feature()
    tools = _package("onnxmltools", "LightGBM")
    return _bytes(tools.convert_lightgbm(model, initial_types=_table(features), zipmap=False))


def from_tflite(path: str | os.PathLike[str]) -> bytes:
    """A file of TensorFlow Lite. Needs `tf2onnx` and `tensorflow`. The inputs have the names that the file has."""
    return _bytes(_package("tf2onnx", "TensorFlow Lite").convert.from_tflite(os.fspath(path))[0])


def from_xgboost(model: Any) -> bytes:
    """A model of XGBoost's scikit-learn interface, or a `Booster`. Needs `onnxmltools`. The input is `X`: float32[n, features]."""
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    tools = _package("onnxmltools", "XGBoost")
    return _bytes(tools.convert_xgboost(model, initial_types=_table(booster.num_features())))


def _package(name: str, of: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        # The package may be there, and lack one of its own.
        missing = (error.name or name).partition(".")[0]
        raise ImportError(f"converting models of {of} needs a package: pip install {missing} ({error})", name=missing) from error


def _table(features: int) -> list[tuple[str, Any]]:
    """The one input, in the terms of the packages that convert."""
    types = importlib.import_module("onnxmltools.convert.common.data_types")
    return [("X", types.FloatTensorType([None, features]))]


def _plain_probabilities(model: Any) -> dict[str, Any]:
    """Without this, each row of probabilities would be a map."""
    return {"zipmap": False} if hasattr(model, "predict_proba") else {}


def _bytes(model: Any) -> bytes:
    made: bytes = model.SerializeToString()
    return made

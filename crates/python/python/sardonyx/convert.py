"""Models of other libraries as ONNX: one function for each library, and the package that it needs.

>>> session = sardonyx.Session(sardonyx.convert.from_sklearn(pipeline, table))

Each returns the bytes of an ONNX model, and raises ImportError, which names what to install, where the package is missing. What the package
cannot convert is its own exception.

Classifiers have the outputs `label` and `probabilities` (a row for each example, a column for each class); regressors have `variable`.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["from_lightgbm", "from_sklearn", "from_xgboost"]


def from_sklearn(model: Any, example: Any) -> bytes:
    """An estimator or a pipeline of scikit-learn. Needs `skl2onnx`.

    `example` has the types and the columns of what the model will see: an array has one input, `X`; a table (a DataFrame) has an input for
    each column, of shape [n, 1], by its name.
    """
    made = _package("skl2onnx", "scikit-learn").to_onnx(model, example[:1], options=_plain_probabilities(model))
    return _bytes(made)


def from_lightgbm(model: Any) -> bytes:
    """A `Booster` of LightGBM, or a model of its scikit-learn interface. Needs `onnxmltools`. The input is `X`: float32[n, features]."""
    features = getattr(model, "n_features_in_", None) or model.num_feature()
    tools = _package("onnxmltools", "LightGBM")
    return _bytes(tools.convert_lightgbm(model, initial_types=_table(features), zipmap=False))


def from_xgboost(model: Any) -> bytes:
    """A model of XGBoost's scikit-learn interface, or a `Booster`. Needs `onnxmltools`. The input is `X`: float32[n, features]."""
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    tools = _package("onnxmltools", "XGBoost")
    return _bytes(tools.convert_xgboost(model, initial_types=_table(booster.num_features())))


def _package(name: str, of: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"converting models of {of} needs a package: pip install {name} ({error})", name=name) from error


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

"""Models of other libraries as ONNX: one function for each library, and the package that it needs.

>>> from sardonyx import convert
>>> session = sardonyx.Session(convert.from_sklearn(pipeline, table))

Each returns the bytes of an ONNX model, and raises ImportError, which names what to install, where the package is missing. What the package
cannot convert is its own exception.

Classifiers of tables have the outputs `label` and `probabilities` (a row for each example, a column for each class); regressors have
`variable`. Networks have their outputs in their own order (`outputs[0]`), under the names of the converter.

PMML, and weights of safetensors and PyTorch, need no package; what is wrong with such a file is a ValueError.

Convert models of TensorFlow in a process of its own: it gives its LLVM to every library of the process, and drivers of Vulkan that have one of
another version (lavapipe, SwiftShader) crash then.
"""

from __future__ import annotations

import importlib
import os
import pathlib
import tempfile
import warnings
from typing import Any, Callable

from . import _native

__all__ = [
    "from_catboost",
    "from_jax",
    "from_keras",
    "from_lightgbm",
    "from_paddle",
    "from_pmml",
    "from_sklearn",
    "from_tflite",
    "from_torch",
    "from_xgboost",
    "with_weights",
]


def from_paddle(path: str | os.PathLike[str]) -> bytes:
    """The files of a model that `paddle.jit.save(model, path)` has written: `path.json` (or `path.pdmodel`, of older versions) and
    `path.pdiparams`. Needs `paddle2onnx` and `paddlepaddle`. The inputs have the names of the `InputSpec`s."""
    converter = _package("paddle2onnx", "PaddlePaddle")
    base = os.path.splitext(path)[0] if os.fspath(path).endswith((".json", ".pdmodel")) else os.fspath(path)
    found = [base + suffix for suffix in (".json", ".pdmodel") if os.path.exists(base + suffix)]
    if not found:
        raise FileNotFoundError(f"there is no {base}.json and no {base}.pdmodel, as paddle.jit.save writes one")
    # Without a file to write, it installs no packages of its own accord.
    made: bytes = converter.export(found[0], base + ".pdiparams", None, opset_version=19)
    return made


def from_sklearn(model: Any, example: Any) -> bytes:
    """An estimator or a pipeline of scikit-learn. Needs `skl2onnx`.

    `example` has the types and the columns of what the model will see: an array has one input, `X`; a table (a DataFrame) has an input for
    each column, of shape [n, 1], by its name.
    """
    made = _package("skl2onnx", "scikit-learn").to_onnx(model, example[:1], options=_plain_probabilities(model))
    return _bytes(made)


def from_catboost(model: Any) -> bytes:
    """A model of CatBoost on numbers, which writes ONNX itself. Needs `onnx`. The input is `X`: float32[n, features]."""
    onnx = _package("onnx", "CatBoost")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        model.save_model(path, format="onnx")
        made = onnx.load(path)
    # Its names and shapes are its own, and each row of probabilities is a map.
    ours = {"features": "X", "predictions": "variable", "probability_tensor": "probabilities"}
    nodes = [node for node in made.graph.node if node.op_type != "ZipMap"]
    for node in nodes:
        node.input[:] = [ours.get(name, name) for name in node.input]
        node.output[:] = [ours.get(name, name) for name in node.output]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    made.graph.input[0].name = ours[made.graph.input[0].name]
    for output in made.graph.output:
        if output.name != "label":
            name = ours.get(output.name, output.name)
            output.CopyFrom(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", None]))
    return _bytes(made)


def from_torch(model: Any, *example: Any, **options: Any) -> bytes:
    """A module of PyTorch, by its exporter that traces with TorchDynamo. Needs `torch` and `onnxscript`.

    `example` are the arguments of a call. Sizes are theirs, except those that `dynamic_shapes` names, one of the exporter's options:
    `from_torch(model.eval(), image, dynamic_shapes=[{0: "batch"}])`. The inputs have the names of the parameters of `forward`.
    """
    torch = _package("torch", "PyTorch")
    _package("onnxscript", "PyTorch")
    program = torch.onnx.export(model, example, dynamo=True, verbose=False, **options)
    return _bytes(program.model_proto)


def from_jax(function: Callable[..., Any], *example: Any) -> bytes:
    """A function of JAX. Needs `jax2onnx`. `example` are the arguments of a call: arrays, or shapes of float32 in which a name is a size of any
    value (`("batch", 3)`). The inputs and the outputs have the names of the converter, and are best taken by their order."""
    converter = _package("jax2onnx", "JAX")
    return _bytes(converter.to_onnx(function, inputs=list(example)))


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


def from_pmml(source: str | os.PathLike[str] | bytes) -> bytes:
    """A PMML document: a path, or its bytes. Each active field is an input of shape [n, 1] by its name: NaN and "" are missing values.

    Classifiers have the outputs `label` [n, 1] and `probabilities` [n, classes], regressions `prediction` [n, 1], and every model those that
    its Output element names. Numbers are float64 where the document says nothing else.
    """
    return _native.from_pmml(_contents(source))


def from_tflite(path: str | os.PathLike[str]) -> bytes:
    """A file of TensorFlow Lite. Needs `tf2onnx` and `tensorflow`. The inputs have the names that the file has."""
    return _bytes(_package("tf2onnx", "TensorFlow Lite").convert.from_tflite(os.fspath(path))[0])


def from_xgboost(model: Any) -> bytes:
    """A model of XGBoost's scikit-learn interface, or a `Booster`. Needs `onnxmltools`. The input is `X`: float32[n, features]."""
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    tools = _package("onnxmltools", "XGBoost")
    return _bytes(tools.convert_xgboost(model, initial_types=_table(booster.num_features())))


def with_weights(model: str | os.PathLike[str] | bytes, weights: str | os.PathLike[str] | bytes) -> bytes:
    """An ONNX model with the weights of a file: of safetensors, or of a state dictionary that PyTorch saved (`.pt`, `.pth`), of which nothing
    is executed. Each initializer takes the weight of its name. A weight of another shape or type is a ValueError, and so is a file of
    which no name is in the model; initializers and weights without a partner are a warning.
    """
    made, (_, kept, unused) = _native.with_weights(_contents(model), _contents(weights))
    without = [f"{what} {', '.join(names)}" for what, names in (("no weights for", kept), ("no initializers for", unused)) if names]
    if without:
        warnings.warn("; ".join(without), stacklevel=2)
    return made


def _contents(source: str | os.PathLike[str] | bytes) -> bytes:
    return source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()


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

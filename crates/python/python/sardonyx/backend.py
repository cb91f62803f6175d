"""ONNX's backend API (`onnx.backend.base`): `prepare`, `run_model`, `run_node` and `supports_device`. Needs the package `onnx`.

>>> from sardonyx import backend
>>> prepared = backend.prepare(onnx.load("model.onnx"))
>>> scores, = prepared.run([image])

`device` is whatever `sardonyx.Device` takes: `auto`, `gpu`, part of an adapter's name, or `cpu`, in any case. `CPU` is the reference, which is
obvious and slow; without a name, models run on the best device.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy

try:
    import onnx
    from onnx import helper
    from onnx.backend import base
except ImportError as error:
    raise ImportError(f"ONNX's backend API needs a package: pip install onnx ({error})", name="onnx") from error

from ._errors import BelowFloorError, DeviceError, NoAdapterError
from ._native import Device, Model
from ._session import Session

__all__ = ["SardonyxBackend", "SardonyxBackendRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]


class SardonyxBackendRep(base.BackendRep):
    """A model that is ready to run. `session` is the `sardonyx.Session`."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._inputs = [info.name for info in session.inputs if not info.has_default]
        self._outputs = base.namedtupledict("Outputs", [info.name for info in session.outputs])

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, in the model's order; each has its name as an attribute and as a key too.

        `inputs` is a sequence with a value for each input that has no default, in the model's order; or a mapping by name; or the one input.
        """
        if kwargs:
            raise TypeError(f"run takes the inputs alone, and not {', '.join(kwargs)}")
        return self._outputs(*self.session.run(_named(inputs, self._inputs)).values())


class SardonyxBackend(base.Backend):
    """The functions of this module as a class, which is the form that other tools take."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "auto", **kwargs: Any) -> bool:
        """Whether Sardonyx has every operator of the model."""
        return not Model(model.SerializeToString()).unsupported

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "auto", **kwargs: Any) -> SardonyxBackendRep:
        """Makes a model ready. `kwargs` are the options of `sardonyx.Session`, whose errors this raises."""
        return SardonyxBackendRep(Session(model.SerializeToString(), device, **kwargs))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "auto", **kwargs: Any) -> tuple[Any, ...]:
        """`prepare`, and `run` once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "auto",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Runs one node on arrays, lists of arrays (sequences), or both.

        The operator is that of the newest opset that `onnx` knows, or of `opset_version`. `outputs_info` is not needed.
        """
        version = kwargs.pop("opset_version", None)
        feed = _named(inputs, list(dict.fromkeys(name for name in node.input if name)))
        feed = {name: value if isinstance(value, list) else numpy.asarray(value) for name, value in feed.items()}
        graph = helper.make_graph(
            [node],
            node.op_type,
            [_declared(name, value) for name, value in feed.items()],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        opsets = {"": onnx.defs.onnx_opset_version()}
        if node.domain not in ("", "ai.onnx"):
            known = onnx.defs.has(node.op_type, node.domain)
            opsets[node.domain] = onnx.defs.get_schema(node.op_type, node.domain).since_version if known else 1
        if version is not None:
            opsets[node.domain if node.domain in opsets else ""] = version
        imports = [helper.make_opsetid(domain, number) for domain, number in opsets.items()]
        return cls.run_model(helper.make_model(graph, opset_imports=imports), feed, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether there is such a device, and it can run models. It is opened to find out."""
        try:
            Device(device)
        except (BelowFloorError, DeviceError, NoAdapterError):
            return False
        return True


def _named(inputs: Any, names: list[str]) -> dict[str, Any]:
    """The inputs by name."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    values = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    if len(values) != len(names):
        raise ValueError(f"{len(values)} inputs are given, and there are {len(names)}: {', '.join(names)}")
    return dict(zip(names, values))


def _declared(name: str, value: Any) -> onnx.ValueInfoProto:
    """What a model would declare of this value: its element type, and no shape."""
    if not isinstance(value, list):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), None)
    if not value:
        raise ValueError(f"input '{name}' is an empty sequence, whose element type is not known; run a model that declares it")
    return helper.make_tensor_sequence_value_info(name, helper.np_dtype_to_tensor_dtype(numpy.asarray(value[0]).dtype), None)


is_compatible = SardonyxBackend.is_compatible
prepare = SardonyxBackend.prepare
run_model = SardonyxBackend.run_model
run_node = SardonyxBackend.run_node
supports_device = SardonyxBackend.supports_device

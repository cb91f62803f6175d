"""Which device runs what programs give to a provider, and the names of providers."""

from __future__ import annotations

import os
from typing import Any

from .. import _native

VERSION = "1.31.1"
"""The version of onnxruntime whose behaviour this package has."""

PROVIDERS = ("SardonyxExecutionProvider", "CPUExecutionProvider")
"""Both run on the device that `use` or SARDONYX_DEVICE names, or on the best one. Most programs name the second."""

OTHERS = (
    *("TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider", "CUDAExecutionProvider"),
    *("MIGraphXExecutionProvider", "ROCMExecutionProvider", "OpenVINOExecutionProvider", "DnnlExecutionProvider"),
    *("VitisAIExecutionProvider", "QNNExecutionProvider", "NnapiExecutionProvider", "VSINPUExecutionProvider"),
    *("JsExecutionProvider", "CoreMLExecutionProvider", "ArmNNExecutionProvider", "ACLExecutionProvider"),
    *("DmlExecutionProvider", "RknpuExecutionProvider", "WebNNExecutionProvider", "WebGpuExecutionProvider"),
    *("XnnpackExecutionProvider", "CANNExecutionProvider", "AzureExecutionProvider"),
)
"""Providers of onnxruntime that this package does not have: who asks for one is warned, and runs on what there is."""

_used: Any = None

#: The strict devices that are open, by process and name: sessions of one device share weights and pipelines.
_strict: dict[tuple[int, str], _native.Device] = {}


def use(device: str | int | _native.Device | None) -> None:
    """Lets sessions that are made from now on run on this device; `None` stands for SARDONYX_DEVICE, or the best device."""
    global _used
    _used = device


def device(options: dict[str, Any]) -> Any:
    """The device of a session with these options of its provider: `device` names one, and `strict` refuses nodes that the host
    would compute."""
    named = options.get("device", _used)
    named = os.environ.get("SARDONYX_DEVICE") if named is None else named
    strict = options.get("strict", os.environ.get("SARDONYX_STRICT", ""))
    if str(strict).lower() not in ("1", "true", "yes") or isinstance(named, _native.Device):
        return named
    key = (os.getpid(), "auto" if named is None else str(named))
    if key not in _strict:
        _strict[key] = _native.Device(key[1], strict=True)
    return _strict[key]

"""ONNX models on any GPU, through Vulkan, Metal and DX12.

>>> session = sardonyx.Session("model.onnx")
>>> outputs = session.run({"image": image})
>>> outputs["scores"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._errors import (
    BelowFloorError,
    DecodeError,
    DeviceError,
    DeviceLostError,
    DimensionError,
    Error,
    ExternalDataError,
    FileChangedError,
    GpuError,
    InputBufferError,
    InputDTypeError,
    InputError,
    InputShapeError,
    InputTooLargeError,
    InputTwiceError,
    InputValueError,
    Interrupted,
    InvalidModelError,
    IoError,
    LimitError,
    MemoryLimitError,
    MissingInputError,
    NoAdapterError,
    NodeError,
    NoFileError,
    NoNodeError,
    OutOfMemoryError,
    OutputError,
    TensorError,
    TooWideError,
    UnknownInputError,
    UnsupportedError,
)
from ._native import Binding, Device, DeviceArray, Model, ValueInfo, devices
from ._outputs import Outputs
from ._session import Session

if TYPE_CHECKING:
    from ._types import Select



def install_as_onnxruntime(device: Select = None) -> None:
    """Gives Sardonyx to every program of this process that imports onnxruntime from now on, installed or not.

    `device` is a device, or the name of one; otherwise SARDONYX_DEVICE, or the best device, runs the models.

    Raises RuntimeError if onnxruntime itself has been imported already.
    """
    from .onnxruntime._install import install_as_onnxruntime

    install_as_onnxruntime(device)


__all__ = [
    "BelowFloorError",
    "Binding",
    "DecodeError",
    "Device",
    "DeviceArray",
    "DeviceError",
    "DeviceLostError",
    "DimensionError",
    "Error",
    "ExternalDataError",
    "FileChangedError",
    "GpuError",
    "InputBufferError",
    "InputDTypeError",
    "InputError",
    "InputShapeError",
    "InputTooLargeError",
    "InputTwiceError",
    "InputValueError",
    "Interrupted",
    "InvalidModelError",
    "IoError",
    "LimitError",
    "MemoryLimitError",
    "MissingInputError",
    "Model",
    "NoAdapterError",
    "NoFileError",
    "NoNodeError",
    "NodeError",
    "OutOfMemoryError",
    "OutputError",
    "Outputs",
    "Session",
    "TensorError",
    "TooWideError",
    "UnknownInputError",
    "UnsupportedError",
    "ValueInfo",
    "devices",
    "install_as_onnxruntime",
]

"""The exceptions: one for each kind of error, with its fields."""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """What can go wrong on the way from a model file to its outputs."""


class IoError(Error, OSError):
    """A file could not be read or written."""

    path: str

    def __str__(self) -> str:
        return str(self.args[0])


class NoFileError(IoError, FileNotFoundError):
    """There is no such file."""


class FileChangedError(Error):
    """A file of the model has changed since the model was loaded."""

    path: str
    reason: str


class DecodeError(Error, ValueError):
    """The bytes are not a protobuf of an ONNX model, or end too early."""

    file: str | None
    reason: str


class InvalidModelError(Error, ValueError):
    """The protobuf is well formed, but it describes no valid model."""

    file: str | None
    reason: str


class ExternalDataError(Error):
    """External data could not be used: outside the model's folder, missing, or too short."""

    file: str | None
    tensor: str
    reason: str


class UnsupportedError(Error):
    """The model has operators that Sardonyx does not have. All of them are listed: `node`, `op`, `opset`, `reason`."""

    nodes: list[dict[str, Any]]


class NodeError(Error):
    """A node cannot be computed from its inputs."""

    node: str
    op: str
    opset: int
    inputs: str
    reason: str


class TooWideError(Error, OverflowError):
    """An integer of 64 bits does not fit the 32 bits in which the session's device holds it."""

    what: str
    reason: str


class InputError(Error, ValueError):
    """The caller's inputs do not fit the model's."""


class MissingInputError(InputError):
    """Inputs without a default are missing: all of them, as the model declares them."""

    inputs: list[dict[str, Any]]


class UnknownInputError(InputError):
    """The model has no input of this name."""

    name: str
    expected: list[str]


class InputTwiceError(InputError):
    """One input is given two values."""

    name: str


class InputDTypeError(InputError):
    """The input has another element type."""

    name: str
    expected: str
    given: str


class InputShapeError(InputError):
    """The input has another number of dimensions, or another size where the model fixes one."""

    name: str
    expected: list[int | str | None]
    given: list[int]


class DimensionError(InputError):
    """Two dimensions that have one name in the model differ in size."""

    name: str
    axis: int
    given: int
    other: str
    other_axis: int
    expected: int
    dimension: str


class InputTooLargeError(InputError):
    """The input has more elements than Sardonyx can address."""

    name: str
    given: list[int]
    limit: int


class InputValueError(InputError):
    """The input's elements cannot be used."""

    name: str
    reason: str


class InputBufferError(InputError):
    """The input lies on another device."""

    name: str
    reason: str


class OutputError(Error, ValueError):
    """The model does not have the output that the caller names."""

    name: str
    reason: str


class NoNodeError(Error, ValueError):
    """The plan has no node of this name."""

    name: str
    reason: str


class TensorError(Error, ValueError):
    """A tensor could not be made or converted."""

    reason: str


class NoAdapterError(Error):
    """No device that can run a compute shader was found."""

    wanted: str
    hint: str


class BelowFloorError(Error):
    """The adapter lacks something that every kernel needs."""

    adapter: str
    reason: str


class DeviceLostError(Error):
    """The device was lost. Make a new `Device` and `Session`."""

    reason: str


class OutOfMemoryError(Error, MemoryError):
    """The device or the host does not have enough memory."""

    what: str
    bytes: int


class MemoryLimitError(Error, MemoryError):
    """The work does not fit the limit that the program set; nothing was allocated for it."""

    what: str
    bytes: int
    in_use: int
    limit: int


class LimitError(Error):
    """A size exceeds what the device allows."""

    what: str
    value: int
    limit: int
    in_bytes: bool


class Interrupted(Error):
    """Work was ended early."""


class DeviceError(Error):
    """The device cannot do what was asked."""

    device: str
    reason: str


class GpuError(Error):
    """The driver refused a call, or the text of a stage was asked of the wrong type."""

    reason: str

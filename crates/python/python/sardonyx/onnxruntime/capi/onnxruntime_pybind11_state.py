"""The exceptions, options and declarations of onnxruntime. Its exceptions have no class in common but `Exception`."""

from __future__ import annotations

import enum
import operator
from typing import Any

from ... import _native
from .. import _devices


class Fail(Exception):
    """1: an operator that failed, and all that has no kind of its own."""


class InvalidArgument(Exception):
    """2: inputs that do not fit the model's."""


class NoSuchFile(Exception):
    """3: the model's file does not exist."""


class NoModel(Exception):
    """4: there is no model."""


class EngineError(Exception):
    """5: the runtime failed."""


class RuntimeException(Exception):
    """6: something failed during a run."""


class InvalidProtobuf(Exception):
    """7: the file is no model."""


class ModelLoaded(Exception):
    """8: the model has been loaded already."""


class NotImplemented(Exception):
    """9: an operator has no kernel for these types."""


class InvalidGraph(Exception):
    """10: the model contradicts itself, or has operators that do not exist."""


class EPFail(Exception):
    """11: the device failed."""


class ModelLoadCanceled(Exception):
    """12: loading was ended early."""


class ModelRequiresCompilation(Exception):
    """13: the model must be compiled first."""


class NotFound(Exception):
    """14: something was not found."""


class DeviceReset(Exception):
    """15: the device was lost."""


_KINDS = (
    *((1, "FAIL", Fail), (2, "INVALID_ARGUMENT", InvalidArgument), (3, "NO_SUCHFILE", NoSuchFile)),
    *((7, "INVALID_PROTOBUF", InvalidProtobuf), (9, "NOT_IMPLEMENTED", NotImplemented)),
    *((10, "INVALID_GRAPH", InvalidGraph), (15, "DEVICE_RESET", DeviceReset)),
)


def error(kind: type[Exception], text: str) -> Exception:
    """An exception with a text as onnxruntime has it."""
    code, name = next((code, name) for code, name, own in _KINDS if own is kind)
    return kind(f"[ONNXRuntimeError] : {code} : {name} : {text}")


class _Enum(enum.IntEnum):
    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class GraphOptimizationLevel(_Enum):
    """How far a model is rewritten. Only `ORT_DISABLE_ALL` changes anything here: operators are not fused."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(_Enum):
    """Has no effect here."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(_Enum):
    """Has no effect here."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


def _integer(value: Any) -> int:
    # A bool of numpy is no index.
    number = int(value) if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_") else operator.index(value)
    if not -(2**31) <= number < 2**31:
        raise TypeError(f"{value} does not fit 32 bits")
    return number


def _flag(value: Any) -> bool:
    if value is not None and not hasattr(type(value), "__bool__"):
        raise TypeError(f"{value!r} is no bool")
    return bool(value)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no str")
    return value


def _add(entries: dict[str, str], key: str, value: str) -> None:
    """Adds an entry of a configuration."""
    key, value = _text(key), _text(value)
    if not 1 <= len(key) <= 1024:
        raise RuntimeError("Config key is empty or longer than maximum length 1024")
    if len(value) > 8192:
        raise RuntimeError("Config value is longer than maximum length 8192")
    entries[key] = value


def _member(kind: type[_Enum]) -> Any:
    def check(value: Any) -> _Enum:
        if not isinstance(value, kind):
            raise TypeError(f"{value!r} is no {kind.__name__}")
        return value

    return check


class _Field:
    """A field of options, which takes values of one kind."""

    def __init__(self, check: Any, default: Any) -> None:
        self.check, self.default = check, default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, options: Any, owner: type | None = None) -> Any:
        return self if options is None else options._values.get(self.name, self.default)

    def __set__(self, options: Any, value: Any) -> None:
        options._values[self.name] = self.check(value)


class _Options:
    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle '{type(self).__name__}' object")


class SessionOptions(_Options):
    """The options of onnxruntime. All fields are taken; what threads, arenas and patterns are told has no effect on a GPU."""

    __slots__ = ("_entries", "_dimensions")

    enable_cpu_mem_arena = _Field(_flag, True)
    enable_mem_pattern = _Field(_flag, True)
    enable_mem_reuse = _Field(_flag, True)
    enable_profiling = _Field(_flag, False)
    execution_mode = _Field(_member(ExecutionMode), ExecutionMode.ORT_SEQUENTIAL)
    execution_order = _Field(_member(ExecutionOrder), ExecutionOrder.DEFAULT)
    graph_optimization_level = _Field(_member(GraphOptimizationLevel), GraphOptimizationLevel.ORT_ENABLE_ALL)
    inter_op_num_threads = _Field(_integer, 0)
    intra_op_num_threads = _Field(_integer, 0)
    log_severity_level = _Field(_integer, -1)
    log_verbosity_level = _Field(_integer, 0)
    logid = _Field(_text, "")
    optimized_model_filepath = _Field(_text, "")
    profile_file_prefix = _Field(_text, "onnxruntime_profile_")
    use_deterministic_compute = _Field(_flag, False)
    use_per_session_threads = _Field(_flag, True)

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, str] = {}
        self._dimensions: dict[str, int] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        _add(self._entries, key, value)

    def get_session_config_entry(self, key: str) -> str:
        try:
            return self._entries[_text(key)]
        except KeyError:
            raise RuntimeError(f"SessionOptions does not have configuration with key: {key}") from None

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        self._dimensions[_text(name)] = operator.index(size)

    def has_providers(self) -> bool:
        return False

    def register_custom_ops_library(self, path: str) -> None:
        raise error(Fail, f"{path}: custom operators in libraries of onnxruntime cannot run on Sardonyx")

    def _copy(self) -> SessionOptions:
        copy = SessionOptions()
        copy._values, copy._entries = dict(self._values), dict(self._entries)
        copy._dimensions = dict(self._dimensions)
        return copy


class RunOptions(_Options):
    """The options of one run. Only `terminate` has an effect."""

    __slots__ = ("_entries",)

    log_severity_level = _Field(_integer, -1)
    log_verbosity_level = _Field(_integer, 0)
    logid = _Field(_text, "")
    only_execute_path_to_fetches = _Field(_flag, False)
    terminate = _Field(_flag, False)

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, str] = {}

    def add_run_config_entry(self, key: str, value: str) -> None:
        _add(self._entries, key, value)

    def get_run_config_entry(self, key: str) -> str:
        try:
            return self._entries[_text(key)]
        except KeyError:
            raise RuntimeError(f"RunOptions does not have configuration with key: {key}") from None


class NodeArg:
    """An input or an output: its name, its type as onnxruntime writes it, and its shape."""

    __slots__ = ("_name", "_type", "_shape")

    def __init__(self, name: str, type: str, shape: list[int | str | None]) -> None:
        self._name, self._type, self._shape = name, type, shape

    name = property(lambda self: self._name)
    type = property(lambda self: self._type)
    shape = property(lambda self: list(self._shape))

    def __repr__(self) -> str:
        return f"NodeArg(name='{self.name}', type='{self.type}', shape={self.shape})"


class ModelMetadata:
    """What a model says of itself."""

    def __init__(self, **fields: Any) -> None:
        self.producer_name: str = fields["producer_name"]
        self.graph_name: str = fields["graph_name"]
        self.domain: str = fields["domain"]
        self.description: str = fields["description"]
        self.graph_description: str = fields["graph_description"]
        self.version: int = fields["version"]
        self.custom_metadata_map: dict[str, str] = fields["custom_metadata_map"]


def get_available_providers() -> list[str]:
    return list(_devices.PROVIDERS)


def get_all_providers() -> list[str]:
    return [*_devices.PROVIDERS, *_devices.OTHERS]


def get_device() -> str:
    # Programs that find a GPU here ask for CUDA next.
    return "CPU"


def get_version_string() -> str:
    return _devices.VERSION


def get_build_info() -> str:
    return f"Sardonyx, in place of onnxruntime {_devices.VERSION}"


def has_collective_ops() -> bool:
    return False


def set_default_logger_severity(severity: int) -> None:
    if not 0 <= operator.index(severity) <= 4:
        raise RuntimeError(f"Invalid logging severity. {severity}")


def set_default_logger_verbosity(verbosity: int) -> None:
    operator.index(verbosity)


def set_seed(seed: int) -> None:
    operator.index(seed)


def disable_telemetry_events() -> None:
    """There are none."""


def enable_telemetry_events() -> None:
    """There are none."""


class InferenceSession:
    """The class below the public one, which is `onnxruntime.InferenceSession`."""

    def __init__(self, session: _native.Session) -> None:
        self._session = session

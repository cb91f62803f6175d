"""Sessions, values and bindings as onnxruntime has them."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from typing import Any, Callable

import numpy

from ... import _errors, _native
from ..._arrays import TYPES, name_of, small_type
from .. import _devices, _proto
from .onnxruntime_pybind11_state import (
    DeviceReset,
    Fail,
    GraphOptimizationLevel,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    ModelMetadata,
    NodeArg,
    NoSuchFile,
    NotImplemented,
    RunOptions,
    SessionOptions,
    error,
)
from .onnxruntime_pybind11_state import InferenceSession as _Inner

#: What ONNX's names of element types are called here.
_NAMES = {"float32": "float", "float64": "double"}

#: ONNX's names of element types, by its numbers.
_NUMBERS = (
    *(None, "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16", "float64"),
    *("uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2"),
    *("float8e5m2fnuz", "uint4", "int4", "float4e2m1", "float8e8m0", "uint2", "int2"),
)

#: The types of ml_dtypes that onnxruntime does not give to numpy, and its names for them.
_UNKNOWN_TO_NUMPY = {
    "bfloat16": "bfloat16",
    "float8_e4m3fnuz": "Float8E4M3FNUZ",
    "float8_e5m2": "Float8E5M2",
    "float8_e5m2fnuz": "Float8E5M2FNUZ",
    "float8_e8m0fnu": "Float8E8M0",
    "float4_e2m1fn": "Float4E2M1x2",
    "int4": "Int4x2",
    "uint4": "UInt4x2",
    "int2": "Int2x4",
    "uint2": "UInt2x4",
}


def _tensor_type(dtype: str) -> str:
    return f"tensor({_NAMES.get(dtype, dtype)})"


def _raised(found: _errors.Error) -> Exception:
    """The exception that onnxruntime raises in this one's place."""
    text = str(found)
    if isinstance(found, _errors.IoError):
        if found.errno == 2:
            return error(NoSuchFile, f"Load model from {found.path} failed. File doesn't exist")
        return error(InvalidProtobuf, f"Load model from {found.path} failed: {text}")
    if isinstance(found, _errors.DecodeError):
        return error(InvalidProtobuf, f"Protobuf parsing failed: {text}")
    if isinstance(found, _errors.UnsupportedError):
        first = found.nodes[0]
        if "." in first["op"] or "is outside" in first["reason"]:
            return error(Fail, text)
        return error(InvalidGraph if "no such operator" in first["reason"] else NotImplemented, text)
    if isinstance(found, (_errors.InvalidModelError, _errors.ExternalDataError)):
        return error(InvalidGraph, text)
    if isinstance(found, (_errors.InputError, _errors.OutputError)):
        return error(InvalidArgument, text)
    if isinstance(found, _errors.DeviceLostError):
        return error(DeviceReset, text)
    return error(Fail, text)


def _providers(
    providers: Any, options: Any, available: Sequence[str] = _devices.PROVIDERS
) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The providers that are asked for and can run, with their options. Raises ValueError for what is no list of providers."""
    if providers is None or (isinstance(providers, Sequence) and not len(providers)):
        return [], {}
    if not isinstance(providers, Sequence):
        raise ValueError("'providers' should be a sequence.")
    if options is not None and not isinstance(options, Sequence):
        raise ValueError("'provider_options' should be a sequence.")
    if options is not None and len(providers) != len(options):
        raise ValueError("'providers' and 'provider_options' should be the same length if both are given.")
    asked: dict[str, dict[str, str]] = {}
    for place, provider in enumerate(providers):
        given = {} if options is None else options[place]
        if isinstance(provider, tuple) and len(provider) == 2:
            if given:
                raise ValueError("'provider_options' and options in 'providers' exclude each other.")
            provider, given = provider
        if not isinstance(provider, str) or not isinstance(given, dict):
            raise ValueError("'providers' values must be either strings or (string, dict) tuples.")
        if provider in asked:
            warnings.warn(f"Duplicate provider '{provider}' encountered, ignoring.", stacklevel=5)
            continue
        if provider not in available:
            names = ", ".join(available)
            warnings.warn(
                f"Specified provider '{provider}' is not in available provider names. Available providers: '{names}'",
                stacklevel=5,
            )
        if provider not in (*available, *_devices.OTHERS):
            raise RuntimeError(f"Unknown Provider Type: {provider}")
        asked[provider] = {str(key): str(value) for key, value in given.items()}
    return [name for name in asked if name in available], asked


class Session:
    """What sessions do."""

    _model_path: str | None
    _model_bytes: bytes | None
    _session: _native.Session
    _own_options: SessionOptions
    _providers: list[str]
    _provider_options: dict[str, dict[str, str]]
    _infos: dict[str, _native.ValueInfo]
    _required: list[str]
    _outputs: list[str]
    #: The dtypes of inputs about which nothing else is to be checked here.
    _plain: dict[str, Any]
    _times: list[tuple[int, int]]

    def __init__(self, enable_fallback: bool = True) -> None:
        self._enable_fallback = enable_fallback

    def get_session_options(self) -> SessionOptions:
        return self._own_options

    def get_inputs(self) -> list[NodeArg]:
        return [self._declared(info) for info in self._session.inputs if not info.has_default]

    def get_overridable_initializers(self) -> list[NodeArg]:
        return [self._declared(info) for info in self._session.inputs if info.has_default]

    def get_outputs(self) -> list[NodeArg]:
        return [self._declared(info) for info in self._session.outputs]

    def _declared(self, info: _native.ValueInfo) -> NodeArg:
        if info.container is not None:
            return NodeArg(info.name, self._container(info.name, info.container), [])
        sizes = self._own_options._dimensions
        shape = [sizes.get(size, size) if isinstance(size, str) else size for size in info.shape or ()]
        return NodeArg(info.name, _tensor_type(info.dtype or "float32"), shape)

    def _container(self, name: str, kind: str) -> str:
        for own, theirs in (("sequence(", "seq"), ("optional(", "optional")):
            if kind.startswith(own):
                return f"{theirs}({self._container(name, kind[len(own) : -1])})"
        if kind == "map":
            key, value = _proto.map_types(self._contents()).get(name, ("int64", "float32"))
            return f"map({_NAMES.get(key, key)},{_tensor_type(value)})"
        return _tensor_type(kind)

    def _contents(self) -> Any:
        """The bytes of the model."""
        if self._model_bytes is not None:
            return memoryview(self._model_bytes)
        return _proto.mapped(self._model_path or "")

    def get_modelmeta(self) -> ModelMetadata:
        said = _proto.metadata(self._contents())
        return ModelMetadata(**said, custom_metadata_map=self._session.model.metadata)

    def get_providers(self) -> list[str]:
        return list(self._providers)

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {name: dict(options) for name, options in self._provider_options.items()}

    def set_providers(self, providers: Any = None, provider_options: Any = None) -> None:
        self._reset(providers, provider_options)

    def disable_fallback(self) -> None:
        self._enable_fallback = False

    def enable_fallback(self) -> None:
        self._enable_fallback = True

    def _reset(self, providers: Any, provider_options: Any) -> None:
        raise NotImplementedError

    def run(self, output_names: Any, input_feed: Any, run_options: RunOptions | None = None) -> list[Any]:
        """The outputs with these names (all, if there are none), as a list."""
        return [_returned(value) for value in self._run(output_names, input_feed, run_options)]

    def _run(self, output_names: Any, input_feed: Any, run_options: RunOptions | None) -> list[Any]:
        """`run`, with the outputs of types that numpy does not have as well."""
        given = input_feed.keys()
        missing = [name for name in self._required if name not in given]
        if missing:
            raise ValueError(
                f"Required inputs ({missing}) are missing from input feed ({list(given)})."
            )
        names = self._wanted(output_names)
        if run_options is not None and not isinstance(run_options, RunOptions):
            raise TypeError(f"run() takes RunOptions, and no {type(run_options).__name__}")
        if run_options is not None and run_options.terminate:
            raise error(Fail, "Exiting due to terminate flag being set to true.")
        plain = self._plain
        feed = {
            name: value
            if type(value) is numpy.ndarray and value.dtype is plain.get(name)
            else self._fed(name, value)
            for name, value in input_feed.items()
        }
        started = time.perf_counter_ns()
        try:
            outputs = self._session.run(feed, None if names == self._outputs else list(dict.fromkeys(names)))
        except _errors.Error as found:
            raised = _raised(found)
            if isinstance(raised, Fail):
                print(raised, file=sys.stderr)
            raise raised from None
        if self._own_options.enable_profiling:
            self._times.append((started, time.perf_counter_ns()))
        return [dict.__getitem__(outputs, name) for name in names]

    def _wanted(self, names: Any) -> list[str]:
        if not names:
            return self._outputs
        if isinstance(names, (str, bytes, dict)):
            raise TypeError(f"run() takes a list of names, and no {type(names).__name__}")
        wanted: list[str] = list(names)
        for name in wanted:
            if not isinstance(name, str):
                raise TypeError(f"an output's name is a str, and not {name!r}")
            if name not in self._outputs:
                raise error(InvalidArgument, f"Invalid output name: {name}")
        return wanted

    def _fed(self, name: str, value: Any) -> Any:
        """The value of an input as the native session takes it, or what onnxruntime raises."""
        info = self._infos.get(name)
        if info is None:
            valid = ", ".join(self._infos)
            raise error(InvalidArgument, f"Invalid input name: {name}. Valid input names are: {valid}")
        if isinstance(value, OrtValue):
            value = value._value
        if isinstance(value, _native.DeviceArray):
            return value
        if info.container is not None:
            if info.container.startswith("sequence") and not isinstance(value, list):
                if isinstance(value, numpy.ndarray):
                    raise error(InvalidArgument, f"Unexpected input data type for input '{name}': it is a sequence")
                raise RuntimeError(f"Unable to handle object of type {type(value)}: a list is needed for input {name}")
            return value
        if value is None:
            raise error(Fail, f"input '{name}' is missing")
        if isinstance(value, dict):
            raise error(InvalidArgument, f"Unexpected input data type for input '{name}': it is no map")
        if isinstance(value, list):
            value = _listed(name, value, info.dtype)
        if not isinstance(value, numpy.ndarray):
            raise RuntimeError(
                f"Input must be a list of dictionaries or a single numpy array for input '{name}', and is {type(value)}."
            )
        if info.dtype == "string":
            if value.dtype.kind == "O":
                texts = [each if isinstance(each, str) else str(each) for each in value.reshape(-1).tolist()]
                value = numpy.array([*texts, None], dtype=object)[:-1].reshape(value.shape)
            elif value.dtype.kind not in "UT":
                raise self._unexpected(name, value, info.dtype)
        elif info.dtype is not None and _name(value.dtype) != info.dtype:
            raise self._unexpected(name, value, info.dtype)
        if info.shape == () and value.size == 1:
            # onnxruntime does not look at the shape where the model declares a scalar, and many programs give a list of one.
            value = value.reshape(())
        for axis, size in enumerate(self._fixed(info)):
            if size is not None and axis < value.ndim and value.shape[axis] != size:
                raise error(
                    InvalidArgument,
                    f"Got invalid dimensions for input: {name} for the following indices\n"
                    f" index: {axis} Got: {value.shape[axis]} Expected: {size}\n Please fix either the inputs/outputs or the model.",
                )
        return value

    def _fixed(self, info: _native.ValueInfo) -> list[int | None]:
        """The sizes that options fix."""
        sizes = self._own_options._dimensions
        if not sizes:
            return []
        return [sizes.get(size) if isinstance(size, str) else None for size in info.shape or ()]

    def _unexpected(self, name: str, value: Any, expected: str) -> Exception:
        actual = _tensor_type("string" if value.dtype.kind in "OUST" else _name(value.dtype) or str(value.dtype))
        return error(
            InvalidArgument,
            f"Unexpected input data type for input '{name}'. Actual: ({actual}) , expected: ({_tensor_type(expected)})",
        )

    def run_async(
        self,
        output_names: Any,
        input_feed: Any,
        callback: Callable[[list[Any], Any, str], None],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Runs in a thread, and calls back with outputs, `user_data` and the text of an error."""

        def work() -> None:
            try:
                made, text = self.run(output_names, input_feed, run_options), ""
            except Exception as found:
                made, text = [], str(found)
            callback(made, user_data, text)

        threading.Thread(target=work, daemon=True).start()

    def run_with_ort_values(self, output_names: Any, input_dict_ort_values: Any, run_options: Any = None) -> list[OrtValue]:
        return [OrtValue(value) for value in self._run(output_names, input_dict_ort_values, run_options)]

    def io_binding(self) -> IOBinding:
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Runs on what is bound, and fills the outputs that are bound."""
        names = list(iobinding._bound_outputs)
        try:
            made = self._run(names or None, iobinding._bound_inputs, run_options)
        except Exception as found:
            raise RuntimeError(f"Error in execution: {found}") from found
        iobinding._made = {}
        for name, value in zip(names or self._outputs, made):
            into = iobinding._bound_outputs.get(name)
            if into is not None:
                if into._value.shape != value.shape or into._value.dtype != value.dtype:
                    raise RuntimeError(
                        f"Error in execution: output '{name}' is {value.dtype}{list(value.shape)}, and its buffer"
                        f" {into._value.dtype}{list(into._value.shape)}"
                    )
                into._value[...] = value
            iobinding._made[name] = OrtValue(value) if into is None else into

    def get_profiling_start_time_ns(self) -> int:
        return self._times[0][0] if self._times else 0

    def end_profiling(self) -> str:
        """Writes the time of each run to a file, and returns its name; nothing where profiling is off."""
        options = self._own_options
        if not options.enable_profiling:
            return ""
        options.enable_profiling = False
        path = f"{options.profile_file_prefix}_{time.strftime('%Y-%m-%d_%H-%M-%S')}.json"
        events = [
            {"cat": "Session", "name": "model_run", "ph": "X", "pid": os.getpid(), "tid": 0}
            | {"ts": start // 1000, "dur": (end - start) // 1000, "args": {}}
            for start, end in self._times
        ]
        with open(path, "w") as file:
            json.dump(events, file)
        return path


class InferenceSession(Session):
    """A model that is ready to run, made as onnxruntime makes it."""

    def __init__(
        self,
        path_or_bytes: str | bytes | os.PathLike[str],
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[dict[Any, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(int(kwargs.get("enable_fallback", 1)) == 1)
        self._model_path = self._model_bytes = None
        if isinstance(path_or_bytes, (str, os.PathLike)):
            self._model_path = os.fspath(path_or_bytes)
        elif isinstance(path_or_bytes, bytes):
            self._model_bytes = path_or_bytes
        else:
            raise TypeError(f"Unable to load from type '{type(path_or_bytes)}'")
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise TypeError(f"sess_options is a SessionOptions, and not {type(sess_options)}")
        self._sess_options = sess_options
        self._own_options = SessionOptions() if sess_options is None else sess_options._copy()
        self._times = []
        try:
            self._reset(providers, provider_options)
        except (ValueError, RuntimeError) as found:
            if not self._enable_fallback:
                raise
            print("*************** EP Error ***************")
            print(f"EP Error {found} when using {providers}")
            print("Falling back to ['CPUExecutionProvider'] and retrying.")
            print("****************************************")
            self._reset(["CPUExecutionProvider"], None)
            self.disable_fallback()

    def _reset(self, providers: Any, provider_options: Any) -> None:
        names, asked = _providers(providers, provider_options)
        own = {name: asked[name] if name == _devices.PROVIDERS[0] else {} for name in names}
        own.setdefault(_devices.PROVIDERS[-1], {})
        if self._model_bytes == b"":
            raise error(InvalidArgument, "No graph was found in the protobuf.")
        level = self._own_options.graph_optimization_level
        try:
            device = _devices.device(own.get(_devices.PROVIDERS[0], {}))
            source = self._model_path if self._model_bytes is None else self._model_bytes
            fusion = level != GraphOptimizationLevel.ORT_DISABLE_ALL
            self._session = _native.Session(source or "", device, fusion=fusion)
        except _errors.Error as found:
            raise _raised(found) from None
        self._sess = _Inner(self._session)
        self._providers, self._provider_options = list(own), own
        self._infos = {info.name: info for info in self._session.inputs}
        self._required = [name for name, info in self._infos.items() if not info.has_default]
        self._required = [name for name in self._required if not (self._infos[name].container or "").startswith("optional")]
        self._outputs = [info.name for info in self._session.outputs]
        self._plain = {
            name: TYPES[info.dtype]
            for name, info in self._infos.items()
            if info.dtype in TYPES and info.shape != () and not self._own_options._dimensions
        }


def _name(dtype: Any) -> str | None:
    """ONNX's name of a dtype of numpy."""
    name = dtype.name
    return name if name in TYPES else name_of(dtype)


def _listed(name: str, value: list[Any], dtype: str | None) -> Any:
    """The array of a list, whose elements become what the model declares."""
    try:
        if dtype == "string":
            # Whatever is no text becomes what `str` makes of it, lists of other lengths too.
            return numpy.array(value, dtype=object)
        own = TYPES.get(dtype or "float32")
        with numpy.errstate(over="ignore"):
            return numpy.array(value, dtype=small_type(dtype or "") if own is None else own)
    except (ValueError, TypeError, OverflowError) as found:
        raise RuntimeError(f"Could not create tensor from given input list: {found} (input '{name}')") from None


def _returned(value: Any) -> Any:
    """A value as onnxruntime gives it to numpy: one type of float8 as its bits, and nothing else that numpy does not have."""
    if isinstance(value, numpy.ndarray):
        if value.dtype.name == "float8_e4m3fn":
            return value.view(numpy.uint8)
        if value.dtype.name in _UNKNOWN_TO_NUMPY:
            raise RuntimeError(f"No corresponding Numpy type for Tensor Type. {_UNKNOWN_TO_NUMPY[value.dtype.name]}")
    return value


class OrtDevice:
    """A device by name. Values lie in this machine's memory."""

    def __init__(self, device_type: str = "cpu", device_id: int = 0) -> None:
        self._type, self._id = device_type, device_id

    @staticmethod
    def make(ort_device_name: str, device_id: int) -> OrtDevice:
        return OrtDevice(ort_device_name, device_id)

    def device_type(self) -> str:
        return self._type

    def device_id(self) -> int:
        return self._id


def _dtype(given: Any) -> Any:
    """numpy's dtype, which may be given by ONNX's number."""
    if not isinstance(given, int):
        return numpy.dtype(given)
    name = _NUMBERS[given] if 0 < given < len(_NUMBERS) else None
    if name is None or name == "string":
        raise RuntimeError(f"no tensor has elements of type {given}")
    return TYPES[name] if name in TYPES else small_type(name)


def _on_cpu(device_type: str) -> None:
    if str(device_type).lower() != "cpu":
        raise RuntimeError(f"Can't allocate memory on the {device_type} device: values lie in this machine's memory here")


class OrtValue:
    """A value: an array in this machine's memory, which is shared and not copied, or a list."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @staticmethod
    def ortvalue_from_numpy(numpy_obj: Any, device_type: str = "cpu", device_id: int = 0) -> OrtValue:
        if not isinstance(numpy_obj, numpy.ndarray) or numpy_obj.dtype.kind in "OUST":
            raise RuntimeError("Provided array is no numpy array of numbers")
        _on_cpu(device_type)
        return OrtValue(numpy.ascontiguousarray(numpy_obj) if numpy_obj.ndim else numpy_obj)

    @staticmethod
    def ortvalue_from_numpy_with_onnx_type(data: Any, onnx_element_type: int) -> OrtValue:
        """The elements as another type of as many bits, by ONNX's number: uint16 as bfloat16, for example."""
        return OrtValue(data.view(_dtype(onnx_element_type)))

    @staticmethod
    def ortvalue_from_shape_and_type(shape: Any, element_type: Any, device_type: str = "cpu", device_id: int = 0) -> OrtValue:
        _on_cpu(device_type)
        return OrtValue(numpy.zeros(tuple(shape), dtype=_dtype(element_type)))

    @staticmethod
    def ort_value_from_sparse_tensor(sparse_tensor: Any) -> OrtValue:
        raise RuntimeError("Sardonyx has no sparse values")

    @staticmethod
    def from_dlpack(data: Any) -> OrtValue:
        return OrtValue(numpy.from_dlpack(data))

    def __dlpack__(self, **options: Any) -> Any:
        return self._value.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._value if dtype is None else self._value.astype(dtype)

    def numpy(self) -> Any:
        return _returned(self._value)

    def shape(self) -> list[int]:
        return list(self._value.shape)

    def data_type(self) -> str:
        if isinstance(self._value, list):
            return f"seq({OrtValue(self._value[0]).data_type() if self._value else 'tensor(float)'})"
        kind = self._value.dtype.kind
        return _tensor_type("string" if kind in "OUT" else _name(self._value.dtype) or str(self._value.dtype))

    def element_type(self) -> int:
        kind = self._value.dtype.kind
        return _NUMBERS.index("string" if kind in "OUT" else _name(self._value.dtype))

    def device_name(self) -> str:
        return "cpu"

    def has_value(self) -> bool:
        return self._value is not None

    def is_tensor(self) -> bool:
        return hasattr(self._value, "dtype")

    def is_sparse_tensor(self) -> bool:
        return False

    def is_tensor_sequence(self) -> bool:
        return isinstance(self._value, list)

    def data_ptr(self) -> int:
        return int(self._value.ctypes.data)

    def tensor_size_in_bytes(self) -> int:
        return int(self._value.nbytes)

    def update_inplace(self, np_arr: Any) -> None:
        if np_arr.shape != self._value.shape or np_arr.dtype != self._value.dtype:
            raise RuntimeError("The input array differs from the value in type or shape")
        self._value[...] = np_arr


class IOBinding:
    """Inputs and outputs of a session that are bound to values."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._bound_inputs: dict[str, OrtValue] = {}
        self._bound_outputs: dict[str, OrtValue | None] = {}
        self._made: dict[str, OrtValue] = {}

    def _bind(self, name: str, value: OrtValue) -> None:
        if name not in self._session._infos:
            raise RuntimeError(f"Failed to find input name in the model: {name}")
        self._bound_inputs[name] = value

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        self._bind(name, OrtValue(numpy.asarray(arr_on_cpu)))

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        self._bind(name, ortvalue)

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Any, buffer_ptr: int
    ) -> None:
        _on_cpu(device_type)
        self._bind(name, OrtValue(_at(buffer_ptr, element_type, shape)))

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Any = None,
        buffer_ptr: int | None = None,
    ) -> None:
        into = None if buffer_ptr is None else OrtValue(_at(buffer_ptr, element_type, shape))
        self._bound_outputs[name] = into

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        self._bound_outputs[name] = ortvalue

    def get_outputs(self) -> list[OrtValue]:
        return list(self._made.values())

    def get_outputs_as_ortvaluevector(self) -> list[OrtValue]:
        return self.get_outputs()

    def copy_outputs_to_cpu(self) -> list[Any]:
        return [value.numpy() for value in self.get_outputs()]

    def synchronize_inputs(self) -> None:
        """Values lie in this machine's memory."""

    def synchronize_outputs(self) -> None:
        """Values lie in this machine's memory."""

    def clear_binding_inputs(self) -> None:
        self._bound_inputs = {}

    def clear_binding_outputs(self) -> None:
        self._bound_outputs, self._made = {}, {}


SessionIOBinding = IOBinding


def _at(address: int, element_type: Any, shape: Any) -> Any:
    """The array at an address, for which the caller answers."""
    dtype = _dtype(element_type)
    size = dtype.itemsize
    for each in shape:
        size *= int(each)
    memory = (ctypes.c_char * size).from_address(address)
    return numpy.frombuffer(memoryview(memory), dtype=dtype).reshape(tuple(shape))

"""Arrays of all libraries as plain arrays of numpy, and back. `_native` imports this with the first array."""

from __future__ import annotations

import importlib
import sys
from math import prod
from typing import Any

import numpy
from numpy import empty, ndarray

from ._errors import TensorError
from ._native import Memory, lent

__all__ = ["TYPES", "empty", "formed", "mapping", "ndarray", "plain", "texts", "viewed"]

#: numpy's own element types by ONNX's names.
TYPES = {
    name: numpy.dtype(name)
    for name in (
        *("float16", "float32", "float64", "complex64", "complex128", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
}

#: The types of `ml_dtypes`: ONNX's name, the package's name, and the bits of an element in ONNX's raw form. Each takes whole
#: bytes in an array.
SMALL = {
    "bfloat16": ("bfloat16", 16),
    "float8e4m3fn": ("float8_e4m3fn", 8),
    "float8e4m3fnuz": ("float8_e4m3fnuz", 8),
    "float8e5m2": ("float8_e5m2", 8),
    "float8e5m2fnuz": ("float8_e5m2fnuz", 8),
    "float8e8m0": ("float8_e8m0fnu", 8),
    "float6e2m3": ("float6_e2m3fn", 6),
    "float6e3m2": ("float6_e3m2fn", 6),
    "float4e2m1": ("float4_e2m1fn", 4),
    "int4": ("int4", 4),
    "uint4": ("uint4", 4),
    "int2": ("int2", 2),
    "uint2": ("uint2", 2),
}


def small_type(name: str) -> Any:
    """numpy's dtype for an element type that numpy itself does not have."""
    own, _ = SMALL[name]
    try:
        found = getattr(importlib.import_module("ml_dtypes"), own, None)
    except ImportError:
        found = None
    if found is None:
        raise TensorError(f"numpy has no {name}; install ml_dtypes, which has ml_dtypes.{own}")
    return numpy.dtype(found)


def name_of(dtype: Any) -> str | None:
    """ONNX's name of a dtype, if it is one of the numbers."""
    for name, own in TYPES.items():
        if own == dtype:
            return name
    package = sys.modules.get("ml_dtypes")
    for name, (theirs, _) in SMALL.items():
        found = getattr(package, theirs, None)
        if found is not None and numpy.dtype(found) == dtype:
            return name
    return None


def as_array(value: Any, wanted: str | None) -> Any:
    """An array of numpy over the elements of `value`, which are copied only where they must be."""
    if isinstance(value, ndarray):
        return value
    if hasattr(value, "__array__") or wanted is None or wanted == "string":
        return numpy.asarray(value)
    dtype = TYPES.get(wanted)
    return numpy.asarray(value, dtype=small_type(wanted) if dtype is None else dtype)


def foreign(value: Any) -> tuple[str, Memory] | None:
    """The element type and the elements of an array of another library whose type numpy itself does not have (bfloat16 of PyTorch)."""
    try:
        return lent(value)
    except (BufferError, RuntimeError, TypeError, ValueError):
        return None


def plain(value: Any, wanted: str | None) -> tuple[str, tuple[int, ...], Any]:
    """Element type, shape, and the elements in ONNX's raw form: as an array in one piece, or as a list of texts."""
    if hasattr(value, "__dlpack__") and not isinstance(value, (ndarray, numpy.generic)):
        try:
            value = numpy.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError):
            # Elements that numpy does not have, or memory that is not the processor's.
            taken = foreign(value)
            if taken is not None:
                array = numpy.asarray(taken[1])
                return taken[0], array.shape, numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8)
    array = as_array(value, wanted)
    shape = array.shape
    if array.dtype.kind in "OUT":
        elements = array.reshape(-1).tolist()
        if all(isinstance(element, str) for element in elements):
            return "string", shape, elements
        found = next(type(element).__name__ for element in elements if not isinstance(element, str))
        raise TensorError(f"an array of objects must hold str only, and this one holds {found}")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    name = name_of(array.dtype)
    if name is None:
        raise TensorError(f"ONNX has no element type for {array.dtype}")
    raw = numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8)
    bits = SMALL[name][1] if name in SMALL else 8
    if bits < 8:
        raw = numpy.packbits(numpy.unpackbits(raw[:, None], axis=1, count=bits, bitorder="little"), bitorder="little")
    return name, shape, raw


def formed(name: str, raw: Any, shape: tuple[int, ...]) -> Any:
    """The array of elements that numpy itself does not have, from ONNX's raw form."""
    dtype, bits = small_type(name), SMALL[name][1]
    if bits < 8:
        count = prod(shape)
        flags = numpy.unpackbits(raw, count=count * bits, bitorder="little").reshape(count, bits)
        raw = numpy.packbits(flags, axis=1, bitorder="little").reshape(-1)
    return raw.view(dtype).reshape(shape)


def viewed(memory: Memory, dtype: Any, shape: tuple[int, ...]) -> Any:
    """The array over memory that nobody else has."""
    return numpy.asarray(memory).view(dtype).reshape(shape)


def texts(values: list[str], shape: tuple[int, ...]) -> Any:
    """An array of str."""
    array = empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


def mapping(keys: Any, values: Any) -> dict[Any, Any]:
    """A map, with keys and values of Python's."""
    return dict(zip(keys.tolist(), values.tolist()))

"""What onnxruntime tells of a model beyond what a session needs, read from the model's bytes."""

from __future__ import annotations

import mmap
from typing import Any, Iterator

#: ONNX's numbers of element types that maps have.
_TYPES = {1: "float32", 6: "int32", 7: "int64", 8: "string", 11: "float64"}

#: The version of a model that has none.
_NO_VERSION = 2**63 - 1


def mapped(path: str) -> memoryview:
    """The bytes of a file."""
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: number and value, which is an int or the bytes of what is inside."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
        elif kind == 2:
            size, at = _varint(data, at)
            yield number, data[at : at + size]
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            return


def _field(data: memoryview, wanted: int, default: Any = b"") -> Any:
    found = default
    for number, value in _fields(data):
        if number == wanted:
            found = value
    return found


def _text(data: Any) -> str:
    return bytes(data).decode("utf-8", "replace")


def metadata(model: memoryview) -> dict[str, Any]:
    """Producer, names, descriptions and version."""
    graph = memoryview(_field(model, 7))
    version = _field(model, 5, _NO_VERSION)
    return {
        "producer_name": _text(_field(model, 2)),
        "graph_name": _text(_field(graph, 2)),
        "domain": _text(_field(model, 4)),
        "description": _text(_field(model, 6)),
        "graph_description": _text(_field(graph, 10)),
        "version": version - 2**64 if version >= 2**63 else version,
    }


def map_types(model: memoryview) -> dict[str, tuple[str, str]]:
    """The types of key and value of each output that is a map or a sequence of maps."""
    found = {}
    for number, info in _fields(memoryview(_field(model, 7))):
        if number == 12:
            kind = memoryview(_field(info, 2))
            sequence = _field(kind, 4, None)
            if sequence is not None:
                kind = memoryview(_field(sequence, 1))
            of_map = _field(kind, 5, None)
            if of_map is not None:
                value = memoryview(_field(memoryview(_field(of_map, 2)), 1))
                key, value = _field(of_map, 1, 7), _field(value, 1, 1)
                found[_text(_field(info, 1))] = (_TYPES.get(key, "int64"), _TYPES.get(value, "float32"))
    return found

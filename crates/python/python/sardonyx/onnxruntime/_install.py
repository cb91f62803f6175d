"""onnxruntime's name for this package: modules and metadata as programs look for them."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from types import ModuleType
from typing import Any, Iterable, Sequence

from ._devices import VERSION

_OWN = __package__ or "sardonyx.onnxruntime"


class _Distribution(importlib.metadata.Distribution):
    """The metadata that version checks read."""

    def read_text(self, filename: str) -> str | None:
        if filename in ("METADATA", "PKG-INFO"):
            return f"Metadata-Version: 2.1\nName: onnxruntime\nVersion: {VERSION}\nSummary: Sardonyx in place of onnxruntime\n"
        return None

    def locate_file(self, path: Any) -> Any:
        raise FileNotFoundError(f"onnxruntime is Sardonyx here, and has no file {path}")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `onnxruntime`, and what is below it, in this package."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        top, _, rest = fullname.partition(".")
        if top != "onnxruntime":
            return None
        own = f"{_OWN}.{rest}" if rest else _OWN
        try:
            found = importlib.util.find_spec(own)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=found.origin, is_package=found.submodule_search_locations is not None)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(spec.name.replace("onnxruntime", _OWN, 1))
        # Importing gives the module this spec; `exec_module` gives it its own again.
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None and spec.loader_state is not None:
            module.__spec__ = spec.loader_state

    def find_distributions(self, context: Any = None) -> Iterable[importlib.metadata.Distribution]:
        name = getattr(context, "name", None)
        return [_Distribution()] if name in (None, "onnxruntime") else []


def install_as_onnxruntime(device: Any = None) -> None:
    """Gives Sardonyx to every program of this process that imports onnxruntime from now on, installed or not.

    `device` is a device, or the name of one; otherwise SARDONYX_DEVICE, or the best device, runs the models.

    Raises RuntimeError if onnxruntime itself has been imported already.
    """
    own = importlib.import_module(_OWN)
    there = sys.modules.get("onnxruntime")
    if there is not None and there is not own:
        raise RuntimeError("onnxruntime has been imported already; call install_as_onnxruntime() before")
    if device is not None:
        own.use(device)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    sys.modules["onnxruntime"] = own
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{_OWN}.") and module is not None:
            sys.modules[f"onnxruntime{name[len(_OWN):]}"] = module

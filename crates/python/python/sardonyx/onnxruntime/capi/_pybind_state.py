"""The names of `onnxruntime_pybind11_state`, where programs look for them too."""

from .onnxruntime_pybind11_state import *  # noqa: F403

import os
from typing import Any, Literal, Sequence, final

from typing_extensions import Self, disjoint_base

from ._outputs import Outputs
from ._types import (
    Adapter,
    Counters,
    Explanation,
    Feed,
    KernelTime,
    Known,
    Measured,
    MemoryUse,
    ModelSummary,
    PlanSummary,
    Select,
    StageName,
    UnsupportedNode,
    Verification,
)

__all__ = [
    "Binding",
    "Device",
    "DeviceArray",
    "Memory",
    "Model",
    "Run",
    "Session",
    "ValueInfo",
    "devices",
    "from_pmml",
    "lent",
    "with_weights",
]

def devices() -> list[Adapter]:
    """Every adapter of this machine, usable or not."""

def from_pmml(document: bytes) -> bytes:
    """The ONNX model of a PMML document."""

def with_weights(model: bytes, weights: bytes) -> tuple[bytes, tuple[list[str], list[str], list[str]]]:
    """The model with the weights of a file, and the names of initializers and weights: replaced, kept, unused."""

@final
class Device:
    """A device that runs models. It belongs to the process that opened it: after a fork, open another.

    `strict` refuses nodes that the host would compute; `require_hardware` refuses software; `memory_limit` is in bytes."""

    def __new__(
        cls,
        select: str = "auto",
        *,
        strict: bool = False,
        require_hardware: bool = False,
        memory_limit: int | None = None,
    ) -> Device: ...
    @property
    def name(self) -> str: ...
    @property
    def is_reference(self) -> bool: ...
    @property
    def adapter(self) -> Adapter | None: ...
    @property
    def memory_bytes(self) -> int: ...
    def set_memory_limit(self, bytes: int) -> None: ...
    def counters(self) -> Counters: ...

@final
class ValueInfo:
    """What a model declares of one of its inputs or outputs. A size is an int, a name, or `None`."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str | None: ...
    @property
    def shape(self) -> tuple[int | str | None, ...] | None: ...
    @property
    def container(self) -> str | None: ...
    @property
    def has_default(self) -> bool: ...

@final
class Model:
    """An ONNX model: the contents of a file, checked. The file is mapped, and must not change; `map_files=False` reads it.

    `step_limit` and `byte_limit` bound the work and the memory of loading and of each plan, for files of strangers: a step is an element
    that is read or made, and limits grow with the model's own tensors. Without them, 2**26 steps and 2**27 bytes."""

    def __new__(
        cls,
        source: str | os.PathLike[str] | bytes | Model,
        *,
        map_files: bool = True,
        step_limit: int | None = None,
        byte_limit: int | None = None,
    ) -> Model: ...
    @property
    def inputs(self) -> list[ValueInfo]: ...
    @property
    def outputs(self) -> list[ValueInfo]: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def producer(self) -> str: ...
    @property
    def ir_version(self) -> int: ...
    @property
    def opsets(self) -> dict[str, int]: ...
    @property
    def unsupported(self) -> list[UnsupportedNode]: ...
    def index_bounds(self) -> dict[str, int]: ...
    def summary(self) -> ModelSummary: ...
    def explain(self, stage: StageName) -> str: ...

@final
class DeviceArray:
    """A tensor in the memory of a device: an output that is not read, and an input that is not uploaded."""

    def __new__(cls, array: Any, device: Select = None) -> DeviceArray: ...
    @staticmethod
    def zeros(shape: Sequence[int], dtype: str = "float32", device: Select = None) -> DeviceArray: ...
    def with_room(self, axis: int, rows: int) -> DeviceArray:
        """A copy in memory with room for `rows` rows along `axis`: a model that appends to it writes the new rows there."""
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def numpy(self) -> Any:
        """A copy of the elements, after the runs that write them."""
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any: ...
    def __dlpack__(self, **options: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

@final
class Memory:
    """Memory that an array of numpy lies over."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...

def lent(value: Any) -> tuple[str, Memory] | None:
    """The element type and the elements of an array that only DLPack describes."""

@final
class Binding:
    """A plan over inputs and outputs that stay where they are. `run` submits, and does not wait."""

    def set(self, name: str, value: Any) -> None:
        """Gives an input another value."""
    def run(self) -> None:
        """Submits a run, and does not wait."""
    def output(self, name: str) -> DeviceArray:
        """An output, on the device."""
    def read(self, name: str) -> Any:
        """The elements of an output of the last run, once it has ended."""
    def check(self) -> None:
        """Waits for the runs, and raises what they report."""

@final
class Run:
    def poll(self, wake: Any) -> Outputs | None: ...
    def cancel(self) -> None: ...

@disjoint_base
class Session:
    def __new__(
        cls,
        model: str | os.PathLike[str] | bytes | Model,
        device: Select = None,
        *,
        plan_cache: int = 16,
        fusion: bool = True,
        integers: Literal["enough", "32", "64"] = "enough",
    ) -> Self: ...
    @property
    def inputs(self) -> list[ValueInfo]: ...
    @property
    def outputs(self) -> list[ValueInfo]: ...
    @property
    def device(self) -> Device: ...
    @property
    def model(self) -> Model: ...
    def run(self, inputs: Feed, outputs: Sequence[str] | None = None) -> Outputs:
        """Runs the model and waits. `outputs` names the values to compute: outputs, or values inside the model."""
    def run_to_device(self, inputs: Feed) -> Outputs:
        """Runs the model and leaves its outputs on the device, as `DeviceArray`s."""
    def _start(self, inputs: Feed) -> Run: ...
    def plan(self, inputs: Known) -> PlanSummary:
        """What a run dispatches, and the memory that it takes."""
    def prepare(self, inputs: Known) -> None:
        """Makes everything ready for runs on inputs of these shapes."""
    def profile(self, inputs: Known) -> list[KernelTime]:
        """Runs once, and measures each kernel on the device. A shape stands for zeros."""
    def explain(self, stage: StageName, inputs: Known | None = None) -> str:
        """The text of a stage: `model`, `graph` or `passes`; with inputs `program`, `memory` or `wgsl`."""
    def why(self, node: str, inputs: Known) -> Explanation:
        """Why a node, as `explain("passes")` names it, is or is not fused, a view, or in place."""
    def verify(self, inputs: Known, *, tolerance: float = 1e-3, output_tolerance: float | None = None) -> Verification:
        """Compares every node with the CPU reference."""
    def bench(self, inputs: Feed, *, runs: int = 20, warmup: int = 3) -> Measured:
        """The time of runs after a warm-up, in milliseconds."""
    def memory(self) -> MemoryUse:
        """The bytes that the session holds on its device."""
    def trim(self) -> None:
        """Frees the memory of runs that are not in flight."""
    def bind(self, inputs: Feed) -> Binding:
        """Runs on inputs and outputs that stay where they are. `inputs` are the first values."""

"""The types of what the native module takes and returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Mapping, TypedDict, Union

if TYPE_CHECKING:
    from ._native import Device

Select = Union[str, int, "Device", None]
"""A device; or `auto`, `gpu`, `cpu` (the reference), an index of `devices()`, a PCI address, or part of an adapter's name."""

Feed = Mapping[str, Any]
"""Inputs by name: arrays of numpy or of any library with `__dlpack__` or `__array__`, `DeviceArray`s, numbers and lists (which take the
model's element type); lists for sequences, dicts for maps, `None` for an empty optional."""

Known = Mapping[str, Any]
"""Inputs by name as far as planning must know them: a shape, which is a tuple, or a value as a run takes it."""

StageName = Literal["model", "graph", "passes", "program", "memory", "wgsl"]


class Adapter(TypedDict):
    index: int | None
    name: str
    backend: str
    driver: str
    kind: str
    software: bool
    auto: bool
    pci: str | None
    vendor_and_device: tuple[int, int]
    memory_bytes: int | None
    features: list[str]
    subgroup_sizes: tuple[int, int]
    max_storage_buffer_binding_size: int
    max_buffer_size: int
    max_storage_buffers_per_shader_stage: int
    max_compute_workgroup_storage_size: int
    max_compute_invocations_per_workgroup: int
    min_storage_buffer_offset_alignment: int
    below_floor: str | None


class Counters(TypedDict):
    buffers: int
    bind_groups: int
    pipelines: int
    passes: int
    submits: int
    dispatches: int
    bytes: int
    weight_bytes: int
    read_backs: int


class UnsupportedNode(TypedDict):
    node: str
    op: str
    opset: int
    reason: str


class ModelSummary(TypedDict):
    nodes: int
    operators: dict[str, int]
    constants: int
    constant_bytes: int


class SyncPoint(TypedDict):
    value: str
    node: str
    operator: str


class HostNode(TypedDict):
    node: str
    operator: str
    computes: bool


class PlanSummary(TypedDict):
    nodes: int
    planned_nodes: int
    planned: list[str]
    planned_operators: dict[str, int]
    dispatches: int
    kernels: dict[str, int]
    empty_outputs: int
    arena_bytes: int
    max_live_bytes: int
    without_reuse_bytes: int
    weight_bytes: int
    segments: int
    unplanned_segments: int
    sync_points: list[SyncPoint]
    host_nodes: list[HostNode]


class Finding(TypedDict):
    saving: Literal["fused", "view", "in_place"]
    saved: bool
    value: str
    other: str | None
    rule: str | None
    reason: str


class Explanation(TypedDict):
    node: str
    op: str
    kernel: list[str]
    findings: list[Finding]


class KernelTime(TypedDict):
    kernel: str
    node: str
    nanoseconds: float


class MemoryUse(TypedDict):
    weights: int
    arena: int
    plans: int
    peak: int


class Latency(TypedDict):
    min: float
    median: float
    p90: float
    p99: float


class Measured(TypedDict):
    latency_ms: Latency
    runs_per_second: float
    wall_ms: list[float]
    during_runs: Counters


class Tolerances(TypedDict):
    node: float
    output: float


class ComparedValue(TypedDict):
    node: str
    op: str
    name: str
    dtype: str
    shape: list[int]
    absolute_error: float
    relative_error: float
    flips: int
    inherited_error: float
    accumulated_error: float
    elements_off: int


class Divergence(TypedDict):
    cause: Literal["wrong", "fused", "rewritten", "flip", "accumulated", "unfollowed"]
    value: ComparedValue
    output: ComparedValue | None


class Verification(TypedDict):
    tolerances: Tolerances
    values: list[ComparedValue]
    outputs: list[ComparedValue]
    fused: list[ComparedValue]
    divergence: Divergence | None
    look_at: str | None

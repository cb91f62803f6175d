#!/usr/bin/env python3
"""sizes.py MODELS DEST [REFS]: what ONNX Runtime computes at several sizes of each model with open dimensions.

For each MODELS/NAME.onnx, a run's inputs are taken from REFS/NAME.npz (REFS is MODELS unless given; arrays `in.INPUT` or
`in0.INPUT`). DEST/NAME.sizes.npz has `in{k}.INPUT` and `out{k}.OUTPUT`: k = 0 as given, then one more, larger and smaller, as
far as ONNX Runtime takes them; `plain{k}.OUTPUT` is what it computes without optimizations, where that is another result.
"""
import glob
import itertools
import os
import sys

import numpy as np

# Sizes that a dimension may change to: the first that the model accepts. Images are often multiples of 32.
STEPS = {
    "one more": [lambda n, by=by: n + by for by in (1, 2, 3, 4, 8, 16, 32)],
    "larger": [lambda n: n + n // 2 + 1, lambda n: n + n // 2] + [lambda n, by=by: n + by for by in (17, 64, 32, 96)],
    # Not much smaller: ONNX Runtime accepts pools whose windows are larger than the rest of the image, unlike the specification.
    "smaller": [lambda n: n * 3 // 4 | 1, lambda n: n * 3 // 4] + [lambda n, by=by: n - by for by in (1, 2, 32, 64)],
}

# A larger batch takes long, and shows little that a batch of two does not.
MOST_OF_A_BATCH = 3


def open_dimensions(session):
    """The places (input, axis) of each open dimension; places with one name are one dimension."""
    named, unnamed = {}, []
    for value in session.get_inputs():
        for axis, size in enumerate(value.shape):
            if isinstance(size, str) and size not in ("", "?", "-1", "None"):
                named.setdefault(size, []).append((value.name, axis))
            elif not isinstance(size, int) or size < 0:
                unnamed.append([(value.name, axis)])
    return list(named.values()) + unnamed


def resized(feed, places, change):
    """The inputs with other sizes at these places: elements are repeated, or left out. `None` if nothing changes, or nothing is left."""
    feed = dict(feed)
    for name, axis in places:
        old = feed[name].shape[axis]
        new = change(old)
        if axis == 0 and all(axis == 0 for _, axis in places):
            new = min(new, max(MOST_OF_A_BATCH, old + 1))
        if new == old or new < 1:
            return None
        if old == 0:
            shape = list(feed[name].shape)
            shape[axis] = new
            feed[name] = np.zeros(shape, feed[name].dtype)
        else:
            feed[name] = np.take(feed[name], np.arange(new) % old, axis)
    return feed


def candidates(feed, dimensions, changes):
    """All dimensions at once, then in pairs, as the sum of two dimensions changes with either, then one by one."""
    for change in changes:
        together = feed
        for places in dimensions:
            together = resized(together, places, change) or together
        yield together
    for count in (2, 1):
        for change, chosen in itertools.product(changes, itertools.combinations(dimensions, count)):
            moved = feed
            for places in chosen:
                moved = moved and resized(moved, places, change)
            if moved:
                yield moved


def shapes(feed):
    return {name: array.shape for name, array in feed.items()}


def sizes(session, feed):
    """The inputs of each size, with the outputs."""
    dimensions = open_dimensions(session)
    found = [(feed, session.run(None, feed))]
    for changes in STEPS.values() if dimensions else []:
        for moved in candidates(feed, dimensions, changes):
            if any(shapes(moved) == shapes(other) for other, _ in found):
                continue
            try:
                found.append((moved, session.run(None, moved)))
                break
            except Exception:  # The model does not accept these sizes.
                continue
    return found


def plain_array(entry):
    """An array for readers that know only one order of axes and no float16: float16 becomes uint16, and the name says so."""
    key, array = entry
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{key} is {array.dtype}")
    array = np.ascontiguousarray(array).reshape(array.shape)
    return (key + "@float16", array.view(np.uint16)) if array.dtype == np.float16 else (key, array)


def record(model, feed, destination):
    """Writes the archive of one model, unless the model accepts one size only; returns the number of sizes."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)

    def opened(level):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    levels = onnxruntime.GraphOptimizationLevel
    session, plain = opened(levels.ORT_ENABLE_ALL), opened(levels.ORT_DISABLE_ALL)
    found, named = sizes(session, feed), {}
    if len(found) == 1:
        return 1
    for k, (feed, results) in enumerate(found):
        named |= {f"in{k}.{name}": array for name, array in feed.items()}
        for output, result, other in zip(session.get_outputs(), results, plain.run(None, feed)):
            named[f"out{k}.{output.name}"] = result
            if not np.array_equal(result, other):
                named[f"plain{k}.{output.name}"] = other
    np.savez_compressed(destination, **dict(map(plain_array, named.items())))
    return len(found)


def given(path):
    """The inputs of a recorded run."""
    archive = np.load(path, allow_pickle=False)
    keys = [(key, key.split(".", 1)) for key in archive.files if "." in key]
    arrays = {name: archive[key] for key, (kind, name) in keys if kind in ("in", "in0")}
    return {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in arrays.items()}


def main():
    models, destination = sys.argv[1:3]
    references = sys.argv[3] if len(sys.argv) > 3 else models
    os.makedirs(destination, exist_ok=True)
    for model in sorted(glob.glob(os.path.join(models, "*.onnx"))):
        name = os.path.basename(model)[: -len(".onnx")]
        reference = os.path.join(references, name + ".npz")
        archive = os.path.join(destination, name + ".sizes.npz")
        if not os.path.exists(reference) or os.path.exists(archive):
            continue
        try:
            print(f"{name}: {record(model, given(reference), archive)} sizes", flush=True)
        except Exception as error:
            print(f"{name}: not recorded: {str(error).splitlines()[0]}", flush=True)


if __name__ == "__main__":
    main()

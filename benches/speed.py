#!/usr/bin/env python3
"""speed.py: whole models beside other runtimes on this machine. Prints the table of RESULTS.md.

    speed.py BINARY [--device llvmpipe] [--only RE] [--rounds 5] [--peer NAME=COMMAND]... [--models DIR] [--record FILE]
    speed.py --print FILE

BINARY is a release build of `sardonyx`. Python needs onnx and onnxruntime, whose CPU provider every figure is a ratio to. A peer is a
command that speaks the protocol of `worker`, for example `--peer "WebGPU=PYTHON benches/speed.py --worker WebGpuExecutionProvider"` with
a Python that has another build of onnxruntime.

All subjects of a model run in turn, so that a busy machine hits them alike. "CPU" is the CPU time of a process for one run, with
inputs uploaded and outputs read back: the median over rounds of the share of the CPU provider's. "First run" is the wall time of what
comes before the second run, with empty shader caches (Mesa's, `MESA_SHADER_CACHE_DIR`): a session and its first run, or with Sardonyx,
whose sessions do little by themselves, the first run. "Second process" is the same again with the caches that the first has left.
"""
import argparse
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np


# Models of random weights: the architectures that runtimes are usually compared on.


class Builder:
    def __init__(self, **inputs):
        import onnx

        self.onnx = onnx
        self.random = np.random.default_rng(7)
        self.nodes, self.weights = [], []
        self.inputs = inputs

    def add(self, op, *inputs, outputs=1, **attributes):
        names = [f"{op}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(op, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, array):
        name = f"c{len(self.weights)}"
        self.weights.append(self.onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def random_weights(self, *shape):
        fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        return self.constant((self.random.standard_normal(shape) * (2 / fan) ** 0.5).astype(np.float32))

    def integers(self, *values):
        return self.constant(np.array(values, np.int64))

    def floats(self, value):
        return self.constant(np.float32(value))

    def convolution(self, x, filters, channels, kernel, stride=1, groups=1):
        pads = [kernel // 2] * 4
        w, b = self.random_weights(filters, channels // groups, kernel, kernel), self.random_weights(filters)
        return self.add("Conv", x, w, b, strides=[stride] * 2, pads=pads, group=groups)

    def linear(self, x, rows, columns):
        return self.add("Add", self.add("MatMul", x, self.random_weights(rows, columns)), self.random_weights(columns))

    def normalized(self, x, width):
        ones, zeros = self.constant(np.ones(width, np.float32)), self.constant(np.zeros(width, np.float32))
        return self.add("LayerNormalization", x, ones, zeros, axis=-1)

    def classified(self, x, channels):
        flat = self.add("Flatten", self.add("GlobalAveragePool", x))
        return self.linear(flat, channels, 1000)

    def model(self, *outputs):
        helper = self.onnx.helper
        value = lambda name, shape: helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, shape)
        inputs = [value(name, shape) for name, shape in self.inputs.items()]
        graph = helper.make_graph(self.nodes, "speed", inputs, [value(name, None) for name in outputs], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return self.onnx.shape_inference.infer_shapes(model)


def product(size):
    b = Builder(x=[size, size])
    return b.model(b.add("MatMul", "x", b.random_weights(size, size)))


def one_convolution(groups):
    b = Builder(x=[1, 64, 56, 56])
    return b.model(b.convolution("x", 64, 64, 3, groups=groups))


def squeezenet():
    b = Builder(x=[1, 3, 224, 224])
    relu = lambda x: b.add("Relu", x)
    pool = lambda x: b.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    x, channels = pool(relu(b.convolution("x", 64, 3, 3, 2))), 64
    for squeezed, expanded, pooled in (
        (16, 64, False), (16, 64, True), (32, 128, False), (32, 128, True),
        (48, 192, False), (48, 192, False), (64, 256, False), (64, 256, False),
    ):  # fmt: skip
        x = relu(b.convolution(x, squeezed, channels, 1))
        sides = [relu(b.convolution(x, expanded, squeezed, kernel)) for kernel in (1, 3)]
        x, channels = b.add("Concat", *sides, axis=1), 2 * expanded
        x = pool(x) if pooled else x
    x = relu(b.convolution(x, 1000, channels, 1))
    return b.model(b.add("Softmax", b.add("Flatten", b.add("GlobalAveragePool", x))))


def resnet18():
    b = Builder(x=[1, 3, 224, 224])
    relu = lambda x: b.add("Relu", x)
    x = b.add("MaxPool", relu(b.convolution("x", 64, 3, 7, 2)), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for filters, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            y = b.convolution(relu(b.convolution(x, filters, channels, 3, stride)), filters, filters, 3)
            x = x if channels == filters else b.convolution(x, filters, channels, 1, stride)
            x, channels = relu(b.add("Add", x, y)), filters
    return b.model(b.classified(x, channels))


def mobilenetv2():
    b = Builder(x=[1, 3, 224, 224])
    clip = lambda x: b.add("Clip", x, b.floats(0), b.floats(6))
    x, channels = clip(b.convolution("x", 32, 3, 3, 2)), 32
    for factor, filters, count, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for i in range(count):
            stride, wide = first if i == 0 else 1, channels * factor
            y = x if factor == 1 else clip(b.convolution(x, wide, channels, 1))
            y = b.convolution(clip(b.convolution(y, wide, wide, 3, stride, wide)), filters, wide, 1)
            x = b.add("Add", x, y) if stride == 1 and channels == filters else y
            channels = filters
    return b.model(b.classified(clip(b.convolution(x, 1280, channels, 1)), 1280))


def attention(b, q, k, v, width, rows):
    scores = b.add("Mul", b.add("MatMul", q, k), b.floats(8 / width))
    mixed = b.add("Transpose", b.add("MatMul", b.add("Softmax", scores), v), perm=[0, 2, 1, 3])
    return b.linear(b.add("Reshape", mixed, b.integers(1, rows, width)), width, width)


def bert_mini(width=256, heads=4, rows=128):
    b = Builder(x=[1, rows, width])
    x = "x"
    for _ in range(4):
        split = lambda y, perm: b.add("Transpose", b.add("Reshape", y, b.integers(1, rows, heads, width // heads)), perm=perm)
        q, k, v = (split(b.linear(x, width, width), perm) for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        x = b.normalized(b.add("Add", x, attention(b, q, k, v, width, rows)), width)
        y = b.linear(x, width, 4 * width)
        gate = b.add("Add", b.add("Erf", b.add("Div", y, b.floats(2**0.5))), b.floats(1))
        y = b.add("Mul", b.add("Mul", y, gate), b.floats(0.5))
        x = b.normalized(b.add("Add", x, b.linear(y, 4 * width, width)), width)
    return b.model(x)


def gpt2_decode(width=256, heads=4, past=127, words=8192):
    depth = width // heads
    caches = {f"past{i}": [1, heads, past, depth] for i in range(4)}
    b = Builder(x=[1, 1, width], **caches)
    x, kept = "x", []
    for layer in range(2):
        parts = b.add("Split", b.linear(b.normalized(x, width), width, 3 * width), b.integers(width, width, width), outputs=3, axis=-1)
        split = lambda y: b.add("Transpose", b.add("Reshape", y, b.integers(1, 1, heads, depth)), perm=[0, 2, 1, 3])
        q, *now = map(split, parts)
        k, v = (b.add("Concat", f"past{2 * layer + i}", row, axis=2) for i, row in enumerate(now))
        kept += [k, v]
        x = b.add("Add", x, attention(b, q, b.add("Transpose", k, perm=[0, 1, 3, 2]), v, width, 1))
        y = b.linear(b.normalized(x, width), width, 4 * width)
        cube = b.add("Mul", b.add("Mul", y, y), y)
        inner = b.add("Mul", b.add("Add", y, b.add("Mul", cube, b.floats(0.044715))), b.floats((2 / np.pi) ** 0.5))
        y = b.add("Mul", b.add("Mul", y, b.add("Add", b.add("Tanh", inner), b.floats(1))), b.floats(0.5))
        x = b.add("Add", x, b.linear(y, 4 * width, width))
    return b.model(b.add("MatMul", b.normalized(x, width), b.random_weights(width, words)), *kept)


MODELS = {
    "squeezenet": squeezenet,
    "mobilenetv2": mobilenetv2,
    "resnet18": resnet18,
    "bert_mini": bert_mini,
    "gpt2_decode": gpt2_decode,
    "matmul_512": lambda: product(512),
    "conv3x3_56": lambda: one_convolution(1),
    "dwconv3x3_56": lambda: one_convolution(64),
}


# What is measured.


def worker(provider):
    """Reads a line `MODEL RUNS`, and prints JSON: `first_s`, from the model's file to the first outputs, and `cpu_ms` of each run."""
    import onnxruntime

    path, runs = sys.stdin.readline().split()
    onnxruntime.set_default_logger_severity(4)
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(path, providers=[provider])
    random = np.random.default_rng(7)
    feed = {i.name: random.uniform(-1, 1, i.shape).astype(np.float32) for i in session.get_inputs()}
    session.run(None, feed)
    first, cpu = time.perf_counter() - start, []
    for _ in range(int(runs)):
        before = time.process_time()
        session.run(None, feed)
        cpu.append((time.process_time() - before) * 1e3)
    print(json.dumps({"first_s": first, "cpu_ms": cpu}))


def ours(binary, device, path, runs, environment):
    command = [binary, "bench", path, "--device", device, "--runs", str(runs), "--warmup", "1", "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)
    return {"first_s": told["cold_first_run_ms"] / 1e3, "cpu_ms": told["cpu_ms"]}


def theirs(command, path, runs, environment):
    given = f"{path} {runs}\n"
    done = subprocess.run(shlex.split(command), input=given, capture_output=True, text=True, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else None


def measured(o, path):
    """For each subject: the shares of CPU time, one a round, and the first runs of two processes in each round."""
    reference = f"{shlex.quote(sys.executable)} {shlex.quote(__file__)} --worker CPUExecutionProvider"
    peers = dict(peer.split("=", 1) for peer in o.peer)
    subjects = {"ONNX Runtime CPU": reference, "Sardonyx": None, **peers}
    once = theirs(reference, path, 3, os.environ)
    runs = max(5, min(100, int(500 / min(once["cpu_ms"]))))
    record = {name: {"cpu": [], "first": [], "second": []} for name in subjects}
    for turn in range(o.rounds):
        least = {}
        for name in list(subjects)[:: -1 if turn % 2 else 1]:
            with tempfile.TemporaryDirectory() as caches:
                environment = {**os.environ, "MESA_SHADER_CACHE_DIR": caches}
                run = lambda: (
                    ours(o.binary, o.device, path, runs, environment)
                    if subjects[name] is None
                    else theirs(subjects[name], path, runs, environment)
                )
                told = [run(), run()]
            if None in told:
                continue
            least[name] = min(statistics.median(one["cpu_ms"]) for one in told)
            record[name]["first"].append(told[0]["first_s"])
            record[name]["second"].append(told[1]["first_s"])
        for name, cpu in least.items():
            record[name]["cpu"].append(cpu / least["ONNX Runtime CPU"])
    return record


def table(records):
    names = [name for name in next(iter(records.values())) if name != "ONNX Runtime CPU"]
    heads = [f"CPU {name}" for name in names] + [f"first run {name}, s" for name in names] + ["second process Sardonyx, s"]
    lines = ["| model | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    middle = lambda values: f"{statistics.median(values):.2f}" if values else "failed"
    for model, record in records.items():
        cells = [middle(record[name][key]) for key in ("cpu", "first") for name in names]
        lines.append(f"| {model} | " + " | ".join([*cells, middle(record["Sardonyx"]["second"])]) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="?")
    parser.add_argument("--device", default="llvmpipe")
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--models", type=pathlib.Path, help="a folder of .onnx files to measure instead")
    parser.add_argument("--record", type=pathlib.Path)
    parser.add_argument("--print", type=pathlib.Path)
    parser.add_argument("--worker")
    o = parser.parse_args()
    if o.worker:
        return worker(o.worker)
    if o.print:
        return print(table(json.loads(o.print.read_text())))
    if not o.binary:
        parser.error("the path of the `sardonyx` binary is missing")
    records = {}
    with tempfile.TemporaryDirectory() as made:
        paths = {path.stem: path for path in sorted(o.models.glob("*.onnx"))} if o.models else {}
        if not o.models:
            import onnx

            for name in filter(lambda name: re.search(o.only, name), MODELS):
                paths[name] = pathlib.Path(made) / f"{name}.onnx"
                onnx.save(MODELS[name](), paths[name])
        for name, path in paths.items():
            if re.search(o.only, name):
                records[name] = measured(o, str(path))
                print(name, {who: [round(x, 2) for x in told["cpu"]] for who, told in records[name].items()}, file=sys.stderr)
    if o.record:
        o.record.write_text(json.dumps(records, indent=1))
    print(table(records))


if __name__ == "__main__":
    main()

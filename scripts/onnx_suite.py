#!/usr/bin/env python3
"""The official ONNX backend suite, out of the installed `onnx` package.

onnx_suite.py make CASES                          writes every case as files (nothing, if that is done already)
onnx_suite.py list CASES [--only RE]              names the cases, as `onnx/NAME`
onnx_suite.py run CASES --device NAME [--expected FILE] [--at-least N] [--only RE] [--each] -- sardonyx
    runs `sardonyx suite`, judges its outputs with the suite's own code, and compares with what is expected. Where the
    program ends or hangs, that is the outcome of the case at hand, and it is started again for the others. `--each` prints
    every case's outcome.

FILE is a JSON list of the cases that are known to end badly. Each entry has all of these:
    case      the case's name
    driver    the device, or `*` for every one
    outcome   `wrong`, `crash` or `hang`
    fault     `precision` (rounding that the format asks for), `expected file`, or `driver`
    reason    a sentence
    link      a public page that shows it, or null where there is none
A case that ends badly and is not listed, or listed with another outcome, fails the run, as does a listed case that passes, and as
do fewer passes than `--at-least`. What is not supported is a skip: counted, and never a pass.
"""
import argparse
import collections
import glob
import json
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings

warnings.simplefilter("ignore")
import numpy as np

# This must run before onnx makes its cases, as onnx does not seed all of its generators.
np.random.seed(0)
random.seed(0)
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

KINDS = ["node", "real", "simple", "pytorch-converted", "pytorch-operator"]
# Cases that draw without a seed: what they expect is one of many right results. They are skipped.
DRAWN = {"test_bernoulli", "test_bernoulli_double", "test_bernoulli_double_expanded", "test_bernoulli_expanded"}
# Seconds without an answer after which a case counts as hung.
PATIENCE = 180


def serialize(value, info):
    kind = info.type
    if kind.HasField("map_type"):
        return numpy_helper.from_dict(value, info.name).SerializeToString()
    if kind.HasField("sequence_type"):
        return numpy_helper.from_list(value, info.name).SerializeToString()
    if kind.HasField("optional_type"):
        return numpy_helper.from_optional(value, info.name).SerializeToString()
    if isinstance(value, TensorProto):
        return value.SerializeToString()
    return numpy_helper.from_array(np.asarray(value), info.name).SerializeToString()


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def make_case(case, kind, folder):
    if kind == "node":
        write(os.path.join(folder, "model.onnx"), case.model.SerializeToString())
        for k, (ins, outs) in enumerate(case.data_sets):
            for side, values, infos in (("input", ins, case.model.graph.input), ("output", outs, case.model.graph.output)):
                for j, (value, info) in enumerate(zip(values, infos)):
                    write(os.path.join(folder, f"test_data_set_{k}", f"{side}_{j}.pb"), serialize(value, info))
    elif kind == "real":
        # The "light" models: the graph computes the weights, and the input is the suite's dummy data.
        source = os.path.join(os.path.dirname(onnx.__file__), "..", case.url)
        model = onnx.load(source)
        write(os.path.join(folder, "model.onnx"), open(source, "rb").read())
        constants = {i.name for i in model.graph.initializer}
        given = [i for i in model.graph.input if i.name not in constants]
        for j, info in enumerate(given):
            value = Runner.generate_dummy_data(info, seed=0, name=case.model_name, random=False)
            write(os.path.join(folder, "test_data_set_0", f"input_{j}.pb"), serialize(value, info))
        for j in range(len(model.graph.output)):
            expected = os.path.splitext(source)[0] + f"_output_{j}.pb"
            write(os.path.join(folder, "test_data_set_0", f"output_{j}.pb"), open(expected, "rb").read())
    else:
        shutil.copytree(case.model_dir, folder, dirs_exist_ok=True)


def make(out):
    manifest = os.path.join(out, "manifest.jsonl")
    if os.path.exists(manifest):
        return
    lines = []
    for kind in KINDS:
        for case in sorted(load_model_tests(kind=kind), key=lambda c: c.name):
            folder = os.path.join(out, kind, case.name)
            make_case(case, kind, folder)
            lines.append(json.dumps(dict(name=case.name, kind=kind, dir=f"{kind}/{case.name}", rtol=case.rtol, atol=case.atol)))
    write(manifest, "\n".join(lines).encode())
    print(f"made {len(lines)} cases")


def load(path, kind):
    data = open(path, "rb").read()
    if kind.HasField("sequence_type"):
        value = onnx.SequenceProto()
        value.ParseFromString(data)
        return numpy_helper.to_list(value)
    if kind.HasField("optional_type"):
        value = onnx.OptionalProto()
        value.ParseFromString(data)
        return numpy_helper.to_optional(value)
    value = TensorProto()
    value.ParseFromString(data)
    return numpy_helper.to_array(value)


def paired(expected, actual):
    """The tensors of two values, in pairs. The suite's own comparison takes the length of each element of a sequence, which one without
    dimensions does not have."""
    if isinstance(expected, list):
        assert isinstance(actual, list) and len(actual) == len(expected), "the sequences have different lengths"
        return [pair for e, a in zip(expected, actual) for pair in paired(e, a)]
    return [(expected, actual)]


def judge(cases, case, outputs):
    """'' if the suite's own comparison accepts the outputs, else the reason why it does not."""
    folder = os.path.join(cases, case["dir"])
    graph = onnx.load(os.path.join(folder, "model.onnx")).graph
    try:
        for data in sorted(glob.glob(os.path.join(folder, "test_data_set_*"))):
            mine = os.path.join(outputs, case["name"], os.path.basename(data))
            pairs = []
            for j, info in enumerate(graph.output):
                if os.path.exists(os.path.join(data, f"output_{j}.pb")):
                    pairs += paired(load(os.path.join(data, f"output_{j}.pb"), info.type), load(os.path.join(mine, f"output_{j}.pb"), info.type))
            for expected, actual in pairs:
                if expected is None or actual is None:
                    assert expected is None and actual is None, "an optional is empty on one side only"
            pairs = [p for p in pairs if p[0] is not None]
            Runner.assert_similar_outputs([p[0] for p in pairs], [p[1] for p in pairs], rtol=case["rtol"], atol=case["atol"])
        return ""
    except Exception as error:
        return " ".join(str(error).split())[:300]


def answers(command, todo, outputs):
    """Yields (case, outcome, reason); restarts the program after a case that killed it."""
    environment = dict(os.environ, CONFORMANCE_OUT=os.path.abspath(outputs))
    while todo:
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False) as file:
            file.write("\n".join(json.dumps(c) for c in todo) + "\n")
        program = subprocess.Popen(command + [file.name], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
        lines = queue.Queue()

        def read(stream=program.stdout, lines=lines):
            for line in stream:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        while todo:
            try:
                line = lines.get(timeout=PATIENCE)
            except queue.Empty:
                os.killpg(program.pid, signal.SIGKILL)
                yield todo.pop(0), "hang", f"no answer in {PATIENCE} s"
                break
            if line is None:
                yield todo.pop(0), "crash", f"exit status {program.wait()}"
                break
            words = line.rstrip("\n").split(None, 2)
            if len(words) >= 2 and words[0] == todo[0]["name"]:
                yield todo.pop(0), words[1], words[2] if len(words) > 2 else ""
        os.unlink(file.name)


def expectations(path, device, names):
    """The entries for the device by case, each held against what an entry must have."""
    listed = {}
    for entry in json.load(open(path)) if path else []:
        allowed = dict(outcome=("wrong", "crash", "hang"), fault=("precision", "expected file", "driver"))
        link = entry.get("link")
        well_formed = (
            set(entry) == {"case", "driver", "outcome", "fault", "reason", "link"}
            and all(entry[key] in values for key, values in allowed.items())
            and entry["reason"]
            and (link is None or link.startswith("https://"))
        )
        if not well_formed:
            sys.exit(f"{path}: {entry} is no expected failure; see --help")
        if entry["case"] not in names:
            sys.exit(f"{path}: the suite has no case {entry['case']}")
        if entry["driver"] in ("*", device):
            listed[entry["case"]] = entry
    return listed


def manifest(folder):
    return [json.loads(line) for line in open(os.path.join(folder, "manifest.jsonl"))]


def selected(cases, pattern):
    return [c for c in cases if not pattern or re.search(pattern, c["name"])]


def run(arguments, program):
    every = manifest(arguments.cases)
    listed = expectations(arguments.expected, arguments.device, {c["name"] for c in every})
    cases = selected(every, arguments.only)
    placed = [] if arguments.device == "cpu" else ["--require-gpu"]
    command = program + ["suite", "--device", arguments.device] + placed + [os.path.abspath(arguments.cases)]
    counts, surprises = collections.Counter(), []
    with tempfile.TemporaryDirectory() as outputs:
        for case, outcome, reason in answers(command, list(cases), outputs):
            name = case["name"]
            if outcome == "done" and name in DRAWN:
                outcome, reason = "skip", "draws without a seed"
            elif outcome == "done":
                reason = judge(arguments.cases, case, outputs)
                outcome = "wrong" if reason else "pass"
            counts[outcome] += 1
            shutil.rmtree(os.path.join(outputs, name), ignore_errors=True)
            if arguments.each:
                print(f"onnx/{name}@{arguments.device} {outcome} {reason}".rstrip(), flush=True)
            known = listed.get(name)
            if outcome == "pass" and known:
                surprises.append(f"{name} passes, and is listed as {known['outcome']}: {known['reason']} ({known['link']})")
            if outcome not in ("pass", "skip") and outcome != (known or {}).get("outcome"):
                surprises.append(f"{name} {outcome}: {reason}")
    print(f"{arguments.device}: " + ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items())) + f" of {len(cases)}")
    if counts["pass"] < arguments.at_least:
        surprises.append(f"{counts['pass']} cases pass, and at least {arguments.at_least} did")
    for surprise in surprises:
        print("  unexpected:", surprise)
    return 1 if surprises else 0


def main():
    arguments = sys.argv[1:]
    program = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, program = arguments[:at], arguments[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "list", "run"])
    parser.add_argument("cases")
    parser.add_argument("--device")
    parser.add_argument("--expected")
    parser.add_argument("--at-least", type=int, default=0)
    parser.add_argument("--only")
    parser.add_argument("--each", action="store_true")
    parsed = parser.parse_args(arguments)
    if parsed.what == "make":
        return make(parsed.cases)
    if parsed.what == "list":
        return print("\n".join("onnx/" + c["name"] for c in selected(manifest(parsed.cases), parsed.only)))
    return run(parsed, program)


if __name__ == "__main__":
    sys.exit(main())

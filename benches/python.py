"""Measures what the installed Python package costs beside the library: a call with one small input on the reference, in
microseconds over the Rust library's own (goal: 15), and an import, in milliseconds (goal: 60). Prints the best of five of each.
Run it with the Python into which a release wheel is installed (`scripts/wheel.sh`)."""

import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

import sardonyx

sys.path.append(str(pathlib.Path(__file__).parent.parent / "crates/python/tests"))
import models


def call(session, feed):
    calls = []
    for _ in range(1000):
        start = time.perf_counter()
        session.run(feed)
        calls.append(time.perf_counter() - start)
    rust = session.bench(feed, runs=1000)["latency_ms"]["median"] * 1e3
    return statistics.median(calls) * 1e6 - rust


def importing():
    program = "import time; start = time.perf_counter(); import sardonyx; print(time.perf_counter() - start)"
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout) * 1e3


session = sardonyx.Session(models.unary(shape=(4,)), "cpu")
feed = {"x": np.ones(4, np.float32)}
print(f"call    {min(call(session, feed) for _ in range(5)):.1f} us over the library's")
print(f"import  {min(importing() for _ in range(5)):.1f} ms")

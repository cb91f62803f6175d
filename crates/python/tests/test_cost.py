"""What the package costs beside the library: the best of several measurements, as other programs run meanwhile."""

import statistics
import subprocess
import sys
import time
import unittest

import models
import numpy as np

import sardonyx


class Cost(unittest.TestCase):
    def test_a_call_takes_15_microseconds_more_than_in_rust(self):
        session = sardonyx.Session(models.unary(shape=(4,)), "cpu")
        feed = {"x": np.ones(4, np.float32)}

        def measured():
            calls = []
            for _ in range(1000):
                start = time.perf_counter()
                session.run(feed)
                calls.append(time.perf_counter() - start)
            rust = session.bench(feed, runs=1000)["latency_ms"]["median"] * 1e3
            return statistics.median(calls) * 1e6 - rust

        self.assertLess(min(measured() for _ in range(5)), 15)

    def test_importing_takes_60_milliseconds(self):
        program = "import time; start = time.perf_counter(); import sardonyx; print(time.perf_counter() - start)"

        def measured():
            return float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)

        self.assertLess(min(measured() for _ in range(5)), 0.060)

    def test_numpy_is_imported_with_the_first_array(self):
        program = "import sys, sardonyx; sys.exit('numpy' in sys.modules or 'asyncio' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", program]).returncode, 0)


if __name__ == "__main__":
    unittest.main()

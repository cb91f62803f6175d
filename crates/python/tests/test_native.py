"""The native API: `SARDONYX_TEST_DEVICES` names the devices, separated by commas."""

import asyncio
import copy
import os
import pathlib
import pickle
import signal
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock

import ml_dtypes
import models
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import sardonyx

DEVICES = os.environ.get("SARDONYX_TEST_DEVICES", "auto,cpu").split(",")
FLOAT = TensorProto.FLOAT


def on_devices(test):
    """The test on each device."""

    def all_devices(self):
        for device in DEVICES:
            with self.subTest(device=device):
                test(self, device)

    return all_devices


class Running(unittest.TestCase):
    @on_devices
    def test_outputs_by_name_number_and_attribute(self, device):
        session = sardonyx.Session(models.add(), device)
        a, b = np.float32([1, 2]), np.float32([10, 20])
        outputs = session.run({"a": a, "b": b})
        self.assertIsInstance(outputs, sardonyx.Outputs)
        self.assertEqual(list(outputs), ["c", "d"])
        for c in (outputs["c"], outputs[0], outputs.c, outputs[-2]):
            np.testing.assert_array_equal(c, a + b)
        c, d = outputs.values()
        np.testing.assert_array_equal(d, (a + b) * b)
        with self.assertRaisesRegex(KeyError, "no output is called 'e'; there are c, d"):
            outputs["e"]
        with self.assertRaises(AttributeError):
            outputs.e
        with self.assertRaises(IndexError):
            outputs[2]

    @on_devices
    def test_chosen_outputs(self, device):
        session = sardonyx.Session(models.add(), device)
        feed = {"a": np.float32([1]), "b": np.float32([3])}
        self.assertEqual(list(session.run(feed, ["c"])), ["c"])
        # The order is the caller's, and a value inside the model is a value too.
        self.assertEqual(list(session.run(feed, outputs=["d", "c"])), ["d", "c"])
        self.assertEqual(session.run(feed, ["a", "d"]).d, [12])
        with self.assertRaises(sardonyx.OutputError) as caught:
            session.run(feed, ["nothing"])
        self.assertEqual(caught.exception.name, "nothing")

    @on_devices
    def test_models_from_everywhere(self, device):
        made = models.unary()
        with tempfile.TemporaryDirectory() as folder:
            path = models.save(os.path.join(folder, "relu.onnx"), made)
            for source in (path, pathlib.Path(path), made, sardonyx.Model(path, map_files=False)):
                session = sardonyx.Session(source, device)
                np.testing.assert_array_equal(session.run({"x": np.float32([-1, 1])}).y, [0, 1])
        with self.assertRaisesRegex(TypeError, "a model is a path, bytes or a sardonyx.Model, and no int"):
            sardonyx.Model(3)

    def test_what_a_model_declares(self):
        made = models.model(
            [helper.make_node("Relu", ["x"], ["y"])],
            [("x", FLOAT, ("batch", 3, None))],
            [("y", FLOAT, None)],
            producer_name="hand",
        )
        model = sardonyx.Model(made)
        self.assertEqual((model.inputs[0].name, model.inputs[0].dtype), ("x", "float32"))
        self.assertEqual(model.inputs[0].shape, ("batch", 3, None))
        self.assertIsNone(model.outputs[0].shape)
        self.assertFalse(model.inputs[0].has_default)
        self.assertEqual(repr(model.inputs[0]), "x: float32[batch, 3, ?]")
        self.assertEqual((model.ir_version, model.opsets, model.producer), (10, {"": 21}, "hand"))
        self.assertEqual(model.summary()["operators"], {"Relu": 1})
        self.assertEqual((model.unsupported, model.metadata, model.index_bounds()), ([], {}, {}))
        self.assertEqual(sardonyx.Model(models.zipmap()).outputs[0].container, "sequence(map)")

    @on_devices
    def test_several_threads_share_a_session(self, device):
        session = sardonyx.Session(models.add(), device)
        wrong = []

        def work(seed):
            for step in range(20):
                a = np.full(1 + (seed + step) % 5, seed, np.float32)
                if not np.array_equal(session.run({"a": a, "b": a + step}).c, 2 * a + step):
                    wrong.append((seed, step))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        self.assertEqual(wrong, [])

    @on_devices
    def test_other_threads_run_meanwhile(self, device):
        size = 700
        matrix = np.ones((size, size), np.float32)
        nodes = [helper.make_node("MatMul", [f"x{i}", "x0"], [f"x{i + 1}"]) for i in range(8)]
        made = models.model(nodes, [("x0", FLOAT, ("n", "n"))], [("x8", FLOAT, ("n", "n"))])
        session = sardonyx.Session(made, device)
        ended, counted = threading.Event(), []

        def count():
            while not ended.wait(0.001):
                counted.append(1)

        thread = threading.Thread(target=count)
        thread.start()
        session.run({"x0": matrix})
        ended.set()
        thread.join()
        # A thread that waits for the interpreter's lock would count once or twice.
        self.assertGreater(len(counted), 10)

    @on_devices
    def test_runs_that_are_awaited(self, device):
        session = sardonyx.Session(models.add(), device)

        async def main():
            one = np.float32([1])
            runs = [session.run_async({"a": one * i, "b": one}) for i in range(10)]
            made = await asyncio.gather(*runs)
            self.assertEqual([float(outputs.c[0]) for outputs in made], [i + 1 for i in range(10)])
            only = await session.run_async({"a": one, "b": one}, outputs=["d"])
            self.assertEqual(list(only), ["d"])
            with self.assertRaises(sardonyx.MissingInputError):
                await session.run_async({"a": one})
            # The plan for this size is made in another thread.
            new = np.ones(17, np.float32)
            task = asyncio.ensure_future(session.run_async({"a": new, "b": new}))
            await asyncio.sleep(0)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            return await session.run_async({"a": one, "b": one})

        self.assertEqual(asyncio.run(main()).c, [2])


class Interrupting(unittest.TestCase):
    """Ctrl-C ends the wait for work that takes long."""

    def setUp(self):
        # A shell that runs the tests in the background has them ignore the signal.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)

    def interrupted(self, work, after=0.1, most=10):
        """An interrupt ends the work within seconds."""
        thread = threading.Timer(after, signal.raise_signal, [signal.SIGINT])
        start = time.monotonic()
        thread.start()
        try:
            with self.assertRaises(KeyboardInterrupt):
                work()
        finally:
            thread.cancel()
            thread.join()
        self.assertLess(time.monotonic() - start - after, most)

    @on_devices
    def test_a_run(self, device):
        """Of products that take seconds on the reference and on a software adapter."""
        session = sardonyx.Session(models.products(100), device)
        x = np.zeros((300, 300), np.float32)
        # A run that is under way on a GPU is not waited for.
        for outputs in (None, ["y"]):
            self.interrupted(lambda: session.run({"x": x}, outputs), most=2)
        # That of a value inside the model is.
        self.interrupted(lambda: session.run({"x": x}, ["x99"]), most=60)
        # The session is as before.
        small = np.eye(2, dtype=np.float32)
        for outputs in (None, ["y"]):
            np.testing.assert_array_equal(session.run({"x": small}, outputs).y, small)
        np.testing.assert_array_equal(session.run_to_device({"x": small}).y.numpy(), small)

    def test_a_handler_that_does_not_raise(self):
        session = sardonyx.Session(models.products(20), "cpu")
        called = []
        before = signal.signal(signal.SIGINT, lambda *_: called.append(1))
        self.addCleanup(signal.signal, signal.SIGINT, before)
        thread = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])
        thread.start()
        x = np.eye(300, dtype=np.float32)
        np.testing.assert_array_equal(session.run({"x": x}).y, x)
        thread.join()
        self.assertEqual(called, [1])

    def test_other_work(self):
        session = sardonyx.Session(models.products(100), "cpu")
        x = np.zeros((300, 300), np.float32)
        self.interrupted(lambda: session.bench({"x": x}))
        device = sardonyx.Session(models.products(100), DEVICES[0])
        if not device.device.is_reference:
            # Of which the reference's part takes seconds.
            self.interrupted(lambda: device.verify({"x": x}))
        self.assertEqual(session.bench({"x": x[:1, :1]}, runs=2)["runs_per_second"] > 0, True)

    def test_threads_that_are_not_asked(self):
        """Signals are the main thread's."""
        session = sardonyx.Session(models.products(20), "cpu")
        found = []
        x = np.eye(300, dtype=np.float32)
        thread = threading.Thread(target=lambda: found.append(session.run({"x": x}).y))
        thread.start()
        self.interrupted(lambda: [time.sleep(0.01) for _ in range(1000)], after=0.02)
        thread.join()
        np.testing.assert_array_equal(found[0], x)


class OnlyDlpack:
    """An array that offers nothing but DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def memory_of(array):
    """What the memory of an array belongs to."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array


class Arrays(unittest.TestCase):
    TYPES = [
        *("float16", "float32", "float64", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2),
        *(ml_dtypes.float8_e5m2fnuz, ml_dtypes.float8_e8m0fnu, ml_dtypes.float4_e2m1fn, ml_dtypes.int4, ml_dtypes.uint4),
        *(ml_dtypes.int2, ml_dtypes.uint2),
    ]

    @on_devices
    def test_every_type(self, device):
        for dtype in map(np.dtype, self.TYPES):
            with self.subTest(dtype=dtype):
                onnx_type = helper.np_dtype_to_tensor_dtype(dtype)
                session = sardonyx.Session(models.moving(onnx_type), device)
                # An odd number of elements, of which some are negative where the type has them.
                low = 0 if np.issubdtype(dtype, np.unsignedinteger) or dtype.name.startswith(("uint", "bool")) else -2
                x = np.array([[low, 1, 0], [1, low, 1], [1, 1, 0], [0, 0, 1], [low, 0, 1]], np.int8).astype(dtype)
                y = session.run({"x": x}).y
                self.assertEqual((y.dtype, y.shape), (dtype, (3, 5)))
                # Bits, as a NaN is not equal to itself.
                np.testing.assert_array_equal(y.view(np.uint8), x.T.copy().view(np.uint8))

    def test_packed_elements_lie_as_onnx_says(self):
        """A constant that the onnx package writes is what an array of the same elements is."""
        for dtype in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float4_e2m1fn, ml_dtypes.int2, ml_dtypes.uint2):
            x = np.array([[1, 0, 1], [0, 1, 1]], np.int8).astype(dtype)
            constant = numpy_helper.from_array(x, "k")
            nodes = [helper.make_node("Transpose", ["k"], ["y"])]
            made = models.model(nodes, [], [("y", constant.data_type, (3, 2))], initializers=[constant], opset=25)
            y = sardonyx.Session(made, "cpu").run({}).y
            np.testing.assert_array_equal(y.view(np.uint8), x.T.copy().view(np.uint8))

    @on_devices
    def test_text(self, device):
        session = sardonyx.Session(models.moving(TensorProto.STRING), device)
        given = [["onyx", "", "é"]]
        for x in (np.array(given, object), np.array(given), given):
            y = session.run({"x": x}).y
            self.assertEqual((y.dtype, y.tolist()), (np.dtype(object), [["onyx"], [""], ["é"]]))
        with self.assertRaisesRegex(sardonyx.TensorError, "must hold str only, and this one holds int"):
            session.run({"x": np.array([["a", 1]], object)})

    @on_devices
    def test_every_layout(self, device):
        session = sardonyx.Session(models.unary(shape=("a", "b")), device)
        grid = np.arange(-600, 600, dtype=np.float32).reshape(30, 40)
        big = np.arange(-30000, 30000, dtype=np.float32).reshape(200, 300)
        frozen = big.copy()
        frozen.flags.writeable = False
        for x in (grid.T, grid[::2, ::-3], big.T, frozen, np.broadcast_to(np.float32([[1]]), (5, 6)), big.astype(">f4")):
            np.testing.assert_array_equal(session.run({"x": x}).y, np.maximum(x, 0))
        unaligned = np.frombuffer(b"\0" + grid.tobytes(), np.uint8)[1:].view(np.float32).reshape(30, 40)
        np.testing.assert_array_equal(session.run({"x": unaligned}).y, np.maximum(grid, 0))
        empty = session.run({"x": np.empty((0, 3), np.float32)}).y
        self.assertEqual((empty.shape, empty.dtype), ((0, 3), np.float32))
        class Own(np.ndarray):
            pass
        self.assertIs(type(session.run({"x": grid.view(Own)}).y), np.ndarray)

    @on_devices
    def test_scalars_and_lists(self, device):
        session = sardonyx.Session(models.unary(shape=()), device)
        for x in (np.array(-2, np.float32), np.float32(-2), -2, -2.0):
            y = session.run({"x": x}).y
            self.assertEqual((type(y), y.shape, y.dtype, float(y)), (np.ndarray, (), np.float32, 0.0))
        session = sardonyx.Session(models.unary(), device)
        np.testing.assert_array_equal(session.run({"x": [-1, 2.5]}).y, [0, 2.5])

    @on_devices
    def test_outputs_are_the_caller_s_own(self, device):
        made = models.model(
            [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["k"], ["z"])],
            [("x", FLOAT, ("n",))],
            [("y", FLOAT, ("n",)), ("z", FLOAT, (2,))],
            initializers=[numpy_helper.from_array(np.float32([5, 6]), "k")],
        )
        session = sardonyx.Session(made, device)
        x = np.ones(50000, np.float32)
        first = session.run({"x": x})
        for output in first.values():
            self.assertTrue(output.flags.writeable and output.flags.c_contiguous)
            output[:] = 9
        self.assertEqual(x.max(), 1)
        second = session.run({"x": x})
        self.assertEqual((second.y.max(), second.z.tolist()), (1, [5, 6]))
        x[:] = 3
        self.assertEqual(second.y.max(), 1)

    @on_devices
    def test_outputs_lie_where_they_were_read(self, device):
        """A large array is the memory that the device's elements were copied to; only the reference's may be shared, and is copied."""
        for dtype in (np.float32, np.float16, np.uint8, np.bool_):
            session = sardonyx.Session(models.moving(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))), device)
            x = np.arange(300_000).reshape(300, 1000).astype(np.uint8).astype(dtype)
            first, second = session.run({"x": x}).y, session.run({"x": x}).y
            self.assertEqual((first.dtype, first.shape, first.flags.writeable, first.flags.aligned), (dtype, (1000, 300), True, True))
            if device != "cpu":
                self.assertIsInstance(memory_of(first), sardonyx._native.Memory)
            np.testing.assert_array_equal(first, x.T)
            self.assertFalse(np.shares_memory(first, second) or np.shares_memory(first, x))
            first[:] = 0
            np.testing.assert_array_equal(second, x.T)
            del session
            np.testing.assert_array_equal(second, x.T)

    @on_devices
    def test_bfloat16_by_dlpack(self, device):
        session = sardonyx.Session(models.moving(TensorProto.BFLOAT16), device)
        x = np.arange(60_000).reshape(300, 200).astype(ml_dtypes.bfloat16)
        # What goes out by DLPack comes in by it.
        out = sardonyx.DeviceArray(x, device)
        self.assertEqual(out.__dlpack_device__(), (1, 0))
        self.assertEqual(type(out.__dlpack__()).__name__, "PyCapsule")
        lent = OnlyDlpack(out)
        np.testing.assert_array_equal(session.run({"x": lent}).y, x.T)
        self.assertEqual(sardonyx._native.lent(lent)[0], "bfloat16")
        again = sardonyx.DeviceArray(lent, device)
        del out
        np.testing.assert_array_equal(again.numpy(), x)
        for empty in (np.zeros((0, 3), ml_dtypes.bfloat16), np.zeros((), ml_dtypes.bfloat16), np.ones((2, 1), ml_dtypes.float8_e5m2)):
            np.testing.assert_array_equal(sardonyx.DeviceArray(OnlyDlpack(sardonyx.DeviceArray(empty)), "cpu").numpy(), empty)
        with self.assertRaises(BufferError):
            lent.array.__dlpack__(dl_device=(2, 0))
        # A capsule is taken once.
        capsule = lent.__dlpack__()
        twice = OnlyDlpack(lent.array)
        twice.__dlpack__ = lambda: capsule
        self.assertEqual(sardonyx._native.lent(twice)[0], "bfloat16")
        with self.assertRaises(ValueError):
            sardonyx._native.lent(twice)

    @on_devices
    def test_arrays_live_as_long_as_they_are_needed(self, device):
        session = sardonyx.Session(models.add(), device)
        x = np.ones(100_000, np.float32)
        before = sys.getrefcount(x)
        # The array of this call has no other name.
        outputs = session.run({"a": np.full(100_000, 3, np.float32), "b": x})
        asyncio.run(session.run_async({"a": x, "b": x}))
        placed = session.run_to_device({"a": x, "b": x})
        with self.assertRaises(sardonyx.InputError):
            session.run({"a": x})
        self.assertEqual(sys.getrefcount(x), before)
        del session
        self.assertEqual((outputs.c.min(), placed.c.numpy().max()), (4, 2))

    @on_devices
    def test_arrays_of_other_libraries(self, device):
        class WithArray:
            def __array__(self, dtype=None, copy=None):
                return np.float32([-1, 4])

        session = sardonyx.Session(models.unary(), device)
        for x in (OnlyDlpack(np.float32([-1, 4])), WithArray()):
            y = session.run({"x": x}).y
            np.testing.assert_array_equal(np.from_dlpack(y), [0, 4])

    @on_devices
    def test_what_stays_is_not_the_caller_s(self, device):
        x = np.ones(50_000, np.float32)
        same = sardonyx.Session(models.unary("Identity"), device).run_to_device({"x": x}).y
        first = sardonyx.Session(models.first(), device).run_to_device({"xs": [x]}).first
        x[:] = 7
        self.assertEqual((same.numpy().max(), first.numpy().max()), (1, 1))

    def test_types_that_onnx_does_not_have(self):
        session = sardonyx.Session(models.unary(), "cpu")
        for dtype in ("datetime64[s]", np.longdouble, ml_dtypes.float8_e3m4, "V4", "S3"):
            with self.assertRaisesRegex(sardonyx.TensorError, "ONNX has no element type for"):
                session.run({"x": np.zeros(2, dtype)})

    def test_types_that_numpy_does_not_have(self):
        made = models.model(
            [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16), helper.make_node("Neg", ["x"], ["z"])],
            [("x", FLOAT, ("n",))],
            [("y", TensorProto.BFLOAT16, ("n",)), ("z", FLOAT, ("n",))],
        )
        session = sardonyx.Session(made, "cpu")
        with unittest.mock.patch.dict(sys.modules, {"ml_dtypes": None}):
            self.assertEqual(session.run({"x": [1]}, ["z"]).z, -1)
            with self.assertRaisesRegex(sardonyx.TensorError, "numpy has no bfloat16; install ml_dtypes"):
                session.run({"x": [1]})
        self.assertEqual(session.run({"x": [1]}).y.dtype, ml_dtypes.bfloat16)

    def test_outputs_are_pickled(self):
        outputs = sardonyx.Session(models.add(), "cpu").run({"a": [1], "b": [2]})
        for again in (pickle.loads(pickle.dumps(outputs)), copy.deepcopy(outputs)):
            self.assertEqual((type(again), list(again), float(again.c[0])), (sardonyx.Outputs, ["c", "d"], 3))

    @on_devices
    def test_containers(self, device):
        session = sardonyx.Session(models.sequence(), device)
        xs, x = [np.float32([1]), np.float32([2, 3])], np.float32([4])
        outputs = session.run({"xs": xs, "x": x})
        self.assertEqual([each.tolist() for each in outputs.ys], [[1], [2, 3], [4]])
        self.assertEqual(session.run({"xs": [], "x": x}, ["first", "ys"]).first.tolist(), [4])
        self.assertEqual(list(session.run({"xs": [], "x": x}, ["ys"])), ["ys"])
        rows = sardonyx.Session(models.zipmap(), device).run({"x": np.float32([[0.25, 0.75], [1, 0]])}).z
        self.assertEqual(rows, [{"cat": 0.25, "dog": 0.75}, {"cat": 1.0, "dog": 0.0}])
        session = sardonyx.Session(models.optional(), device)
        self.assertFalse(session.run({"x": None}).y)
        self.assertTrue(session.run({"x": np.float32([1])}).y)


class Errors(unittest.TestCase):
    @on_devices
    def test_inputs(self, device):
        session = sardonyx.Session(models.add((2, "n")), device)
        one = np.ones((2, 1), np.float32)

        def caught(kind, feed):
            with self.assertRaises(kind) as caught:
                session.run(feed)
            self.assertIsInstance(caught.exception, sardonyx.InputError)
            self.assertIsInstance(caught.exception, ValueError)
            return caught.exception

        error = caught(sardonyx.MissingInputError, {"a": one})
        self.assertEqual(error.inputs[0]["name"], "b")
        error = caught(sardonyx.UnknownInputError, {"a": one, "b": one, "z": one})
        self.assertEqual((error.name, error.expected), ("z", ["a", "b"]))
        error = caught(sardonyx.InputDTypeError, {"a": one, "b": one.astype(np.float64)})
        self.assertEqual((error.name, error.expected, error.given), ("b", "float32", "float64"))
        self.assertEqual(str(error), "input 'b': is float64, and the model takes float32")
        error = caught(sardonyx.InputShapeError, {"a": one, "b": one[0]})
        self.assertEqual((error.expected, error.given), ([2, "n"], [1]))
        error = caught(sardonyx.DimensionError, {"a": one, "b": np.ones((2, 3), np.float32)})
        self.assertEqual((error.dimension, error.given, error.expected, error.other), ("n", 3, 1, "a"))

    def test_models(self):
        with self.assertRaises(FileNotFoundError) as caught:
            sardonyx.Model("no/such.onnx")
        self.assertIsInstance(caught.exception, sardonyx.IoError)
        self.assertEqual((caught.exception.path, caught.exception.errno), ("no/such.onnx", 2))
        with self.assertRaisesRegex(sardonyx.DecodeError, "^not an ONNX model"):
            sardonyx.Model(b"nothing")
        made = models.model([helper.make_node("Nothing", ["x"], ["y"])], [("x", FLOAT, (1,))], [("y", FLOAT, (1,))])
        with self.assertRaises(sardonyx.UnsupportedError) as caught:
            sardonyx.Session(made, "cpu")
        self.assertEqual([node["op"] for node in caught.exception.nodes], ["Nothing"])
        with self.assertRaisesRegex(ValueError, "no stage is called 'x'"):
            sardonyx.Model(models.unary()).explain("x")

    def test_limits(self):
        # A constant of 400 KB, from a few bytes: without limits of its own, it is computed ahead of time.
        grown = models.model([helper.make_node("ConstantOfShape", ["k"], ["c"]), helper.make_node("Add", ["c", "c"], ["y"])], [],
                             [("y", FLOAT, None)], initializers=[numpy_helper.from_array(np.array([100_000]), "k")])
        self.assertIn("Add", sardonyx.Model(grown, step_limit=0, byte_limit=0).explain("passes"))
        for limits in ({}, {"step_limit": 1 << 40, "byte_limit": 1 << 40}):
            self.assertNotIn("Add", sardonyx.Model(grown, **limits).explain("passes"))
        with self.assertRaises(OverflowError):
            sardonyx.Model(grown, step_limit=-1)

    @on_devices
    def test_a_node(self, device):
        nodes = [helper.make_node("Gather", ["k", "x"], ["y"], name="pick")]
        made = models.model(
            nodes,
            [("x", TensorProto.INT64, ("n",))],
            [("y", FLOAT, ("n",))],
            initializers=[numpy_helper.from_array(np.float32([5, 6]), "k")],
        )
        with self.assertRaises(sardonyx.NodeError) as caught:
            sardonyx.Session(made, device).run({"x": np.array([0, 7])})
        self.assertEqual((caught.exception.node, caught.exception.op, caught.exception.opset), ("pick", "Gather", 21))

    def test_devices(self):
        with self.assertRaises(sardonyx.NoAdapterError) as caught:
            sardonyx.Device("no such adapter")
        self.assertIn("no such adapter", caught.exception.wanted)
        with self.assertRaises(sardonyx.DeviceError):
            sardonyx.Session(models.unary(), "cpu").plan({"x": (3,)})

    @unittest.skipUnless(hasattr(os, "fork"), "this system does not fork")
    def test_a_device_does_not_survive_a_fork(self):
        session = sardonyx.Session(models.unary(), DEVICES[0])
        if session.device.is_reference:
            self.skipTest("the reference is no device")
        x = np.float32([1])
        session.run({"x": x})
        child = os.fork()
        if child == 0:
            try:
                session.run({"x": x})
            except sardonyx.DeviceError as error:
                os._exit(0 if "before this process was forked" in str(error) else 2)
            os._exit(1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


class Looking(unittest.TestCase):
    """What a session tells of its work."""

    def setUp(self):
        self.session = sardonyx.Session(models.add(), DEVICES[0])
        if self.session.device.is_reference:
            self.skipTest("the reference makes no plans")
        self.feed = {"a": np.float32([1, 2]), "b": np.float32([3, 4])}

    def test_plans(self):
        plan = self.session.plan({"a": (7,), "b": (7,)})
        self.assertEqual((plan["nodes"], plan["segments"], plan["host_nodes"]), (2, 1, []))
        self.assertEqual(plan, self.session.plan({name: np.ones(7, np.float32) for name in "ab"}))
        self.session.prepare({"a": (7,), "b": (7,)})
        before = self.session.device.counters()["pipelines"]
        self.session.run({name: np.ones(7, np.float32) for name in "ab"})
        self.assertEqual(self.session.device.counters()["pipelines"], before)

    def test_why(self):
        found = self.session.why("c", self.feed)
        self.assertEqual((found["node"], found["op"]), ("c", "Add"))
        self.assertIn("fused", [finding["saving"] for finding in found["findings"]])
        with self.assertRaises(sardonyx.NoNodeError):
            self.session.why("nothing", self.feed)

    def test_texts(self):
        self.assertIn("Add", self.session.explain("graph"))
        self.assertIn("fn main", self.session.explain("wgsl", {"a": (7,), "b": (7,)}))
        self.assertEqual(self.session.explain("program", self.feed), self.session.explain("program", {"a": (2,), "b": (2,)}))

    def test_measurements(self):
        measured = self.session.bench(self.feed, runs=5, warmup=1)
        self.assertEqual((len(measured["wall_ms"]), measured["during_runs"]["submits"]), (5, 5))
        self.assertEqual(measured["during_runs"]["buffers"], 0)
        self.assertEqual(measured["latency_ms"]["min"], min(measured["wall_ms"]))
        memory = self.session.memory()
        self.assertGreater(memory["arena"], 0)
        self.session.trim()
        self.assertEqual(self.session.memory()["arena"], 0)

    def test_times(self):
        try:
            times = self.session.profile(self.feed)
        except sardonyx.DeviceError as error:
            self.skipTest(str(error))
        self.assertEqual(len(times), self.session.plan(self.feed)["dispatches"])
        self.assertTrue(all(time["nanoseconds"] >= 0 for time in times))

    def test_verification(self):
        found = self.session.verify(self.feed)
        self.assertEqual([value["op"] for value in found["values"]], ["Add", "Mul"])
        self.assertIsNone(found["divergence"])
        self.assertEqual(found["tolerances"], {"node": 1e-3, "output": 1e-3})

    def test_adapters(self):
        adapters = sardonyx.devices()
        self.assertIn(self.session.device.adapter["name"], [adapter["name"] for adapter in adapters])


class OnTheDevice(unittest.TestCase):
    @on_devices
    def test_arrays_on_the_device(self, device):
        session = sardonyx.Session(models.add(), device)
        x = np.arange(30000, dtype=np.float32)
        a = sardonyx.DeviceArray(x, device)
        self.assertEqual((a.dtype, a.shape, repr(a)), ("float32", (30000,), "DeviceArray(float32[30000])"))
        x[:] = 0
        self.assertEqual(a.numpy()[-1], 29999)
        zeros = sardonyx.DeviceArray.zeros([30000], device=device)
        outputs = session.run_to_device({"a": a, "b": zeros})
        self.assertIsInstance(outputs.c, sardonyx.DeviceArray)
        again = session.run({"a": outputs.c, "b": outputs.d})
        np.testing.assert_array_equal(again.c, a.numpy())
        np.testing.assert_array_equal(np.from_dlpack(outputs.c), np.asarray(a))

    @on_devices
    def test_a_growing_cache(self, device):
        session = sardonyx.Session(models.cache(), device)
        tokens = np.arange(20, dtype=np.float32).reshape(5, 1, 4)
        past, sums = sardonyx.DeviceArray.zeros([0, 4], device=device), []
        for token in tokens:
            outputs = session.run_to_device({"past": past, "token": token})
            past = outputs.present
            sums.append(outputs.sum.numpy())
        np.testing.assert_array_equal(past.numpy(), tokens[:, 0])
        np.testing.assert_array_equal(sums, tokens[:, 0].cumsum(0))

    def test_the_loop_of_the_readme(self):
        text = (pathlib.Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
        begin = text.index("past = sardonyx.DeviceArray.zeros(")
        loop = text[begin : text.index("```", begin)]
        tokens = np.arange(3 * 512, dtype=np.float32).reshape(3, 1, 8, 1, 64)
        names = {"sardonyx": sardonyx, "session": sardonyx.Session(models.decoder()), "tokens": tokens}
        exec(loop, names)
        np.testing.assert_array_equal(names["past"].numpy(), np.concatenate(tokens, axis=2))
        np.testing.assert_array_equal(names["logits"], tokens.sum((0, 3)))

    def test_bindings(self):
        session = sardonyx.Session(models.cache(), DEVICES[0])
        if session.device.is_reference:
            with self.assertRaises(sardonyx.DeviceError):
                session.bind({"past": np.ones((1, 4), np.float32), "token": np.ones((1, 4), np.float32)})
            return
        tokens = np.arange(20, dtype=np.float32).reshape(5, 1, 4)
        binding = session.bind({"past": np.empty((0, 4), np.float32), "token": tokens[0]})
        for step, token in enumerate(tokens):
            binding.set("token", token)
            binding.run()
            np.testing.assert_array_equal(binding.read("sum"), tokens[: step + 1, 0].sum(0))
            binding.set("past", binding.output("present"))
        with self.assertRaises(sardonyx.UnknownInputError):
            binding.set("nothing", token)
        with self.assertRaises(sardonyx.OutputError):
            binding.output("nothing")


if __name__ == "__main__":
    unittest.main()

"""The interface of onnxruntime: each call is made on onnxruntime and on Sardonyx, and gives the same, or raises the same.

`SARDONYX_TEST_DEVICES` names the devices, separated by commas.
"""

import contextlib
import copy
import io
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import threading
import unittest
import warnings

import models
import numpy as np
import onnx
import onnxruntime as theirs
from onnx import TensorProto, helper, numpy_helper

import sardonyx.onnxruntime as ours

# What onnxruntime says of these calls is in what it raises.
theirs.set_default_logger_severity(4)

DEVICES = os.environ.get("SARDONYX_TEST_DEVICES", "auto,cpu").split(",")
FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING

RELU = models.unary(shape=("n",))
GRID = models.unary(shape=(2, "n"))
ADD = models.add()
IDS = models.unary("Identity", INT64)
TEXTS = models.unary("Identity", STRING)
FLAGS = models.unary("Identity", TensorProto.BOOL)
DEFAULT = models.model(
    [helper.make_node("Mul", ["x", "w"], ["y"])],
    [("x", FLOAT, ("n",)), ("w", FLOAT, (1,))],
    [("y", FLOAT, ("n",))],
    initializers=[numpy_helper.from_array(np.float32([3]), "w")],
)
X = np.float32([-1, 2])


def plain(value):
    """A value of a run so that two are equal where they look the same."""
    if isinstance(value, np.ndarray):
        return (type(value).__name__, value.dtype.str, value.shape, repr(value.tolist()))
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [plain(each) for each in value])
    return (type(value).__name__, value)


def outcome(ort, call):
    """What a call gives, or the class that it raises with the class above it."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return plain(call(ort))
        except Exception as error:
            return ("raises", type(error).__name__, type(error).__base__.__name__)


class Same(unittest.TestCase):
    maxDiff = None

    def same(self, call, name=""):
        expected = outcome(theirs, call)
        for device in DEVICES:
            with self.subTest(name, device=device):
                ours.use(device)
                self.assertEqual(outcome(ours, call), expected)
        return expected

    def runs(self, model, feed, names=None):
        """Runs the model on both; a feed may be made for each runtime."""

        def call(ort):
            session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
            return session.run(names, feed(ort) if callable(feed) else feed)

        return self.same(call, repr((feed, names)))


def session(ort, model=RELU, **more):
    return ort.InferenceSession(model, **more)


class Feeds(Same):
    def test_what_a_run_takes(self):
        class WithArray:
            def __array__(self, dtype=None, copy=None):
                return X

        class Own(np.ndarray):
            pass

        frozen = X.copy()
        frozen.flags.writeable = False
        for value in (
            *(X, X[::-1], np.arange(12, dtype=np.float32)[::3], frozen, X.view(Own), np.empty(0, np.float32)),
            *(X.astype(np.float64), X.astype(np.float16), X.astype(np.int32), X.astype(bool), X.astype(str)),
            *([-1, 2], [-1.5, 2], [], [X[0], X[1]], [1e40], ["a", "b"], [[1], [2, 3]], [True], [None]),
            *((-1, 2), range(2), 3, 2.5, np.float32(1), memoryview(X), WithArray(), None, b"ab", "ab", {"x": 1}, {1, 2}),
            np.ones((1, 1), np.float32),
        ):
            self.runs(RELU, {"x": value})

    def test_lists_take_the_declared_type(self):
        for value in ([1, 2], [1.9, -1.9], [], [True], [2**70], [[1, 2], [3]], ["1", "x"], [np.int32(3)]):
            self.runs(IDS, {"x": value})
        for value in ([1, 0], [True, False], np.array([1, 0], np.uint8)):
            self.runs(FLAGS, {"x": value})

    def test_shapes(self):
        for shape in ((2, 3), (2, 0), (3, 3), (2,), (2, 3, 1), ()):
            self.runs(GRID, {"x": np.ones(shape, np.float32)})
        scalar = models.unary("Identity", INT64, ())
        for value in (np.array(3), np.int64(3), 3):
            self.runs(scalar, {"x": value})
        # onnxruntime takes any shape for a scalar; here it is one element.
        for device in DEVICES:
            ours.use(device)
            for value in ([3], np.array([3]), [[3]]):
                self.assertEqual(session(ours, scalar).run(None, {"x": value})[0].tolist(), 3)

    def test_texts(self):
        for value in (
            *(np.array(["a", "é"], object), np.array(["a", "bc"]), ["a", "bc"], np.array(["a", 1, None], object)),
            *(np.array([b"ab"], object), [], np.array([], object), np.float32([1]), np.array([["a"]])),
        ):
            self.runs(TEXTS, {"x": value})

    def test_names(self):
        for feed in (
            *({}, {"x": X, "z": X}, {"z": X}, {"x": X, "y": X}, {"x": None}, [("x", X)], None, "x"),
            {1: X},
        ):
            self.runs(RELU, feed)
        self.runs(ADD, {"b": X, "a": X})
        self.runs(ADD, {"a": X})
        self.runs(DEFAULT, {"x": X})
        self.runs(DEFAULT, {"x": X, "w": np.float32([5])})

    def test_values(self):
        for ort_value in (
            lambda ort: {"x": ort.OrtValue.ortvalue_from_numpy(X)},
            lambda ort: {"x": ort.OrtValue.ortvalue_from_numpy(X.astype(np.int32))},
        ):
            self.runs(RELU, ort_value)

    def test_no_inputs_at_all(self):
        made = models.model(
            [helper.make_node("Add", ["k", "k"], ["y"])],
            [],
            [("y", FLOAT, (2,))],
            initializers=[numpy_helper.from_array(X, "k")],
        )
        self.runs(made, {})
        self.runs(made, {}, ["y"])

    def test_sequences_and_maps(self):
        made = models.sequence()
        for xs in ([], [X], [X, X[:1]], (X,), X):
            self.runs(made, {"xs": xs, "x": X})
        self.runs(made, {"xs": [X], "x": X}, ["first"])
        self.runs(models.zipmap(), {"x": np.float32([[0.25, 0.75]])})


    def test_lists_of_texts(self):
        for value in ([b"a"], [None, 1], [["a"], ["b", "c"]], [["a", "b"]], []):
            self.runs(TEXTS, {"x": value})


class Wanted(Same):
    def test_names_of_outputs(self):
        feed = {"a": X, "b": X}
        for names in (
            *(None, [], (), ["d"], ["d", "c"], ("c",), ["c", "c", "d"], {"d": 1}, {"d": 1}.keys(), "", 0),
            *("c", ["e"], [None], ["c", "e"], [1], ["a"], b"c"),
        ):
            self.runs(ADD, feed, names)


class Outputs(Same):
    def test_they_are_the_caller_s_own(self):
        made = models.model(
            [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["k"], ["z"])],
            [("x", FLOAT, ("n",))],
            [("y", FLOAT, ("n",)), ("z", FLOAT, (2,))],
            initializers=[numpy_helper.from_array(X, "k")],
        )

        def call(ort):
            x = np.ones(30000, np.float32)
            own = session(ort, made)
            first = own.run(None, {"x": x})
            facts = [(each.flags.writeable, each.flags.c_contiguous) for each in first]
            for each in first:
                each[:] = 7
            second = own.run(None, {"x": x})
            del own
            return [facts, float(x.max()), float(second[0].max()), second[1]]

        self.same(call)

    def test_types(self):
        for kind in (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT8, TensorProto.UINT64, TensorProto.BOOL):
            made = models.model(
                [helper.make_node("Cast", ["x"], ["y"], to=kind)], [("x", FLOAT, ("n",))], [("y", kind, ("n",))]
            )
            self.runs(made, {"x": np.float32([0, 1, 3])})

    def test_types_that_numpy_does_not_have(self):
        small = "FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ FLOAT8E8M0 BFLOAT16 INT4 UINT4 INT2 UINT2"
        for name in small.split():
            kind = getattr(TensorProto, name)
            made = models.model(
                [helper.make_node("Cast", ["x"], ["y"], to=kind)], [("x", FLOAT, ("n",))], [("y", kind, ("n",))], opset=25
            )
            x = np.float32([0.5, 1, 1.5, 2])

            def told(ort):
                try:
                    return session(ort, made).run(None, {"x": x})
                except RuntimeError as error:
                    return str(error)

            def value(ort, read):
                (y,) = session(ort, made).run_with_ort_values(["y"], {"x": ort.OrtValue.ortvalue_from_numpy(x)})
                return y.numpy() if read else [y.data_type(), list(y.shape())]

            def bound(ort, read):
                own = session(ort, made)
                binding = own.io_binding()
                binding.bind_cpu_input("x", x)
                binding.bind_output("y")
                own.run_with_iobinding(binding)
                return binding.copy_outputs_to_cpu() if read else binding.get_outputs()[0].data_type()

            self.same(told, name)
            for read in (True, False):
                self.same(lambda ort: value(ort, read), name)
                self.same(lambda ort: bound(ort, read), name)

    def test_scalars_stay_arrays(self):
        made = models.model(
            [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], [("x", FLOAT, ("n",))], [("y", FLOAT, ())]
        )
        self.runs(made, {"x": X})


class Models(Same):
    def test_what_cannot_be_loaded(self):
        unknown = models.model([helper.make_node("Nothing", ["x"], ["y"])], [("x", FLOAT, (1,))], [("y", FLOAT, (1,))])
        foreign = models.model(
            [helper.make_node("Nothing", ["x"], ["y"], domain="own")],
            [("x", FLOAT, (1,))],
            [("y", FLOAT, (1,))],
            domains=["own"],
        )
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.onnx")
            models.save(path, RELU)
            damaged = os.path.join(folder, "damaged.onnx")
            pathlib.Path(damaged).write_bytes(b"\xff\xff\xff nothing")
            for source in (
                *(path, pathlib.Path(path), RELU, os.path.join(folder, "none.onnx"), folder, damaged),
                *(b"", b"nothing", b"\x00", unknown, foreign, bytearray(RELU), memoryview(RELU), io.BytesIO(RELU)),
                *(3, None, onnx.load_from_string(RELU)),
            ):
                self.same(lambda ort: session(ort, source).run(None, {"x": X}), repr(source)[:60])

    def test_declarations(self):
        made = models.model(
            [helper.make_node("Relu", ["x"], ["y"])],
            [("x", FLOAT, ("batch", 3, None, 0, "floor(height/2 - 1/2)"))],
            [("y", FLOAT, ("batch", 3, None, 0, "floor(height/2 - 1/2)"))],
        )

        def declared(ort, model):
            own = session(ort, model)
            lists = (own.get_inputs(), own.get_outputs(), own.get_overridable_initializers())
            return [[(each.name, each.type, each.shape) for each in args] for args in lists]

        for model in (made, ADD, DEFAULT, IDS, TEXTS, models.sequence(), models.zipmap()):
            self.same(lambda ort: declared(ort, model))
        for kind in (
            *(TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16, TensorProto.UINT8, TensorProto.INT32),
            *(TensorProto.BOOL, TensorProto.FLOAT8E4M3FN),
        ):
            model = models.unary("Identity", kind)
            self.same(lambda ort: declared(ort, model))

        def fresh(ort):
            own = session(ort, made).get_inputs()[0]
            own.shape.append(1)
            return len(own.shape)

        self.same(fresh)

    def test_metadata(self):
        full = onnx.load_from_string(RELU)
        full.producer_name, full.domain, full.doc_string, full.model_version = "hand", "org.own", "a model", 7
        full.graph.doc_string = "a graph"
        helper.set_model_props(full, {"names": "{0: 'a'}", "character": "a\nb"})
        negative = copy.deepcopy(full)
        negative.model_version = -3

        def said(ort, model):
            meta = session(ort, model).get_modelmeta()
            names = ("producer_name", "graph_name", "domain", "description", "graph_description", "version")
            return [getattr(meta, name) for name in names] + [sorted(meta.custom_metadata_map.items())]

        for model in (RELU, full.SerializeToString(), negative.SerializeToString()):
            self.same(lambda ort: said(ort, model))

    def test_paths_and_bytes_are_kept(self):
        with tempfile.TemporaryDirectory() as folder:
            path = models.save(os.path.join(folder, "model.onnx"), RELU)
            for source in (path, pathlib.Path(path), RELU):
                self.same(lambda ort: [session(ort, source)._model_path, session(ort, source)._model_bytes])


class Constructors(Same):
    def test_providers(self):
        def made(ort, *arguments, **more):
            own = ort.InferenceSession(RELU, *arguments, **more)
            return [own.get_providers(), sorted(own.get_provider_options()), own.run(None, {"x": X})]

        cpu = "CPUExecutionProvider"
        for arguments, more in (
            *(((), {}), ((None, None, None), {}), ((None, [cpu]), {}), ((None, (cpu,)), {})),
            *(((), {"providers": given}) for given in ([], None, [cpu, cpu], [(cpu, {})], [(cpu, {"a": True, "b": None})])),
            ((), {"providers": ["CUDAExecutionProvider", cpu]}),
            ((), {"providers": ["CUDAExecutionProvider"], "enable_fallback": 0}),
            ((), {"providers": [("CUDAExecutionProvider", {"device_id": 0}), cpu]}),
            ((), {"providers": ["CUDAExecutionProvider", cpu], "provider_options": [{"device_id": 0}, {}]}),
            *(((), {"providers": given}) for given in (["Nobody"], [[cpu, {}]], {cpu}, cpu, [3])),
            *(((), {"providers": given, "enable_fallback": 0}) for given in (["Nobody"], [[cpu, {}]], {cpu})),
            ((), {"providers": [cpu], "provider_options": [{}, {}]}),
            ((), {"providers": [cpu], "provider_options": {}}),
            ((), {"providers": [cpu], "provider_options": [{}, {}], "enable_fallback": 0}),
            ((), {"session_options": 3, "foo": 1}),
        ):
            self.same(lambda ort: made(ort, *arguments, **more), repr((arguments, more)))

    def test_a_banner_says_what_became_of_a_request(self):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), self.assertWarns(UserWarning):
            ours.InferenceSession(RELU, providers=["Nobody"])
        self.assertIn("EP Error", printed.getvalue())
        with self.assertWarnsRegex(UserWarning, "CUDAExecutionProvider.*not in available"):
            ours.InferenceSession(RELU, providers=["CUDAExecutionProvider"])

    def test_the_first_provider_starts(self):
        first = ours.get_available_providers()[0]
        own = ours.InferenceSession(RELU, providers=[first])
        self.assertEqual(own.get_providers(), [first, "CPUExecutionProvider"])
        self.assertIn("CPUExecutionProvider", ours.get_available_providers())
        self.assertLess(set(ours.get_available_providers()), set(ours.get_all_providers()))
        for device in DEVICES:
            own = ours.InferenceSession(RELU, providers=[(first, {"device": device})])
            self.assertEqual(own.run(None, {"x": X})[0].tolist(), [0, 2])

    def test_sessions_are_objects(self):
        def call(ort):
            class Own(ort.InferenceSession):
                def __init__(self, path, **more):
                    super().__init__(path, **more)
                    self.path = path

            own = Own(RELU, providers=["CPUExecutionProvider"])
            own.anything = 3
            also = copy.copy(own)
            facts = [isinstance(own, ort.InferenceSession), own.anything, also.run(None, {"x": X})]
            for act in (pickle.dumps, copy.deepcopy):
                try:
                    act(own)
                    facts.append("no error")
                except TypeError as error:
                    facts.append(type(error).__name__)
            facts.append(own.get_session_options() is own.get_session_options())
            inner = ort.capi.onnxruntime_pybind11_state.InferenceSession
            return [*facts, inner is ort.InferenceSession]

        self.same(call)

    def test_other_providers_later(self):
        def call(ort, *arguments):
            own = session(ort)
            own.set_providers(*arguments)
            return [own.get_providers(), own.run(None, {"x": X})]

        self.same(lambda ort: call(ort, ["CPUExecutionProvider"]))
        self.same(lambda ort: call(ort, ["CPUExecutionProvider"], [{}]))


class Options(Same):
    FIELDS = [name for name in dir(ours.SessionOptions) if not name.startswith("_") and not callable(getattr(ours.SessionOptions, name))]

    def test_defaults(self):
        def defaults(ort):
            found = []
            for name in self.FIELDS:
                value = getattr(ort.SessionOptions(), name)
                found.append((name, getattr(value, "name", value)))
            run = ort.RunOptions()
            return [
                found,
                [getattr(run, name) for name in ("log_severity_level", "log_verbosity_level", "logid", "terminate")],
                run.only_execute_path_to_fetches,
                hasattr(ort.SessionOptions, "intra_op_num_threads"),
                hasattr(ort.SessionOptions, "nothing"),
            ]

        self.same(defaults)

    def test_setters(self):
        def set_to(ort, name, value):
            options = ort.SessionOptions()
            setattr(options, name, value(ort) if callable(value) else value)
            found = getattr(options, name)
            return getattr(found, "name", found)

        level = lambda ort: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        for name, value in (
            *(("intra_op_num_threads", value) for value in (2, -1, np.int64(3), True, "2", 2.0, None, 2**40)),
            *(("enable_mem_pattern", value) for value in (False, 0, 1, np.int64(0), "yes", np.bool_(False))),
            *(("graph_optimization_level", value) for value in (level, 1, 99, None)),
            ("graph_optimization_level", lambda ort: ort.GraphOptimizationLevel(99)),
            ("execution_mode", lambda ort: ort.ExecutionMode.ORT_PARALLEL),
            *(("execution_mode", 1), ("logid", "a"), ("logid", 3), ("nothing", 1), ("log_severity_level", 3)),
            ("profile_file_prefix", "p"),
        ):
            self.same(lambda ort: set_to(ort, name, value), f"{name} {value}")

    def test_entries(self):
        def entry(ort, *arguments):
            options = ort.SessionOptions()
            options.add_session_config_entry(*arguments)
            return options.get_session_config_entry("a")

        for arguments in (("a", "1"), ("b", "1"), ("a", 1), (1, "a")):
            self.same(lambda ort: entry(ort, *arguments))

    def test_options_are_no_values(self):
        for act in (copy.copy, copy.deepcopy, pickle.dumps):
            self.same(lambda ort: act(ort.SessionOptions()))

    def test_sizes_of_dimensions(self):
        def call(ort, size):
            options = ort.SessionOptions()
            options.add_free_dimension_override_by_name("n", 4)
            own = session(ort, sess_options=options)
            return [own.get_inputs()[0].shape, own.run(None, {"x": np.ones(size, np.float32)})]

        self.same(lambda ort: call(ort, 4))
        self.same(lambda ort: call(ort, 3))

    def test_runs_that_are_ended(self):
        def call(ort, terminate):
            options = ort.RunOptions()
            options.terminate = terminate
            return session(ort).run(None, {"x": X}, options)

        self.same(lambda ort: call(ort, False))
        self.same(lambda ort: call(ort, True))

    def test_profiles(self):
        def call(ort):
            options = ort.SessionOptions()
            options.enable_profiling = True
            with tempfile.TemporaryDirectory() as folder:
                options.profile_file_prefix = os.path.join(folder, "profile")
                own = session(ort, sess_options=options)
                own.run(None, {"x": X})
                path = own.end_profiling()
                return [os.path.exists(path), session(ort).end_profiling()]

        self.same(call)


    def test_what_options_say(self):
        for kind in ("GraphOptimizationLevel", "ExecutionMode", "ExecutionOrder"):
            self.same(lambda ort: [str(member) for member in getattr(ort, kind).__members__.values()], kind)
        for options, name, value in (("SessionOptions", "logid", b"a"), ("SessionOptions", "intra_op_num_threads", np.bool_(True))):

            def kept(ort):
                made = getattr(ort, options)()
                setattr(made, name, value)
                return getattr(made, name)

            self.same(kept, name)
        for key, value in (("a", "b"), ("a" * 1025, "b"), ("", "b"), ("a", "b" * 8193), ("a", 1)):
            self.same(lambda ort: ort.SessionOptions().add_session_config_entry(key, value), (key, value))
        self.same(lambda ort: ort.RunOptions().get_run_config_entry("a"))
        self.same(lambda ort: session(ort).run(None, {"x": X}, 3))


class Functions(Same):
    def test_functions(self):
        for call in (
            *(lambda ort: ort.get_device(), lambda ort: ort.__version__.split(".")[:2]),
            *(lambda ort: ort.set_default_logger_severity(3), lambda ort: ort.set_default_logger_severity(5)),
            *(lambda ort: ort.set_seed(3), lambda ort: ort.disable_telemetry_events()),
            lambda ort: ort.capi._pybind_state.set_default_logger_severity(3),
            lambda ort: "CPUExecutionProvider" in ort.capi._pybind_state.get_available_providers(),
            lambda ort: int(ort.GraphOptimizationLevel.ORT_ENABLE_ALL),
            lambda ort: [level.name for level in map(ort.GraphOptimizationLevel, (0, 1, 2, 3, 99))],
        ):
            self.same(call)

    def test_exceptions(self):
        names = (
            *("Fail", "InvalidArgument", "NoSuchFile", "NoModel", "EngineError", "RuntimeException", "InvalidProtobuf"),
            *("ModelLoaded", "NotImplemented", "InvalidGraph", "EPFail", "NotFound", "DeviceReset", "ModelLoadCanceled"),
            "ModelRequiresCompilation",
        )
        for name in names:
            self.same(lambda ort: getattr(ort.capi.onnxruntime_pybind11_state, name).__mro__[1].__name__)

        def text(ort):
            try:
                session(ort).run(None, {"x": X, "z": X})
            except ort.capi.onnxruntime_pybind11_state.InvalidArgument as error:
                return str(error).split(" : ")[:3]

        self.same(text)


class Values(Same):
    def test_values(self):
        def call(ort):
            array = np.float32([[1, 2, 3]])
            value = ort.OrtValue.ortvalue_from_numpy(array)
            value.update_inplace(np.float32([[4, 5, 6]]))
            again = value.numpy()
            kinds = [value.is_tensor(), value.has_value(), value.is_sparse_tensor(), value.is_tensor_sequence()]
            return [array, again, list(value.shape()), value.data_type(), value.device_name(), kinds]

        self.same(call)
        for made in (
            lambda ort: ort.OrtValue.ortvalue_from_numpy([1, 2]),
            lambda ort: ort.OrtValue.ortvalue_from_numpy(np.array(["a"])),
            lambda ort: ort.OrtValue.ortvalue_from_numpy(X, "cuda", 0),
            lambda ort: ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32).shape(),
        ):
            self.same(made)

    def test_types_of_values(self):
        def value(ort, array=X):
            return ort.OrtValue.ortvalue_from_numpy(array)

        for dtype in ("float32", "float64", "float16", "int8", "int64", "uint16", "bool"):
            self.same(lambda ort: (value(ort, X.astype(dtype)).element_type(), value(ort, X.astype(dtype)).data_type()), dtype)
        for kind in (np.float32, "int64", 1, 7, 9, 16, 8, 99):
            self.same(lambda ort: ort.OrtValue.ortvalue_from_shape_and_type([2], kind).data_type(), kind)
        words = np.array([1, 2], np.uint16)
        self.same(lambda ort: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(words, TensorProto.BFLOAT16).data_type())

    def test_bindings(self):
        def bound(ort, act):
            own = session(ort, ADD)
            binding = own.io_binding()
            binding.bind_cpu_input("a", X)
            act(ort, own, binding)
            own.run_with_iobinding(binding)
            return [*binding.copy_outputs_to_cpu(), len(binding.get_outputs())]

        def plain_outputs(ort, own, binding):
            binding.bind_ortvalue_input("b", ort.OrtValue.ortvalue_from_numpy(X))
            binding.bind_output("d")
            binding.bind_output("c", "cpu")

        def addresses(ort, own, binding):
            binding.bind_input("b", "cpu", 0, np.float32, X.shape, X.ctypes.data)
            binding.synchronize_inputs()
            self.room = np.zeros(2, np.float32)
            binding.bind_output("c", "cpu", 0, np.float32, (2,), self.room.ctypes.data)

        def values(ort, own, binding):
            binding.bind_cpu_input("b", X)
            binding.bind_ortvalue_output("c", ort.OrtValue.ortvalue_from_numpy(np.zeros(2, np.float32)))

        def missing(ort, own, binding):
            binding.bind_output("c")

        def unknown(ort, own, binding):
            binding.bind_cpu_input("z", X)

        def wrong(ort, own, binding):
            binding.bind_cpu_input("b", X.astype(np.int32))
            binding.bind_output("c")

        for act in (plain_outputs, addresses, values, missing, unknown, wrong):
            self.same(lambda ort: bound(ort, act), act.__name__)

        def into(ort):
            bound(ort, addresses)
            return self.room

        self.same(into)

    def test_calls_back(self):
        def call(ort, feed):
            done, found = threading.Event(), []

            def back(outputs, user_data, error):
                found.extend([plain(outputs), user_data, bool(error)])
                done.set()

            session(ort).run_async(None, feed, back, "mine")
            self.assertTrue(done.wait(60))
            return found

        self.same(lambda ort: call(ort, {"x": X}))
        self.same(lambda ort: call(ort, {"x": X.astype(np.int32)}))


class Installed(unittest.TestCase):
    """Programs that import onnxruntime and are given Sardonyx."""

    PROGRAM = """
import importlib.metadata, importlib.util, sys
import onnxruntime as ort
from onnxruntime import InferenceSession, capi
import onnxruntime.capi.onnxruntime_pybind11_state as state
from onnxruntime.capi._pybind_state import get_available_providers
assert ort.__file__.endswith("__init__.py") and importlib.util.find_spec("onnxruntime") is not None
assert importlib.metadata.version("onnxruntime") == ort.__version__
assert importlib.metadata.distribution("onnxruntime").metadata["Name"] == "onnxruntime"
assert state.Fail is ort.capi.onnxruntime_pybind11_state.Fail
for name in ("quantization", "transformers"):
    try:
        __import__("onnxruntime." + name)
        raise SystemExit("onnxruntime." + name + " was imported")
    except ImportError as error:
        assert "part of onnxruntime itself" in str(error), error
try:
    import onnxruntime.nothing
    raise SystemExit("onnxruntime.nothing was imported")
except ModuleNotFoundError:
    pass
import numpy, sardonyx
assert importlib.metadata.version("numpy") == numpy.__version__
print(get_available_providers()[0], sys.argv[1:], InferenceSession(sys.argv[1]).run(None, {"x": [-1, 2]})[0].tolist())
"""

    def run_with(self, folder, *arguments):
        environment = {**os.environ, "SARDONYX_DEVICE": DEVICES[0]}
        run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=folder, env=environment)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout.strip()

    def test_programs(self):
        with tempfile.TemporaryDirectory() as folder:
            models.save(os.path.join(folder, "model.onnx"), RELU)
            pathlib.Path(folder, "program.py").write_text(self.PROGRAM)
            expected = "SardonyxExecutionProvider ['model.onnx'] [0.0, 2.0]"
            started = self.run_with(folder, "-m", "sardonyx.onnxruntime", "program.py", "model.onnx")
            self.assertEqual(started, expected)
            self.assertEqual(self.run_with(folder, "-m", "sardonyx.onnxruntime", "-m", "program", "model.onnx"), expected)
            first = "import sardonyx; sardonyx.install_as_onnxruntime()\n" + self.PROGRAM
            pathlib.Path(folder, "edited.py").write_text(first)
            self.assertEqual(self.run_with(folder, "edited.py", "model.onnx"), expected)

    def test_too_late(self):
        import sardonyx

        with self.assertRaisesRegex(RuntimeError, "has been imported already"):
            sardonyx.install_as_onnxruntime()


if __name__ == "__main__":
    unittest.main()

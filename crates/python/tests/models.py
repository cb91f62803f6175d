"""Small models for the tests."""

import onnx
from onnx import TensorProto, helper

FLOAT = TensorProto.FLOAT


def model(nodes, inputs, outputs, *, initializers=(), opset=21, domains=(), **more):
    """The bytes of a model of these nodes; inputs and outputs are (name, element type, shape) or value infos."""

    def infos(values):
        return [helper.make_tensor_value_info(*value) if isinstance(value, tuple) else value for value in values]

    graph = helper.make_graph(nodes, "graph", infos(inputs), infos(outputs), initializer=list(initializers))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10, **more)
    return made.SerializeToString()


def unary(op="Relu", dtype=FLOAT, shape=("n",), **attributes):
    """y = op(x)."""
    return model([helper.make_node(op, ["x"], ["y"], **attributes)], [("x", dtype, shape)], [("y", dtype, shape)])


def add(shape=("n",)):
    """c = a + b, d = c * b."""
    nodes = [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Mul", ["c", "b"], ["d"])]
    return model(nodes, [("a", FLOAT, shape), ("b", FLOAT, shape)], [("c", FLOAT, shape), ("d", FLOAT, shape)])


def products(count):
    """y is the product of x and itself, count times."""
    nodes = [helper.make_node("MatMul", [f"x{i}" if i else "x", "x"], [f"x{i + 1}" if i + 1 < count else "y"]) for i in range(count)]
    return model(nodes, [("x", FLOAT, ("n", "n"))], [("y", FLOAT, ("n", "n"))])


def moving(dtype):
    """y is x, transposed: a device moves each element, and computes nothing."""
    nodes = [helper.make_node("Transpose", ["x"], ["y"])]
    return model(nodes, [("x", dtype, ("a", "b"))], [("y", dtype, ("b", "a"))], opset=25)


def cache():
    """One step of a decoder's cache: present is past with a row more, and sum adds all rows."""
    nodes = [
        helper.make_node("Concat", ["past", "token"], ["present"], axis=0),
        helper.make_node("ReduceSum", ["present", "axis"], ["sum"], keepdims=0),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [0])
    inputs = [("past", FLOAT, ("p", 4)), ("token", FLOAT, (1, 4))]
    return model(nodes, inputs, [("present", FLOAT, ("q", 4)), ("sum", FLOAT, (4,))], initializers=[axis])


def decoder():
    """One step of a decoder with 8 heads of 64: present is past with a token more, and logits adds the tokens."""
    nodes = [
        helper.make_node("Concat", ["past", "token"], ["present"], axis=2),
        helper.make_node("ReduceSum", ["present", "axis"], ["logits"], keepdims=0),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [2])
    inputs = [("past", FLOAT, (1, 8, "p", 64)), ("token", FLOAT, (1, 8, 1, 64))]
    return model(nodes, inputs, [("present", FLOAT, (1, 8, "q", 64)), ("logits", FLOAT, (1, 8, 64))], initializers=[axis])


def sequence():
    """ys is xs with the tensor x at the end; first is its first element."""
    kind = helper.make_tensor_sequence_value_info
    zero = helper.make_tensor("zero", TensorProto.INT64, [], [0])
    nodes = [
        helper.make_node("SequenceInsert", ["xs", "x"], ["ys"]),
        helper.make_node("SequenceAt", ["ys", "zero"], ["first"]),
    ]
    inputs = [kind("xs", FLOAT, None), ("x", FLOAT, ("n",))]
    return model(nodes, inputs, [kind("ys", FLOAT, None), ("first", FLOAT, None)], initializers=[zero])


def first():
    """The first tensor of a sequence."""
    zero = helper.make_tensor("zero", TensorProto.INT64, [], [0])
    nodes = [helper.make_node("SequenceAt", ["xs", "zero"], ["first"])]
    inputs = [helper.make_tensor_sequence_value_info("xs", FLOAT, None)]
    return model(nodes, inputs, [("first", FLOAT, None)], initializers=[zero])


def zipmap():
    """A map of labels to probabilities for each row."""
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, ()))
    )
    nodes = [helper.make_node("ZipMap", ["x"], ["z"], domain="ai.onnx.ml", classlabels_strings=["cat", "dog"])]
    outputs = [helper.make_value_info("z", kind)]
    return model(nodes, [("x", FLOAT, ("n", 2))], outputs, domains=["ai.onnx.ml"])


def optional():
    """y says whether x, which is an optional, has an element."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, ("n",)))
    nodes = [helper.make_node("OptionalHasElement", ["x"], ["y"])]
    return model(nodes, [helper.make_value_info("x", kind)], [("y", TensorProto.BOOL, ())])


def save(path, made):
    """Writes a model, and returns the path."""
    onnx.save_model(onnx.load_from_string(made), path)
    return path

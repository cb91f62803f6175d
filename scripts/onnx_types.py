#!/usr/bin/env python3
"""onnx_types.py FILE: writes the type constraints of ONNX's operators in all versions, out of the installed `onnx` package, and those
of ONNX Runtime's own operators, out of the installed `onnxruntime`.

A line is `Where 16 bool T T > T ; T=float32,int64,...`: the operator (with its domain, if that is not ONNX's) and its version, the dtypes of its inputs and of its
outputs, and what each named dtype may be. `T*` stands for any number of operands of one dtype. Types other than tensors are
left out, and so are versions that only say that the operator is deprecated.
"""
import os
import sys

import onnx.defs
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

NUMPY = {"float": "float32", "double": "float64"}


def dtype(text):
    inner = text[len("tensor("):-1]
    return NUMPY.get(inner, inner)


def line(schema, type_of, variadic):
    """The line of a schema; `type_of` gives an operand's type, and `variadic` whether there are any number of it."""
    allowed = {
        constraint.type_param_str: [dtype(text) for text in constraint.allowed_type_strs if text.startswith("tensor(")]
        for constraint in schema.type_constraints
    }

    def name(operand):
        text = type_of(operand)
        return (dtype(text) if text.startswith("tensor(") else text) + ("*" if variadic(operand) else "")

    inputs, outputs = (" ".join(map(name, side)) for side in (schema.inputs, schema.outputs))
    constraints = " ".join(f"{key}={','.join(sorted(dtypes))}" for key, dtypes in sorted(allowed.items()))
    operator = f"{schema.domain}.{schema.name}" if schema.domain else schema.name
    return f"{operator} {schema.since_version} {inputs} > {outputs} ; {constraints}"


def lines():
    many = onnx.defs.OpSchema.FormalParameterOption.Variadic
    own = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain in ("", "ai.onnx.ml", "ai.onnx.preview") and (schema.inputs or not schema.deprecated):
            yield line(schema, lambda operand: operand.type_str, lambda operand: operand.option == many)
    for schema in runtime.get_all_operator_schema():
        # ONNX Runtime keeps some operators of its own in ONNX's domain.
        if schema.domain == "com.microsoft" or schema.domain == "" and schema.name not in own:
            many = schema.FormalParameterOption.Variadic
            yield line(schema, lambda operand: operand.typeStr, lambda operand: operand.option == many)


def main():
    written = sorted(lines())
    part = sys.argv[1] + ".part"
    with open(part, "w") as file:
        file.write("\n".join(written) + "\n")
    os.replace(part, sys.argv[1])
    print(len(written), "versions of operators")


if __name__ == "__main__":
    main()

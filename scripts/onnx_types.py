#!/usr/bin/env python3
"""onnx_types.py FILE: writes the type constraints of ONNX's operators in all versions, out of the installed `onnx` package.

A line is `Where 16 bool T T > T ; T=float32,int64,...`: the operator and its version, the dtypes of its inputs and of its
outputs, and what each named dtype may be. `T*` stands for any number of operands of one dtype. Types other than tensors are
left out, and so are versions that only say that the operator is deprecated.
"""
import os
import sys

import onnx.defs

NUMPY = {"float": "float32", "double": "float64"}


def dtype(text):
    inner = text[len("tensor("):-1]
    return NUMPY.get(inner, inner)


def line(schema):
    allowed = {
        constraint.type_param_str: [dtype(text) for text in constraint.allowed_type_strs if text.startswith("tensor(")]
        for constraint in schema.type_constraints
    }

    def name(operand):
        text = operand.type_str
        star = "*" if operand.option == onnx.defs.OpSchema.FormalParameterOption.Variadic else ""
        return (dtype(text) if text.startswith("tensor(") else text) + star

    inputs, outputs = (" ".join(map(name, side)) for side in (schema.inputs, schema.outputs))
    constraints = " ".join(f"{key}={','.join(sorted(dtypes))}" for key, dtypes in sorted(allowed.items()))
    return f"{schema.name} {schema.since_version} {inputs} > {outputs} ; {constraints}"


def main():
    schemas = [schema for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""]
    lines = sorted(line(schema) for schema in schemas if not schema.deprecated or schema.inputs)
    part = sys.argv[1] + ".part"
    with open(part, "w") as file:
        file.write("\n".join(lines) + "\n")
    os.replace(part, sys.argv[1])
    print(len(lines), "versions of operators")


if __name__ == "__main__":
    main()

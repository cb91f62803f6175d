"""`python -m sardonyx.onnxruntime PROGRAM [ARGUMENTS]` runs a program on Sardonyx that imports onnxruntime.

PROGRAM is a file, or `-m MODULE`. SARDONYX_DEVICE names the device.
"""

from __future__ import annotations

import os
import runpy
import sys

from ._install import install_as_onnxruntime


def main() -> None:
    arguments = sys.argv[1:]
    is_module = arguments[:1] == ["-m"]
    program = arguments[int(is_module) :]
    if not program or program[0].startswith("-"):
        sys.exit((__doc__ or "").strip())
    install_as_onnxruntime()
    sys.argv = program
    if is_module:
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(program[0]))
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main()

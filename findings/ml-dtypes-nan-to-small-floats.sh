#!/usr/bin/env bash
# ml_dtypes 0.5.4 converts NaN to a float without NaN (float4_e2m1fn, float6_e2m3fn, float6_e3m2fn) as a zero of the OTHER sign:
# NaN with a clear sign bit becomes -0 (code 0x8 or 0x20), NaN with a set one +0 (code 0). One would expect the sign to stay, as
# it does for all other values, or the greatest number.
# Consequence: a converter that is to agree with it, in which the table of ONNX's cast for these types leaves NaN open, must
# treat NaN apart and not by its sign.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check ml_dtypes==0.5.4 numpy==2.3.5
"$folder/venv/bin/python" - <<'PYTHON'
import ml_dtypes
import numpy as np

nan = np.array([0x7FC00000, 0xFFC00000], np.uint32).view(np.float32)
signs = np.signbit(nan).tolist()
for name in ("float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"):
    small = nan.astype(getattr(ml_dtypes, name))
    back = small.astype(np.float32)
    print(f"{name}: NaN with sign {signs} becomes {back.tolist()} with sign {np.signbit(back).tolist()}")
    assert np.array_equal(back, [0, 0]), "no zero any more"
    assert np.signbit(back).tolist() == [not sign for sign in signs], "the sign stays now"
    for value in (-1.0, 1.0, -0.0, 0.0):
        same = np.float32(value).astype(getattr(ml_dtypes, name)).astype(np.float32)
        assert np.signbit(same) == np.signbit(np.float32(value)), "numbers keep their sign"
PYTHON

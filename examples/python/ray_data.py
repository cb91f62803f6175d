"""Reads all images of a folder, and writes which way up each is, on every node of a Ray cluster.

    python examples/python/ray_data.py IMAGES RESULTS

`RESULTS` becomes a folder of files of JSON lines. On a cluster, both are places that each node can reach. `MODELS` and `DEVICE` as in
service.py; `WORKERS` is the number of processes, each with a session of its own (2).
"""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Any

import numpy as np
import ray
from service import Refused, device, labels, pixels

import sardonyx

HERE = pathlib.Path(__file__).resolve().parent


class Classifier:
    """A worker: Ray makes it once in its process, and gives it batch after batch."""

    def __init__(self, models: str) -> None:
        self.session = sardonyx.Session(os.path.join(models, "ppocr2_cls.onnx"), device(ray.get_gpu_ids()))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        found = []
        for file in batch["bytes"]:
            try:
                found.append(pixels(file))
            except Refused as error:
                found.append(str(error))
        images = [image for image in found if not isinstance(image, str)]
        said = iter(labels(self.session.run({"x": np.stack(images)})[0]) if images else [])
        rows = [{"error": image} if isinstance(image, str) else next(said) for image in found]
        columns = {name: [row.get(name) for row in rows] for name in ("label", "score", "error")}
        return {"path": batch["path"], **columns}


def main(images: str, results: str) -> None:
    models = os.path.abspath(os.environ.get("MODELS", "data/models"))
    ray.init(runtime_env={"working_dir": str(HERE)}, ignore_reinit_error=True)
    files = ray.data.read_binary_files(images, include_paths=True)
    workers = ray.data.ActorPoolStrategy(size=int(os.environ.get("WORKERS", "2")))
    # One size of batches means one plan.
    labelled = files.map_batches(Classifier, fn_constructor_args=[models], batch_size=16, compute=workers)
    labelled.write_json(results)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The classifier of lines of text on Ray Serve, over as many nodes as the load needs.

    serve run --working-dir examples/python ray_serve:app
    curl localhost:8000/ --data-binary @line.png

`--working-dir` sends this folder to every node. `MODELS` names a folder that each node has, and `DEVICE` the device of each; a
replica to which Ray gives a GPU has that one. A proxy of Ray gives a request to a `Front`, which asks a `Classifier` on any node.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle
from service import BATCH_LIMIT, Refused, device, labels, limited, pixels
from starlette.requests import Request
from starlette.responses import JSONResponse

import sardonyx

#: A batch is filled up to one of these sizes, since each size has a plan of its own.
SIZES = [size for size in (1, 2, 4, 8, 16) if size <= BATCH_LIMIT]

#: Seconds before each further call for a request whose replica died.
WAITS = (0.1, 0.2, 0.5, 1.0, 2.0)


@serve.deployment(
    # For a node with GPUs: {"num_cpus": 1, "num_gpus": 1}.
    ray_actor_options={"num_cpus": 1},
    # Each replica shall have two batches at hand: one that runs, and one that waits.
    autoscaling_config={"min_replicas": 2, "max_replicas": 8, "target_ongoing_requests": 2 * BATCH_LIMIT},
    max_ongoing_requests=4 * BATCH_LIMIT,
    health_check_period_s=5,
)
class Classifier:
    """A process with a session of its own."""

    def __init__(self) -> None:
        path = os.path.join(os.environ.get("MODELS", "data/models"), "ppocr2_cls.onnx")
        self.session = sardonyx.Session(path, device(ray.get_gpu_ids()))
        # A replica takes requests once it is made: everything is ready then.
        for size in SIZES:
            self.session.prepare({"x": (size, 3, 48, 192)})

    def check_health(self) -> None:
        """Ray ends a replica for which this raises, as it does when the device is lost, and starts another."""
        self.session.run({"x": np.zeros((1, 3, 48, 192), np.float32)})

    @serve.batch(max_batch_size=BATCH_LIMIT, batch_wait_timeout_s=0.005)
    async def classify(self, images: list[Any]) -> list[dict[str, Any]]:
        """What is said of each image. The images are from as many requests."""
        size = next(size for size in SIZES if size >= len(images))
        batch = np.zeros((size, *images[0].shape), np.float32)
        batch[: len(images)] = images
        outputs = await self.session.run_async({"x": batch})
        return labels(outputs[0][: len(images)])

    async def __call__(self, image: Any) -> dict[str, Any]:
        return await self.classify(image)


@serve.deployment(
    # On a cluster, one for each node to which clients connect, with max_replicas_per_node=1: a proxy prefers that of its own node.
    num_replicas=2,
    ray_actor_options={"num_cpus": 1},
    max_ongoing_requests=8 * BATCH_LIMIT,
)
class Front:
    """Reads requests, and asks for their answers until a classifier lives to give one."""

    def __init__(self, classifier: DeploymentHandle) -> None:
        self.classifier = classifier

    async def ask(self, image: Any) -> dict[str, Any]:
        """What a classifier says. Ray does not ask again after a replica died with an image: it cannot know that a model may run twice."""
        for wait in WAITS:
            try:
                return await self.classifier.remote(image)
            except RayActorError:
                await asyncio.sleep(wait)
        return await self.classifier.remote(image)

    async def __call__(self, request: Request) -> JSONResponse:
        try:
            limited(request.headers)
            # What cannot be read fails here, and not in a batch with the images of others.
            image = await asyncio.to_thread(pixels, await request.body())
        except Refused as error:
            return JSONResponse({"error": str(error)}, error.status)
        return JSONResponse(await self.ask(image))


app = Front.bind(Classifier.bind())

"""The examples of Ray on a cluster of two nodes, which are processes of this machine; one of them is killed under load.

Needs ray[serve,data], onnxruntime and what the services need: `scripts/python_long.sh ray`. `MODELS` and `DEVICE` as in service.py.
"""

import asyncio
import collections
import io
import json
import os
import pathlib
import socket
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock

HERE = pathlib.Path(__file__).resolve().parents[1]
# Every process of the cluster has these.
os.environ["MODELS"] = MODELS = os.path.abspath(os.environ.get("MODELS", "data/models"))
os.environ.setdefault("DEVICE", "auto")
os.environ.update(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0")
sys.path.append(str(HERE))

import httpx  # noqa: E402
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import ray  # noqa: E402
import ray_data  # noqa: E402
import ray_serve  # noqa: E402
import service  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402
from ray import serve  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

REQUESTS, CLIENTS = 1500, 16


def line(number):
    """The file of an image of a line of text; every third is turned."""
    image = Image.new("RGB", (260, 64), "white")
    ImageDraw.Draw(image).text((10, 6), f"Sardonyx {number}", fill="black", font=ImageFont.load_default(40))
    file = io.BytesIO()
    (image.rotate(180) if number % 3 == 0 else image).save(file, "PNG")
    return file.getvalue()


FILES = [line(number) for number in range(60)]


def of_onnxruntime():
    """What onnxruntime says of each file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(os.path.join(MODELS, "ppocr2_cls.onnx"), options, providers=["CPUExecutionProvider"])
    return service.labels(session.run(None, {"x": np.stack([service.pixels(file) for file in FILES])})[0])


def is_same(said, expected):
    return said.get("label") == expected["label"] and abs(said["score"] - expected["score"]) < 1e-3


class Counted:
    """What became of requests, each sent once: their statuses, the nodes of the classifiers that answered, how many were asked."""

    def __init__(self):
        self.statuses, self.nodes, self.asked = (collections.Counter() for _ in range(3))
        self.wrong = 0

    def __repr__(self):
        return f"{dict(self.statuses)}, {self.wrong} wrong; by node {list(self.nodes.values())}; by classifiers asked {dict(self.asked)}"


def next_of(numbers, lock):
    with lock:
        return next(numbers, None)


class Telling(ray_serve.Classifier.func_or_class):
    """The example with a model that takes half a second, so that most requests are with one at any time. It also tells its node."""

    async def __call__(self, image):
        await asyncio.sleep(0.5)
        return {**await super().__call__(image), "node": ray.get_runtime_context().get_node_id()}


class TellingFront(ray_serve.Front.func_or_class):
    """The example, which also tells how many classifiers it asked: it stands where its handle would."""

    def __init__(self, classifier):
        super().__init__(self)
        self.handle, self.asked = classifier, collections.Counter()

    def remote(self, image):
        self.asked[asyncio.current_task()] += 1
        return self.handle.remote(image)

    async def __call__(self, request):
        answer = await super().__call__(request)
        answer.headers["asked"] = str(self.asked.pop(asyncio.current_task(), 0))
        return answer


class TwoNodes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.expected = of_onnxruntime()
        assert {said["label"] for said in cls.expected} == {"upright", "turned"}

    def setUp(self):
        node = {"num_cpus": 3, "object_store_memory": 100 << 20}
        self.cluster = Cluster(initialize_head=True, head_node_args=node)
        self.addCleanup(self.cluster.shutdown)
        self.other = self.cluster.add_node(**node)
        ray.init(self.cluster.address, runtime_env={"working_dir": str(HERE)}, log_to_driver=False)
        self.addCleanup(ray.shutdown)

    def serve(self, **options):
        """Starts the service, with a proxy on the first node only, as clients reach it. `options` are those of the classifiers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        classifier = ray_serve.Classifier.options(func_or_class=Telling, name="Telling", **options)
        front = ray_serve.Front.options(func_or_class=TellingFront, max_replicas_per_node=1)
        serve.run(front.bind(classifier.bind()), route_prefix="/classify")
        self.addCleanup(serve.shutdown)
        self.url = f"http://127.0.0.1:{port}/classify"

    def load(self, count, clients, during=lambda sent: None):
        """Sends requests from several clients, each once. Says what became of them."""
        made, lock, numbers = Counted(), threading.Lock(), iter(range(count))

        def client():
            with httpx.Client(timeout=30) as connection:
                while (number := next_of(numbers, lock)) is not None:
                    during(number)
                    try:
                        answer = connection.post(self.url, content=FILES[number % len(FILES)])
                    except httpx.TransportError as error:
                        with lock:
                            made.statuses[type(error).__name__] += 1
                        continue
                    with lock:
                        made.statuses[answer.status_code] += 1
                        if answer.status_code == 200:
                            said = answer.json()
                            made.nodes[said["node"]] += 1
                            made.asked[int(answer.headers["asked"])] += 1
                            made.wrong += not is_same(said, self.expected[number % len(FILES)])

        threads = [threading.Thread(target=client) for _ in range(clients)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        return made

    def test_a_node_is_lost_under_load(self):
        self.serve(autoscaling_config=None, num_replicas=4)
        before = self.load(200, CLIENTS)
        self.assertEqual((before.statuses, before.wrong, before.asked), ({200: 200}, 0, {1: 200}))
        self.assertEqual(len(before.nodes), 2, "replicas of both nodes answer")

        def lose(sent):
            if sent == REQUESTS // 3:
                self.cluster.remove_node(self.other, allow_graceful=False)

        during = self.load(REQUESTS, CLIENTS, lose)
        print(f"{REQUESTS} requests, a node killed after {REQUESTS // 3}: {during}", file=sys.stderr)
        self.assertEqual(len(during.nodes), 2)
        self.assertEqual(during.wrong, 0)
        self.assertGreaterEqual(during.statuses[200], REQUESTS * 0.998)
        # Ray itself asks another replica until one takes the request: these were with replicas that died.
        self.assertLess(during.asked[1], during.statuses[200], "replicas of the node that was lost had requests in flight")
        after = self.load(200, CLIENTS)
        self.assertEqual((after.statuses, after.wrong, len(after.nodes)), ({200: 200}, 0, 1))
        self.assertNotIn(self.other.node_id, after.nodes)

    def running(self):
        """How many replicas run."""
        return serve.status().applications["default"].deployments["Telling"].replica_states.get("RUNNING", 0)

    def test_replicas_follow_the_queue(self):
        # As the example says, with a shorter queue for a replica, and decisions after seconds.
        own = ray_serve.Classifier._deployment_config.autoscaling_config.model_dump(exclude_unset=True)
        soon = {"target_ongoing_requests": 4, "upscale_delay_s": 1, "look_back_period_s": 2}
        self.serve(autoscaling_config={**own, **soon})
        self.assertEqual(self.running(), own["min_replicas"])
        most, ends = 0, time.monotonic() + 60
        while most <= own["min_replicas"] and time.monotonic() < ends:
            made = self.load(500, 32)
            self.assertEqual((made.statuses, made.wrong), ({200: 500}, 0))
            most = max(most, self.running())
        self.assertGreater(most, own["min_replicas"])

    def test_requests_that_are_refused(self):
        self.serve(autoscaling_config=None, num_replicas=2)
        with httpx.Client(timeout=30) as client:
            for body, status, message in ((b"text", 400, "cannot be read"), (bytes(5 << 20), 413, "the body may hold 4194304 bytes")):
                answer = client.post(self.url, content=body)
                self.assertEqual(answer.status_code, status)
                self.assertIn(message, answer.json()["error"])
        # An image that cannot be read costs its own request, and not those of its batch.
        with unittest.mock.patch.dict(globals(), {"FILES": [*FILES, b"text"]}):
            made = self.load(4 * len(FILES), 8)
        self.assertEqual((made.statuses, made.wrong), ({200: 4 * len(FILES), 400: 4}, 0))

    def test_a_data_set(self):
        with tempfile.TemporaryDirectory() as folder:
            images, results = pathlib.Path(folder, "images"), pathlib.Path(folder, "results")
            images.mkdir()
            for number, file in enumerate([*FILES, b"text"]):
                (images / f"{number:02}.png").write_bytes(file)
            with unittest.mock.patch.dict(os.environ, {"WORKERS": "4"}):
                ray_data.main(str(images), str(results))
            rows = [json.loads(row) for file in results.glob("*.json") for row in file.read_text().splitlines()]
        said = {os.path.basename(row["path"]): row for row in rows}
        self.assertEqual((len(rows), len(said)), (len(FILES) + 1, len(FILES) + 1))
        self.assertIn("cannot be read", said["60.png"]["error"])
        for number, expected in enumerate(self.expected):
            self.assertTrue(is_same(said[f"{number:02}.png"], expected), (said[f"{number:02}.png"], expected))


if __name__ == "__main__":
    unittest.main()

"""One contract, and three frameworks: each under its own test client, and as its own program over a socket.

`MODELS` and `DEVICE` as in service.py.
"""

import importlib.util
import io
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import unittest
from unittest import mock

import httpx
import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageFont

HERE = pathlib.Path(__file__).resolve().parents[1]
MODELS = pathlib.Path(os.environ.get("MODELS", "data/models"))
os.environ.setdefault("DEVICE", "auto")
sys.path.append(str(HERE))
import service  # noqa: E402

import sardonyx  # noqa: E402

TOO_LARGE = "the body may hold 4194304 bytes"


def line(text, turned=False, kind="PNG"):
    """The file of an image of a line of text."""
    image = Image.new("RGB", (260, 64), "white")
    ImageDraw.Draw(image).text((10, 6), text, fill="black", font=ImageFont.load_default(40))
    file = io.BytesIO()
    (image.rotate(180) if turned else image).save(file, kind)
    return file.getvalue()


def app_of(framework):
    spec = importlib.util.spec_from_file_location(f"{framework}_app", HERE / framework / "app.py")
    module = importlib.util.module_from_spec(spec)
    # Django's URLs name the module.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Contract:
    """What every service does. `ask` sends a request, and gives the status and the JSON of the answer."""

    def post_images(self, files, field="image"):
        boundary = "a-line-that-no-file-holds"
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{i}"\r\n\r\n'.encode() + file + b"\r\n"
            for i, file in enumerate(files)
        ]
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        return self.ask("POST", "/classify", body, f"multipart/form-data; boundary={boundary}")

    def post_json(self, value):
        return self.ask("POST", "/embed", json.dumps(value).encode(), "application/json")

    def refused(self, answer, status, message):
        self.assertEqual(answer[0], status, answer[1])
        self.assertEqual(list(answer[1]), ["error"])
        self.assertRegex(answer[1]["error"], message)

    def test_health(self):
        status, answer = self.ask("GET", "/health")
        self.assertEqual((status, answer["status"]), (200, "ok"))
        self.assertTrue(answer["device"])

    def test_a_batch_of_images(self):
        upright = [False, True, True, False, True]
        files = [line("Sardonyx 2026", turned=not up, kind=kind) for up, kind in zip(upright, ("PNG", "JPEG", "WEBP", "PNG", "PNG"))]
        status, answer = self.post_images(files)
        self.assertEqual(status, 200, answer)
        self.assertEqual([result["label"] for result in answer["results"]], ["upright" if up else "turned" for up in upright])
        # What a batch says of an image is what is said of it alone.
        _, alone = self.post_images(files[:1])
        self.assertAlmostEqual(alone["results"][0]["score"], answer["results"][0]["score"], 4)

    def test_a_batch_of_texts(self):
        texts = ["A cat sleeps on the sofa.", "On the couch, a kitten takes a nap.", "The central bank raised interest rates."]
        status, answer = self.post_json({"texts": texts})
        self.assertEqual(status, 200, answer)
        vectors = np.array(answer["embeddings"])
        self.assertEqual(vectors.shape, (3, 384))
        likeness = vectors @ vectors.T
        np.testing.assert_allclose(np.diag(likeness), 1, atol=1e-5)
        self.assertGreater(likeness[0, 1], 0.5)
        self.assertLess(max(likeness[0, 2], likeness[1, 2]), 0.2)
        # Of the same tokens, onnxruntime makes the same vectors.
        inputs = service.service().tokens({"texts": texts})
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        theirs = onnxruntime.InferenceSession(MODELS / "minilm_l6_int8.onnx", options, providers=["CPUExecutionProvider"])
        expected = service.service().vectors(inputs, theirs.run(None, inputs))["embeddings"]
        np.testing.assert_allclose(vectors, expected, atol=2e-3)

    def test_a_long_text_is_cut(self):
        status, answer = self.post_json({"texts": ["word " * 5000]})
        self.assertEqual((status, np.shape(answer["embeddings"])), (200, (1, 384)))

    def test_bodies_that_say_nothing(self):
        wanted = "the body must be JSON"
        self.refused(self.ask("POST", "/embed", b"{not json", "application/json"), 400, wanted)
        self.refused(self.ask("POST", "/embed", b"\xff\xfe", "application/json"), 400, wanted)
        for value in ([], {"text": "a"}, {"texts": "a"}, {"texts": [1]}, {"texts": None}):
            self.refused(self.post_json(value), 400, wanted)
        self.refused(self.post_json({"texts": []}), 400, "1 to 16 texts, and this one 0")
        self.refused(self.post_json({"texts": ["a"] * 17}), 400, "1 to 16 texts, and this one 17")
        self.refused(self.post_images([]), 400, "1 to 16 images, and this one 0")
        self.refused(self.post_images([line("a")], field="picture"), 400, "1 to 16 images, and this one 0")
        self.refused(self.ask("POST", "/classify", b"{}", "application/json"), 400, "images")

    def test_files_that_are_no_images(self):
        for file in (b"", b"text", line("a")[:200]):
            self.refused(self.post_images([line("a"), file]), 400, "cannot be read")
        # A small file of a large image.
        file = io.BytesIO()
        Image.new("1", (8000, 8000)).save(file, "PNG")
        self.assertLess(len(file.getvalue()), 100_000)
        self.refused(self.post_images([file.getvalue()]), 413, "8000 x 8000")

    def test_bodies_that_are_too_large(self):
        for answer in (self.post_json({"texts": ["a" * (5 << 20)]}), self.post_images([bytes(5 << 20)])):
            self.refused(answer, 413, TOO_LARGE)
        # One within the limit is read.
        self.refused(self.post_images([bytes(3 << 20)]), 400, "cannot be read")

    def test_other_paths_and_methods(self):
        self.refused(self.ask("GET", "/nothing"), 404, ".")
        self.refused(self.ask("GET", "/embed"), 405, ".")
        self.refused(self.ask("POST", "/health", b"", "application/json"), 405, ".")


class InProcess(Contract):
    """What needs a service that fails."""

    def test_a_device_that_is_lost(self):
        lost = sardonyx.DeviceLostError("the device was lost")
        with mock.patch.object(sardonyx.Session, "run", side_effect=lost):
            self.refused(self.ask("GET", "/health"), 503, "the device does not answer: the device was lost")
        self.assertEqual(self.ask("GET", "/health")[0], 200)

    def test_a_failure_is_logged_and_not_told(self):
        with mock.patch.object(service.Service, "tokens", side_effect=RuntimeError("a secret")), self.assertLogs(level="ERROR") as logged:
            answer = self.post_json({"texts": ["a"]})
        self.refused(answer, 500, "^the service failed; its log says why$")
        self.assertIn("a secret", "".join(logged.output))


class Flask(InProcess, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = app_of("flask").app.test_client()

    def ask(self, method, path, body=None, kind=None):
        answer = self.client.open(path, method=method, data=body, content_type=kind)
        return answer.status_code, answer.json


class Django(InProcess, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        app_of("django")
        from django.test import Client

        cls.client = Client(raise_request_exception=False)

    def ask(self, method, path, body=b"", kind=None):
        answer = self.client.generic(method, path, body, kind or "application/octet-stream")
        return answer.status_code, answer.json()


class FastApi(InProcess, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        from fastapi.testclient import TestClient

        client = TestClient(app_of("fastapi").app, raise_server_exceptions=False)
        cls.client = cls.enterClassContext(client) if hasattr(cls, "enterClassContext") else client

    def test_sessions_are_made_at_the_start(self):
        from fastapi.testclient import TestClient

        app = app_of("fastapi").app
        with mock.patch.object(service, "_made", None):
            with TestClient(app):
                self.assertIsNotNone(service._made)

    def ask(self, method, path, body=None, kind=None):
        answer = self.client.request(method, path, content=body, headers={"Content-Type": kind} if kind else {})
        return answer.status_code, answer.json()


class Socket(Contract):
    """The program that the framework's own command starts, as its module says."""

    @classmethod
    def setUpClass(cls):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [word.format(here=HERE / cls.framework, port=port) for word in cls.command]
        cls.program = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(cls.end)
        cls.url = f"http://127.0.0.1:{port}"
        ends = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{cls.url}/health", timeout=60).raise_for_status()
                return
            except httpx.ConnectError:
                if cls.program.poll() is not None or time.monotonic() > ends:
                    raise
                time.sleep(0.1)

    @classmethod
    def end(cls):
        cls.program.send_signal(signal.SIGTERM)
        cls.program.wait(30)

    def ask(self, method, path, body=None, kind=None):
        answer = httpx.request(method, self.url + path, content=body, headers={"Content-Type": kind} if kind else {}, timeout=60)
        return answer.status_code, answer.json()

    def chunks(self, count, size):
        """A body that does not say its length."""
        return self.ask("POST", "/embed", (bytes(size) for _ in range(count)), "application/json")

    def test_chunks(self):
        self.refused(self.chunks(3, 1000), 411, "must come with a Content-Length")


class FlaskSocket(Socket, unittest.TestCase):
    framework = "flask"
    command = ["-m", "flask", "--app", "{here}/app.py", "run", "--port", "{port}"]


class DjangoSocket(Socket, unittest.TestCase):
    framework = "django"
    command = ["{here}/app.py", "runserver", "--noreload", "127.0.0.1:{port}"]


class FastApiSocket(Socket, unittest.TestCase):
    framework = "fastapi"
    command = ["-m", "uvicorn", "--app-dir", "{here}", "app:app", "--port", "{port}"]

    def test_chunks(self):
        self.refused(self.chunks(5, 1 << 20), 413, TOO_LARGE)
        self.refused(self.chunks(3, 1 << 20), 400, "must be JSON")


if __name__ == "__main__":
    unittest.main()

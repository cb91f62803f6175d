"""What the three web services share: two models, what a request may hold, and what its answer says.

`MODELS` names the folder that `scripts/models.py` makes, and `DEVICE` the device; without it, the best one is used.
"""

from __future__ import annotations

import io
import os
import pathlib
import threading
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

import sardonyx

BODY_LIMIT = 4 << 20  # bytes
IMAGE_LIMIT = 1 << 24  # pixels, since a small file can hold a large image
BATCH_LIMIT = 16  # images or texts in a request
TOKEN_LIMIT = 256  # tokens of a text; the rest is not read
TOO_LARGE = f"the body may hold {BODY_LIMIT} bytes"


class Refused(Exception):
    """A request that gets no answer: the status of HTTP, and a sentence for who sent it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def limited(headers: Any) -> None:
    """Refuses a body that is too large, or does not say how large it is: servers of WSGI cut or drop that."""
    if headers.get("Transfer-Encoding"):
        raise Refused(411, "the body must come with a Content-Length")
    if int(headers.get("Content-Length") or 0) > BODY_LIMIT:
        raise Refused(413, TOO_LARGE)


class Service:
    """Both models on one device. Threads may share it."""

    def __init__(self, models: str, device: str) -> None:
        folder = pathlib.Path(models)
        self.device = sardonyx.Device(device)
        self.classifier = sardonyx.Session(folder / "ppocr2_cls.onnx", self.device)
        self.embedder = sardonyx.Session(folder / "minilm_l6_int8.onnx", self.device)
        self.tokenizer = Tokenizer.from_file(str(folder / "minilm_l6.tokenizer.json"))
        # A plan is made for each signature of shapes: rounding the lengths up keeps these few.
        self.tokenizer.enable_padding(pad_to_multiple_of=32)
        self.tokenizer.enable_truncation(TOKEN_LIMIT)

    def health(self) -> dict[str, Any]:
        """Runs a model, so that an answer means a device that works."""
        try:
            self.classifier.run({"x": np.zeros((1, 3, 48, 192), np.float32)})
        except sardonyx.Error as error:
            raise Refused(503, f"the device does not answer: {error}") from error
        return {"status": "ok", "device": self.device.name}

    def images(self, files: list[bytes]) -> dict[str, Any]:
        """The classifier's inputs: lines of text, as a batch."""
        return {"x": np.stack([pixels(file) for file in batch(files, "image")])}

    def tokens(self, body: Any) -> dict[str, Any]:
        """The embedder's inputs, from the JSON `{"texts": [...]}`."""
        texts = body.get("texts") if isinstance(body, dict) else None
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise Refused(400, 'the body must be JSON: {"texts": ["...", "..."]}')
        encoded = self.tokenizer.encode_batch(batch(texts, "text"))
        return {
            "input_ids": np.array([text.ids for text in encoded], np.int64),
            "attention_mask": np.array([text.attention_mask for text in encoded], np.int64),
            "token_type_ids": np.array([text.type_ids for text in encoded], np.int64),
        }

    def vectors(self, inputs: dict[str, Any], outputs: Any) -> dict[str, Any]:
        """A vector of length 1 for each text: the mean over its tokens."""
        weights = inputs["attention_mask"][..., None]
        means = (outputs[0] * weights).sum(1) / weights.sum(1)
        return {"embeddings": (means / np.linalg.norm(means, axis=1, keepdims=True)).tolist()}

    def classify(self, files: list[bytes]) -> dict[str, Any]:
        return {"results": labels(self.classifier.run(self.images(files))[0])}

    async def classify_async(self, files: list[bytes]) -> dict[str, Any]:
        return {"results": labels((await self.classifier.run_async(self.images(files)))[0])}

    def embed(self, body: Any) -> dict[str, Any]:
        inputs = self.tokens(body)
        return self.vectors(inputs, self.embedder.run(inputs))

    async def embed_async(self, body: Any) -> dict[str, Any]:
        inputs = self.tokens(body)
        return self.vectors(inputs, await self.embedder.run_async(inputs))


def device(gpus: list[Any]) -> str:
    """The device of a process: `DEVICE`, or the one GPU that a scheduler gives it, by its number in the order of the places on the bus."""
    places = sorted({adapter["pci"] for adapter in sardonyx.devices() if adapter["pci"]})
    return places[int(gpus[0])] if gpus else os.environ.get("DEVICE", "auto")


_making = threading.Lock()
_made: Service | None = None


def service() -> Service:
    """The service of this process, made by the first call. A device does not survive a fork, so that no module calls this as it is imported."""
    global _made
    with _making:
        if _made is None:
            _made = Service(os.environ.get("MODELS", "data/models"), os.environ.get("DEVICE", "auto"))
        return _made


def labels(scores: Any) -> list[dict[str, Any]]:
    """Which way up each image is, from the classifier's output."""
    rows = scores.tolist()
    best = [max(range(2), key=row.__getitem__) for row in rows]
    return [{"label": ("upright", "turned")[i], "score": row[i]} for i, row in zip(best, rows)]


def batch(values: list[Any], kind: str) -> list[Any]:
    if not 1 <= len(values) <= BATCH_LIMIT:
        raise Refused(400, f"a request holds 1 to {BATCH_LIMIT} {kind}s, and this one {len(values)}")
    return values


def pixels(file: bytes) -> Any:
    """A line of text as the classifier reads it: 48 pixels high, and 192 wide with black on its right, from -1 to 1."""
    try:
        image = Image.open(io.BytesIO(file))
        if image.width * image.height > IMAGE_LIMIT:
            raise Refused(413, f"an image may have {IMAGE_LIMIT} pixels, and one has {image.width} x {image.height}")
        image = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Refused(400, "an image cannot be read; PNG, JPEG and WebP can") from error
    image = image.resize((min(192, max(1, round(48 * image.width / image.height))), 48))
    line = np.zeros((3, 48, 192), np.float32)
    line[:, :, : image.width] = np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1
    return line

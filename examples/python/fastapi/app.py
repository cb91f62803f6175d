"""The service in FastAPI: `uvicorn --app-dir examples/python/fastapi app:app`. A run does not block the event loop."""

import asyncio
import contextlib
import json
import logging
import pathlib
import sys

from fastapi import FastAPI, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from service import BODY_LIMIT, TOO_LARGE, Refused, service


class Limited:
    """Counts what a body brings: with chunks, it says its length nowhere."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        read = 0

        async def counted():
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > BODY_LIMIT:
                raise HTTPException(413, TOO_LARGE)
            return message

        await self.app(scope, counted, send)


@contextlib.asynccontextmanager
async def made(app):
    """Makes the sessions before the first request, in this process and not on its event loop."""
    await asyncio.to_thread(service)
    yield


app = FastAPI(lifespan=made)
app.add_middleware(Limited)


@app.get("/health")
def health():
    return service().health()


@app.post("/classify")
async def classify(image: list[UploadFile] = []):
    return await service().classify_async([await file.read() for file in image])


@app.post("/embed")
async def embed(request: Request):
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    return await service().embed_async(body)


@app.exception_handler(Refused)
async def refused(request, error):
    return JSONResponse({"error": str(error)}, error.status)


@app.exception_handler(HTTPException)
async def http(request, error):
    return JSONResponse({"error": error.detail}, error.status_code)


@app.exception_handler(RequestValidationError)
async def invalid(request, error):
    return JSONResponse({"error": "the body must be a form with files called image"}, 400)


@app.exception_handler(Exception)
async def internal(request, error):
    logging.getLogger("uvicorn.error").error("a request failed", exc_info=error)
    return JSONResponse({"error": "the service failed; its log says why"}, 500)

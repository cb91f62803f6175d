"""The service in Flask: `flask --app examples/python/flask/app.py run`, or any server of WSGI with threads."""

import pathlib
import sys

import flask
from werkzeug.exceptions import HTTPException

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from service import Refused, limited, service

app = flask.Flask(__name__)


@app.before_request
def limit():
    limited(flask.request.headers)


@app.get("/health")
def health():
    return service().health()


@app.post("/classify")
def classify():
    return service().classify([file.read() for file in flask.request.files.getlist("image")])


@app.post("/embed")
def embed():
    return service().embed(flask.request.get_json(force=True, silent=True))


@app.errorhandler(Refused)
def refused(error):
    return {"error": str(error)}, error.status


@app.errorhandler(HTTPException)
def http(error):
    return {"error": error.description}, error.code


@app.errorhandler(Exception)
def internal(error):
    app.logger.exception("a request failed")
    return {"error": "the service failed; its log says why"}, 500

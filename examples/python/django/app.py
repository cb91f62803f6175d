"""The service in Django, in one file: `python examples/python/django/app.py runserver`, or `application` in any server of WSGI with
threads."""

import functools
import json
import logging
import pathlib
import sys

from django.conf import settings

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from service import BODY_LIMIT, Refused, limited, service

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1", "localhost", "testserver"],
    # For what is not a file. Less than what `limited` lets through would be refused without JSON.
    DATA_UPLOAD_MAX_MEMORY_SIZE=BODY_LIMIT,
    MIDDLEWARE=[],
)

import django
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

django.setup()


def answers(method):
    """A view that takes one method, keeps to the limit of the body, and answers in JSON."""

    def around(view):
        @functools.wraps(view)
        def wrapped(request):
            try:
                if request.method != method:
                    raise Refused(405, f"{request.path} takes {method}, and not {request.method}")
                limited(request.headers)
                return JsonResponse(view(request))
            except Refused as error:
                return JsonResponse({"error": str(error)}, status=error.status)

        return wrapped

    return around


@answers("GET")
def health(request):
    return service().health()


@answers("POST")
def classify(request):
    return service().classify([file.read() for file in request.FILES.getlist("image")])


@answers("POST")
def embed(request):
    try:
        body = json.loads(request.body)
    except ValueError:
        body = None
    return service().embed(body)


def not_found(request, exception):
    return JsonResponse({"error": "there are /health, /classify and /embed"}, status=404)


def internal(request):
    logging.exception("a request failed")
    return JsonResponse({"error": "the service failed; its log says why"}, status=500)


urlpatterns = [path("health", health), path("classify", classify), path("embed", embed)]
handler404, handler500 = not_found, internal
application = get_wsgi_application()

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)

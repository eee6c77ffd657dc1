"""`/healthz`: whether this process can serve, asked by the host and its proxy."""

import logging
from collections.abc import Callable

from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from .models import Question

logger = logging.getLogger(__name__)


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Query this app's own tables only: trouble of another service is no reason to stop serving."""
    try:
        Question.objects.exists()
    except Error:
        logger.exception("health check failed")
        return JsonResponse({"status": "unavailable", "reason": "The database does not answer."}, status=503)
    return JsonResponse({"status": "ok"})


class HealthCheckMiddleware:
    """Answers `/healthz` before Django checks the host and redirects, since the check asks 127.0.0.1 over HTTP."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return healthz(request) if request.path == "/healthz" else self.get_response(request)

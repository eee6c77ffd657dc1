"""Errors are JSON, `{"errors": {"<what>": "<why>"}}`, with a matching status."""

from django.http import HttpRequest, JsonResponse


class Refused(Exception):
    """A request that cannot be served: the status to answer, and what is wrong by name."""

    def __init__(self, status: int, **errors: str) -> None:
        super().__init__(status, errors)
        self.status = status
        self.errors = errors


def error_response(status: int, **errors: str) -> JsonResponse:
    return JsonResponse({"errors": errors}, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    return error_response(400, request="The request could not be understood.")


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    return error_response(404, path="There is nothing at this path.")


def server_error(request: HttpRequest) -> JsonResponse:
    return error_response(500, server="The request failed; the reason is in the log.")

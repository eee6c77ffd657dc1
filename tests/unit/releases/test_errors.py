"""Which log lines tell of an error in the release."""

import pytest

from saltern.releases.errors import errors_in


@pytest.mark.parametrize(
    "line, is_error",
    [
        ("2026-11-22 ERROR shop.views: no such table", True),
        ("Traceback (most recent call last):", True),
        ("[2026-11-22 10:00:00 +0000] [12] [error] worker failed", True),
        ("INFO errors: 0", False),
        ('10.0.0.1 - - [22/Nov/2026] "GET /ERROR?x=1 HTTP/1.1" 404 12', False),
        ('INFO:     10.0.0.1:4711 - "GET /Traceback HTTP/1.1" 200 OK', False),
        # A client's request may appear in the app's own log lines too.
        ("INFO shop.search: nothing found for ERROR", False),
        ("2026-11-22 WARNING django.request: Not Found: /CRITICAL", False),
        ('{"level": "info", "message": "nothing found for ERROR"}', False),
        ('{"message": "no such table", "levelname": "ERROR"}', True),
        ("ERROR django.security.DisallowedHost: Invalid HTTP_HOST header: 'evil'.", False),
        ("Invalid HTTP_HOST header: 'ERROR'. You may need to add 'ERROR' to ALLOWED_HOSTS.", False),
        ("ERROR django.request: Internal Server Error: /", True),
    ],
)
def test_what_tells_of_an_error(line, is_error):
    assert errors_in([line]) == [line] * is_error


FRAMES = ["Traceback (most recent call last):", '  File "shop.py", line 1, in view', "    host = request.get_host()"]
CHAINED = ["", "During handling of the above exception, another exception occurred:", ""]
OWN, CLIENTS = (
    "django.db.utils.OperationalError: no such table",
    "django.core.exceptions.DisallowedHost: Invalid 'evil'",
)


@pytest.mark.parametrize(
    "lines, errors",
    [
        (["ERROR shop: failed", *FRAMES, OWN], 2),
        (["ERROR Bad Request: /", *FRAMES, CLIENTS], 0),
        ([*FRAMES, CLIENTS, "ERROR shop: failed"], 1),
        (["ERROR shop: failed", "INFO goes on", *FRAMES, CLIENTS], 1),
        (["ERROR:    Exception in ASGI application", *FRAMES, "BrokenPipeError: [Errno 32] Broken pipe"], 0),
        (["ERROR shop: failed", *FRAMES, "KeyError: 'host'", *CHAINED, *FRAMES, CLIENTS], 0),
        (["ERROR shop: failed", *FRAMES, CLIENTS, *CHAINED, *FRAMES, OWN], 2),
        ([*FRAMES, CLIENTS, *FRAMES, OWN], 1),
        (FRAMES, 1),
        (FRAMES[:1], 1),
    ],
)
def test_an_error_that_a_client_provoked_is_none_of_the_release(lines, errors):
    assert len(errors_in(lines)) == errors

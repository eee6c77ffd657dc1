"""Where a build comes from: this host, a Salt master, or a server over HTTPS."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urljoin

from salt.exceptions import CommandExecutionError

from saltern.builds import room
from saltern.builds.form import MEGABYTE, MEMORY, Limits
from saltern.services.base import Ask
from saltern.system import bounded

if TYPE_CHECKING:
    from requests import Response

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# Seconds for a download, and for a part of it.
DOWNLOAD, PART = 3600, 60

PART_SIZE, MAX_REDIRECTS = 1 << 18, 5


def fetch(ask: Ask, app: str, source: str, fetched: str, limits: Limits) -> str:
    """Return a path of the tarball on this host.

    :param ask: calls a function of Salt.
    :param app: the app's name.
    :param source: where the build is said to be: a path, ``salt://`` or ``https://``.
    :param fetched: where to write what comes over HTTPS.
    :param limits: see ``tarball.inspect``.
    :raises CommandExecutionError: when it is not there, or cannot be had.
    """
    if source.startswith("https://"):
        return download(app, source, fetched, limits)
    path = ask("cp.cache_file", source) if source.startswith("salt://") else source
    if not path or not os.path.isfile(path):
        raise CommandExecutionError(
            f"app.{app}.build.source: {source}: no such file; put the build there that was declared"
        )
    return path


def download(app: str, source: str, fetched: str, limits: Limits) -> str:
    """Bring a tarball, in a process of its own, which ends whatever the server does; see ``fetch``."""
    most = limits["megabytes"] * MEGABYTE
    try:
        reason = bounded.call(downloaded, source, fetched, most, seconds=DOWNLOAD, megabytes=MEMORY)
    except ValueError as error:
        reason = str(error)
    if reason:
        reason = reason.replace("{app}", app)
        raise CommandExecutionError(f"app.{app}.build.source: the server {reason}; expected the tarball")
    return fetched


class _LateError(Exception):
    """A part of an answer did not come in time. No OSError, which the libraries would try again."""


def downloaded(source: str, fetched: str, most: int) -> str | None:
    """Bring a file over HTTPS. It is to be called in a process of its own.

    :param source: its address.
    :param fetched: where to write it.
    :param most: how many bytes it may have.
    :return: why it could not be brought, or ``None``.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import HTTPError
    from urllib3.util import Retry

    def late(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _LateError

    signal.signal(signal.SIGALRM, late)
    # The library reads a redirect's own content to its end, which it need not have, also where it is not to follow it.
    session: Any = requests.Session()
    session.get_redirect_target = lambda answer: None
    retry = Retry(3, redirect=0, backoff_factor=0.5, status_forcelist=(502, 503, 504), raise_on_status=False)
    session.mount("https://", HTTPAdapter(max_retries=retry))
    try:
        for _ in range(MAX_REDIRECTS + 1):
            # It bounds each read, and so waits for whoever sends a byte now and then.
            signal.alarm(PART)
            # It would trust its own list of authorities, not the host's.
            answer = session.get(source, stream=True, timeout=(10, PART), verify=CA_BUNDLE)
            with answer:
                if answer.is_redirect:
                    source = urljoin(source, answer.headers["Location"])
                    if not source.startswith("https://"):
                        return "leads elsewhere than to https://"
                    continue
                if answer.status_code != 200:
                    return f"answered {answer.status_code}"
                return _write(answer, fetched, most)
        return f"leads on and on, {MAX_REDIRECTS} times and more"
    except _LateError:
        return f"sends nothing, or next to nothing, within {PART} s"
    except (requests.RequestException, HTTPError) as error:
        return f"cannot be reached ({type(error).__name__})"
    except OSError as error:
        return f"answers, and what it sends cannot be kept ({error.strerror})"


def _write(answer: Response, fetched: str, most: int) -> str | None:
    """Write an answer to a file; return why not, or ``None``."""
    count, said = 0, answer.headers.get("Content-Length", "")
    if said.isdecimal() and int(said) > most:
        return f"says that it sends {int(said) // MEGABYTE} MB, and app.{{app}}.unpacked allows {most // MEGABYTE}"
    with open(fetched, "wb") as stream:
        while True:
            signal.alarm(PART)
            part = answer.raw.read(PART_SIZE)
            if not part:
                return None
            count += len(part)
            if count > most:
                return f"sends more than the {most // MEGABYTE} MB that app.{{app}}.unpacked allows"
            there = os.statvfs(os.path.dirname(fetched))
            if there.f_bavail * there.f_frsize < room.RESERVE:
                return f"sends more than there is room for in {os.path.dirname(fetched)}"
            stream.write(part)

"""What this host has read in certificates. A converge with nothing to do reads none of them again.

The library that reads them takes 15 ms to import, of some 300 ms that all states of such a converge take.
"""

import contextlib
import datetime
import hashlib
import json
from collections.abc import Callable
from typing import Any

from saltern.system import files

# A boot forgets it.
PATH = "/run/saltern-certificates.known"


def answer(
    question: str,
    texts: list[str | None],
    now: datetime.datetime,
    ask: Callable[[], tuple[Any, datetime.datetime | None]],
) -> Any:
    """Return the answer to a question about certificates: the known one, or a new one, which is known then.

    :param question: what is asked, in words.
    :param texts: all texts from which the answer follows. Another text is another question.
    :param now: the time.
    :param ask: finds the answer, which JSON can hold, and until when it is true; ``None`` where it is not to be known.
    """
    digest = hashlib.sha256(json.dumps([question, *texts]).encode()).hexdigest()
    known = _known(now)
    if digest in known:
        return known[digest][0]
    found, until = ask()
    if until:
        # It only saves time: whoever may not write there asks again.
        with contextlib.suppress(OSError):
            files.write(PATH, json.dumps(known | {digest: [found, until.timestamp()]}), 0o600)
    return found


def _known(now: datetime.datetime) -> dict[str, Any]:
    """Return the answers that are still true, with until when, by the digest of their question."""
    try:
        with open(PATH, encoding="utf-8") as stream:
            return {digest: said for digest, said in json.load(stream).items() if now.timestamp() < said[1]}
    except (OSError, ValueError, AttributeError, TypeError, LookupError):
        return {}

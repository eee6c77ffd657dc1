"""An app that adds a question to the FAQ, related to other questions: ``python survey.py QUESTION [ID ...]``."""

import os
import signal
import sys

import requests


def ask(question, *related):
    """Create a question."""
    answer = requests.post(
        os.environ["FAQ_API"] + "/create",
        data={"question": question, "source": "survey", "related": related},
        timeout=10,
    )
    answer.raise_for_status()
    return answer.text


if __name__ == "__main__":
    if sys.argv[1:]:
        print(ask(*sys.argv[1:]))
    else:
        # As a worker, it waits until it is ended.
        signal.sigwait([signal.SIGTERM])

#!/opt/saltern/current/bin/python -I
"""Call the processes of a new release as its OpenAPI documents describe, and judge the answers.

    contract <QUESTION

The command reads one JSON mapping, which the module ``contract`` writes, and runs as the app's user. The documents hold
only what may be called. A document decides the calls: its examples, the limits of its parameters, and an id from an
earlier answer. The same data gives the same calls. The command ends at the first answer that does not fit its document,
or when its time is over.

The command prints a JSON mapping: the number of ``calls`` for each document, whether all were made (``end``), and what
is ``wrong``, if anything: ``version``, ``call``, ``expected``, ``came``. The caller writes that to the journal.
"""

import json
import sys
import time
from urllib.parse import urlsplit

import schemathesis
from schemathesis import engine
from schemathesis.engine import events
from schemathesis.engine.run import probes

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)

# A call is told on one line.
LONGEST = 100

# Probes are off: they would call paths that no document has, to learn which headers and paths work.
probes.PROBES = ()


def config(question, seconds):
    """Return schemathesis's settings.

    :param question: the mapping that the command read.
    :param seconds: the time for all calls.
    """
    return schemathesis.Config.from_dict(
        {
            # The headers that nginx sets for another app of this host.
            "headers": {"Host": question["host"], "X-Forwarded-Proto": "http", "User-Agent": "saltern"},
            "max-time": max(int(seconds), 1),
            "request-timeout": question["timeout"],
            "max-redirects": 0,
            "checks": {"enabled": False, **{check: {"enabled": True} for check in CHECKS}},
            "generation": {"mode": "positive", "deterministic": True, "database": "none"},
            "analysis": {"constants": {"enabled": False}},
            "phases": {
                "examples": {"enabled": True},
                "coverage": {"enabled": True, "unexpected-methods": []},
                "fuzzing": {"enabled": False},
                "stateful": {"enabled": False},
            },
        }
    )


def tried(question, version, seconds):
    """Try one document; return how many calls there were, whether that was all, and what is wrong or ``None``."""
    schema = schemathesis.openapi.from_dict(question["documents"][version], config=config(question, seconds))
    schema.config.update(base_url=question["origins"][version])
    stream = engine.from_schema(schema).execute()
    calls, wrong, is_whole = [], [], True

    # The thread that makes the calls runs both hooks. This thread only reads events, and no call waits for it.
    @schema.hook("after_call")
    def count(_context, _case, response):
        calls.append(response.status_code)

    @schema.hook("filter_failure")
    def end(_context, failure, _case, response):
        wrong.append(misanswered(failure, response))
        stream.stop()
        return True

    for event in stream:
        if isinstance(event, events.NonFatalError | events.FatalError) and not wrong:
            stream.stop()
            error = event.value if isinstance(event, events.NonFatalError) else event.exception
            wrong.append(unasked(event, error, question))
        elif isinstance(event, events.EngineFinished):
            is_whole = event.stop_reason == engine.StopReason.COMPLETED
    return len(calls), is_whole or bool(wrong), wrong[0] | {"version": version} if wrong else None


def misanswered(failure, response):
    """Return which call had a wrong answer, what was expected and what came."""
    where = urlsplit(response.request.url)
    path = f"{where.path}?{where.query}" if where.query else where.path
    expected, came = told(failure, response)
    return {"call": shortened(f"{response.request.method} {path}"), "expected": expected, "came": came}


def shortened(text):
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def told(failure, response):
    """Return what was expected and what came. An answer's content may be private: only its place is told.

    :param failure: what schemathesis found.
    :param response: the answer.
    """
    status = f"{response.status_code}"
    match type(failure).__name__:
        case "ServerError":
            return "no status from 500 on", status
        case "UndefinedStatusCode":
            return f"status {' or '.join(failure.defined_status_codes)}", status
        case "UndefinedContentType":
            return " or ".join(failure.defined_content_types), f"{status} with {shortened(failure.content_type)}"
        case "MissingContentType":
            return "a Content-Type", f"{status} without one"
        case "MissingHeaders":
            return f"the header {', '.join(failure.missing_headers)}", f"{status} without it"
        case "JsonSchemaError":
            return misfit(failure), f"{status} with another"
        case "MalformedJson":
            return "JSON", f"{status} with something else"
    return "what the document says", f"{status}: {failure.title}"


def misfit(failure):
    """Return what the document expected at the place where an answer does not fit it."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in failure.instance_path)
    where, word = path.removeprefix(".") or "the body", str(failure.schema_path[-1] if failure.schema_path else "")
    said = failure.schema.get(word)
    if word == "required":
        names = [name for name in said if name not in failure.instance]
        return f"{', '.join(names)} in {where}"
    if word == "type":
        return f"{where} of type {' or '.join(said) if isinstance(said, list) else said}"
    if word == "additionalProperties":
        names = sorted(set(failure.instance) - set(failure.schema.get("properties", {})))
        return f"{where} without {shortened(', '.join(names))}"
    return f"{where} with {word} {shortened(json.dumps(said))}"


def unasked(event, error, question):
    """Return why there is no answer to judge."""
    label = getattr(event, "label", None) or "the document"
    kind = type(error).__name__
    if "Timeout" in kind:
        return {"call": label, "expected": f"an answer within {question['timeout']} s", "came": "none"}
    return {"call": label, "expected": "an answer", "came": kind}


def main(question):
    """Try each document, in order, and return the answer."""
    answer = {"calls": {}, "end": True, "wrong": None}
    deadline = time.monotonic() + question["seconds"]
    for version in sorted(question["documents"]):
        left = deadline - time.monotonic()
        if left <= 0:
            answer["end"] = False
            break
        calls, is_whole, wrong = tried(question, version, left)
        answer["calls"][version] = calls
        answer["end"] = answer["end"] and is_whole
        if wrong:
            answer["wrong"] = wrong
            break
    return answer


def warm_up():
    """Import what schemathesis imports at its first use, while the processes start."""
    nothing = {"openapi": "3.1.0", "info": {"title": "nothing", "version": "1"}, "paths": {}}
    question = {"documents": {"": nothing}, "origins": {"": "http://127.0.0.1"}, "host": "127.0.0.1", "timeout": 1}
    tried(question, "", 1)


if __name__ == "__main__":
    warm_up()
    asked = json.load(sys.stdin)
    print(json.dumps(main(asked)))

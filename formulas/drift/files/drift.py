#!/usr/bin/python3 -IS
"""Ask what a converge would change on this host, and tell it in one line.

    drift [--record]

The line has the number of states that would change and their IDs, but no diff: a diff may show a secret. With --record
the line also goes to the journal, as saltern-drift, and the details go to /var/lib/saltern/drift.json.

Exit code: 0 when nothing would change, 1 when something would. 2 when the dry run or one of its states failed, when a
certificate soon expires, when a service ends again and again, when a storage holds more than its quota, or when a job
failed or did not run.
"""

import datetime
import json
import os
import subprocess
import sys
import syslog
import time

STATUS = "/var/lib/saltern/drift.json"
COMMAND = ("/usr/local/bin/salt-call", "--out", "json", "drift.states")

# Seconds: the limit of one dry run, the wait for a converge, and the pause between two looks at it.
TIMEOUT = 900
PATIENCE = 1800
PAUSE = 5

CODES = {"none": 0, "drift": 1, "failed": 2}


def asked():
    """Return the answer of the module ``drift``, or the reason why there is none, as text.

    What a converge changes during a dry run is no drift. The module tells when it sees a converge. It can miss a short
    one, so a difference is asked for a second time.
    """
    deadline = time.monotonic() + PATIENCE
    is_second = False
    while time.monotonic() < deadline:
        answer = answered()
        if isinstance(answer, dict) and answer["busy"]:
            time.sleep(PAUSE)
        elif is_second or (isinstance(answer, dict) and not any(answer.get(key) for key in WORDS)):
            return answer
        else:
            is_second = True
    return f"a converge was under way for {PATIENCE // 60} minutes"


def answered():
    """Ask the module once; see ``asked``."""
    try:
        done = subprocess.run(COMMAND, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False)
        # Messages may come before the answer.
        answer = json.loads(done.stdout[done.stdout.index(b"{\n") :])["local"]
    except subprocess.TimeoutExpired:
        return f"not done after {TIMEOUT // 60} minutes"
    except (OSError, ValueError, KeyError):
        return "Salt gave no answer"
    # Salt's own reason may show a setting's value.
    return answer if isinstance(answer, dict) and "busy" in answer else "Salt gave no answer"


def status(answer, now):
    """Return what to record.

    :param answer: what ``asked`` returned.
    :param now: the time.
    """
    found = {"time": now.isoformat(timespec="seconds"), "states": 0} | {key: [] for key in WORDS}
    if isinstance(answer, str):
        return found | {"result": "failed", "reason": answer}
    found |= {"states": answer["states"]} | {key: answer.get(key, []) for key in WORDS}
    if not answer["states"]:
        return found | {"result": "failed", "reason": "no state was reached, the pillar or the states have a mistake"}
    is_failed = found["failed"] or found["expiring"] or found["restarting"] or found["full"] or found["jobs"]
    return found | {"result": "failed" if is_failed else "drift" if found["would_change"] else "none"}


def line(found):
    """Return in one line what was found.

    :param found: as ``status`` gives it.
    """
    if "reason" in found:
        return f"the dry run failed: {found['reason']}; see salt-call state.apply test=True"
    said = {key: f"{counted(found[key], thing)} {word}" for key, (thing, word) in WORDS.items() if found[key]}
    parts = [f"{words}: {(', ' if key == 'jobs' else ' ').join(found[key])}" for key, words in said.items()]
    return "; ".join(parts) or f"nothing would change in {found['states']} states"


WORDS = {
    "failed": ("state", "failed"),
    "would_change": ("state", "would change"),
    "expiring": ("certificate", "not renewed in time"),
    "restarting": ("service", "ended again and again"),
    "full": ("quota", "exceeded"),
    "jobs": ("job", "failed or missed"),
}


def counted(found, thing):
    return f"{len(found)} {thing}{'' if len(found) == 1 else 's'}"


def record(found):
    """Write what was found to the journal and, atomically, to the status file."""
    syslog.openlog("saltern-drift")
    syslog.syslog(syslog.LOG_INFO if found["result"] == "none" else syslog.LOG_WARNING, line(found))
    os.makedirs(os.path.dirname(STATUS), mode=0o755, exist_ok=True)
    with open(f"{STATUS}.new", "w", encoding="utf-8") as stream:
        stream.write(json.dumps(found, indent=2) + "\n")
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
    os.rename(f"{STATUS}.new", STATUS)


def main(arguments):
    if arguments not in ([], ["--record"]):
        sys.exit("usage: drift [--record]")
    if os.geteuid():
        sys.exit("drift: not root: run it with sudo")
    found = status(asked(), datetime.datetime.now(datetime.UTC))
    if arguments:
        record(found)
    print(line(found))
    return CODES[found["result"]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

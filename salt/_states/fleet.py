"""What an orchestration asks several minions at once, on the master."""

import concurrent.futures
import contextlib
import fcntl
import io
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

import salt.client
from salt.exceptions import CommandExecutionError

# Seconds in which a minion must answer.
TIMEOUT = 10
# Seconds in which a minion must have the modules.
SYNC = 120
# Seconds in which a host must be back from a reboot, and between two questions.
REBOOT = 600
POLL = 2
BACK = ("running", "degraded")
# Seconds that the suite may take for a host.
SUITE = 1800
# Characters of a failed test's reason.
REASON = 200


def ready(name, hosts, environment=None):
    """Check that minions answer, and bring them the tree's modules and today's pillar.

    :param name: what the state is for, in words.
    :param hosts: the minions' ids.
    :param environment: the environment whose hosts the orchestration moves. No other orchestration may move them
        meanwhile. ``None`` where it only asks.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"All {len(hosts)} answer"}
    if environment and not _alone(environment):
        comment = f"{environment}: another orchestration is under way; nothing was touched. Run this again after it"
        return ret | {"result": False, "comment": comment}
    try:
        comment = __salt__["fleet.silent"](hosts) or _unready(hosts)
    except CommandExecutionError as error:
        comment = str(error)
    return ret | {"result": False, "comment": comment} if comment else ret


def _unready(hosts):
    """Bring minions the tree's modules and pillar. Return whom that failed for, and the mistakes in their pillars."""
    if __opts__["test"]:
        return ""
    ask = __salt__["fleet.ask"]
    synced = ask(hosts, "saltutil.sync_all", timeout=SYNC)
    wait = {"wait": True, "timeout": SYNC}
    told = ask(hosts, "saltutil.refresh_pillar", timeout=2 * SYNC, kwarg=wait)
    # A pillar with mistakes holds nothing else, so no secret is shown with them.
    mistakes = ask(hosts, "pillar.get", "_errors", [], kwarg={"unmask": True})
    missing = [host for host in sorted(hosts) if not isinstance(synced.get(host), dict) or told.get(host) is not True]
    missing += [host for host in sorted(hosts) if host not in missing and not isinstance(mistakes.get(host), list)]
    if missing:
        return f"{', '.join(missing)}: did not take modules and pillar within {SYNC} s; nothing else was touched"
    lines = [f"{host}: {mistake}" for host in sorted(hosts) for mistake in mistakes[host]]
    return "\n".join([*lines, "Nothing else was touched"]) if lines else ""


def _alone(environment):
    """Lock an environment for this orchestration, and tell whether that worked.

    The lock is an open file: the kernel closes it when the orchestration ends, also when it is killed.
    """
    with contextlib.ExitStack() as stack:
        path = os.path.join(__opts__["cachedir"], f"saltern-{environment}.lock")
        stream = stack.enter_context(open(path, "w", encoding="ascii"))
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        __context__["fleet.lock"] = stack.pop_all()
    return True


def refused(name):
    """Say why nothing is done.

    :param name: the reason.
    """
    return {"name": name, "changes": {}, "result": False, "comment": name}


def told(name):
    """Tell the operator who waits for the orchestration what is under way.

    :param name: a line.
    """
    print(f"would be: {name}" if __opts__["test"] else name, file=sys.stderr, flush=True)
    return {"name": name, "changes": {}, "result": True, "comment": name}


def noted(name, hosts):
    """Tell the operator who waits for the orchestration what the minions' notes are.

    The report of an orchestration leaves out a minion whose run changed nothing.

    :param name: what is told, in words.
    :param hosts: the minions' ids.
    """
    answers = __salt__["fleet.ask"](hosts, "notes.of_host")
    notes = [f"{host}: {note}" for host in hosts for note in noted_by(answers.get(host))]
    return {"name": name, "changes": {}, "result": True} | __salt__["notes.tell"](notes)


def noted_by(answer):
    """Return the notes in a minion's answer: none where it lacks the module, or its pillar has a mistake."""
    return [note for note in answer if isinstance(note, str)] if isinstance(answer, list) else []


def stopped(name, hosts):
    """End an orchestration whose last step failed. Hosts that are as they were before it take requests again.

    :param name: what the operator is to do then.
    :param hosts: the ids of the hosts of that step.
    """
    if __opts__["test"]:
        return {"name": name, "changes": {}, "result": None, "comment": "Would stop here"}
    with salt.client.get_local_client(mopts=__opts__) as client:
        answers = client.cmd(hosts, "drain.undo", tgt_type="list", timeout=TIMEOUT)
    lines = [f"{host}: {answers.get(host, 'does not answer')}" for host in hosts]
    return {"name": name, "changes": {}, "result": False, "comment": "\n".join([*lines, name])}


# --- Rebooting --------------------------------------------------------------------------------------------------------


def rebooted(name, hosts, timeout=REBOOT):
    """Reboot minions, and wait until they are back and systemd has started all that it should.

    :param name: whatever the state is for.
    :param hosts: their ids.
    :param timeout: seconds.
    """
    if __opts__["test"]:
        comment = f"{', '.join(hosts)} would be rebooted"
        return {"name": name, "changes": dict.fromkeys(hosts, "rebooted"), "result": None, "comment": comment}
    started = time.monotonic()
    with salt.client.get_local_client(mopts=__opts__) as client:
        answers = client.cmd(hosts, "reboot.begin", tgt_type="list", timeout=TIMEOUT, full_return=True)
        failed = {host: "did not answer" for host in hosts if host not in answers}
        failed |= {host: str(answer["ret"]) for host, answer in answers.items() if answer.get("retcode")}
        before = {host: answer["ret"] for host, answer in answers.items() if host not in failed}
        now = {}
        while before.keys() - now.keys() and time.monotonic() < started + timeout:
            time.sleep(POLL)
            missing = sorted(before.keys() - now.keys())
            for host, boot in client.cmd(missing, "reboot.boot", tgt_type="list", timeout=TIMEOUT).items():
                if is_back(boot, before[host]):
                    now[host] = boot["state"]
    failed |= {host: f"is not back after {timeout} s" for host in before.keys() - now.keys()}
    failed |= {
        host: f"is back, but systemd is {state}; systemctl --failed says why"
        for host, state in now.items()
        if state != "running"
    }
    seconds = f"{time.monotonic() - started:.0f} s"
    comment = "; ".join(f"{host}: {reason}" for host, reason in sorted(failed.items()))
    comment = f"{comment}. No further host was rebooted" if failed else f"Back after {seconds}"
    changes = dict.fromkeys(sorted(now), f"rebooted, {seconds}")
    return {"name": name, "changes": changes, "result": not failed, "comment": comment}


def is_back(boot, before):
    """Tell whether a host is back from a reboot.

    :param boot: what it says of its boot; see ``reboot.boot``. A host that goes down may answer anything.
    :param before: the id of the boot before.
    """
    return isinstance(boot, dict) and boot.get("id") != before and boot.get("state") in BACK


# --- Verifying --------------------------------------------------------------------------------------------------------


def verified(name, hosts, own=None):
    """Run the suite of ``make verify`` over hosts from here, and print one table of what it found.

    :param name: whatever the state is for.
    :param hosts: the ids of minions.
    :param own: the id of this master, where it is to be asked too.
    """
    targets = {host: f"salt://{host}" for host in hosts} | ({own: "local://"} if own else {})
    done = {}
    with tempfile.TemporaryDirectory() as directory, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        asked = {pool.submit(_asked, host, target, directory): host for host, target in sorted(targets.items())}
        for future in concurrent.futures.as_completed(asked):
            host = asked[future]
            done[host] = future.result()
            print(f"{host}: {_summary(done[host])}", file=sys.stderr, flush=True)
    print(_table(done), file=sys.stderr, flush=True)
    failed = {host: found["failed"] for host, found in sorted(done.items()) if found["failed"]}
    lines = [f"{host}: {line}" for host, found in failed.items() for line in found]
    comment = "\n".join(lines) or f"All {len(done)} hosts are what is declared"
    return {"name": name, "changes": {}, "result": not failed, "comment": comment}


def _asked(host, target, directory):
    """Run the suite over one host."""
    tree = os.path.dirname(__opts__["file_roots"]["base"][0])
    report = os.path.join(directory, f"{host}.xml")
    command = [sys.executable, "-m", "verify", "-q", f"--hosts={target}", f"--tree={tree}", f"--junit-xml={report}"]
    # This master's key decrypts the secrets.
    environ = os.environ | {"GNUPGHOME": __opts__["gpg_keydir"]}
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=tree, env=environ, capture_output=True, text=True, check=False, timeout=SUITE
        )
    except subprocess.TimeoutExpired:
        return {"passed": 0, "failed": [f"the suite was not done after {SUITE} s"], "skipped": 0, "seconds": SUITE}
    seconds = time.monotonic() - started
    try:
        found = outcome(xml.etree.ElementTree.parse(report).getroot())
    except (OSError, xml.etree.ElementTree.ParseError):
        found = {"passed": 0, "failed": [], "skipped": 0}
    if done.returncode and not found["failed"]:
        said = (done.stdout + done.stderr).strip().splitlines() or ["no reason given"]
        found["failed"] = [f"the suite could not be run: {said[-1][:REASON]}"]
    return found | {"seconds": seconds}


def outcome(report):
    """Read what pytest reports.

    :param report: the root of its JUnit XML.
    :return: how many tests ``passed`` and were ``skipped``, and a line for each that ``failed``.
    """
    found = {"passed": 0, "failed": [], "skipped": 0}
    for case in report.iter("testcase"):
        wrong = next((case.find(word) for word in ("failure", "error") if case.find(word) is not None), None)
        if wrong is not None:
            lines = (wrong.get("message") or "").splitlines() or ["no reason given"]
            found["failed"].append(f"{case.get('name').partition('[')[0]}: {lines[0][:REASON]}")
        else:
            found["skipped" if case.find("skipped") is not None else "passed"] += 1
    return found


def _summary(found):
    skipped = f", {found['skipped']} skipped" if found["skipped"] else ""
    return f"{found['passed']} passed, {len(found['failed'])} failed{skipped}, {found['seconds']:.0f} s"


def _table(done):
    """Return what was found as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("host", "roles", "passed", "failed", "skipped", "seconds")
    table.add_column("what failed", overflow="fold")
    roles = __salt__["inventory.read"]()
    for host, found in sorted(done.items()):
        counts = (found["passed"], len(found["failed"]), found["skipped"], f"{found['seconds']:.0f}")
        names = "\n".join(line.partition(":")[0] for line in found["failed"])
        table.add_row(host, ", ".join(roles[host]["roles"]), *map(str, counts), names)
    stream = io.StringIO()
    Console(file=stream, width=120).print(table)
    return stream.getvalue().rstrip()

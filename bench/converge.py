"""A converge with nothing to do, compared with other tools that keep the same host: ``make bench``.

One host of Debian 13 has all roles and both example apps. ``contenders/host.yml`` describes the same host for Ansible
and for pyinfra, each with its own modules. Each tool makes the host once from a bootstrapped one; the suite of ``make
verify`` and Saltern's dry run check the result. Then all take turns on one host, where none has anything to do.
"""

import json
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import yaml

from bench import in_turn
from bench.report import Result
from lab import Host, Lab, machine
from lab.host import failure
from lab.podman import LabError
from lab.steps import Steps
from lab.tree import ROOT

SUITE = "trixie"
ROUNDS = 5
CONTENDERS = ROOT / "bench/contenders"
# Directories on the host: a virtual environment for each contender, and the contenders' files.
THERE = "/opt/bench"
COMMANDS = {
    "test.ping": "salt-call --local -l quiet test.ping",
    "Saltern": "salt-call --retcode-passthrough -l error state.apply",
    "pyinfra": f"cd {THERE}/host && {THERE}/pyinfra/bin/pyinfra -y @local deploy.py",
    "Ansible": f"cd {THERE}/host && ANSIBLE_PIPELINING=1 ANSIBLE_PYTHON_INTERPRETER={THERE}/ansible/bin/python "
    f"{THERE}/ansible/bin/ansible-playbook -i localhost, site.yml",
}
CONTENDING = ("pyinfra", "Ansible")
# What each contender prints when it changed nothing.
NOTHING = {
    "Saltern": "changed=0|^Succeeded: [0-9]+$",
    "pyinfra": r"Grand total +\d+ +- +- +\d+",
    "Ansible": "changed=0 ",
}
# Seconds; CPU seconds of the process and of those that it waited for; and the most memory of one process in MiB.
MEASURE = """
import json, os, subprocess, sys, time
started = time.monotonic()
process = subprocess.Popen(["sh", "-c", sys.argv[1]], stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr)
_, status, used = os.wait4(process.pid, 0)
seconds = time.monotonic() - started
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


def install(host: Host, name: str) -> None:
    """Install a contender and its files on a host, from the index that this machine uses."""
    host.sh(
        "dpkg-query -W python3-venv >/dev/null 2>&1 || { apt-get -q update && apt-get -q -y install python3-venv; }"
    )
    host.sh(f"mkdir -p {THERE}/host && python3 -m venv {THERE}/{name}")
    host.run("tee", f"{THERE}/{name}.txt", input=(CONTENDERS / f"{name}.txt").read_text())
    options = "-q --require-hashes --no-deps --root-user-action=ignore --disable-pip-version-check"
    pip = f"PIP_CERT=/etc/ssl/certs/ca-certificates.crt {THERE}/{name}/bin/pip install {options}"
    host.run("sh", "-c", f"{pip} -r {THERE}/{name}.txt", env=machine.index_environment())


def collect(host: Host, directory: Path) -> None:
    """Copy the contenders' variables and files from a host that Saltern converged."""
    said = yaml.safe_load((CONTENDERS / "host.yml").read_text())
    files = [one["path"] for kind in ("early_files", "copies", "templates") for one in said[kind]]
    builds = {}
    (directory / "builds").mkdir(parents=True)
    (directory / "files").mkdir()
    pack(host, f"tar -C / -cf - {' '.join(path[1:] for path in files)}", directory / "files.tar")
    subprocess.run(["tar", "-C", str(directory / "files"), "-xf", str(directory / "files.tar")], check=True)
    (directory / "files.tar").unlink()
    for app in said["databases"]:
        builds[app] = Path(host.run("readlink", f"/srv/apps/{app}/releases/1/build").stdout.strip()).name
        pack(host, f"tar -C /srv/apps/{app}/builds -cf - {builds[app]}", directory / f"builds/{app}.tar")
    asked = "SELECT json_object_agg(rolname, rolpassword) FROM pg_authid WHERE rolpassword IS NOT NULL"
    logins = json.loads(host.sh(f'cd / && su postgres -c "psql -Atc \\"{asked}\\""').stdout)
    # The contenders use one login for each app, as is usual: its role.
    verifiers = {login.partition("_")[0]: verifier for login, verifier in logins.items()}
    for path in (directory / "files").rglob("env/DATABASE_URL"):
        path.write_text(re.sub(r"//([a-z0-9-]+)_[0-9a-f]{6}:", r"//\1:", path.read_text()))
    (directory / "facts.yml").write_text(yaml.safe_dump({"builds": builds, "verifiers": verifiers}))
    (directory / "host.key").write_text(host.run("cat", "/etc/salt/host.key").stdout)
    for name in ("host.yml", "site.yml", "deploy.py"):
        shutil.copy(CONTENDERS / name, directory / name)
    for path in (directory / "files").rglob("*"):
        if path.is_file() and any(mark in path.read_text() for mark in ("{{", "{%", "{#")):
            where = f"/{path.relative_to(directory / 'files')}"
            if where not in [one["path"] for one in said["copies"]]:
                raise LabError(f"{where}: would be taken for a template; move it to copies in host.yml")


def pack(host: Host, command: str, target: Path) -> None:
    """Write a host command's output, as bytes, to a file of this machine."""
    with target.open("wb") as stream:
        subprocess.run(["podman", "exec", host.name, "sh", "-c", command], stdout=stream, check=True)


def hand_over(host: Host, directory: Path) -> None:
    """Put the contenders' files on a host."""
    subprocess.run(["podman", "cp", f"{directory}/.", f"{host.name}:{THERE}/host"], check=True)


def measured(host: Host, name: str) -> tuple[float, float, float, str]:
    """Run a contender; return seconds, CPU seconds, MiB and its output.

    :raises LabError: when it fails.
    """
    command = ("python3", "-c", MEASURE, COMMANDS[name])
    done = host.run(*command)
    code, *figures = json.loads(done.stdout.splitlines()[-1])
    if code:
        raise failure(host, (name,), subprocess.CompletedProcess(command, code, "", done.stderr))
    return *figures, done.stderr


def is_idle(name: str, said: str) -> bool:
    """Tell from a contender's output whether it changed nothing."""
    return name not in NOTHING or bool(re.search(NOTHING[name], said, re.MULTILINE))


def verify(lab: Lab, host: Host) -> str:
    """Run the suite of ``make verify``. Return its last line.

    :raises LabError: when it fails.
    """
    command = [sys.executable, "-m", "verify", "-q"]
    command += [f"--hosts=lab://{host.name}", f"--tree={lab.tree}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{host.id}: the suite does not pass:\n{done.stdout[-3000:]}")
    return done.stdout.strip().splitlines()[-1].strip("= ")


def changed_by_saltern(host: Host) -> list[str]:
    """Return what a converge would change, by the ids of its states."""
    states = host.salt("state.apply", "test=True")
    return sorted(one["__id__"] for one in states.values() if one["result"] is None or one["changes"])


def bootstrapped(lab: Lab) -> Host:
    """Boot a new host, and bootstrap it."""
    host = lab.boot("dev", SUITE)
    host.bootstrap()
    return host


def prove(lab: Lab, host: Host, name: str, directory: Path, steps: Steps) -> None:
    """Have a contender make the host from a bootstrapped one, and check the result.

    :raises LabError: when the host differs from Saltern's, or a second run of the contender changes something.
    """
    with steps.step(f"{name}, from a bootstrapped host") as step:
        host.run("tee", "/etc/salt/host.key", input=(directory / "host.key").read_text())
        install(host, name.lower())
        hand_over(host, directory)
        seconds, *_ = measured(host, name)
        *_, said = measured(host, name)
        if not is_idle(name, said):
            raise LabError(f"{name}: changed something in its second run:\n{said[-3000:]}")
        step.outcome = f"{seconds:.0f} s; then nothing to do"
    with steps.step(f"verify what {name} made") as step:
        step.outcome = verify(lab, host)
        if changed := changed_by_saltern(host):
            raise LabError(f"{name}: Saltern would change {', '.join(changed)}")
        step.outcome += "; a dry run of Saltern would change nothing"


def compare(host: Host, steps: Steps) -> dict[str, list[list[float]]]:
    """Have all contenders take turns with nothing to do; return their figures by name."""
    found: dict[str, list[list[float]]] = {name: [] for name in COMMANDS}
    for n in range(ROUNDS + 1):
        with steps.step(f"round {n} of {ROUNDS}" if n else "a round to warm up"):
            for name in in_turn(COMMANDS, n):
                *figures, said = measured(host, name)
                if not is_idle(name, said) and n:
                    raise LabError(f"{name}: changed something where there was nothing to do:\n{said[-3000:]}")
                found[name] += [figures] if n else []
    return found


def main() -> int:
    """Measure on fresh hosts, and keep the result. Return an exit code."""
    steps = Steps()
    with Lab.temporary("bench-converge") as lab:
        directory = Path(f"{lab.tree}-contenders")
        try:
            with steps.step("boot, bootstrap, converge"):
                host = bootstrapped(lab)
                for app in ("faq", "tickets"):
                    lab.build(ROOT / "examples" / app, host.python)
                host.converge(line=lambda _: None)
            with steps.step("install the contenders"):
                collect(host, directory)
                for name in CONTENDING:
                    install(host, name.lower())
                hand_over(host, directory)
            found = compare(host, steps)
            with steps.step("verify") as step:
                step.outcome = verify(lab, host)
            for name in CONTENDING:
                host.remove()
                host = bootstrapped(lab)
                prove(lab, host, name, directory, steps)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    result(found).keep()
    return 0


def result(found: dict[str, list[list[float]]]) -> Result:
    """Return the result for the figures."""
    middle = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    ours, ping = middle["Saltern"][0], middle["test.ping"][0]
    rows = [
        [name, f"{seconds:.2f}", f"{cpu:.2f}", f"{memory:.0f}", f"{seconds / ping:.2f}", f"{ours / seconds:.3f}"]
        for name, (seconds, cpu, memory) in middle.items()
    ]
    return Result(
        part="converge",
        title="Nothing to do, on a whole host",
        columns=["", "seconds", "CPU seconds", "MiB at most", "times test.ping", "Saltern's share of it"],
        rows=rows,
        notes=[
            f"Medians of {ROUNDS} rounds. Goals: Saltern at most 2.5 times `test.ping`, 0.05 of Ansible and 0.7 of "
            "pyinfra. Each of these was started on the host itself, so that no connection counts, and says itself that "
            "it changed nothing. Each also made the host from a bootstrapped one; that passed `make verify`, and a dry "
            "run of Saltern would have changed nothing there.",
        ],
        bars={name: seconds for name, (seconds, *_) in middle.items()},
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"bench: {error}")

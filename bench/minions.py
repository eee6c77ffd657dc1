"""Fifty real minions against one master: ``make bench``.

The master is one lab host, the minions are processes of another, each with an id, keys and a cache of its own. That
host is a converged app host, and so each of them finds what an app host has: packages, services, the apps themselves.
"""

import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import yaml

from bench.report import Result
from lab import Host, Lab, machine
from lab.pillar import declare
from lab.steps import Steps
from lab.tree import ROOT

MINIONS = 50
BATCH = 10
# States of an app host.
LEAST = 50
MASTER, CROWD = "master1", "crowd"
# Prints the CPU seconds of processes with a text in their command line, and of their children.
USED = """
for stat in /proc/[0-9]*/stat; do
    tr '\\0' ' ' <"${stat%stat}cmdline" 2>/dev/null | grep -q -- "salt-$1" || continue
    sed 's/.*) //' "$stat" 2>/dev/null
done | awk '{used += $12 + $13 + $14 + $15} END {print used / 100}'
"""
RESIDENT = """
for status in /proc/[0-9]*/smaps_rollup; do
    tr '\\0' ' ' <"${status%smaps_rollup}cmdline" 2>/dev/null | grep -q -- "salt-$1" || continue
    cat "$status"
done 2>/dev/null | awk '/^Pss:/ {used += $2} END {print used / 1024}'
"""


def prepared(lab: Lab) -> dict[str, Host]:
    """Boot a master and a host for the minions, and declare these. Return both."""
    names = [f"m{n + 1}" for n in range(MINIONS)]
    rows = {
        MASTER: {"environment": "dev", "roles": ["master"], "address": str(lab.subnet[10])},
        CROWD: {"environment": "dev", "roles": ["database", "cache", "app"], "address": str(lab.subnet[11])},
    }
    rows |= {
        name: {"environment": "dev", "roles": ["app"], "address": str(lab.subnet[100 + n])}
        for n, name in enumerate(names)
    }
    (lab.tree / "pillar/hosts.yaml").write_text(yaml.safe_dump(rows, sort_keys=False))
    apps = ("faq", "tickets")
    passwords = {app: {"password": f"{app}-0123456789-0123456789"} for app in apps}
    said = {"postgres": {"databases": passwords}, "redis": {"instances": {"tickets": passwords["tickets"]}}}
    declare(lab.tree / "pillar", "dev", said)
    lab.issue_certificates()
    with ThreadPoolExecutor(2) as pool:
        hosts = dict(zip((MASTER, CROWD), pool.map(lab.boot, (MASTER, CROWD)), strict=True))
        for app in apps:
            lab.build(ROOT / "examples" / app, hosts[MASTER].python, source="salt://")
        list(pool.map(lambda host: host.bootstrap(), hosts.values()))
    hosts[CROWD].converge(line=lambda _: None)
    return hosts


def joined(hosts: dict[str, Host]) -> None:
    """Start the minions, and accept their keys."""
    master, crowd = hosts[MASTER], hosts[CROWD]
    key = re.search(
        r"(?:[0-9a-f]{2}:){31}[0-9a-f]{2}",
        master.run("/srv/saltern/bootstrap.sh", "--master", env=machine.index_environment()).stdout,
    )[0]
    crowd.run(
        *("/srv/saltern/bootstrap.sh", "--minion-of", master.address, "--master-key", key),
        env=machine.index_environment(),
    )
    crowd.sh("systemctl stop salt-minion")
    for n in range(1, MINIONS + 1):
        crowd.sh(
            f"mkdir -p /etc/salt/m{n} && cp /etc/salt/host.key /etc/salt/m{n}/ && "
            f"sed 's/^id: .*/id: m{n}/' /etc/salt/minion >/etc/salt/m{n}/minion && "
            f"printf 'root_dir: /var/lib/m{n}\\npki_dir: /etc/salt/m{n}/pki\\n' >>/etc/salt/m{n}/minion && "
            f"systemd-run -q --unit=m{n} --property=Type=notify --property=NotifyAccess=all --setenv=PATH=$PATH "
            f"/opt/saltern/current/bin/salt-minion -c /etc/salt/m{n}"
        )
    deadline = time.monotonic() + 300
    while master.sh("ls /etc/salt/pki/master/minions_pre | grep -c '^m' || true").stdout.strip() != str(MINIONS):
        if time.monotonic() > deadline:
            raise SystemExit("not all minions have sent their keys within 300 s")
        time.sleep(1)
    # All minions are on this machine: no fingerprint needs to be compared.
    master.run("salt-key", "--yes", "--accept-all")
    while len(answered(master, "test.ping")) < MINIONS:
        if time.monotonic() > deadline:
            raise SystemExit("not all minions have answered within 300 s")


def answered(master: Host, *command: str) -> list[str]:
    """Run a command on all minions. Return the ids of those that ended well."""
    said = master.run("salt", "--out", "txt", "--hide-timeout", "-t", "10", "m*", *command, check=False).stdout
    return re.findall(r"^(m\d+): (?:True|.*'result': None)", said, re.MULTILINE)


def is_whole(answer: object) -> bool:
    """Tell whether a minion answered with the dry run of a whole host, without a failure."""
    states = list(answer.values()) if isinstance(answer, dict) else []
    return len(states) > LEAST and all(isinstance(one, dict) and one["result"] is not False for one in states)


def measured(hosts: dict[str, Host], *command: str) -> dict[str, float]:
    """Run a salt command on the master; return its seconds, and the CPU seconds of the master and of the minions."""
    parts = {"master": (hosts[MASTER], "master"), "minions": (hosts[CROWD], "minion")}

    def used() -> dict[str, float]:
        return {part: float(host.run("sh", "-c", USED, "used", what).stdout) for part, (host, what) in parts.items()}

    before, started = used(), time.monotonic()
    done = hosts[MASTER].run("salt", "--out", "json", "--static", "-t", "900", *command, check=False)
    seconds, after = time.monotonic() - started, used()
    answers = [one for text in done.stdout.split("\n}\n") if text.strip() for one in json.loads(text + "\n}").values()]
    wrong = [one for one in answers if "state.apply" in command and not is_whole(one)]
    if len(answers) != MINIONS or wrong:
        raise SystemExit(
            f"salt {' '.join(command)}: {len(answers)} answers, wrong: {str(wrong[:1])[:500]}{done.stderr}"
        )
    return {"seconds": seconds} | {part: after[part] - before[part] for part in parts}


def main() -> int:
    """Measure on two fresh hosts, and print a table. Return an exit code."""
    steps = Steps()
    with Lab.temporary("bench-minions") as lab:
        with steps.step("boot, bootstrap, converge"):
            hosts = prepared(lab)
        with steps.step(f"{MINIONS} minions"):
            joined(hosts)
        asked = {
            "test.ping": ("m*", "test.ping"),
            "pillar.items": ("m*", "pillar.items"),
            f"state.apply test=True, {BATCH} at once": ("-b", str(BATCH), "m*", "state.apply", "test=True"),
            "state.apply test=True": ("m*", "state.apply", "test=True"),
        }
        found = {}
        for name, command in asked.items():
            with steps.step(name) as step:
                found[name] = one = measured(hosts, *command)
                step.outcome = f"CPU of the master {one['master']:.0f} s, of the minions {one['minions']:.0f} s"
        memory = {
            part: float(hosts[host].run("sh", "-c", RESIDENT, "resident", part).stdout)
            for part, host in (("master", MASTER), ("minion", CROWD))
        }
    rows = []
    for name, one in found.items():
        share = one["master"] / (one["master"] + one["minions"])
        cells = (one["seconds"], one["seconds"] / MINIONS, one["master"], one["minions"])
        rows.append([name, *(f"{cell:.2f}" for cell in cells), f"{share:.0%}"])
    Result(
        part="minions",
        title=f"{MINIONS} minions of one master",
        columns=["seconds", "in all", "a minion", "CPU, master", "CPU, minions", "the master's share"],
        rows=rows,
        notes=[
            "One run, master and minions on the same machine. "
            f"Memory: the master {memory['master']:.0f} MiB, a minion {memory['minion'] / MINIONS:.0f} MiB."
        ],
    ).keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())

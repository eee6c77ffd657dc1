"""What happens to slow requests during a release: ``make bench``.

When a release begins, these are under way: an upload of 200 MB, a download of 200 MB to a slow client, a download from
a slow app, an answer that takes 110 s, and a WebSocket. They go to one host, and through a proxy to two app hosts that
converge at the same time, so that the release meets every request.
"""

import concurrent.futures
import sys
import time

import yaml
from rich.console import Console

from bench.report import Result
from lab import Host, Lab, pillar
from lab.tree import ROOT
from tests.hosts.slow_client import Exchange, Socket, download, slow, upload

DOMAIN = "mirror.localhost"
MIRROR = {
    "port": 8300,
    "domains": [DOMAIN],
    "formation": {"web": 2, "worker": 1},
    "site": {"timeout": 120, "body_size": "250m"},
    "config": {"SHADE": "0"},
}
HOSTS = {"proxy1": ["proxy"], "app1": ["app"], "app2": ["app"]}
BYTES = 200_000_000
CONVERGE = ("salt-call", "--retcode-passthrough", "--out", "quiet", "state.apply")


def requests(address: str) -> dict:
    """Return the requests, by name."""
    return {
        "an upload of 200 MB at 2 MB/s": lambda: upload(address, DOMAIN, BYTES, 100),
        "a download of 200 MB, read at 2 MB/s": lambda: download(address, DOMAIN, 200, 2),
        "a download of 600 MB, sent at 10 MB/s": lambda: download(address, DOMAIN, 600),
        "an answer that takes 110 s": lambda: slow(address, DOMAIN, 110),
    }


def across(lab: Lab, address: str, hosts: list[Host]) -> tuple[dict[str, Exchange], float, float, list[str]]:
    """Make a release on all hosts at once while requests are under way.

    :param lab: the hosts' lab.
    :param address: the address that the requests go to.
    :param hosts: the app hosts.
    :return: the outcome of each request, the seconds that the releases took, the seconds that a WebSocket lived, and
        the releases' lines about what they cut off.
    """
    asked = requests(address)
    threads = len(asked) + 1 + len(hosts)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool, Socket(address, DOMAIN) as connection:
        begun = time.monotonic()
        futures = {what: pool.submit(ask) for what, ask in asked.items()}
        lived = pool.submit(_lives, connection, begun)
        time.sleep(3)
        pillar.declare(lab.tree / "pillar", "dev", {"app": {"mirror": {"config": {"SHADE": "1"}}}})
        for converge in [pool.submit(host.run, *CONVERGE) for host in hosts]:
            converge.result()
        seconds = time.monotonic() - begun
        found = {what: future.result() for what, future in futures.items()}
        ended = lived.result()
    said = [line["what"] for host in hosts for line in host.salt("release.log", "mirror") if line["event"] == "cut off"]
    return found, seconds, ended, said


def _lives(connection: Socket, begun: float) -> float:
    """Return the seconds until a WebSocket was closed; it is tried every second."""
    while connection.echoes("there") and time.monotonic() < begun + 600:
        time.sleep(1)
    return time.monotonic() - begun


def prepared(lab: Lab, rows: dict[str, list[str]]) -> dict[str, Host]:
    """Boot and converge hosts with these roles, on which mirror is the only app."""
    inventory = {
        name: {"environment": "dev", "roles": roles, "address": str(lab.subnet[10 + index])}
        for index, (name, roles) in enumerate(rows.items())
    }
    (lab.tree / "pillar/hosts.yaml").write_text(yaml.safe_dump(inventory))
    (lab.tree / "pillar/secrets/dev.sls").write_text("{}\n")
    pillar.declare(lab.tree / "pillar", "dev", {"app": {"faq": None, "tickets": None, "mirror": MIRROR}})
    if len(rows) > 1:
        lab.issue_certificates()
    hosts = {}
    for name in rows:
        hosts[name] = lab.boot(name)
        if len(hosts) == 1:
            lab.build(ROOT / "tests/apps/mirror", hosts[name].python)
        hosts[name].bootstrap()
    for host in hosts.values():
        host.run(*CONVERGE)
    return hosts


def main() -> int:
    """Measure on fresh hosts and print a table. Return an exit code."""
    console, rows, notes = Console(), [], []
    for what, roles in (("one host", {"dev": ["app", "proxy"]}), ("a proxy, two app hosts", HOSTS)):
        with Lab.temporary("bench-long") as lab, console.status(what):
            hosts = prepared(lab, roles)
            entry = hosts.get("proxy1") or hosts["dev"]
            apps = [host for name, host in hosts.items() if name != "proxy1"]
            if len(apps) > 1:
                # Waits until the proxy has both hosts in.
                time.sleep(10)
            found, seconds, lived, said = across(lab, entry.address, apps)
            for name, one in found.items():
                answer = str(one.status) if one.status else "cut off"
                rows.append([name, what, answer, f"{one.count:,}", f"{one.seconds:.1f}"])
            rows.append(["a WebSocket", what, "closed", "", f"{lived:.1f}"])
            rows.append(["the releases", what, "; ".join(said) or "cut off nothing", "", f"{seconds:.1f}"])
            for host in hosts.values():
                host.remove()
    notes.append(
        "Each was under way for 3 s when the release began; two app hosts converge at once. "
        "`site.timeout` is 120 s, all else its default: requests, uploads and downloads have `in_flight.requests`, an "
        "hour; WebSockets have `in_flight.streams`, 30 s. A WebSocket ends with the old processes, which stay for the "
        "requests."
    )
    Result(
        part="long",
        title="Requests that take long, across a release",
        columns=["", "through", "answer", "bytes", "seconds"],
        rows=rows,
        notes=notes,
    ).keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())

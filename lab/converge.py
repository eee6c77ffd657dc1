"""How the hosts of a lab are booted, bootstrapped and converged."""

import contextlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from lab import bootstrapped
from lab.host import Host
from lab.lab import Lab
from lab.network import asked_port, port_to_publish, published_port
from lab.podman import LabError
from lab.stand_in import PUBLIC_KEY
from lab.steps import Steps
from lab.tree import inventory
from saltern import services


def side_by_side(
    steps: Steps, what: str, ids: Iterable[str], do: Callable[[str, Callable[[str], None]], tuple]
) -> dict[str, object]:
    """Do the same for several hosts at once, as one step.

    :param what: what is done, in a word.
    :param ids: the hosts' ids.
    :param do: takes a host's id and a function that shows the current action; returns a result and an outcome in words.
    :return: the results, by id.
    :raises LabError: the first error of a host, after all hosts have ended.
    """
    ids = list(ids)
    with steps.step(f"{what} {', '.join(ids)}") as step, ThreadPoolExecutor(len(ids) or 1) as pool:
        done = pool.map(lambda id: do(id, lambda text: step.doing(f"{id}: {text}" if len(ids) > 1 else text)), ids)
        found = dict(zip(ids, done, strict=True))
        outcomes = [outcome if len(ids) == 1 else f"{id} {outcome}" for id, (_, outcome) in found.items()]
        step.outcome = "; ".join(outcomes)
    return {id: result for id, (result, _) in found.items()}


def bootstrap(host: Host, doing: Callable[[str], None]) -> str:
    """Bootstrap a host; return its last line in a few words."""
    return host.bootstrap(line=doing).removeprefix(f"bootstrap.sh: {host.id} is ").partition(";")[0]


def let_know_each_other(steps: Steps, this: Lab, hosts: Iterable[Host]) -> None:
    """Write the secrets and the certificates that the hosts of an environment need."""
    if this.stand_in:
        with steps.step("secrets") as step:
            keys = {host.id: host.run(*PUBLIC_KEY).stdout for host in hosts}
            step.outcome = this.stand_in.write_secrets(keys)
    if len(this.ids) > 1:
        with steps.step("certificates") as step:
            lines = [line for line in this.issue_certificates().splitlines() if line.startswith("pillar/")]
            step.outcome = f"{len(lines)}, {sum(': unchanged;' not in line for line in lines)} new"


def booted(this: Lab, host_id: str, suite: str) -> tuple[Host, str]:
    """Return a host that is up, and what was done for that: nothing, a start, or a boot of a new one.

    :param this: its lab.
    :param host_id: its id.
    :param suite: its Debian.
    """
    host = this.host(host_id)
    wanted = asked_port(os.environ.get("SALTERN_PORT", ""))
    if host:
        port = published_port(host)
        if wanted and port and port != wanted:
            raise LabError(f"{host_id} has port {port}, and SALTERN_PORT={wanted} was asked for; run make down first")
        if host.alive:
            return host, f"up, {host.address}"
        if this.revive(host):
            return host, f"started again, {host.address}"
        host.remove()
    is_proxy = "proxy" in inventory(this.tree)[host_id]["roles"]
    with port_to_publish(wanted) if is_proxy else contextlib.nullcontext() as port:
        new = this.boot(host_id, suite, bootstrapped.ensure(suite)[0], port=port)
    failed = new.failed_units()
    state = f"degraded: {', '.join(failed)}" if failed else "running"
    return new, f"{'made anew' if host else 'new'}, {new.address}, systemd {state}"


def converge_all(steps: Steps, this: Lab, hosts: Iterable[Host], *arguments: str, brief: bool = False) -> None:
    """Converge hosts and show Salt's report, brief or complete. Hosts that apps attach come before the apps' hosts."""
    rows = inventory(this.tree)
    for together in in_order({host.id: rows[host.id]["roles"] for host in hosts}):
        converge_some(steps, [host for host in hosts if host.id in together], *arguments, brief=brief)


def in_order(roles: dict[str, list[str]]) -> list[list[str]]:
    """Return groups of hosts in the order in which they converge. A group converges at once.

    The first app host comes before the others, since it runs the migrations.

    :param roles: by host id.
    """
    providers = [id for id, its in roles.items() if services.on(its)]
    apps = [id for id, its in roles.items() if "app" in its and id not in providers]
    others = [id for id in roles if id not in providers and id not in apps]
    return [some for some in (providers, [*apps[:1], *others], apps[1:]) if some]


def converge_some(steps: Steps, hosts: list[Host], *arguments: str, brief: bool) -> None:
    """Converge some hosts at once, as a step."""
    terminal = steps.console.is_terminal
    with steps.step(f"converge {', '.join(host.id for host in hosts)}") as step:

        def one(host):
            before = f"{host.id}  " if len(hosts) > 1 else ""
            return host.converge(
                *arguments,
                line=lambda text: step.line(before + text),
                state=(lambda text: step.doing(before + text)) if terminal else None,
                color=terminal,
                brief=brief,
            )

        with ThreadPoolExecutor(len(hosts)) as pool:
            outcomes = list(pool.map(one, hosts))
        named = zip(hosts, outcomes, strict=True)
        step.outcome = "; ".join(f"{host.id} {done}" if len(hosts) > 1 else str(done) for host, done in named)

"""The lab's command line, behind the Makefile's targets, and behind the Vagrantfile: stand-in."""

import argparse
import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab import bootstrapped, image, journal, machine
from lab.answer import ask
from lab.converge import booted, bootstrap, converge_all, let_know_each_other, side_by_side
from lab.elsewhere import machines, refuse_unreached, ssh_config
from lab.host import PYTHON, Host
from lab.lab import RUN, Lab, remove_labelled
from lab.network import published_port
from lab.podman import LabError, reason
from lab.stand_in import read as pillar_file
from lab.steps import Steps
from lab.tree import DEFAULT, PILLAR, ROOT, inventory
from saltern import environments

# Vagrant reaches its machines by ssh, from a network that no pillar knows.
MACHINES = {"firewall": {"ssh": ["0.0.0.0/0", "::/0"], "ssh_port": 22}}
# The command on a host that looks for drift; see formulas/drift.
DRIFT = "/usr/local/lib/saltern/drift"


def main(arguments: list[str] | None = None) -> int:
    """Run one command of the lab and return its exit code.

    :param arguments: the command line without the program, ``sys.argv`` where it is not given.
    """
    options = parser().parse_args(arguments)
    try:
        # Any user may ask hosts elsewhere over ssh, and make the tree of virtual machines.
        if os.geteuid() and not (
            options.command is stand_in or (options.command is verify and (options.host or options.vagrant))
        ):
            raise LabError("not root: the lab boots privileged containers; run make with sudo, or as root")
        return options.command(options) or 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"lab: {error.filename}: is not this user's; run this as whoever made it, or remove it", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the output has gone. Without this, Python would report the closed pipe again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    root = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    root.add_argument(
        "--environment", default=DEFAULT, metavar="ENV", help=f"whose hosts: {', '.join(environments.names(PILLAR))}"
    )
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function) -> argparse.ArgumentParser:
        each = commands.add_parser(name, help=function.__doc__.splitlines()[0], description=function.__doc__)
        each.set_defaults(command=function)
        return each

    suites = f"the hosts' Debian, one of {', '.join(machine.SUITES)}; the first unless given"
    add("up", up).add_argument("--suite", help=suites)
    add("stand-in", stand_in).add_argument("--suite", help=suites)
    apply_parser = add("apply", apply)
    apply_parser.add_argument("--host", help="only this host")
    apply_parser.add_argument("argument", nargs="*", help="further arguments of state.apply, such as test=True")
    verify_parser = add("verify", verify)
    verify_parser.add_argument("--host", help="testinfra's name of a host elsewhere, such as ssh://root@web1")
    verify_parser.add_argument("--vagrant", action="store_true", help="the virtual machines that Vagrant runs here")
    verify_parser.add_argument("--ssh-config", help="the configuration of ssh to use, in place of the user's own")
    add("drift", drift)
    logs_parser = add("logs", logs)
    logs_parser.add_argument("--app", help="only this app")
    logs_parser.add_argument("--process", help="only this process type, such as web, or process, such as web.1")
    logs_parser.add_argument("--host", help="only this host")
    logs_parser.add_argument("--no-follow", action="store_true", help="end after the lines that are there")
    add("status", status)
    down_parser = add("down", down)
    down_parser.add_argument("--host", help="only this host")
    down_parser.add_argument("--run", help="only what the test run of this name made")
    down_parser.add_argument("--images", action="store_true", help="the images too")
    return root


def up(options: argparse.Namespace) -> int:
    """Boot, bootstrap and converge the hosts of an environment, and ask their apps."""
    with only_one():
        steps = Steps()
        this = Lab.of_tree(options.environment)
        this.refresh()
        hosts = {host.id: host for host in this.hosts()}
        suite = agreed_suite(options.suite, list(hosts.values()))
        if not hosts.keys() >= set(this.ids):
            with steps.step(f"image {suite}, bootstrapped") as step:
                _, made = bootstrapped.ensure(suite)
                step.outcome = "made" if made else "there"
        for host_id in [host_id for host_id in hosts if host_id not in this.ids]:
            with steps.step(f"remove {host_id}") as step:
                hosts.pop(host_id).remove()
                step.outcome = "no longer in the inventory"
        hosts = side_by_side(steps, "boot", this.ids, lambda host_id, _: booted(this, host_id, suite))
        side_by_side(steps, "bootstrap", hosts, lambda host_id, doing: (None, bootstrap(hosts[host_id], doing)))
        for app in example_apps(this.tree):
            with steps.step(f"build {app.name}") as step:
                build = this.build(app, next(iter(hosts.values())).python)
                step.outcome = f"{build['version']}, sha256 {build['sha256'][:12]}"
        let_know_each_other(steps, this, hosts.values())
        converge_all(steps, this, hosts.values(), brief=True)
        return finish(steps, this, hosts.values())


def stand_in(options: argparse.Namespace) -> None:
    """Make the tree that virtual machines see, with builds of the examples, keys, secrets and certificates for them."""
    with only_one():
        steps = Steps()
        this = Lab.of_tree(options.environment, "vagrant", MACHINES)
        if not this.stand_in:
            raise LabError("ENV: dev's hosts see the tree itself; expected staging or production")
        suite = agreed_suite(options.suite, [])
        this.refresh()
        for app in example_apps(this.tree):
            with steps.step(f"build {app.name}") as step:
                build = this.build(app, PYTHON[suite])
                step.outcome = f"{build['version']}, sha256 {build['sha256'][:12]}"
        with steps.step("secrets") as step:
            keys = {host_id: this.stand_in.make_host_key(host_id) for host_id in this.ids}
            step.outcome = this.stand_in.write_secrets(keys)
        try:
            with steps.step("certificates"):
                this.issue_certificates()
        finally:
            this.stand_in.stop_agent()


def apply(options: argparse.Namespace) -> None:
    """Converge the hosts that are up, or one of them."""
    with only_one():
        steps = Steps()
        this, hosts = live(options)
        hosts = asked_for(hosts, options.host)
        this.refresh()
        converge_all(steps, this, hosts, *options.argument)


def verify(options: argparse.Namespace) -> int:
    """Run the testinfra suite, which changes nothing, against the lab's hosts or another one."""
    tree, environ, hosts, stand_in, own = ROOT, {}, options.host, None, options.ssh_config
    if not hosts:
        this, there = (Lab.of_tree(options.environment, "vagrant"), []) if options.vagrant else live(options)
        hosts, tree, stand_in = ",".join(f"lab://{host.name}" for host in there), this.tree, this.stand_in
        environ = stand_in.environ if stand_in else {}
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="saltern-verify-") as scratch:
        config = Path(scratch) / "ssh_config"
        if options.vagrant:
            own = f"{scratch}/vagrant"
            hosts = machines(options.environment, Path(own))
        config.write_text(ssh_config(own, scratch))
        if options.host or options.vagrant:
            for name in hosts.split(","):
                refuse_unreached(name, config)
        command = [sys.executable, "-m", "verify", f"--hosts={hosts}", f"--ssh-config={config}"]
        command += [f"--tree={tree}"]
        code = subprocess.run(command, check=False, env=os.environ | environ).returncode
    if stand_in:
        stand_in.stop_agent()
    return code


def drift(options: argparse.Namespace) -> int:
    """Ask each host that is up what a converge would change. Return 1 where there is anything."""
    code = 0
    for host in live(options)[1]:
        asked = host.run(DRIFT, check=False)
        print(f"{host.id}  {drifted(asked)}", flush=True)
        code = 1 if asked.returncode else code
    return code


def drifted(asked: subprocess.CompletedProcess) -> str:
    """Return the line that a host's own script printed, or why there is none.

    :param asked: how the script ended.
    """
    return asked.stdout.strip() or f"cannot be asked; run make apply first ({reason(asked)})"


def logs(options: argparse.Namespace) -> None:
    """Show the lines of all processes of all hosts as one stream."""
    hosts = asked_for(live(options)[1], options.host)
    journal.show(hosts, journal.Wanted(options.app, options.process), follow=not options.no_follow)


def status(options: argparse.Namespace) -> None:
    """List the lab's hosts."""
    hosts = Lab.of_tree(options.environment).hosts()
    if not hosts:
        print(f"no host of {options.environment} is up; {boot_or_ask(options.environment)}")
    for host in hosts:
        port = published_port(host)
        state = host.run("systemctl", "is-system-running", check=False).stdout.strip() if host.alive else ""
        where = f"  http on 127.0.0.1:{port}" if port else ""
        print(f"{host.id}  {host.suite}  {host.address}  {state or 'off; make up starts it'}{where}")


def down(options: argparse.Namespace) -> None:
    """Remove the lab's hosts and networks, or one host."""
    if options.run:
        removed = remove_labelled({RUN: options.run})
    elif options.host:
        host = Lab.of_tree(options.environment).host(options.host)
        if not host:
            listed = f"make status{given(options.environment)} lists the hosts that are"
            raise LabError(f"HOST: '{options.host}' is not in the lab of {options.environment}; {listed}")
        host.remove()
        removed = [host.name]
    else:
        removed = Lab.of_tree(options.environment).remove()
    if options.images:
        removed += image.remove()
    if removed:
        print(f"removed {' '.join(removed)}")
        return
    # A test run has hosts of no environment.
    up = [] if options.run else up_besides(options.environment)
    told = "".join(f"; {one}'s are up: make down{given(one)}" for one in up)
    print(f"nothing of {options.run or options.environment} to remove{told}")


def agreed_suite(asked: str | None, hosts: list[Host]) -> str:
    """Return the suite of the hosts, or the one to boot them with.

    :param asked: what was asked for, or ``None``.
    :param hosts: the hosts that are there.
    :raises LabError: when the suite is unknown, or a host has another one.
    """
    if asked and asked not in machine.SUITES:
        raise LabError(f"SUITE: '{asked}' is no Debian that Saltern knows; expected {' or '.join(machine.SUITES)}")
    for host in hosts:
        if asked and host.suite != asked:
            raise LabError(f"{host.id} is up with {host.suite}, and SUITE={asked} was asked for; run make down first")
    return asked or (hosts[0].suite if hosts else machine.SUITES[0])


def finish(steps: Steps, this: Lab, hosts) -> int:
    """Ask each app for an answer, print the end screen, and return 1 where one did not answer well."""
    rows, code = [], 0
    for host in hosts:
        port = published_port(host)
        if not port:
            continue
        with steps.step(f"ask the apps at {host.id}") as step:
            apps = host.salt("settings.load", "app")
            for name, app in sorted(apps.items()):
                # One that stands for many is no address.
                for domain in (domain for domain in app["domains"] if not domain.startswith("*.")):
                    step.doing(domain)
                    paths = ["/", app.get("health", {}).get("path", "/healthz")]
                    url, answer, good = ask(host, port, domain, paths)
                    rows.append((name, url, answer))
                    code = code if good else 1
            step.outcome = f"{len(rows)} answered" if not code else "not all answered well"
    say = steps.console.print
    say()
    width = max((len(url) for _, url, _ in rows), default=0)
    for name, url, answer in rows:
        say(f"  {name:<10} {url:<{width}}  {answer}", markup=False, soft_wrap=True)
    also = given(this.environment)
    if code:
        say(f"\nNot every app answered as it should. What its processes said: make logs{also}", markup=False)
    else:
        last = rows[-1][0] if rows else "APP"
        say(f"\nUp in {steps.seconds:.0f} s. Next:", markup=False)
        for command, what in (
            (f"make logs{also} APP={last}", "what its processes say"),
            (f"make verify{also}", "prove that the hosts are what was declared"),
            (f"make apply{also}", "converge again, after an edit in pillar/ or formulas/"),
            (f"podman exec -it {next(iter(hosts)).name} bash", "look around"),
            (f"make down{also}", "remove it all"),
        ):
            say(f"  {command:<38}  {what}", markup=False, soft_wrap=True)
    return code


def example_apps(tree: Path) -> list[Path]:
    """Return the directories of the example apps that a pillar declares, in order of their names.

    :param tree: the tree with the pillar.
    """
    declared = pillar_file(tree / "pillar/common.sls").get("app") or {}
    found = (path.parent for path in (ROOT / "examples").glob("*/Procfile"))
    return sorted(path for path in found if path.name in declared)


def live(options: argparse.Namespace) -> tuple[Lab, list[Host]]:
    """Return the lab of ``make up``, and its hosts that answer.

    :raises LabError: when there are none.
    """
    this = Lab.of_tree(options.environment)
    hosts = [host for host in this.hosts() if host.alive]
    if not hosts:
        raise LabError(f"no host of {this.environment} is up; {boot_or_ask(this.environment)}")
    return this, hosts


def given(environment: str) -> str:
    """Return the ENV of a make command for an environment: nothing for the default one."""
    return "" if environment == DEFAULT else f" ENV={environment}"


def up_besides(environment: str) -> list[str]:
    """Return the other environments whose hosts are up.

    :param environment: the one that was asked for.
    """
    found = []
    for other in sorted({row["environment"] for row in inventory(ROOT).values()} - {environment}):
        # A mistake in another environment's rows does not concern this command.
        with contextlib.suppress(LabError):
            found += [other] if Lab.of_tree(other).hosts() else []
    return found


def boot_or_ask(environment: str) -> str:
    """Say what to do where no host of an environment is up: boot them, or name another one whose hosts are up.

    :param environment: the one that was asked for.
    """
    others = "".join(f", or give ENV={one}, whose hosts are up" for one in up_besides(environment))
    return f"run make up{given(environment)} first{others}"


def asked_for(hosts: list[Host], host_id: str | None) -> list[Host]:
    """Return the one host that was asked for, or all.

    :param hosts: those that are up.
    :param host_id: a host's id, or ``None``.
    :raises LabError: when it is not up.
    """
    if not host_id:
        return hosts
    found = [host for host in hosts if host.id == host_id]
    if not found:
        listed = ", ".join(sorted(host.id for host in hosts))
        raise LabError(f"HOST: '{host_id}' is not up; expected one of {listed}")
    return found


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold the lock of this tree's lab.

    :raises LabError: when another command holds it.
    """
    (ROOT / ".lab").mkdir(exist_ok=True)
    with (ROOT / ".lab/lab.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError("another make up or make apply of this tree is under way; wait for it") from None
        yield


if __name__ == "__main__":
    sys.exit(main())

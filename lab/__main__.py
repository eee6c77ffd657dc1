"""The lab's command line, behind the Makefile's targets, and behind the Vagrantfile: stand-in."""

import argparse
import contextlib
import fcntl
import http.client
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import testinfra
import yaml

from lab import image, journal, machine
from lab.host import PYTHON, Host
from lab.lab import DEFAULT, PILLAR, ROOT, RUN, Lab, inventory, port_to_publish, remove_labelled
from lab.podman import LabError, podman, reason
from lab.stand_in import PUBLIC_KEY
from lab.stand_in import read as pillar_file
from lab.steps import Steps
from saltern import environments, services

# Seconds in which an app that was just deployed must answer through the proxy.
ANSWER_TIMEOUT = 30
# By which nginx leads to HTTPS.
PERMANENT_REDIRECT = 308
# Vagrant reaches its machines by ssh, from a network that no pillar knows.
MACHINES = {"firewall": {"ssh": ["0.0.0.0/0", "::/0"], "ssh_port": 22}}
# What asks a host for drift; see formulas/drift.
DRIFT = "/usr/local/lib/saltern/drift"


def main(arguments: list[str] | None = None) -> int:
    """Run one command of the lab and return its exit code.

    :param arguments: the command line without the program, ``sys.argv`` where it is not given.
    """
    options = parser().parse_args(arguments)
    try:
        # A host elsewhere is asked over ssh, and a virtual machine's tree made, as whoever does it.
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
        # Whoever read the output has gone. Python would say so again when it flushes at its end.
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
        with steps.step(f"base image {suite}") as step:
            _, made = image.ensure(suite)
            step.outcome = "made" if made else "there"
        for host_id in [host_id for host_id in hosts if host_id not in this.ids]:
            with steps.step(f"remove {host_id}") as step:
                hosts.pop(host_id).remove()
                step.outcome = "no longer in the inventory"
        hosts = side_by_side(steps, "boot", this.ids, lambda host_id, _: booted(this, host_id, suite))
        side_by_side(steps, "bootstrap", hosts, lambda host_id, doing: (None, bootstrapped(hosts[host_id], doing)))
        for app in example_apps(this.tree):
            with steps.step(f"build {app.name}") as step:
                build = this.build(app, next(iter(hosts.values())).python)
                step.outcome = f"{build['version']}, sha256 {build['sha256'][:12]}"
        let_know_each_other(steps, this, hosts.values())
        converge_all(steps, this, hosts.values(), brief=True)
        return finish(steps, this, hosts.values())


def side_by_side(
    steps: Steps, what: str, ids: Iterable[str], do: Callable[[str, Callable[[str], None]], tuple]
) -> dict[str, object]:
    """Do the same for several hosts at once, as one step.

    :param what: what is done, in a word.
    :param ids: the hosts' ids.
    :param do: takes a host's id, and a function to say what is under way; returns a result, and an outcome in words.
    :return: the results, by id.
    :raises LabError: the first that one of them raised, when all have ended.
    """
    ids = list(ids)
    with steps.step(f"{what} {', '.join(ids)}") as step, ThreadPoolExecutor(len(ids) or 1) as pool:
        done = pool.map(lambda id: do(id, lambda text: step.doing(f"{id}: {text}" if len(ids) > 1 else text)), ids)
        found = dict(zip(ids, done, strict=True))
        outcomes = [outcome if len(ids) == 1 else f"{id} {outcome}" for id, (_, outcome) in found.items()]
        step.outcome = "; ".join(outcomes)
    return {id: result for id, (result, _) in found.items()}


def bootstrapped(host: Host, doing: Callable[[str], None]) -> str:
    """Bootstrap a host, and return what it said at last in a few words."""
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


def machines(environment: str, config: Path) -> str:
    """Return testinfra's names of the virtual machines that Vagrant runs, and write how ssh reaches them.

    :param environment: whose they are.
    :param config: the file to write.
    :raises LabError: when there are none, with what Vagrant says.
    """
    environ = os.environ | {"SALTERN_ENV": environment}
    try:
        asked = subprocess.run(
            ["vagrant", "ssh-config"], cwd=ROOT, capture_output=True, text=True, check=False, env=environ
        )
    except FileNotFoundError:
        raise LabError("VAGRANT: Vagrant is not installed here") from None
    config.write_text(asked.stdout)
    names = [line.split()[1] for line in asked.stdout.splitlines() if line.startswith("Host ")]
    if not names:
        raise LabError(f"VAGRANT: no machine of {environment} runs: {' '.join(asked.stderr.split()) or 'vagrant up'}")
    return ",".join(f"ssh://{name}?sudo=true" for name in names)


def refuse_unreached(name: str, config: Path) -> None:
    """Ask a host elsewhere whether it is there, once, and not in each test.

    :param name: testinfra's name of it.
    :param config: the configuration of ssh.
    :raises LabError: when it is not, with the reason.
    """
    if "://" not in name:
        raise LabError(f"HOST: '{name}' is no address of a host; expected one as ssh://root@web1")
    try:
        asked = testinfra.get_host(name, ssh_config=str(config)).run("true")
    except (RuntimeError, ValueError, ImportError) as error:
        # Of ssh's own failure testinfra hands on what ssh did.
        asked = error.args[0] if error.args else error
    if getattr(asked, "rc", 1):
        said = str(getattr(asked, "stderr", "") or asked).strip().splitlines()[-1]
        raise LabError(f"HOST: {name} cannot be asked: {said}; expected a host that ssh reaches, as ssh://root@web1")


def drift(options: argparse.Namespace) -> int:
    """Ask each host that is up what a converge would change. Return 1 where there is anything."""
    code = 0
    for host in live(options)[1]:
        asked = host.run(DRIFT, check=False)
        print(f"{host.id}  {drifted(asked)}", flush=True)
        code = 1 if asked.returncode else code
    return code


def drifted(asked: subprocess.CompletedProcess) -> str:
    """Return the line that a host's own script said, or that it has none.

    :param asked: how the script ended.
    """
    return asked.stdout.strip() or f"cannot be asked; run make apply first ({reason(asked)})"


def ssh_config(own: str | None, directory: str) -> str:
    """Return a configuration of ssh that asks a host over one connection, as the user's own configuration says.

    :param own: the user's configuration, the usual ones where it is not given.
    :param directory: where the connection's socket may lie.
    :raises LabError: when the configuration that is given is not there.
    """
    if own and not Path(own).is_file():
        raise LabError(f"SSH_CONFIG: {own}: no such file; expected a configuration of ssh")
    included = [Path(own).resolve()] if own else [Path("~/.ssh/config").expanduser(), "/etc/ssh/ssh_config"]
    lines = ["Host *", "ControlMaster auto", f"ControlPath {directory}/%C", "ControlPersist 30", "BatchMode yes"]
    return "\n".join([*lines, *(f"Include {path}" for path in included)]) + "\n"


def logs(options: argparse.Namespace) -> None:
    """Show the lines of all processes of all hosts as one stream."""
    hosts = asked_for(live(options)[1], options.host)
    journal.show(hosts, journal.Wanted(options.app, options.process), follow=not options.no_follow)


def status(options: argparse.Namespace) -> None:
    """List the lab's hosts."""
    hosts = Lab.of_tree(options.environment).hosts()
    if not hosts:
        print("no host is up; make up boots one")
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
            raise LabError(f"HOST: '{options.host}' is not there; make status lists the hosts that are")
        host.remove()
        removed = [host.name]
    else:
        removed = Lab.of_tree(options.environment).remove()
    if options.images:
        removed += image.remove()
    print(f"removed {' '.join(removed)}" if removed else "nothing to remove")


def agreed_suite(asked: str | None, hosts: list[Host]) -> str:
    """Return the suite that the hosts have or shall have.

    :param asked: what was asked for, or ``None``.
    :param hosts: the hosts that are there.
    :raises LabError: when it is not one of ours, or a host has another one than was asked for.
    """
    if asked and asked not in machine.SUITES:
        raise LabError(f"SUITE: '{asked}' is no Debian that Saltern knows; expected {' or '.join(machine.SUITES)}")
    for host in hosts:
        if asked and host.suite != asked:
            raise LabError(f"{host.id} is up with {host.suite}, and SUITE={asked} was asked for; run make down first")
    return asked or (hosts[0].suite if hosts else machine.SUITES[0])


def booted(this: Lab, host_id: str, suite: str) -> tuple[Host, str]:
    """Return a host that is up, and what had to be done for it: nothing, start it, or boot a new one.

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
        new = this.boot(host_id, suite, port=port)
    failed = new.failed_units()
    state = f"degraded: {', '.join(failed)}" if failed else "running"
    return new, f"{'made anew' if host else 'new'}, {new.address}, systemd {state}"


def asked_port(text: str) -> int | None:
    """Return the port that SALTERN_PORT asks for, or ``None`` where it is empty.

    :raises LabError: when it is no port.
    """
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise LabError(f"SALTERN_PORT: '{text}' is no port; expected a number from 1 to 65535")
    return int(text)


def converge_all(steps: Steps, this: Lab, hosts: Iterable[Host], *arguments: str, brief: bool = False) -> None:
    """Converge hosts with Salt's report, in brief or with all that changed: what apps attach before the apps."""
    rows = inventory(this.tree)
    for together in in_order({host.id: rows[host.id]["roles"] for host in hosts}):
        converge_some(steps, [host for host in hosts if host.id in together], *arguments, brief=brief)


def in_order(roles: dict[str, list[str]]) -> list[list[str]]:
    """Return in which order hosts converge, those together that may at once.

    Of an environment's app hosts the first comes before the others: what it migrates, they find migrated.

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
                for domain in app["domains"]:
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
    also = "" if this.environment == DEFAULT else f" ENV={this.environment}"
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


def ask(host: Host, port: int, domain: str, paths: list[str]) -> tuple[str, str, bool]:
    """Ask an app through the proxy, as a browser on this machine would, by HTTPS where that is where HTTP leads.

    :param host: the proxy.
    :param port: the port of 127.0.0.1 that leads to it.
    :param domain: the app's domain.
    :param paths: the paths to ask for, until one is served.
    :return: the URL, what was answered, and whether it was an answer that serves.
    """
    deadline = time.monotonic() + ANSWER_TIMEOUT
    plain = f"http://{domain}:{port}"
    while True:
        for path in paths:
            status, answer = ask_once(
                http.client.HTTPConnection("127.0.0.1", port, timeout=10), f"{domain}:{port}", path
            )
            base = f"https://{domain}" if status == PERMANENT_REDIRECT else plain
            if status == PERMANENT_REDIRECT:
                status, answer = ask_once(Https(host.address, domain), domain, path)
            if 0 < status < 400:
                return f"{base}{path}", answer, True
        if 0 < status < 500 or time.monotonic() > deadline:
            return f"{base}{path}", answer, False
        time.sleep(0.5)


class Https(http.client.HTTPSConnection):
    """A connection to an address, for a domain. Whose certificate it has does not matter here: make verify asks."""

    def __init__(self, address: str, domain: str, port: int = 443, timeout: int = 10):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        super().__init__(address, port, timeout=timeout, context=context)
        self.domain, self.tls = domain, context

    def connect(self) -> None:
        """Connect, and name the domain."""
        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self.tls.wrap_socket(plain, server_hostname=self.domain)


def ask_once(connection: http.client.HTTPConnection, host: str, path: str) -> tuple[int, str]:
    """Ask once. Return the status, 0 where there was no answer, and what was answered."""
    try:
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        return response.status, f"{response.status} {response.reason}"
    except (OSError, http.client.HTTPException) as error:
        return 0, f"no answer: {error or type(error).__name__}"
    finally:
        connection.close()


def published_port(host: Host) -> int | None:
    """Return the port of this machine's loopback that leads to the host's port 80."""
    listed = podman("inspect", "--format", "{{json .HostConfig.PortBindings}}", host.name).stdout
    bindings = (yaml.safe_load(listed) or {}).get("80/tcp")
    return int(bindings[0]["HostPort"]) if bindings else None


def example_apps(tree: Path) -> list[Path]:
    """Return the directories of the example apps that a pillar declares, in order of their names.

    :param tree: the tree that it is of.
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
        raise LabError("no host is up; run make up first")
    return this, hosts


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

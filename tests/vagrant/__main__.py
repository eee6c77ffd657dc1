"""Vagrant: what it makes of the Vagrantfile, and a whole ``vagrant up`` of it with a box of our own.

``make parity`` and ``make vagrant-check``.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab import machine
from tests.lab.__main__ import ask_once
from tests.lab.image import recipe
from tests.lab.lab import ENVIRONMENTS, ROOT, copy_tree, free_port, inventory
from tests.lab.podman import LabError, podman, reason
from tests.lab.steps import Step, Steps
from tests.pillar import declare
from tests.vagrant import box

# All that a check leaves: Vagrant's own home with the box, and a copy of the tree.
HOME = ROOT / ".lab/vagrant"
TREE = ROOT / ".lab/vagrant-check"
DAEMONS = ("virtlogd", "libvirtd")
# What an app says, where it says it, and what an edit makes of it.
APP, PAGE = "tickets", "helpdesk/templates/helpdesk/ticket_list.html"
SAID, EDITED = "<h1>Tickets</h1>", "<h1>Edited</h1>"
# Seconds without a word of what goes on.
QUIET = 30
MINUTE = 60


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    :param arguments: the command line without the program, ``sys.argv`` where it is not given.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.vagrant", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function in (("hosts", hosts), ("check", check)):
        each = commands.add_parser(name, help=function.__doc__.splitlines()[0])
        each.set_defaults(command=function)
        if function is hosts:
            each.add_argument("file", type=Path, help="the file to write")
        else:
            each.add_argument("--keep", action="store_true", help="leave the machine there where something fails")
            each.add_argument("--suite", default="bookworm", choices=machine.SUITES, help="the machine's Debian")
    options = parser.parse_args(arguments)
    try:
        return options.command(options) or 0
    except LabError as error:
        print(f"vagrant-check: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def hosts(options: argparse.Namespace) -> None:
    """Write what Vagrant makes of the Vagrantfile, for all environments that have hosts, as JSON."""
    rows = inventory(ROOT).values()
    found = []
    for environment in ENVIRONMENTS:
        if any(row["environment"] == environment for row in rows):
            found += asked(ROOT, environment)
    options.file.write_text(json.dumps(found))


def asked(tree: Path, environment: str, **variables: str) -> list[dict]:
    """Return what Vagrant makes of a tree's Vagrantfile.

    :param tree: the tree.
    :param environment: whose hosts.
    :param variables: further variables of Vagrant's environment.
    :raises LabError: with what Vagrant says, where it refuses.
    """
    # Debian's Vagrant is one of the system's Ruby; HashiCorp's brings its own.
    ruby = "/opt/vagrant/embedded/bin/ruby" if Path("/opt/vagrant/embedded/bin/ruby").exists() else "ruby"
    done = subprocess.run(
        [ruby, str(ROOT / "tests/vagrant/hosts.rb"), str(tree)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SALTERN_ENV": environment} | variables,
    )
    if done.returncode:
        raise LabError(done.stderr.strip())
    return json.loads(done.stdout)


class Check:
    """One whole check: a copy of the tree, a Vagrant of its own, and what they do.

    :param suite: the machine's Debian.
    """

    def __init__(self, suite: str):
        self.suite, self.steps = suite, Steps()
        self.log = ROOT / ".lab/vagrant-check.log"
        self.http, self.https = free_port(None, 8080, 8129), free_port(None, 8130)
        self.environ = os.environ | {
            "VAGRANT_HOME": str(HOME),
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "SALTERN_BOX": f"saltern/{suite}",
            "SALTERN_PORT": str(self.http),
            "SALTERN_HTTPS_PORT": str(self.https),
            "SALTERN_LOG": "info",
            **machine.index_environment(),
        }

    def vagrant(self, *arguments: str, step: Step | None = None, may_fail: bool = False) -> str:
        """Run a command of Vagrant over the copy. Return what it said, which is in the log too.

        :param arguments: the command.
        :param step: what to tell of what goes on.
        :param may_fail: whether a failure is no error.
        :raises LabError: when it fails, with the last lines.
        """
        said: list[str] = []
        with (
            self.log.open("a") as log,
            subprocess.Popen(
                ["vagrant", *arguments],
                cwd=TREE,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as running,
            told(said, step),
        ):
            for line in running.stdout:
                log.write(line)
                log.flush()
                said.append(line)
        if running.returncode and not may_fail:
            last = "".join(line for line in said[-60:] if "[INFO" not in line)
            error = LabError(f"vagrant {' '.join(arguments)} ended with {running.returncode}; {self.log} has all of it")
            print(last, file=sys.stderr)
            raise error
        return "".join(said)

    def box(self) -> str:
        """Make the box where it is not there, or its recipe has changed. Return which, in a word."""
        digest = hashlib.sha256((recipe(self.suite).digest + Path(box.__file__).read_text()).encode()).hexdigest()
        mark, name = HOME / f"{self.suite}.recipe", self.environ["SALTERN_BOX"]
        HOME.mkdir(parents=True, exist_ok=True)
        if mark.exists() and mark.read_text() == digest:
            return "there"
        path = HOME / f"{self.suite}.box"
        box.make(self.suite, path)
        self.vagrant("box", "add", "--force", "--provider", "libvirt", "--name", name, str(path))
        path.unlink()
        forget_disks(name)
        mark.write_text(digest)
        return "made"

    def answer(self, path: str = "/") -> str:
        """Return what the app answers on this machine's own port.

        :raises LabError: when it does not answer well.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=60)
        connection.request("GET", path, headers={"Host": f"{APP}.localhost:{self.http}"})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        if response.status != http.client.OK:
            raise LabError(f"{APP}: GET {path} through port {self.http}: {response.status} {response.reason}")
        return text

    def provision(self, step: Step) -> int:
        """Converge by ``vagrant provision``. Return how many states changed anything."""
        counted = changes(self.vagrant("provision", step=step))
        step.outcome = f"{counted} changed"
        return counted

    def refusal(self, release: str, expected: str) -> str:
        """Have the machine say that it is another Debian, and converge. Return the line by which it was refused.

        :param release: what it says, in words of os-release(5).
        :param expected: what the line must hold.
        :raises LabError: when it was not refused so.
        """
        self.vagrant("ssh", "--command", f"echo {release} | tr ' ' '\\n' | sudo tee /etc/os-release.other >/dev/null")
        self.vagrant("ssh", "--command", "sudo mv -T /etc/os-release.other /etc/os-release")
        try:
            said = self.vagrant("provision", may_fail=True)
        finally:
            self.vagrant("ssh", "--command", "sudo ln -sfn ../usr/lib/os-release /etc/os-release")
        found = [line.strip() for line in said.splitlines() if expected in line]
        if not found or "Running provisioner: converge" in said:
            raise LabError(f"{release}: expected to be refused with: {expected}")
        return found[0]

    def release(self) -> None:
        """Build the apps of the copy, as its Makefile does.

        :raises LabError: with the reason.
        """
        command = ["make", "-s", "release", f"SUITE={self.suite}"]
        done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"make release: {reason(done)}")


@contextlib.contextmanager
def told(said: list[str], step: Step | None) -> Iterator[None]:
    """Tell now and then what goes on: the last line, or the state that began last.

    :param said: the lines so far, which grow meanwhile.
    """
    ended = threading.Event()
    started = time.monotonic()

    def tell() -> None:
        while not ended.wait(QUIET):
            states = [line for line in said if "Running state [" in line]
            last = re.sub(r".*Running state \[(.*?)\].*", r"\1", said[-1].strip()) if said else ""
            what = f"state {len(states)}: {last}" if states else last
            step.line(f"    {(time.monotonic() - started) / MINUTE:.1f} min  {what[:100]}")

    teller = threading.Thread(target=tell, daemon=True)
    if step:
        teller.start()
    try:
        yield
    finally:
        ended.set()


def changes(said: str) -> int:
    """Return how many states changed anything, by Salt's own report.

    :raises LabError: when there is none, or a state failed.
    """
    found = re.search(r"Succeeded: *(\d+)(?: \((?:unchanged=\d+, *)?(?:changed=(\d+))?[^)]*\))?", said)
    failed = re.search(r"Failed: +(\d+)", said)
    if not found or not failed or int(failed[1]):
        raise LabError("the converge has no report of Salt's, or one with failures; the log has it")
    return int(found[2] or 0)


def forget_disks(box_name: str) -> None:
    """Remove the disks of former boxes of a name, of which libvirt keeps copies."""
    command, before = ["virsh", "-c", "qemu:///system"], f"{box_name.replace('/', '-VAGRANTSLASH-')}_vagrant_box_image_"
    listed = subprocess.run([*command, "vol-list", "default"], capture_output=True, text=True, check=False).stdout
    for name in (line.split()[0] for line in listed.splitlines() if line.strip().startswith(before)):
        subprocess.run([*command, "vol-delete", "--pool", "default", name], capture_output=True, check=False)


@contextlib.contextmanager
def daemons() -> Iterator[None]:
    """Have libvirt's daemons run, and end those that were started for it.

    :raises LabError: when libvirt does not answer.
    """
    answers = ["virsh", "-c", "qemu:///system", "version"]
    started = []
    if subprocess.run(answers, capture_output=True, check=False).returncode:
        for name in DAEMONS:
            if not (Path("/run") / f"{name}.pid").exists():
                subprocess.run([f"/usr/sbin/{name}", "-d"], capture_output=True, check=False)
                started.append(name)
        for _ in range(30):
            done = subprocess.run(answers, capture_output=True, text=True, check=False)
            if not done.returncode:
                break
            time.sleep(1)
        else:
            raise LabError(f"libvirt does not answer: {reason(done)}")
    try:
        yield
    finally:
        for name in reversed(started):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((Path("/run") / f"{name}.pid").read_text()), 15)


def refuse_in_use() -> None:
    """Refuse where the lab's hosts have the same addresses.

    :raises LabError: then.
    """
    if podman("network", "exists", "saltern-dev", check=False).returncode == 0:
        raise LabError("make up has hosts at the same addresses; run make down first")


def check(options: argparse.Namespace) -> None:
    """Boot the Vagrantfile's dev host with a box of our own, converge it, verify it over ssh, and destroy it."""
    if os.geteuid():
        raise LabError("not root: it makes a Debian and starts libvirt; run make with sudo, or as root")
    refuse_in_use()
    this = Check(options.suite)
    step = this.steps.step
    this.log.unlink(missing_ok=True)
    with daemons():
        if (TREE / ".vagrant").exists():
            with step("what is left of another check"):
                this.vagrant("destroy", "--force")
        shutil.rmtree(TREE, ignore_errors=True)
        TREE.mkdir()
        copy_tree(ROOT, TREE)
        subprocess.run(["git", "init", "-q", str(TREE)], check=True)
        with step(f"box {options.suite}") as one:
            one.outcome = this.box()
        # An emulated processor is some ten times slower, and so is what an app does until it answers.
        slow = {"health": {"timeout": 60, "grace": 600}, "contract": {"timeout": 600}}
        declare(TREE / "pillar", "dev", {"app": dict.fromkeys(("faq", "tickets"), slow)})
        try:
            walk(this)
        except LabError:
            if not options.keep:
                destroy(this)
            raise
        destroy(this)


def destroy(this: Check) -> None:
    """Leave nothing of the machine and of the copy of the tree."""
    with this.steps.step("vagrant destroy"):
        this.vagrant("destroy", "--force")
    shutil.rmtree(TREE)


def walk(this: Check) -> None:
    """Do what a user would, from ``make release`` to an edit that is seen.

    :raises LabError: at the first thing that is not as it should be.
    """
    step = this.steps.step
    with step("make release"):
        this.release()
    with step("vagrant up") as one:
        counted = changes(this.vagrant("up", step=one))
        one.outcome = f"{counted} changed"
    with step("the apps on this machine") as one:
        for app in ("tickets", "faq"):
            status, said = ask_once(
                http.client.HTTPConnection("127.0.0.1", this.http, timeout=60),
                f"{app}.localhost:{this.http}",
                "/healthz",
            )
            one.outcome += f" {app} {said}"
            if status != http.client.OK:
                raise LabError(f"{app} on port {this.http}: {said}")
    with step("vagrant up again") as one:
        if counted := changes(this.vagrant("up", step=one)):
            raise LabError(f"vagrant up changed {counted} states once more; the log has which")
        one.outcome = "0 changed"
    with step("a Debian that is not supported") as one:
        one.outcome = this.refusal("ID=debian VERSION_ID=11", "not a supported Debian: found 'debian 11'")
    with step("vagrant provision") as one:
        if this.provision(one):
            raise LabError("a second converge changed something; the log has what")
    with step("make release after an edit, vagrant provision") as one:
        edit(TREE / "examples" / APP)
        this.release()
        this.provision(one)
        if EDITED not in this.answer():
            raise LabError("the edit of the app is not to be seen")
    with step("make verify over ssh") as one:
        command = ["make", "-s", "verify", "VAGRANT=1"]
        done = subprocess.run(command, cwd=TREE, env=this.environ, capture_output=True, text=True, check=False)
        with this.log.open("a") as log:
            log.write(done.stdout + done.stderr)
        one.outcome = next((line.strip("= ") for line in reversed(done.stdout.splitlines()) if " in " in line), "")
        if done.returncode:
            print(done.stdout[-6000:], done.stderr[-2000:], file=sys.stderr)
            raise LabError(f"make verify: {one.outcome or reason(done)}")


def edit(app: Path) -> None:
    """Change what an example app says.

    :param app: its directory.
    :raises LabError: when it does not say what it said.
    """
    text = (app / PAGE).read_text()
    if SAID not in text:
        raise LabError(f"{app / PAGE}: expected {SAID}; mend the check")
    (app / PAGE).write_text(text.replace(SAID, EDITED))


if __name__ == "__main__":
    sys.exit(main())

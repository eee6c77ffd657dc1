"""A whole ``vagrant up`` of the Vagrantfile, with a box of our own and a separate home for Vagrant."""

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

from lab import machine
from lab.answer import PERMANENT_REDIRECT, Https, ask_once
from lab.image import recipe
from lab.network import free_port
from lab.podman import LabError, podman, reason
from lab.stand_in import read as pillar_file
from lab.steps import Step, Steps
from lab.tree import DEFAULT, PILLAR, ROOT
from lab.vagrant import box
from saltern import environments

# The only thing that a check leaves: Vagrant's home with the box.
HOME = ROOT / ".lab/vagrant"
DAEMONS = ("virtlogd", "libvirtd")
# A text of an app, its file, and the text after an edit.
APP, PAGE = "tickets", "helpdesk/templates/helpdesk/ticket_list.html"
SAID, EDITED = "<h1>Tickets</h1>", "<h1>Edited</h1>"
# Seconds between two messages about the progress.
QUIET = 30
MINUTE = 60


def asked(tree: Path, environment: str, **variables: str) -> list[dict]:
    """Return how Vagrant reads a tree's Vagrantfile.

    :param tree: the tree.
    :param environment: the environment of the hosts.
    :param variables: further variables of Vagrant's environment.
    :raises LabError: with Vagrant's message, if Vagrant refuses.
    """
    # Debian's Vagrant uses the system's Ruby; HashiCorp's brings its own.
    ruby = "/opt/vagrant/embedded/bin/ruby" if Path("/opt/vagrant/embedded/bin/ruby").exists() else "ruby"
    done = subprocess.run(
        [ruby, str(ROOT / "lab/vagrant/hosts.rb"), str(tree)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SALTERN_ENV": environment} | variables,
    )
    if done.returncode:
        raise LabError(done.stderr.strip())
    return json.loads(done.stdout)


class Check:
    """One whole check, with a copy of the tree and a separate home for Vagrant.

    :param suite: the machines' Debian.
    :param environment: the machines' environment.
    """

    def __init__(self, suite: str, environment: str):
        self.suite, self.environment, self.steps = suite, environment, Steps()
        self.is_ephemeral = environments.is_ephemeral(PILLAR, environment)
        self.tree = ROOT / f".lab/vagrant-check-{environment}"
        self.log = ROOT / f".lab/vagrant-check-{environment}.log"
        self.http, self.https = free_port(None, 8080, 8129), free_port(None, 8130)
        self.environ = os.environ | {
            "VAGRANT_HOME": str(HOME),
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "SALTERN_ENV": environment,
            "SALTERN_SUITE": suite,
            "SALTERN_BOX": f"saltern/{suite}",
            "SALTERN_PORT": str(self.http),
            "SALTERN_HTTPS_PORT": str(self.https),
            "SALTERN_LOG": "info",
            **machine.index_environment(),
        }

    def vagrant(self, *arguments: str, step: Step | None = None, may_fail: bool = False) -> str:
        """Run a Vagrant command on the copy. Return its output, which is also in the log.

        :param arguments: the command.
        :param step: shows the progress.
        :param may_fail: whether a failure is no error.
        :raises LabError: when it fails, with the last lines.
        """
        said: list[str] = []
        with (
            self.log.open("a") as log,
            subprocess.Popen(
                ["vagrant", *arguments],
                cwd=self.tree,
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
        """Make the box if it is missing or its recipe has changed. Return in a word whether it was made."""
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

    def answer(self, app: str, path: str) -> str:
        """Return an app's answer on this machine's port. A redirect to HTTPS is followed.

        :raises LabError: when it does not answer well.
        """
        domain = self.domains[app]
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=MINUTE)
        if self.is_ephemeral:
            host = f"{domain}:{self.http}"
        else:
            status, said = ask_once(connection, domain, path)
            if status != PERMANENT_REDIRECT:
                raise LabError(f"{app}: GET {path} through port {self.http}: {said}; expected to be led to HTTPS")
            host, connection = domain, Https("127.0.0.1", domain, self.https, MINUTE)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path, headers={"Host": host})
                response = connection.getresponse()
                text = response.read().decode()
            except (OSError, http.client.HTTPException) as error:
                raise LabError(f"{app}: GET {path} through port {connection.port}: {error!r}") from error
        if response.status != http.client.OK:
            raise LabError(f"{app}: GET {path} through port {connection.port}: {response.status} {response.reason}")
        return text

    @property
    def domains(self) -> dict[str, str]:
        """The domain by which each app is asked for."""
        declared = pillar_file(self.tree / f"pillar/environments/{self.environment}.sls")["app"]
        return {app: one["domains"][0] for app, one in sorted(declared.items()) if one.get("domains")}

    def converge(self, command: str, step: Step) -> int:
        """Converge by ``vagrant up`` or ``vagrant provision``. Return the number of states that changed something."""
        hosts = len(asked(self.tree, self.environment))
        counted = changes(self.vagrant(command, step=step), hosts)
        step.outcome = f"{counted} changed"
        return counted

    def refusal(self, release: str, expected: str) -> str:
        """Make the last machine claim to be another Debian, and converge. Return the line that refused it.

        :param release: the claim, as lines of os-release(5).
        :param expected: a text that the line must contain.
        :raises LabError: when it was not refused with this text.
        """
        last = asked(self.tree, self.environment)[-1]["id"]
        ask = ("ssh", last, "--command")
        self.vagrant(*ask, f"echo {release} | tr ' ' '\\n' | sudo tee /etc/os-release.other >/dev/null")
        self.vagrant(*ask, "sudo mv -T /etc/os-release.other /etc/os-release")
        try:
            said = self.vagrant("provision", last, may_fail=True)
        finally:
            self.vagrant(*ask, "sudo ln -sfn ../usr/lib/os-release /etc/os-release")
        found = [line.strip() for line in said.splitlines() if expected in line]
        if not found or "Running provisioner: converge" in said:
            raise LabError(f"{release}: expected to be refused with: {expected}")
        return found[0]

    def build(self) -> None:
        """Build the apps of the copy, as its Makefile does. Outside dev, ``vagrant up`` and ``provision`` do.

        :raises LabError: with the reason.
        """
        goal = "build" if self.is_ephemeral else "tools"
        command = ["make", "-s", goal, f"SUITE={self.suite}"]
        done = subprocess.run(command, cwd=self.tree, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"make {goal}: {reason(done)}")


@contextlib.contextmanager
def told(said: list[str], step: Step | None) -> Iterator[None]:
    """Show the progress now and then: the last line, or the last state that began.

    :param said: the lines so far; the list grows meanwhile.
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


def changes(said: str, hosts: int = 1) -> int:
    """Return the number of states that changed something on all machines, by Salt's own reports.

    :param said: what Vagrant printed.
    :param hosts: the number of machines.
    :raises LabError: when one has no report, or a state failed.
    """
    succeeded = re.findall(r"Succeeded: *\d+(?: \((?:unchanged=\d+, *)?(?:changed=(\d+))?[^)]*\))?", said)
    failed = re.findall(r"Failed: +(\d+)", said)
    if not hosts == len(succeeded) == len(failed) or any(map(int, failed)):
        raise LabError("a converge has no report of Salt's, or one with failures; the log has it")
    return sum(int(changed or 0) for changed in succeeded)


def forget_disks(box_name: str) -> None:
    """Remove the disks of former boxes of a name, of which libvirt keeps copies."""
    command, before = ["virsh", "-c", "qemu:///system"], f"{box_name.replace('/', '-VAGRANTSLASH-')}_vagrant_box_image_"
    listed = subprocess.run([*command, "vol-list", "default"], capture_output=True, text=True, check=False).stdout
    for name in (line.split()[0] for line in listed.splitlines() if line.strip().startswith(before)):
        subprocess.run([*command, "vol-delete", "--pool", "default", name], capture_output=True, check=False)


@contextlib.contextmanager
def daemons() -> Iterator[None]:
    """Run libvirt's daemons, and end at last those that were started here.

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


def refuse_in_use(environment: str) -> None:
    """Refuse where the lab's hosts have the same addresses.

    :param environment: the environment of the hosts.
    :raises LabError: when they do.
    """
    if podman("network", "exists", f"saltern-{environment}", check=False).returncode == 0:
        also = "" if environment == DEFAULT else f" ENV={environment}"
        raise LabError(f"make up{also} has hosts at the same addresses; run make down{also} first")


def destroy(this: Check) -> None:
    """Leave nothing of the machines and of the copy of the tree."""
    with this.steps.step("vagrant destroy"):
        this.vagrant("destroy", "--force")
    shutil.rmtree(this.tree)


def walk(this: Check) -> None:
    """Do what a user would do, from ``make build`` to an edit that takes effect.

    :raises LabError: at the first unexpected result.
    """
    step = this.steps.step
    with step("make build" if this.is_ephemeral else "make tools"):
        this.build()
    with step("vagrant up") as one:
        this.converge("up", one)
    with step("the apps on this machine") as one:
        for app in this.domains:
            this.answer(app, "/healthz")
            one.outcome += f" {app} 200"
    with step("vagrant up again") as one:
        if counted := this.converge("up", one):
            raise LabError(f"vagrant up changed {counted} states once more; the log has which")
    with step("a Debian that is not supported") as one:
        one.outcome = this.refusal("ID=debian VERSION_ID=11", "not a supported Debian: found 'debian 11'")
    with step("vagrant provision") as one:
        if this.converge("provision", one):
            raise LabError("a second converge changed something; the log has what")
    with step("make build after an edit, vagrant provision") as one:
        edit(this.tree / "examples" / APP)
        this.build()
        this.converge("provision", one)
        if EDITED not in this.answer(APP, "/"):
            raise LabError("the edit of the app is not to be seen")
    with step("make verify over ssh") as one:
        command = ["make", "-s", "verify", "VAGRANT=1", f"ENV={this.environment}"]
        done = subprocess.run(command, cwd=this.tree, env=this.environ, capture_output=True, text=True, check=False)
        with this.log.open("a") as log:
            log.write(done.stdout + done.stderr)
        one.outcome = next((line.strip("= ") for line in reversed(done.stdout.splitlines()) if " in " in line), "")
        if done.returncode:
            print(done.stdout[-6000:], done.stderr[-2000:], file=sys.stderr)
            raise LabError(f"make verify: {one.outcome or reason(done)}")


def edit(app: Path) -> None:
    """Change a text of an example app.

    :param app: its directory.
    :raises LabError: when the app does not have the old text.
    """
    text = (app / PAGE).read_text()
    if SAID not in text:
        raise LabError(f"{app / PAGE}: expected {SAID}; mend the check")
    (app / PAGE).write_text(text.replace(SAID, EDITED))

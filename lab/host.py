"""One lab host: what can be done with it once it is booted."""

import contextlib
import dataclasses
import io
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from lab import inside, machine
from lab.podman import LabError, exec_command, podman, reason, remove_containers

# Where the tree lies on a host.
TREE = "/srv/saltern"
# Where this machine's tree is mounted, for the host's root alone.
PRIVATE = "/srv/saltern.lab"
# Seconds in which systemd must be up, on a busy machine.
BOOT_TIMEOUT = 120
# Seconds for systemd to stop all units before podman kills the host: more than any unit may take.
SHUTDOWN_TIMEOUT = 120
# The Python of each suite, as builds are made for it.
PYTHON = {suite: debian["python"].rpartition(".")[0] for suite, debian in machine.DEBIANS.items()}


@dataclasses.dataclass(frozen=True)
class Convergence:
    """What one converge did, by Salt's own summary."""

    states: int
    changed: int
    failed: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.states} states, {self.changed} changed, {self.failed} failed"


@dataclasses.dataclass(frozen=True)
class Host:
    """A lab host.

    :param name: its container's name.
    :param id: its id in the inventory, and its host name.
    :param address: its IPv4 address.
    :param suite: its Debian, by its code name.
    """

    name: str
    id: str
    address: str
    suite: str

    @property
    def python(self) -> str:
        """The version of the Python that its Debian brings, such as ``3.13``."""
        return PYTHON[self.suite]

    @property
    def alive(self) -> bool:
        """Whether it runs and answers. After a power cut, podman may still list a container as running."""
        return podman("exec", self.name, "true", check=False).returncode == 0

    def run(
        self, *argv: str, check: bool = True, input: str | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess:
        """Run a command on the host and return its completed process, output as text.

        :param argv: the command and its arguments.
        :param check: whether a failure is an error.
        :param input: what it reads from standard input.
        :param env: variables to add to its environment.
        :raises LabError: when the host is off; when it fails and ``check`` holds, with the whole output in its notes.
        """
        done = inside.run(self.name, argv, env, None if input is None else input.encode())
        result = subprocess.CompletedProcess(argv, done.returncode, decoded(done.stdout), decoded(done.stderr))
        if check and result.returncode:
            raise failure(self, argv, result)
        return result

    def sh(self, script: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a shell script on the host, as :meth:`run` runs a command."""
        return self.run("sh", "-euc", script, check=check)

    def stream(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        line: Callable[[str], None],
        progress: Callable[[str], None] | None = None,
    ) -> int:
        """Run a command on the host and hand on its output as it comes. Return its exit code.

        :param argv: the command and its arguments.
        :param env: variables to add to its environment.
        :param line: takes each line of its output.
        :param progress: takes each line of its standard error. Without it they are lines of the output.
        """
        # The command's process id, so that an interrupt here can end the command there.
        pid_file = f"/run/saltern-lab-{time.monotonic_ns()}.pid"
        wrapped = ("sh", "-c", 'echo $$ >"$0"; exec "$@"', pid_file, *argv)
        command, environment = exec_command(self.name, wrapped, env)
        with subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if progress else subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C reaches this program alone, which ends the command on the host in good order.
            start_new_session=True,
        ) as process:
            try:
                if progress:
                    errors = threading.Thread(target=each_line, args=(process.stderr, progress), daemon=True)
                    errors.start()
                each_line(process.stdout, line)
                code = process.wait()
                if progress:
                    errors.join()
            except BaseException:
                # On a host that is off there is nothing to end.
                with contextlib.suppress(LabError):
                    self.sh(f'kill "$(cat {pid_file})"', check=False)
                process.kill()
                raise
            finally:
                with contextlib.suppress(LabError):
                    self.run("rm", "-f", pid_file, check=False)
        return code

    def wait(self) -> str:
        """Wait until systemd is up and return its state, ``running`` or ``degraded``.

        :raises LabError: when it is not after two minutes.
        """
        deadline = time.monotonic() + BOOT_TIMEOUT
        state = "off"
        while time.monotonic() < deadline:
            result = podman("exec", self.name, "systemctl", "is-system-running", check=False)
            state = result.stdout.strip() or "off"
            if state in ("running", "degraded"):
                return state
            if podman("inspect", "--format", "{{.State.Status}}", self.name).stdout.strip() in ("exited", "stopped"):
                break
            time.sleep(0.2)
        said = podman("logs", "--tail", "1", self.name, check=False)
        raise LabError(f"{self.id}: systemd is {state}, expected running ({reason(said)}); see podman logs {self.name}")

    def failed_units(self) -> list[str]:
        """Return the names of the units that systemd could not start."""
        listed = self.run("systemctl", "list-units", "--failed", "--plain", "--no-legend", check=False).stdout
        return [line.split()[0] for line in listed.splitlines() if line.strip()]

    def bootstrap(self, *options: str, line: Callable[[str], None] | None = None) -> str:
        """Run bootstrap.sh as on a server and return its last line.

        :param options: further options, such as ``--master``.
        :param line: takes each line that it prints, as it comes.
        :raises LabError: with the line in which it says what is wrong.
        """
        said: list[str] = []

        def take(text: str) -> None:
            said.append(text)
            if line:
                line(text)

        code = self.stream(
            f"{TREE}/bootstrap.sh", "--id", self.id, *options, env=machine.index_environment(), line=take
        )
        last = said[-1] if said else f"exit code {code}, no reason given"
        if code:
            raise LabError(f"{self.id}: {last}")
        return last

    def converge(
        self,
        *arguments: str,
        line: Callable[[str], None],
        state: Callable[[str], None] | None = None,
        color: bool = False,
        brief: bool = False,
    ) -> Convergence:
        """Converge the host and return what was done. Salt's own report of what changed and failed is handed on.

        :param arguments: further arguments of ``state.apply``, such as ``test=True``.
        :param line: takes each line of the report.
        :param state: takes the name of each state as it begins.
        :param color: whether the report is coloured.
        :param brief: whether the report has one line for a change, instead of all that changed.
        :raises LabError: when a state failed, or Salt ended before it ran any state.
        """
        command = ["salt-call", "--retcode-passthrough", "--state-verbose=False", "-l", "info" if state else "error"]
        command += ["--state-output=mixed_id" if brief else "--state-output=changes_id"]
        command += ["--force-color" if color else "--no-color", "state.apply", *arguments]
        counted: dict[str, str] = {}
        logged: list[str] = []

        def report(text: str) -> None:
            line(text)
            counted.update(re.findall(r"(Succeeded|changed|Failed|Total states run)[:=] *(\d+)", plain(text)))

        def log(text: str) -> None:
            begun = re.search(r"Running state \[(.*?)\] at time", text)
            if begun and state:
                state(begun[1])
            elif not plain(text).startswith("[INFO "):
                logged.append(text)

        started = time.monotonic()
        code = self.stream(*command, line=report, progress=log)
        seconds = time.monotonic() - started
        if code:
            # Warnings are shown only after a failed converge.
            for text in logged:
                line(text)
        if "Total states run" not in counted:
            raise LabError(f"{self.id}: Salt ended with {code} before any state ran; its reason is above")
        result = Convergence(
            states=int(counted["Total states run"]),
            changed=int(counted.get("changed", 0)),
            failed=int(counted.get("Failed", 0)),
            seconds=seconds,
        )
        if code or result.failed:
            raise LabError(f"{self.id}: {result}; what failed is above, mend it and run make apply")
        return result

    def salt(self, *arguments: str):
        """Call a Salt function on the host and return what it returns, parsed.

        :param arguments: the function and its arguments, as on the command line.
        :raises LabError: when it ends with a non-zero code, or answers with no JSON.
        """
        command = ("salt-call", "-l", "error", "--out", "json", "--retcode-passthrough", *arguments)
        result = self.run(*command)
        try:
            return json.loads(result.stdout)["local"]
        except (ValueError, KeyError):
            raise failure(self, command, result) from None

    def reboot(self) -> str:
        """Restart the host and wait for its systemd. Return systemd's state."""
        podman("restart", "--time", str(SHUTDOWN_TIMEOUT), self.name)
        return self.wait()

    def snapshot(self, image: str) -> str:
        """Keep the host as it is now as an image to boot others from, and return the image's name.

        :param image: the image's name.
        """
        labels = json.loads(podman("inspect", "--format", "{{json .Config.Labels}}", self.name).stdout) or {}
        changes = [f"--change=LABEL {key}={value}" for key, value in labels.items()]
        podman("commit", "-q", "--pause", *changes, self.name, image)
        return image

    def remove(self) -> None:
        """Remove the host and all that is on it."""
        remove_containers(self.name)


def each_line(stream: Iterable[str], take: Callable[[str], None]) -> None:
    for text in stream:
        take(text.rstrip("\n"))


def decoded(output: bytes) -> str:
    """Return a command's output as text, with Python's line ends.

    Bytes that are no text are shown as numbers, since an app may write any bytes into the journal.
    """
    return io.TextIOWrapper(io.BytesIO(output), encoding="utf-8", errors="backslashreplace").read()


def plain(text: str) -> str:
    """Return a text without terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def failure(host: Host, argv, result: subprocess.CompletedProcess) -> LabError:
    """Return the error for a command that failed on a host, its whole output in the notes."""
    error = LabError(f"{host.id}: {argv[0]} ended with {result.returncode}: {reason(result)}")
    error.add_note(f"$ {' '.join(argv)}\n{result.stdout}{result.stderr}")
    return error

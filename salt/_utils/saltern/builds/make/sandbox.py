"""Where the steps of a build run: apart from the machine's network and from whoever builds."""

import dataclasses
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence

from uv import find_uv_bin

from saltern.builds import offline
from saltern.builds.make.targets import Target
from saltern.builds.make.telling import say
from saltern.refusal import Refusal

# Steps see their files at one path, whatever the scratch directory is called: paths get into what they make.
PLACE = "/mnt"
# As whom the steps of root's builds run.
NOBODY = 65534
# Seconds that a step may take.
LIMIT = 900
# Bytes of a step's output that are looked at, and how many of its last lines are told.
TAIL, LINES = 1 << 14, 20
SYSTEM = "/usr/local/bin:/usr/bin:/bin"
ROOTS = "/usr/sbin:/usr/bin:/sbin:/bin"

# What root does in the new namespaces, before it is nobody. The files of whoever builds are not there, nor are the
# sockets of what runs on the machine; a resolver may be reached by one of them.
ENTER = f"""\
mount --bind "$1" {PLACE}
mount --bind {PLACE}/tmp /tmp
for place in /home /root $2; do
    [ ! -d "$place" ] || mount -t tmpfs -o mode=755 none "$place"
done
[ -z "$2" ] || ip link set lo up 2>/dev/null || true
shift 2
cd {PLACE}/app
"$@"
"""


@dataclasses.dataclass(frozen=True)
class Wheels:
    """The wheels of a build.

    :param directory: where they are.
    :param files: their names.
    :param target: the hosts that they are for.
    """

    directory: str
    files: Sequence[str]
    target: Target


def make(scratch: str) -> str:
    """Make the directories that steps see below ``PLACE``.

    :param scratch: a directory.
    :return: the directory that they see; ``app`` in it is for the app's tree.
    """
    directory = f"{scratch}/steps"
    os.mkdir(directory)
    for name in ("app", "home", "tmp"):
        os.mkdir(f"{directory}/{name}")
        give(f"{directory}/{name}")
    os.chmod(directory, 0o755)
    return directory


def give(path: str) -> None:
    """Give a file or directory to whom the steps run as."""
    if os.geteuid() == 0:
        os.lchown(path, NOBODY, NOBODY)


def variables(date: int) -> dict[str, str]:
    """Return the environment of each step.

    :param date: seconds since 1970, which what is made should have for its date.
    """
    return {
        "HOME": f"{PLACE}/home",
        "LANG": "C.UTF-8",
        "PATH": f"{PLACE}/venv/bin:{SYSTEM}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(date),
    }


def run(
    directory: str,
    step: str,
    command: Sequence[str],
    variables: Mapping[str, str],
    network: bool,
    within: Sequence[str] = (),
) -> None:
    """Run a step, to its end. Nothing of it runs on.

    :param directory: see ``make``.
    :param step: what to call it.
    :param command: its words.
    :param variables: its environment, all of it.
    :param network: whether it reaches the network. It does not within.
    :param within: a command that runs it elsewhere, see ``make_environment``; on this machine where there is none.
    :raises Refusal: with how it ended and what it said last.
    """
    words = ["env", "-i", *(f"{name}={value}" for name, value in sorted(variables.items())), *command]
    here = {"PATH": ROOTS, "LC_ALL": "C.UTF-8"}
    words, environ = ([*within, directory, *words], None) if within else (_apart(directory, words, network), here)
    started = time.monotonic()
    with open(f"{directory}.log", "w+b") as log:
        try:
            done = subprocess.run(
                words,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=0o022,
                start_new_session=True,
                # What runs elsewhere is ended there.
                timeout=LIMIT + 60 if within else LIMIT,
                check=False,
            )
            ending = f"exit code {done.returncode}" if done.returncode else ""
            is_late = bool(done.returncode) and time.monotonic() - started >= LIMIT
        except subprocess.TimeoutExpired:
            is_late = True
        except FileNotFoundError as error:
            raise Refusal(f"{error.filename}: not installed; expected it, for the steps of a build") from error
        ending = f"not done after {LIMIT} s" if is_late else ending
        log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
        lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    if ending:
        raise Refusal("\n  ".join([f"{step}: {ending}{'; it said last:' if lines else ''}", *lines[-LINES:]]))


def _apart(directory: str, words: Sequence[str], network: bool) -> list[str]:
    """Return the command line that runs words in namespaces of their own, as nobody where root builds."""
    is_root = os.geteuid() == 0
    apart = ["unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", *([] if network else ["--net"])]
    apart += [] if is_root else ["--map-current-user", "--keep-caps"]
    own = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all"] if is_root else []
    own = ["setpriv", *own, "--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all"]
    hidden = "" if network else "/run"
    return [*apart, "sh", "-euc", ENTER, "enter", directory, hidden, *own, *words]


def check(directory: str) -> None:
    """Refuse a machine on which nothing can be run apart.

    :param directory: see ``make``.
    :raises Refusal: with the reason.
    """
    try:
        run(directory, "true", ["true"], {"PATH": SYSTEM}, network=False)
    except Refusal as refusal:
        reason = " ".join(str(refusal).split("\n")[-1].split())
        raise Refusal(
            f"steps: cannot be run apart from this machine's network: {reason}; expected namespaces: build on the "
            "machine itself, or in a container that may make them (CAP_SYS_ADMIN)"
        ) from refusal


def make_environment(directory: str, wheels: Wheels, within: Sequence[str]) -> Sequence[str]:
    """Make a virtual environment of exactly the build's wheels, with the target's Python, or one that all of them fit.

    :param directory: see ``make``.
    :param wheels: the build's.
    :param within: the command that runs a step in the hosts' Debian, where there is one. It gets the directory, which
        is at ``PLACE`` there, and the step's words.
    :return: the command that runs what needs the environment: none where this machine can.
    :raises Refusal: where neither the machine nor the command has such a Python.
    """
    names = (f"python{wheels.target.python}", "python3")
    pythons = dict.fromkeys(path for name in names if (path := shutil.which(name, path=SYSTEM)))
    reason = "it has no Python at all"
    for python in pythons:
        reason = filled(f"{directory}/venv", python, [f"{wheels.directory}/{name}" for name in wheels.files])
        if not reason:
            return ()
        shutil.rmtree(f"{directory}/venv", ignore_errors=True)
    if within:
        say("steps: run in a container of the hosts' Debian, since no Python of this machine fits the wheels")
        fill_within(directory, wheels, within)
        return within
    raise Refusal(
        f"steps: no Python of this machine fits the wheels of a build for Python {wheels.target.python}: {reason}; "
        f"build on the hosts' Debian, have python{wheels.target.python} in {SYSTEM}, or run make build as root, which "
        "has a container for them"
    )


def fill_within(directory: str, wheels: Wheels, within: Sequence[str]) -> None:
    """Make an environment of wheels in the hosts' Debian, with its Python and uv of this machine.

    :param directory: see ``make``.
    :param wheels: what it has.
    :param within: the command that runs a step there.
    :raises Refusal: where that cannot be.
    """
    os.mkdir(f"{directory}/venv")
    give(f"{directory}/venv")
    os.mkdir(f"{directory}/wheels")
    for name in wheels.files:
        shutil.copyfile(f"{wheels.directory}/{name}", f"{directory}/wheels/{name}")
    uv = shutil.copy(find_uv_bin(), f"{directory}/uv")
    variables = {"PATH": SYSTEM, "HOME": f"{PLACE}/home", "UV_CACHE_DIR": "/tmp/uv", **offline.UV}
    path, venv = f"{PLACE}/uv", f"{PLACE}/venv"
    python = f"/usr/bin/python{wheels.target.python}"
    commands = [[path, "venv", "-q", "--relocatable", "--no-project", "--python", python, venv]]
    if wheels.files:
        files = [f"{PLACE}/wheels/{name}" for name in wheels.files]
        commands += [[path, "pip", "install", "-q", "--python", venv, "--no-index", "--no-build", "--no-deps", *files]]
    for command in commands:
        run(directory, "steps: the environment of the wheels", command, variables, network=False, within=within)
    os.unlink(uv)
    for name in ("wheels", "tmp/uv"):
        shutil.rmtree(f"{directory}/{name}", ignore_errors=True)


def filled(venv: str, python: str, files: Sequence[str]) -> str:
    """Make an environment of wheels; return why there can be none, empty where it is there.

    :param venv: where.
    :param python: the interpreter.
    :param files: the wheels.
    """
    environ = {"PATH": SYSTEM, "HOME": os.path.dirname(venv), "UV_CACHE_DIR": f"{venv}.cache", **offline.UV}
    uv = find_uv_bin()
    commands = [[uv, "venv", "-q", "--relocatable", "--no-project", "--python", python, venv]]
    if files:
        commands += [[uv, "pip", "install", "-q", "--python", venv, "--no-index", "--no-build", "--no-deps", *files]]
    for command in commands:
        done = subprocess.run(command, env=environ, umask=0o022, capture_output=True, text=True, check=False)
        if done.returncode:
            said = " ".join(done.stderr.split()).removeprefix("error: ")
            # uv's first reason, without what follows from it.
            return (said.partition("Because ")[2].partition(", we can conclude")[0] or said)[:300]
    return ""

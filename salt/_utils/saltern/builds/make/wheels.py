"""The wheels of locked requirements, brought by pip and kept for the next build."""

import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion
from uv import find_uv_bin

from saltern.builds.form import sha256_of
from saltern.builds.make import cache
from saltern.builds.make.pins import REQUIREMENTS, Pin, lock_it
from saltern.builds.make.targets import Target
from saltern.builds.make.telling import elapsed, say
from saltern.refusal import Refusal


@dataclasses.dataclass(frozen=True)
class Lock:
    """Locked requirements.

    :param pins: those that a target needs, by name.
    :param text: the requirements file that they are from, as a host will read it.
    :param file: what to call that.
    :param built: directories of wheels that no index has.
    """

    pins: Mapping[str, Pin]
    text: str
    file: str = REQUIREMENTS
    built: Sequence[str] = ()


def collect_wheels(lock: Lock, target: Target, scratch: str) -> tuple[str, dict[str, str]]:
    """Return a directory that holds the wheels of a lock and nothing else, and their digests.

    :param lock: the locked requirements.
    :param target: the hosts.
    :param scratch: a directory for what passes.
    :return: the directory, and a map of file names to sha256.
    :raises Refusal: naming the requirement that has no wheel for the host.
    """
    started, tag = time.monotonic(), target.tags()[0]
    kept = {name: cache.entry("wheel", target.python, tag, pin.line()) for name, pin in lock.pins.items()}
    there = {name: file for name, directory in kept.items() if (file := _kept(directory, lock.pins[name]))}
    missing = {name: pin for name, pin in lock.pins.items() if name not in there}
    if there:
        say(f"wheels: {len(there)} from {cache.directory()}")
    if missing:
        say(f"wheels: fetching {len(missing)} for Python {target.python} on {tag}")
        with tempfile.TemporaryDirectory(dir=cache.made(), prefix=".") as fetched:
            fetch([pin.line() for _, pin in sorted(missing.items())], fetched, target, lock, scratch)
            for file in os.listdir(fetched):
                if (name := _name_of(file)) in missing:
                    cache.keep(kept[name], [f"{fetched}/{file}"])
        there |= {name: file for name, directory in kept.items() if (file := _kept(directory, lock.pins[name]))}
        if missing.keys() - there.keys():
            raise Refusal(
                "pip: fetched other wheels than the locked ones; look at its configuration with `pip config debug`"
            )
    collected = tempfile.mkdtemp(dir=scratch, prefix="wheels-")
    for name, file in there.items():
        cache.use(kept[name])
        os.symlink(f"{kept[name]}/{file}", f"{collected}/{file}")
    whole = cache.entry("whole", target.full, tag, lock.text)
    if not os.path.isdir(whole):
        check_complete(lock, collected, target, scratch)
        cache.keep(whole, [])
    cache.use(whole)
    if missing:
        say(f"wheels: fetched in {elapsed(started)}")
    return collected, {file: sha256_of(f"{collected}/{file}") for file in sorted(there.values())}


def _kept(directory: str, pin: Pin) -> str:
    """Return the name of the wheel in a directory, empty where there is none that is locked."""
    files = os.listdir(directory) if os.path.isdir(directory) else []
    return files[0] if len(files) == 1 and sha256_of(f"{directory}/{files[0]}") in pin.hashes else ""


def _name_of(file: str) -> str:
    """Return the name of a wheel's distribution, empty where it is no wheel."""
    try:
        return parse_wheel_filename(file)[0]
    except (InvalidWheelFilename, InvalidVersion):
        return ""


def fetch(lines: Sequence[str], directory: str, target: Target, lock: Lock, scratch: str) -> None:
    """Have pip bring the wheels. The lines hold no markers: pip would ask them of the Python that it runs on.

    :raises Refusal: with what pip said.
    """
    requirements, log = f"{scratch}/pins.txt", f"{scratch}/pip.log"
    with open(requirements, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")
    python, tags = target.python, target.tags()
    command = [sys.executable, "-m", "pip", "download", "-q", "--log", log, "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--abi=cp{python.replace('.', '')}"]
    command += [
        f"--python-version={python}",
        *(f"--platform={tag}" for tag in tags),
        *(f"--find-links={built}" for built in lock.built),
        "--dest",
        directory,
        "-r",
        requirements,
    ]
    environ = os.environ | {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_PROGRESS_BAR": "off"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        with open(log, "a+", encoding="utf-8", errors="replace") as stream:
            stream.seek(0)
            raise Refusal(pip_reason(stream.read(), done.stderr, f"Python {python} on {tags[0]}", lock.file))


def pip_reason(log: str, errors: str, target: str, file: str = REQUIREMENTS) -> str:
    """Say in one line why pip failed.

    :param log: what it wrote to ``--log``.
    :param errors: its standard error.
    :param target: what the wheels are for, in words.
    :param file: what to call the lock.
    """
    mismatch = re.search(r"DO NOT MATCH THE HASHES.*?\n\s*(\S+==\S+)", errors, re.DOTALL)
    if mismatch:
        return f"{mismatch[1]}: what the index has is not what {file} locks; lock it again"
    # An index that does not answer looks to pip like one that has nothing; its log knows better.
    unreachable = re.search(r"Could not fetch URL \S+: (?!404 )(.*?)(?: - skipping)?$", log, re.MULTILINE)
    missing = re.search(r"No matching distribution found for (\S+)", errors)
    # Of an index pip leaves out what asks for another Python, and lists it; of a directory it notices later.
    version = missing[1].partition("==")[2] if missing else ""
    asks = rf"[\s:;]{re.escape(version)} Requires-Python ([^;\n]+?)\s*(?:;|$)"
    needs = re.search(asks, errors, re.MULTILINE) if version else None
    different = re.search(r"Package '(\S+)' requires a different Python: \S+ not in '([^']+)'", errors)
    if (needs or different) and not unreachable:
        name, python = (missing[1], needs[1]) if missing and needs else different.groups() if different else ("", "")
        return (
            f"{name}: needs Python {python}, and this build is for {target}; lock a version for that Python with "
            "`uv pip compile --python-version`, or build for hosts that have a newer one with --python"
        )
    if missing and not unreachable:
        if file != REQUIREMENTS:
            return f"{missing[1]}: has no wheel for {target}; {file} takes wheels only: lock a version that has one"
        name = missing[1].partition("==")[0]
        return (
            f"{missing[1]}: has no wheel for {target}; lock a version that has one, or have it built from its source: "
            f"`make build` with ALLOW_SDIST={name}, or bin/build with --allow-sdist {name}"
        )
    reasons = (
        [unreachable[1]] if unreachable else re.findall(r"^ERROR: (.*)", errors, re.MULTILINE) or ["no reason given"]
    )
    reason = re.sub(r"//[^/@\s]*@", "//", reasons[-1])[:300]
    if unreachable:
        return f"the package index fails: {reason}; set PIP_INDEX_URL, HTTPS_PROXY or SSL_CERT_FILE, or mend pip.conf"
    return f"pip: {reason}; mend that and build again"


def check_complete(lock: Lock, wheels: str, target: Target, scratch: str) -> None:
    """Ask uv for what a host will ask of it: everything that the lock needs, from these wheels, with no index.

    :raises Refusal: naming what is missing.
    """
    requirements = f"{scratch}/requirements.txt"
    with open(requirements, "w", encoding="utf-8") as stream:
        stream.write(lock.text)
    # uv has names for platforms up to 2.40.
    like = ["--python-version", target.full]
    like += ["--python-platform", f"{target.machine}-manylinux_2_{min(target.glibc, 40)}"]
    command = [find_uv_bin(), "pip", "install", "-q", "--dry-run", "--no-index", "--find-links", wheels, *like]
    command += ["--require-hashes", "--python", sys.executable, "--target", f"{scratch}/none", "-r", requirements]
    environ = {"HOME": scratch, "UV_CACHE_DIR": f"{scratch}/uv", "UV_NO_CONFIG": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split()).rpartition("cause: ")[2].removeprefix("error: ")
        reason = reason.partition(", we can conclude")[0]
        raise Refusal(f"{lock.file}: not whole for Python {target.python}: {reason}; {lock_it(lock.file)}")

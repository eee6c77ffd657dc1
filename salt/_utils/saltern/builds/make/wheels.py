"""The wheels of locked requirements, brought by pip and kept for the next build."""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from uv import find_uv_bin

from saltern.builds.form import sha256_of
from saltern.builds.make.pins import LOCK_IT, Pin
from saltern.builds.make.targets import Target
from saltern.builds.make.telling import elapsed, say
from saltern.refusal import Refusal


def cache_directory() -> str:
    """Return where wheels are kept."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return f"{base if os.path.isabs(base) else os.path.expanduser('~/.cache')}/saltern/wheels"


def collect_wheels(pins: Mapping[str, Pin], lock: str, target: Target, scratch: str) -> tuple[str, dict[str, str]]:
    """Return a directory that holds the wheels of the pins and nothing else, and their digests.

    :param pins: locked requirements by name.
    :param lock: the requirements file that they are from, as a host will read it.
    :param target: the hosts.
    :param scratch: a directory for what passes.
    :return: the directory, and a map of file names to sha256.
    :raises Refusal: naming the requirement that has no wheel for the host.
    """
    lines = [
        " ".join([f"{pin.name}=={pin.version}", *(f"--hash=sha256:{one}" for one in sorted(pin.hashes))])
        for _, pin in sorted(pins.items())
    ]
    tags = target.tags()
    key = hashlib.sha256("\n".join([target.python, tags[0], *lines]).encode()).hexdigest()
    cache = cache_directory()
    kept = f"{cache}/{key[:32]}"
    wheels = digests_of(kept, pins)
    if wheels is not None:
        say(f"wheels: {len(wheels)} from {cache}")
        return kept, wheels

    os.makedirs(cache, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=cache, prefix=".") as staged:
        fetched = f"{staged}/wheels"
        os.mkdir(fetched)
        if pins:
            say(f"wheels: fetching {len(pins)} for Python {target.python} on {tags[0]}")
            fetch(lines, fetched, target, scratch)
        wheels = digests_of(fetched, pins)
        if wheels is None:
            raise Refusal(
                "pip: fetched other wheels than the locked ones; look at its configuration with `pip config debug`"
            )
        check_complete(lock, fetched, target, scratch)
        if pins:
            say(f"wheels: fetched in {elapsed(started)}")
        shutil.rmtree(kept, ignore_errors=True)
        # Another build may have brought the very same files in the meantime.
        with contextlib.suppress(FileExistsError):
            os.rename(fetched, kept)
    return kept, wheels


def digests_of(directory: str, pins: Mapping[str, Pin]) -> dict[str, str] | None:
    """Return the sha256 of each wheel of a directory, or ``None`` where it does not hold exactly what is locked."""
    if not os.path.isdir(directory):
        return None
    digests: dict[str, str] = {}
    names: set[str] = set()
    for file in sorted(os.listdir(directory)):
        try:
            name, version, _, _ = parse_wheel_filename(file)
        except (InvalidWheelFilename, InvalidVersion):
            return None
        digests[file] = sha256_of(f"{directory}/{file}")
        pin = pins.get(name)
        if pin is None or version != Version(pin.version) or digests[file] not in pin.hashes:
            return None
        names.add(name)
    return digests if len(digests) == len(names) == len(pins) else None


def fetch(lines: Sequence[str], directory: str, target: Target, scratch: str) -> None:
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
            raise Refusal(pip_reason(stream.read(), done.stderr, f"Python {python} on {tags[0]}"))


def pip_reason(log: str, errors: str, target: str) -> str:
    """Say in one line why pip failed.

    :param log: what it wrote to ``--log``.
    :param errors: its standard error.
    :param target: what the wheels are for, in words.
    """
    mismatch = re.search(r"DO NOT MATCH THE HASHES.*?\n\s*(\S+==\S+)", errors, re.DOTALL)
    if mismatch:
        return f"{mismatch[1]}: what the index has is not what requirements.txt locks; lock it again"
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
        return (
            f"{missing[1]}: has no wheel for {target} and nothing is compiled; lock a version that has one. "
            f"Or make one on such a host with `pip wheel --no-deps {missing[1]}`, offer it (on your index, or in a "
            "directory that PIP_FIND_LINKS names), and lock again, so that requirements.txt has its hash"
        )
    reasons = (
        [unreachable[1]] if unreachable else re.findall(r"^ERROR: (.*)", errors, re.MULTILINE) or ["no reason given"]
    )
    reason = re.sub(r"//[^/@\s]*@", "//", reasons[-1])[:300]
    if unreachable:
        return f"the package index fails: {reason}; set PIP_INDEX_URL, HTTPS_PROXY or SSL_CERT_FILE, or mend pip.conf"
    return f"pip: {reason}; mend that and build again"


def check_complete(lock: str, wheels: str, target: Target, scratch: str) -> None:
    """Ask uv for what a host will ask of it: everything that the lock needs, from these wheels, with no index.

    :raises Refusal: naming what is missing.
    """
    requirements = f"{scratch}/requirements.txt"
    with open(requirements, "w", encoding="utf-8") as stream:
        stream.write(lock)
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
        raise Refusal(f"requirements.txt: not whole for Python {target.python}: {reason}; {LOCK_IT}")

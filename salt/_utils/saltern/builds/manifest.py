"""What a build says of itself, and whether it is one for this host."""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.builds.form import FORMAT, MAX_MANIFEST, MAX_PACKAGES, Build, shown
from saltern.system import apt


def judge(app: str, staged: str) -> Build:
    """Refuse a build that is not one, or not for this host; return what it says of itself.

    :param app: the app's name.
    :param staged: the build's directory.
    :raises CommandExecutionError: see ``judged``.
    """
    manifest = None
    with (
        contextlib.suppress(FileNotFoundError, IsADirectoryError, UnicodeDecodeError),
        open(f"{staged}/build.json", "rb") as stream,
    ):
        manifest = stream.read(MAX_MANIFEST + 1).decode()
    has = {name for name in ("Procfile", "requirements.txt") if os.path.isfile(f"{staged}/{name}")}
    has |= {".venv"} if os.path.lexists(f"{staged}/.venv") else set()
    return judged(app, manifest, has.__contains__)


# What build.json says, as far as a host goes by it.
MANIFEST: dict[str, Any] = {
    "type": "object",
    "required": ["format", "app", "version", "commit", "python", "processes"],
    "properties": {
        "app": {"type": "string", "maxLength": 100},
        "version": {"type": "string", "maxLength": 100},
        "commit": {"type": ["string", "null"], "maxLength": 100},
        "python": {"type": "string", "maxLength": 20},
        "reversible": {"type": "boolean"},
        "migrations": {"type": ["string", "null"]},
        "processes": {
            "type": "object",
            "propertyNames": {"pattern": r"^[a-z][a-z0-9_-]{0,30}\Z"},
            "additionalProperties": {"type": "string", "pattern": r"^[^\x00]*\Z"},
        },
        "packages": {"type": "array", "maxItems": MAX_PACKAGES, "items": {"type": "string", "pattern": apt.NAME}},
        "contracts": {"type": "object", "propertyNames": {"pattern": r"^v[0-9]{1,4}\Z"}},
        "wheels": {"type": "object", "additionalProperties": {"type": "string"}},
        "installed_migrations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def judged(app: str, manifest: str | None, has: Callable[[str], bool]) -> Build:
    """Return what a build says of itself.

    :param app: the app's name.
    :param manifest: the text of its build.json, or ``None``.
    :param has: a function that tells whether it has a file.
    :raises CommandExecutionError: when it is no build, or not one for this host.
    """
    from jsonschema import Draft202012Validator

    try:
        build: Build = json.loads(manifest or "")
        error = next(Draft202012Validator(MANIFEST).iter_errors(build), None)
        is_wrong = error is not None
        if error and error.absolute_path:
            where = ".".join(shown(str(part)) for part in error.absolute_path)
            raise CommandExecutionError(
                f"app.{app}.build: build.json: {where}: not as a build has it; make it with bin/build"
            )
    except (ValueError, RecursionError):
        is_wrong = True
    if is_wrong:
        raise CommandExecutionError(f"app.{app}.build: has no valid build.json; make it with bin/build")
    python, form, name = build["python"], build["format"], build["app"]
    if type(form) is not int or form != FORMAT:
        raise CommandExecutionError(
            f"app.{app}.build: has the format {shown(str(form))}; expected {FORMAT}. Build it again"
        )
    if name != app:
        raise CommandExecutionError(f"app.{app}.build: is a build of {shown(name)}; declare one of {app}")
    own = python_version()
    if python != own:
        raise CommandExecutionError(
            f"app.{app}.build: is for Python {shown(python)}, this host has {own}; "
            f"build it with bin/build --python {own}"
        )
    if has(".venv"):
        raise CommandExecutionError(f"app.{app}.build: has a .venv of its own; make it with bin/build")
    for name in ("Procfile", "requirements.txt"):
        if not has(name):
            raise CommandExecutionError(f"app.{app}.build: has no {name}; make it with bin/build")
    return build


def check_processes(app: str, declared: Mapping[str, Any], build: Build) -> None:
    """Refuse a declaration that names other process types than the build has: its formation was checked by them.

    :param app: the app's name.
    :param declared: the build, as the pillar declares it.
    :param build: what the build says of itself.
    :raises CommandExecutionError: with the types that it has.
    """
    if "processes" in declared and sorted(declared["processes"]) != (has := sorted(build["processes"])):
        raise CommandExecutionError(
            f"app.{app}.build.processes: the build has {', '.join(has)}; expected these, as "
            "bin/build --declare writes them"
        )


def check_packages(app: str, declared: Mapping[str, Any], build: Build) -> None:
    """Refuse a declaration that names other Debian packages than the build asks for: the host has installed those.

    :param app: the app's name.
    :param declared: the build, as the pillar declares it.
    :param build: what the build says of itself.
    :raises CommandExecutionError: with the packages that it asks for.
    """
    asked = sorted(build.get("packages", []))
    if sorted(declared.get("packages", [])) != asked:
        raise CommandExecutionError(
            f"app.{app}.build.packages: the build's Aptfile asks for {', '.join(asked) or 'none'}; expected these, as "
            "bin/build --declare writes them"
        )


def python_version() -> str:
    """Return the Python of this host, such as ``3.13``."""
    command = ["/usr/bin/python3", "-IS", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

"""Configurations that are yet to be live: how each is rendered, and how a service tries it beside the one that runs."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import Host


def mistakes(path: str, declared: Mapping[str, str], own: Mapping[str, str]) -> list[str]:
    """List the parameters that the pillar sets though Saltern does.

    :param path: of these parameters in the pillar, such as ``postgres.settings``.
    :param declared: what the pillar sets.
    :param own: the parameters that Saltern sets, and the formula's setting for each; empty where it has none.
    """
    formula, found = path.partition(".")[0], []
    for name in sorted(declared.keys() & own.keys()):
        why, wanted = "is Saltern's own", "another parameter"
        if own[name]:
            why, wanted = f"is {formula}.{own[name]}", "it there"
        found.append(f"{path}.{name}: {why}; expected {wanted}")
    return found


def rendered(host: Host, template: str, **context: Any) -> str:
    """Return what a state would write from a template.

    :param host: the host.
    :param template: such as ``salt://postgres/files/postgresql.conf.jinja``.
    :param context: what the state gives the template.
    :raises CommandExecutionError: when the template does not render.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/rendered"
        if not host.ask("cp.get_template", template, path, **context):
            raise CommandExecutionError(f"{template}: does not render")
        return read(path)


def read(path: str) -> str:
    """Return the text of a file; empty where there is none.

    :param path: the file.
    """
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as stream:
        return stream.read()
    return ""


@contextlib.contextmanager
def scratch(service: str) -> Iterator[str]:
    """Make a directory in which a service tries a configuration. Root alone may write there.

    :param service: by name.
    :return: the directory, which is gone afterwards.
    """
    directory = tempfile.mkdtemp(prefix=f"{service}-candidate-", dir="/var/tmp")
    os.chmod(directory, 0o755)
    try:
        yield directory
    finally:
        # Unlike TemporaryDirectory's, this changes no modes of what another user may have put there.
        shutil.rmtree(directory, ignore_errors=True)


def run_as(user: pwd.struct_passwd, *command: str, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command as a service's user, without root's terminal.

    :param user: the user.
    :param command: its words.
    :param seconds: after which it is killed.
    :raises subprocess.TimeoutExpired: when it was killed.
    """
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=seconds,
        **of(user),
    )


def of(user: pwd.struct_passwd) -> dict[str, Any]:
    """Return how ``subprocess`` starts a process of a service's user.

    :param user: the user.
    """
    return {
        "user": user.pw_uid,
        "group": user.pw_gid,
        "extra_groups": os.getgrouplist(user.pw_name, user.pw_gid),
        "cwd": "/",
        "start_new_session": True,
        "env": {"PATH": f"/usr/sbin:{os.defpath}", "HOME": user.pw_dir, "LC_ALL": "C"},
    }

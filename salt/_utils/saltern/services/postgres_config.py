"""PostgreSQL's configuration: any parameter that the pillar sets, tried by PostgreSQL itself before it is live."""

import json
import os
import pwd
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import Host
from saltern.services import candidates
from saltern.services import postgres_extensions as extensions
from saltern.services import postgres_server as server
from saltern.services.candidates import read, rendered, run_as
from saltern.services.sql import names
from saltern.services.steps import Run, Step

TEMPLATE = "salt://postgres/files/postgresql.conf.jinja"
PRELOADED = "shared_preload_libraries"
# Parameters of the formula, and the setting of each; those without one follow from how apps connect.
OWN: Mapping[str, str] = {
    **{
        name: name
        for name in (
            "effective_cache_size",
            "log_min_duration_statement",
            "maintenance_work_mem",
            "max_connections",
            "shared_buffers",
            "work_mem",
        )
    },
    **dict.fromkeys(
        (
            "authentication_timeout",
            "config_file",
            "data_directory",
            "external_pid_file",
            "hba_file",
            "ident_file",
            "include",
            "include_dir",
            "include_if_exists",
            "listen_addresses",
            "log_parameter_max_length",
            "log_parameter_max_length_on_error",
            "password_encryption",
            "port",
            "ssl",
            "ssl_cert_file",
            "ssl_key_file",
            "ssl_min_protocol_version",
            "superuser_reserved_connections",
            "unix_socket_directories",
            "unix_socket_permissions",
        ),
        "",
    ),
}
# What the files have that waits for a restart, also before the server has read them.
WAITING = "SELECT EXISTS (SELECT FROM pg_settings WHERE pending_restart) OR EXISTS (SELECT FROM pg_file_settings WHERE "
WAITING += "error IS NOT NULL);"
AT_START = (
    "SELECT coalesce(json_object_agg(lower(name), setting), '{{}}') FROM pg_settings "
    "WHERE context = 'postmaster' AND lower(name) = ANY ({names});"
)
LINE = re.compile(r"^([a-z_][a-z0-9_.]*) = (.*)$", re.MULTILINE)
# Seconds that a scratch server may take to start.
START = 60


def mistakes(postgres: Mapping[str, Any]) -> list[str]:
    """List the parameters that are not for ``settings``.

    :param postgres: the formula's settings.
    """
    return candidates.mistakes("postgres.settings", postgres["settings"], OWN)


def parameters(host: Host) -> dict[str, str]:
    """Return the parameters beside those of the formula, as the configuration file has them.

    :param host: the host.
    """
    found: dict[str, str] = dict(host.pillar["postgres"]["settings"])
    loaded = extensions.libraries(host)
    given = [one.strip() for one in found.get(PRELOADED, "").split(",")]
    libraries = [*loaded, *(one for one in given if one and one not in loaded)]
    found |= {PRELOADED: ", ".join(libraries)} if libraries else {}
    return {name: _quoted(text) for name, text in sorted(found.items())}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def candidate(host: Host) -> str:
    """Return the configuration file as it is to be.

    :param host: the host.
    :raises CommandExecutionError: when its template does not render.
    """
    return rendered(host, TEMPLATE)


def judged(run: Run, path: str) -> Step:
    """Have PostgreSQL try a configuration that is another, before it takes the place of the live one.

    :param run: the converge.
    :param path: the configuration file.
    :raises CommandExecutionError: when PostgreSQL would not start with it, with each mistake by its pillar path.
    """
    text = candidate(run.host)
    if text.strip() == read(path).strip():
        return Step("PostgreSQL has this configuration")
    directory = os.path.dirname(os.path.dirname(path))
    version = directory.split("/")[3]
    programs = f"/usr/lib/postgresql/{version}/bin"
    if not os.path.exists(f"{directory}/postgresql.conf") or not os.path.exists(f"{programs}/postgres"):
        return Step("PostgreSQL is not there yet: the converge has it try the configuration")
    if run.host.is_dry:
        text = _without_new(text, f"/usr/lib/postgresql/{version}/lib")
    if refused := tried(directory, programs, text):
        declared = run.host.pillar["postgres"]["settings"]
        raise CommandExecutionError("\n".join(_by_path(why, declared) for why in refused))
    return Step("PostgreSQL starts with this configuration")


def _without_new(text: str, directory: str) -> str:
    """Leave out the libraries of extensions whose packages a dry run does not install."""
    new = [one for one in extensions.LIBRARIES.values() if not os.path.exists(f"{directory}/{one}.so")]
    found = re.search(rf"^{PRELOADED} = '(.*)'$", text, re.MULTILINE)
    if not (found and new):
        return text
    rest = ", ".join(one for one in found[1].split(", ") if one not in new)
    return text.replace(found[0], f"{PRELOADED} = '{rest}'")


def tried(directory: str, programs: str, text: str) -> list[str]:
    """Start a scratch server with a candidate, and say why it does not start. The running server is not touched.

    :param directory: of the live configuration.
    :param programs: the directory of PostgreSQL's programs.
    :param text: of ``conf.d/saltern.conf``.
    :return: PostgreSQL's reasons; none where it starts.
    """
    user = pwd.getpwnam("postgres")
    with tempfile.TemporaryDirectory(prefix="postgres-candidate-", dir="/var/tmp") as scratch:
        os.chmod(scratch, 0o755)
        shutil.copyfile(f"{directory}/postgresql.conf", f"{scratch}/postgresql.conf")
        if os.path.isdir(f"{directory}/conf.d"):
            shutil.copytree(f"{directory}/conf.d", f"{scratch}/conf.d")
        os.makedirs(f"{scratch}/conf.d", exist_ok=True)
        with open(f"{scratch}/conf.d/saltern.conf", "w", encoding="utf-8") as stream:
            stream.write(text)
        os.makedirs(f"{scratch}/own", mode=0o700)
        os.chown(f"{scratch}/own", user.pw_uid, user.pw_gid)
        try:
            return _started(scratch, programs, user)
        finally:
            # Root neither reads nor deletes where another user can have put what is there.
            run_as(user, "find", f"{scratch}/own", "-mindepth", "1", "-delete")


def _started(scratch: str, programs: str, user: pwd.struct_passwd) -> list[str]:
    own = f"{scratch}/own"
    made = run_as(user, f"{programs}/initdb", "-D", f"{own}/data", "-A", "reject", "-N", "--locale=C.UTF-8")
    if made.returncode:
        raise CommandExecutionError(f"initdb: {made.stderr.strip()}")
    # What would reach beyond the scratch directory. huge pages may all be the running server's.
    apart = {
        "config_file": f"{scratch}/postgresql.conf",
        "data_directory": f"{own}/data",
        "hba_file": f"{own}/data/pg_hba.conf",
        "ident_file": f"{own}/data/pg_ident.conf",
        "external_pid_file": f"{own}/pid",
        "unix_socket_directories": own,
        "listen_addresses": "",
        "log_destination": "stderr",
        "logging_collector": "off",
        "huge_pages": "off",
    }
    words = [word for name, value in apart.items() for word in ("-c", f"{name}={value}")]
    for unit, what in (("shared_memory_size", "MB"), ("shared_memory_size_in_huge_pages", "pages")):
        asked = run_as(user, f"{programs}/postgres", "-D", f"{own}/data", *words, "-C", unit)
        if asked.returncode:
            return reasons(asked.stderr)
        if why := _too_much(int(asked.stdout), what, _value(scratch, "huge_pages")):
            return [why]
    options = " ".join(f"-c {name}='{value}'" for name, value in apart.items())
    start = ("-w", "-t", str(START), "-D", f"{own}/data", "-l", f"{own}/log", "-o", options)
    done = run_as(user, f"{programs}/pg_ctl", "start", *start)
    said = run_as(user, "cat", f"{own}/log").stdout
    run_as(user, f"{programs}/pg_ctl", "stop", "-w", "-m", "immediate", "-D", f"{own}/data")
    ignored = [line for line in said.splitlines() if "invalid configuration parameter name" in line]
    if done.returncode or ignored:
        return reasons("\n".join(ignored) if not done.returncode else said)
    return []


def _value(scratch: str, name: str) -> str:
    found: dict[str, str] = dict(LINE.findall(read(f"{scratch}/conf.d/saltern.conf")))
    return found.get(name, "").strip("'")


def _too_much(amount: int, unit: str, huge_pages: str) -> str:
    """Say that the host has not the memory: the kernel may promise more than there is, and kill whoever takes it."""
    there = {name: int(value) for name, value in re.findall(r"(?m)^(\w+):\s+(\d+)", read("/proc/meminfo"))}
    if unit == "MB" and amount > there["MemTotal"] >> 10:
        return f'parameter "shared_buffers": it needs {amount} MB, and the host has {there["MemTotal"] >> 10} MB'
    if unit == "pages" and huge_pages == "on" and amount > there.get("HugePages_Total", 0):
        total = there.get("HugePages_Total", 0)
        return f'parameter "huge_pages": it needs {amount} huge pages (vm.nr_hugepages), and the host has {total}'
    return ""


def reasons(output: str) -> list[str]:
    """Take the reasons out of what PostgreSQL prints when it does not start. A value may be a secret.

    :param output: its standard error, or its log.
    """
    found: list[str] = []
    for line in output.splitlines():
        kind, _, what = re.sub(r"^.*?((?:LOG|WARNING|FATAL|PANIC|ERROR|HINT|DETAIL): +)", r"\1", line).partition(":")
        what = re.sub(r'(invalid value for parameter "[^"]*"): .*', r"\1", what.strip())
        what = re.sub(r' in file "[^"]*" line \d+', "", what)
        if kind == "HINT" and found and "parameter" in found[-1]:
            found[-1] += f" ({what.rstrip('.')})"
        elif kind in ("WARNING", "FATAL", "PANIC", "ERROR") or (kind == "LOG" and "parameter" in what):
            found.append(what)
    specific = [one for one in found if "contains errors" not in one]
    return specific or found or ["it gave no reason"]


def _by_path(why: str, declared: Collection[str]) -> str:
    """Tell a reason by the pillar path of the parameter that it names."""
    for name in re.findall(r'"([a-z_][a-z0-9_.]*)"', why):
        if name in declared or OWN.get(name):
            path = f"settings.{name}" if name in declared else OWN[name]
            return f"postgres.{path}: PostgreSQL would not start: {why}; expected a value that it takes"
    if "could not access file" in why and PRELOADED in declared:
        return f"postgres.settings.{PRELOADED}: PostgreSQL would not start: {why}; expected a library that is installed"
    where = "postgres.settings" if declared else "postgres"
    return f"{where}: PostgreSQL would not start: {why}; expected parameters with which it starts"


def waits(host: Host, path: str) -> bool:
    """Tell in a dry run whether a configuration that the run would write would wait for a restart.

    :param host: the host.
    :param path: the configuration file.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    new, live = (dict(LINE.findall(text)) for text in (candidate(host), read(path)))
    changed = {name for name in new.keys() | live.keys() if new.get(name) != live.get(name)}
    if not changed:
        return server.run([WAITING]) == "t"
    at_start = json.loads(server.run([AT_START.format(names=names(changed))]))
    if PRELOADED in changed or any(name not in new for name in at_start):
        return True
    return any(value != wanted for value, wanted in _compared(path, candidate(host), at_start))


def _compared(path: str, text: str, settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what the server has of parameters, and what it would have, both as PostgreSQL writes them."""
    if not settings:
        return
    version, user = path.split("/")[3], pwd.getpwnam("postgres")
    with tempfile.TemporaryDirectory(prefix="postgres-candidate-", dir="/var/tmp") as scratch:
        os.chmod(scratch, 0o755)
        with open(f"{scratch}/postgresql.conf", "w", encoding="utf-8") as stream:
            stream.write(text)
        for name, value in settings.items():
            asked = ("-D", scratch, "-c", f"config_file={scratch}/postgresql.conf", "-C", name)
            yield value, run_as(user, f"/usr/lib/postgresql/{version}/bin/postgres", *asked).stdout.strip()

"""PgBouncer's configuration: any parameter that the pillar sets, tried by PgBouncer itself before it is live."""

import os
import pwd
import re
import subprocess
import time
from collections.abc import Collection, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.services import candidates
from saltern.services import postgres_pool as pool
from saltern.services.candidates import of, read, rendered, run_as, scratch
from saltern.services.steps import Run, Step

TEMPLATE, LISTEN = "salt://postgres/files/pool.ini.jinja", "salt://postgres/files/pool-listen.ini.jinja"
PROGRAM = "/usr/sbin/pgbouncer"
SIZE = "databases.<database>.pool_size"
# Parameters of the formula, and the setting of each; those without one follow from how apps connect.
OWN: Mapping[str, str] = {
    "default_pool_size": SIZE,
    "max_client_conn": "pool_clients",
    "max_db_connections": SIZE,
    **dict.fromkeys(
        (
            "admin_users",
            "auth_dbname",
            "auth_file",
            "auth_hba_file",
            "auth_ident_file",
            "auth_query",
            "auth_type",
            "auth_user",
            "client_login_timeout",
            "client_tls_cert_file",
            "client_tls_key_file",
            "client_tls_protocols",
            "client_tls_sslmode",
            "conffile",
            "listen_addr",
            "listen_port",
            "logfile",
            "pidfile",
            "pool_mode",
            "stats_users",
            "unix_socket_dir",
            "unix_socket_group",
            "unix_socket_mode",
            "user",
        ),
        "",
    ),
}
# What PgBouncer reads at its start alone, as its SHOW CONFIG tells. A reload passes over another value.
AT_START = (
    "disable_pqexec",
    "job_name",
    "listen_backlog",
    "pkt_buf",
    "resolv_conf",
    "so_reuseport",
    "track_extra_parameters",
)
IGNORED = "ignore_startup_parameters"
USUAL: Mapping[str, str] = {
    # What drivers say at the start of a session, and what changes nothing.
    IGNORED: "extra_float_digits",
    # To the journal, by standard error. Each session there would be a line.
    "log_connections": "0",
    "log_disconnections": "0",
    "log_stats": "0",
    # After a restart of PostgreSQL it tries again so soon.
    "server_login_retry": "1",
}
REFUSED = re.compile(r"(?:ERROR|FATAL) (.*)")
UNKNOWN = re.compile(r"unknown parameter: pgbouncer/")
# Seconds that a scratch PgBouncer may take to answer, and to end.
START = 10


def mistakes(postgres: Mapping[str, Any]) -> list[str]:
    """List the parameters that are not for ``pool_settings``.

    :param postgres: the formula's settings.
    """
    return candidates.mistakes("postgres.pool_settings", postgres["pool_settings"], OWN)


def parameters(settings: Mapping[str, Any], way: str, debian: int) -> dict[str, str]:
    """Return the parameters of one way that may be others, for its configuration file.

    :param settings: of the formula, complete.
    :param way: such as ``transaction``.
    :param debian: the host's version of Debian.
    """
    declared = settings["pool_settings"]
    prepared = pool.prepared(way, debian)
    found = {**USUAL, **({"max_prepared_statements": str(prepared)} if prepared else {}), **declared}
    if IGNORED in declared:
        given = [one.strip() for one in declared[IGNORED].split(",")]
        found[IGNORED] = ", ".join([USUAL[IGNORED], *(one for one in given if one and one != USUAL[IGNORED])])
    return {name: text for name, text in sorted(found.items()) if name not in AT_START}


def at_start(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of the pillar that PgBouncer reads at its start alone.

    :param settings: of the formula, complete.
    """
    return {name: text for name, text in sorted(settings["pool_settings"].items()) if name in AT_START}


def judged(run: Run, path: str) -> Step:
    """Have PgBouncer try parameters of the pillar, before they take the place of the live ones.

    :param run: the converge.
    :param path: the configuration file of one way.
    :raises CommandExecutionError: when PgBouncer would not start with it, with each mistake by its pillar path.
    """
    way = os.path.basename(path).removesuffix(".ini")
    declared = run.host.pillar["postgres"]["pool_settings"]
    wanted = rendered(run.host, TEMPLATE, way=way, port=pool.PORTS[way]), rendered(run.host, LISTEN)
    live = read(path), read(pool.LISTEN)
    if not declared or [text.strip() for text in wanted] == [text.strip() for text in live]:
        return Step("PgBouncer has the parameters of the pillar")
    if not os.path.exists(PROGRAM) or not os.path.exists(pool.CERTIFICATE):
        return Step("PgBouncer is not there yet: the converge has it try the parameters")
    refused: dict[str, str] = {}
    while why := tried(_apart(*wanted, refused), pool.PORTS[way]):
        name = _named(why, declared)
        refused[name] = why
        if not name or len(refused) > len(declared):
            break
    if refused:
        raise CommandExecutionError("\n".join(_told(name, why) for name, why in sorted(refused.items())))
    return Step("PgBouncer starts with these parameters")


def _apart(text: str, listen: str, refused: Collection[str]) -> str:
    """Return a configuration that reaches neither PostgreSQL nor a network, without what is refused already."""
    own = f"{listen}\n{text.partition('[pgbouncer]')[2]}"
    lines = [line for line in own.splitlines() if not line.startswith(("%include", "auth_"))]
    kept = [line for line in lines if line.partition(" =")[0] not in refused]
    apart = {"listen_addr": "", "syslog": "0", "auth_type": "trust"}
    return "\n".join(["[databases]", "[pgbouncer]", *kept, *(f"{name} = {value}" for name, value in apart.items())])


def tried(text: str, port: int) -> str:
    """Start a scratch PgBouncer, and say why it does not start. Those that run are not touched.

    :param text: its configuration.
    :param port: of its Unix socket.
    :return: PgBouncer's reason; empty where it starts, and answers.
    """
    user = pwd.getpwnam("postgres")
    with scratch("pgbouncer") as directory:
        own = f"{directory}/own"
        os.mkdir(own, 0o700)
        os.chown(own, user.pw_uid, user.pw_gid)
        with open(f"{directory}/pool.ini", "w", encoding="utf-8") as stream:
            stream.write(f"{text}\nunix_socket_dir = {own}\n")
        with open(f"{directory}/log", "w+", encoding="utf-8", errors="replace") as log:
            command = [PROGRAM, f"{directory}/pool.ini"]
            started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **of(user))
            try:
                answers = _answers(started, user, own, port)
            finally:
                _end(started)
            log.seek(0)
            said = log.read()
    if answers:
        return ""
    return next(iter(REFUSED.findall(said)), "it does not answer")


def _answers(started: subprocess.Popen[bytes], user: pwd.struct_passwd, directory: str, port: int) -> bool:
    where = ("-h", directory, "-p", str(port), "-U", pool.CONSOLE, "-d", pool.CONSOLE)
    deadline = time.monotonic() + START
    while started.poll() is None and time.monotonic() < deadline:
        if not os.path.exists(f"{directory}/.s.PGSQL.{port}"):
            time.sleep(0.05)
            continue
        try:
            return not run_as(user, "psql", "-X", "-q", *where, "-c", "SHOW VERSION", seconds=START / 2).returncode
        except subprocess.TimeoutExpired:
            return False
    return False


def _end(started: subprocess.Popen[bytes]) -> None:
    started.terminate()
    try:
        started.wait(START / 5)
    except subprocess.TimeoutExpired:
        # Newer ones wait for a client that does not go.
        started.kill()
        started.wait()


def _named(why: str, declared: Collection[str]) -> str:
    """Return the parameter of the pillar that a reason names; empty where it names none."""
    found = re.findall(r"[a-z0-9_]+", re.sub(r'"[^"]*"', "", why))
    return next((name for name in found if name in declared), "")


def _told(name: str, why: str) -> str:
    """Tell a reason by pillar path, without a value."""
    if UNKNOWN.search(why):
        return f"postgres.pool_settings.{name}: this Debian's PgBouncer does not know it; expected another parameter"
    if name:
        return f"postgres.pool_settings.{name}: PgBouncer refuses the value; expected one that it takes"
    why = re.sub(r'"[^"]*"', "a value", why)
    return f"postgres.pool_settings: PgBouncer would not start: {why}; expected parameters with which it starts"

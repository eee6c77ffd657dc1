"""Postfix's configuration: any parameter that the pillar sets, tried by Postfix itself before it is live."""

import os
import re
import select
import shutil
import smtplib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.services import candidates
from saltern.services.candidates import read, rendered, scratch
from saltern.services.steps import Run, Step

TEMPLATE, PROGRAMS = "salt://mail/files/main.cf.jinja", "salt://mail/files/master.cf.jinja"
RELAY = "relays.default"
# Parameters of the formula, and the setting of each; those without one follow from what a relay is.
OWN: Mapping[str, str] = {
    "bounce_queue_lifetime": f"{RELAY}.queued",
    "maximal_queue_lifetime": f"{RELAY}.queued",
    "message_size_limit": f"{RELAY}.message_size",
    "myorigin": f"{RELAY}.domain",
    "relayhost": f"{RELAY}.host",
    "smtp_sasl_auth_enable": f"{RELAY}.user",
    "smtp_sasl_password_maps": f"{RELAY}.password",
    "smtp_tls_wrappermode": f"{RELAY}.port",
    **dict.fromkeys(
        (
            "alias_database",
            "alias_maps",
            "alternate_config_directories",
            "command_directory",
            "compatibility_level",
            "config_directory",
            "daemon_directory",
            "data_directory",
            "import_environment",
            "inet_interfaces",
            "local_recipient_maps",
            "local_transport",
            "mail_owner",
            "mail_spool_directory",
            "maillog_file",
            "maillog_file_prefixes",
            "meta_directory",
            "multi_instance_directories",
            "multi_instance_enable",
            "multi_instance_name",
            "multi_instance_wrapper",
            "mydestination",
            "myhostname",
            "mynetworks",
            "mynetworks_style",
            "queue_directory",
            "setgid_group",
            "shlib_directory",
            "smtp_sasl_security_options",
            "smtp_sasl_tls_security_options",
            "smtp_tls_CAfile",
            "smtp_tls_security_level",
            "smtp_use_tls",
            "smtp_enforce_tls",
            "smtpd_relay_restrictions",
        ),
        "",
    ),
}
USUAL: Mapping[str, str] = {
    "append_dot_mydomain": "no",
    "biff": "no",
    "disable_vrfy_command": "yes",
    # A name of a private network may be in /etc/hosts alone.
    "smtp_host_lookup": "dns, native",
    "smtp_tls_loglevel": "1",
    "smtp_tls_mandatory_protocols": ">=TLSv1.2",
    "smtpd_banner": "$myhostname ESMTP",
    # The text of a mail may be anybody's: what a lax sender passes on must not end the mail and begin another one.
    # Postfix would except the clients that are trusted, which ours all are.
    "smtpd_forbid_bare_newline": "normalize",
    "smtpd_forbid_bare_newline_exclusions": "",
    "smtpd_forbid_unauth_pipelining": "yes",
    # What the smart host does not take yet is tried again, more and more seldom, and goes back to its sender in the
    # end.
    "maximal_backoff_time": "15m",
    "minimal_backoff_time": "1m",
    "queue_run_delay": "1m",
}
# What Postfix reads at its start alone. A reload passes over another value.
AT_START = ("inet_protocols",)
UNUSED = re.compile(r"(?m)^.*warning: .*(?:unused|undefined) parameter: (\w+)")
FATAL = re.compile(r"(?:fatal|panic): (.*)")
WARNING = re.compile(r"postfix/(?:smtpd|cleanup|trivial-rewrite)\[\d+\]: (?:warning|error): (.*)")
# Seconds in which the parts of a scratch Postfix answer.
START = 10


def mistakes(mail: Mapping[str, Any]) -> list[str]:
    """List the parameters that are not for ``settings``.

    :param mail: the formula's settings.
    """
    return candidates.mistakes("mail.settings", mail["settings"], OWN)


def parameters(mail: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters that may be others, for the configuration file.

    :param mail: the formula's settings.
    """
    return dict(sorted({**USUAL, **mail["settings"]}.items()))


def at_start(mail: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of the pillar that Postfix reads at its start alone.

    :param mail: the formula's settings.
    """
    return {name: text for name, text in mail["settings"].items() if name in AT_START}


def judged(run: Run, path: str) -> Step:
    """Have Postfix try parameters of the pillar, before they take the place of the live ones.

    :param run: the converge.
    :param path: the configuration file.
    :raises CommandExecutionError: when Postfix would not take mail with them, with each mistake by its pillar path.
    """
    declared = run.host.pillar["mail"]["settings"]
    text = rendered(run.host, TEMPLATE)
    if not declared or text.strip() == read(path).strip():
        return Step("Postfix has the parameters of the pillar")
    if not shutil.which("postfix"):
        return Step("Postfix is not there yet: the converge has it try the parameters")
    if refused := tried(text, rendered(run.host, PROGRAMS), declared):
        raise CommandExecutionError("\n".join(refused))
    return Step("Postfix takes mail with these parameters")


def tried(text: str, programs: str, declared: Mapping[str, str]) -> list[str]:
    """Run a scratch Postfix that delivers nothing, and say what it refuses. The relay that runs is not touched.

    :param text: of ``main.cf``.
    :param programs: of ``master.cf``.
    :param declared: the parameters of the pillar.
    :return: what it refuses, each by pillar path.
    """
    with scratch("postfix") as directory:
        config, queue, log = f"{directory}/config", f"{directory}/queue", f"{directory}/log"
        for one in (config, queue, f"{directory}/data"):
            os.mkdir(one, 0o755)
        shutil.chown(f"{directory}/data", "postfix")
        apart = {"queue_directory": queue, "data_directory": f"{directory}/data", "maillog_file": log}
        lines = [text.rstrip("\n"), *(f"{name} = {value}" for name, value in apart.items()), ""]
        _write(f"{config}/main.cf", "\n".join(lines))
        _write(f"{config}/master.cf", programs)
        asked = _run("postconf", "-c", config, "-n")
        if unknown := [name for name in declared if name in UNUSED.findall(asked.stderr)]:
            return [
                f"mail.settings.{name}: no part of the relay knows it; expected a parameter of Postfix"
                for name in sorted(unknown)
            ]
        _write(f"{config}/master.cf", _apart(programs))
        # What stops all of its programs. The log would not have it, since they open it later.
        said = _run("postmap", "-c", config, "-q", "try", "static:tried").stderr
        if FATAL.search(said):
            return [_told(why, declared) for why in FATAL.findall(said)]
        started = _run("postfix", "-c", config, "start")
        said = started.stderr
        if not started.returncode:
            try:
                silent = _poked(queue)
                refused = "" if silent else _refused(f"{queue}/public/smtpd")
            finally:
                _run("postfix", "-c", config, "stop")
            said = read(log)
            if not silent and not FATAL.search(said):
                why = "; ".join([refused, *WARNING.findall(said)])
                return [_told(why, declared)] if refused else []
    return sorted({_told(why, declared) for why in FATAL.findall(said) or ["it gives no reason"]})


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


def _apart(programs: str) -> str:
    """Return the programs of a relay that reaches no network: it takes mail by a Unix socket, and discards it."""
    inside = re.sub(r"(?m)^smtp +inet ", "smtpd unix ", programs)
    return re.sub(r"(?m)^(smtp|relay)( +unix .*) smtp$", r"\1\2 discard\n\1-client\2 smtp", inside)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": f"{os.defpath}:/usr/sbin:/sbin", "LC_ALL": "C"}
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL, env=environ
    )


def _poked(queue: str) -> list[str]:
    """Have each part of a scratch Postfix start, and return those that do not: one reads its parameters at its start.

    :param queue: the directory of its queue.
    """
    waiting: dict[str, socket.socket] = {}
    try:
        for kind in ("private", "public"):
            for name in sorted(set(os.listdir(f"{queue}/{kind}")) - {"postlog"}):
                waiting[name] = client = socket.socket(socket.AF_UNIX)
                client.connect(f"{queue}/{kind}/{name}")
                client.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + START
        while waiting and time.monotonic() < deadline:
            ready = select.select(list(waiting.values()), [], [], 1)[0]
            for name, client in list(waiting.items()):
                if client in ready and not client.recv(4096):
                    waiting.pop(name).close()
            # One that has ended with a reason is started again after a minute alone.
            if not ready and FATAL.search(read(f"{os.path.dirname(queue)}/log")):
                break
        return sorted(waiting)
    finally:
        for client in waiting.values():
            client.close()


class _Client(smtplib.SMTP):
    """A client of a relay that listens at a Unix socket."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(timeout)
        client.connect(host)
        return client


def _handed(relay: smtplib.SMTP) -> Iterator[tuple[int, bytes]]:
    """Yield the answer to each part of a mail, as long as it is asked for."""
    yield relay.mail("try@example.com")
    yield relay.rcpt("try@example.com")
    yield relay.data(b"Subject: try\r\n\r\ntry\r\n")


def _refused(path: str) -> str:
    """Hand a mail to a scratch Postfix, and say why the configuration keeps it from that; empty where it does not.

    :param path: of its Unix socket.
    """
    try:
        with _Client(path, 25, "localhost", START) as relay:
            relay.ehlo()
            for code, said in _handed(relay):
                # The relay's own state, by RFC 3463. Other answers are those of restrictions that the pillar wants.
                if said.startswith(b"4.3."):
                    return f"the relay answers {code} {said.decode(errors='replace')}"
    except smtplib.SMTPException:
        return ""
    except OSError:
        return "the relay does not answer"
    return ""


def _told(why: str, declared: Mapping[str, str]) -> str:
    """Tell a reason by the pillar path of the parameter that it names, without a value."""
    words = [word for word in re.findall(r'"([^"]+)"|(\S+) is unavailable', why) for word in word if word]
    for name, value in sorted(declared.items()):
        if re.search(rf"\b{re.escape(name)}\b", why) or any(word in value for word in words):
            return f"mail.settings.{name}: Postfix refuses the value; expected one that it takes"
    why = re.sub(r'"[^"]*"', "a value", why.partition("; ")[0])
    return f"mail.settings: Postfix would not take mail: {why}; expected parameters with which it does"

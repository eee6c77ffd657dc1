"""Certificates by ACME, which certbot gets and renews: each app has one of its own, for all its domains.

So an app whose domains cannot be proved keeps no other app from its certificate. certbot's own timer runs twice a day,
renews what it must, and tells nginx by a hook.
"""

import contextlib
import datetime
import json
import os
from collections.abc import Collection, Iterable

from salt.exceptions import CommandExecutionError

from saltern.apps import declared
from saltern.host import Host
from saltern.system import files
from saltern.tls import certbot, certificate, site
from saltern.web import http3, redirects, tree, workers

REFUSED = "/var/lib/saltern/acme-refused"

# The time until a request that was refused is made again. Let's Encrypt takes five refused ones an hour for a domain.
PAUSE = datetime.timedelta(minutes=15)

# Seconds for one run of certbot.
TIMEOUT = 300

# Where an app's certificate comes from, in words.
SOURCES = {"pillar": "the pillar", "authority": "the host's own authority"}


def due(host: Host, app: str) -> str:
    """Say why an app needs a new certificate.

    :param host: the host.
    :param app: the app's name.
    :return: such as ``no certificate yet``. Empty where the app needs none.
    :raises CommandExecutionError: when no app of the host has this name, or its certificate comes from elsewhere.
    """
    _refuse_from_elsewhere(host, app)
    wanted = host.pillar["nginx"]["tls"]["acme"]["server"]
    domains = redirects.names(declared(host.pillar["app"], app))
    return reason(certbot.pair(app), domains, certbot.server(app), wanted, certificate.now())


def reason(text: str | None, domains: Iterable[str], server: str | None, wanted: str, now: datetime.datetime) -> str:
    """Say why an app needs a new certificate; see ``due``.

    :param text: the key and certificates that certbot has, or ``None``.
    :param domains: of the app.
    :param server: the directory of the authority that issued them, or ``None``.
    :param wanted: the directory of the declared authority.
    :param now: the time.
    """
    if not text:
        return "no certificate yet"
    if {*certificate.domains_of(certificate.read(text)[0])} != {*domains}:
        return "the one before is for other domains"
    if server != wanted:
        return "the one before is another authority's"
    # certbot's timer renews when a third of a certificate's life is left, or 30 days.
    if certificate.left(text, now) < certificate.FORGOTTEN:
        return f"the one before ends on {certificate.until(text):%Y-%m-%d}, and certbot's timer has not renewed it"
    return ""


def issue(host: Host, app: str) -> None:
    """Ask for a certificate, and have nginx serve it.

    :param host: the host.
    :param app: the app's name.
    :raises CommandExecutionError: when there is none, with the reason in one line. nginx serves what it has.
    """
    if said := refused(host, app):
        raise CommandExecutionError(said)
    done = host.ask(
        "cmd.run_all",
        _command(host, app),
        python_shell=False,
        ignore_retcode=True,
        timeout=TIMEOUT,
        output_loglevel="quiet",
    )
    output = f"{done['stdout']}\n{done['stderr']}"
    if done["retcode"]:
        why = certbot.failure(output)
        if not certbot.UNREACHED.search(output):
            _remember(host, app, why)
        raise CommandExecutionError(f"{app} has no new certificate, nginx serves what it has: {why}")
    _forget(app)
    text = certbot.pair(app)
    if not text:
        raise CommandExecutionError(f"{app}: certbot ended well and left no certificate; see {certbot.LOG}")
    # The hook has written the certificate, and not the directives that depend on what is in it.
    if files.read(site.path(app)) != text:
        site.write(host, app, text)
        workers.reload(http3.PID_FILE)
    snippet = f"tls/{app}.conf"
    tree.promote(tree.ROOT, {snippet: site.snippets(host.pillar)[snippet]})


def refused(host: Host, app: str) -> str:
    """Say that the authority refused the same request a short while ago.

    :param host: the host.
    :param app: the app's name.
    :return: a sentence. Empty where the request may be made.
    :raises CommandExecutionError: when no app of the host has this name, or its certificate comes from elsewhere.
    """
    _refuse_from_elsewhere(host, app)
    command, now = _command(host, app), certificate.now()
    try:
        what = json.loads(files.read(f"{REFUSED}/{app}.json") or "{}")
        until = datetime.datetime.fromisoformat(what["time"]) + PAUSE
        if what["command"] == command and now < until <= now + PAUSE:
            return f"{app} was refused, and is not asked for again before {until:%H:%M} UTC: {what['reason']}"
    except (ValueError, KeyError, TypeError):
        pass
    return ""


def remove(host: Host, apps: Collection[str]) -> None:
    """Have certbot forget the certificates of apps.

    :param host: the host.
    :param apps: names.
    :raises CommandExecutionError: when certbot refuses, with its reason.
    """
    for app in apps:
        done = host.ask("cmd.run_all", certbot.removal(app), python_shell=False, ignore_retcode=True)
        if done["retcode"]:
            raise CommandExecutionError(f"{app}: {certbot.failure(done['stdout'] + done['stderr'])}")
        _forget(app)


def _refuse_from_elsewhere(host: Host, app: str) -> None:
    """Refuse an app whose certificate does not come by ACME.

    :raises CommandExecutionError: when no app of the host has this name, or its certificate comes from elsewhere.
    """
    if (source := site.source(host.pillar, app)) != "acme":
        expected = f"nginx.tls.source: acme, and no app.{app}.site.certificate"
        raise CommandExecutionError(
            f"{app}: has its certificate from {SOURCES[source]}, not by ACME; expected {expected}"
        )


def _command(host: Host, app: str) -> list[str]:
    """Return the command line that asks for an app's certificate."""
    return certbot.command(host.pillar["nginx"]["tls"]["acme"], app, redirects.names(declared(host.pillar["app"], app)))


def _remember(host: Host, app: str, why: str) -> None:
    """Note that the authority refused a request."""
    os.makedirs(REFUSED, mode=0o700, exist_ok=True)
    with open(f"{REFUSED}/{app}.json", "w", encoding="utf-8") as stream:
        json.dump({"time": certificate.now().isoformat(), "command": _command(host, app), "reason": why}, stream)


def _forget(app: str) -> None:
    """Forget that the authority refused a request."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{REFUSED}/{app}.json")

"""Certificates by ACME, as certbot gets and renews them: a lineage for each app, with all its domains.

An app whose domains cannot be proved keeps no other app from its certificate. certbot's own timer renews, twice a day
where there is something to renew, and tells nginx by a hook.
"""

import contextlib
import datetime
import json
import os
import re

from salt.exceptions import CommandExecutionError

from saltern.apps import declared
from saltern.web import tree

__load__ = ["due", "gone", "issue", "pair", "refused", "remove"]

CONFIG = "/etc/letsencrypt"
WEBROOT = "/var/lib/saltern/acme"
REFUSED = "/var/lib/saltern/acme-refused"
HOOK = "/usr/local/lib/saltern/certificate-renewed"

# By which our lineages are told from an operator's own.
PREFIX = "saltern-"

# certbot's timer renews with a third of a certificate's life left, or 30 days. Then it has not for long.
FORGOTTEN = 1 / 5

# Minutes until a request that was refused is made again. Let's Encrypt takes five refused ones an hour for a domain.
PAUSE = datetime.timedelta(minutes=15)

# Seconds for one run of certbot.
TIMEOUT = 300

# What comes from no authority, so that it does not count there.
UNREACHED = re.compile(
    r"^ValueError: Requesting |ConnectionError|SSLError|Timeout: |Max retries exceeded|Another instance of Certbot",
    re.MULTILINE,
)


def pair(app):
    """Return the key and the certificates that an app was issued.

    :param app: the app's name.
    :return: text, ``None`` where there are none.

    CLI Example: none, it would print a private key.
    """
    parts = [_read(f"{CONFIG}/live/{PREFIX}{app}/{name}.pem") for name in ("privkey", "fullchain")]
    return "".join(parts) if all(parts) and __salt__["site_certificate.is_pair"]("".join(parts)) else None


def due(app):
    """Say why a certificate is to be asked for.

    :param app: the app's name.
    :return: such as ``no certificate yet``; nothing where there is no reason.

    CLI Example:

    .. code-block:: bash

        salt-call acme.due tickets
    """
    server = re.search(r"^server = (\S+)$", _read(f"{CONFIG}/renewal/{PREFIX}{app}.conf") or "", re.MULTILINE)
    wanted = __pillar__["nginx"]["tls"]["acme"]["server"]
    return reason(pair(app), _settings(app)["domains"], server and server[1], wanted, _now())


def reason(text, domains, server, wanted, now):
    """Say why a certificate is to be asked for; see ``due``.

    :param text: the key and certificates that are there, or ``None``.
    :param domains: of the app.
    :param server: the directory of the authority that issued them, or ``None``.
    :param wanted: the directory of the declared one.
    :param now: the time.
    """
    from cryptography import x509

    if not text:
        return "no certificate yet"
    one = x509.load_pem_x509_certificates(text.encode())[0]
    names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if {*names.get_values_for_type(x509.DNSName)} != {*domains}:
        return "the one before is for other domains"
    if server != wanted:
        return "the one before is another authority's"
    if (one.not_valid_after_utc - now) / (one.not_valid_after_utc - one.not_valid_before_utc) < FORGOTTEN:
        return f"the one before ends on {one.not_valid_after_utc:%Y-%m-%d}, and certbot's timer has not renewed it"
    return ""


def issue(app):
    """Ask for a certificate, and have nginx serve it.

    :param app: the app's name.
    :raises CommandExecutionError: when there is none, with the reason in one line. nginx serves what it has.

    CLI Example:

    .. code-block:: bash

        salt-call acme.issue tickets
    """
    if said := refused(app):
        raise CommandExecutionError(said)
    done = __salt__["cmd.run_all"](
        command(app), python_shell=False, ignore_retcode=True, timeout=TIMEOUT, output_loglevel="quiet"
    )
    output = f"{done['stdout']}\n{done['stderr']}"
    if done["retcode"]:
        why = failure(output)
        if not UNREACHED.search(output):
            _remember(app, why)
        raise CommandExecutionError(f"{app} has no new certificate, nginx serves what it has: {why}")
    _forget(app)
    # The hook has done this, but for what follows from what is in the certificate.
    text = pair(app)
    if not text:
        raise CommandExecutionError(f"{app}: certbot ended well and left no certificate; see {LOG}")
    __salt__["site_certificate.write"](app, text)
    snippet = f"tls/{app}.conf"
    tree.promote(tree.ROOT, {snippet: __salt__["site_certificate.snippets"]()[snippet]})


LOG = "/var/log/letsencrypt/letsencrypt.log"


def command(app):
    """Return the command line that asks for a certificate.

    :param app: the app's name.
    """
    settings = __pillar__["nginx"]["tls"]["acme"]
    words = ["certbot", "certonly", "--non-interactive", "--agree-tos", "--server", settings["server"]]
    words += ["--email", settings["email"]] if settings["email"] else ["--register-unsafely-without-email"]
    words += ["--no-eff-email", "--cert-name", f"{PREFIX}{app}", "--webroot", "--webroot-path", WEBROOT]
    words += ["--key-type", "ecdsa", "--deploy-hook", HOOK]
    # It is asked for only where what is there does not do.
    words += ["--force-renewal", "--renew-with-new-domains"]
    return [*words, *(word for domain in _settings(app)["domains"] for word in ("--domain", domain))]


def failure(output):
    """Take the reason out of what certbot prints.

    :param output: all of it.
    :return: one line.
    """
    domains = re.findall(r"^ *Domain: (\S+)\n *Type: +(\S+)\n *Detail: (.*)$", output, re.MULTILINE)
    if domains:
        return "; ".join(f"{domain}: {detail.strip()}" for domain, _, detail in domains)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Timeout)\b: ", line)]
    if host := re.match(r"ValueError: Requesting (\S+): (.+)", said[-1] if said else ""):
        return f"{host[1]} is not reached: {host[2]}"
    if host := re.search(r"host='([^']+)', port=(\d+)", said[-1] if said else ""):
        cause = re.search(r"(\[Errno -?\d+\] [^'\")]+|certificate verify failed[^)(]*|timed out)", said[-1])
        return f"{host[1]}:{host[2]} is not reached" + (f": {cause[1].strip()}" if cause else "")
    known = (said or [line for line in lines if not re.match(PROGRESS, line)] or ["no reason given"])[-1]
    return known if len(known) <= 400 else known[:397] + "..."


# What certbot says around a reason.
PROGRESS = r"Saving debug log|Ask for help|Requesting|Renewing|Account registered|An unexpected error|Some challenges"


def refused(app):
    """Say that a request was refused a short while ago; nothing where it may be made.

    :param app: the app's name.

    CLI Example:

    .. code-block:: bash

        salt-call acme.refused tickets
    """
    try:
        what = json.loads(_read(f"{REFUSED}/{app}.json") or "{}")
        until = datetime.datetime.fromisoformat(what["time"]) + PAUSE
        if what["command"] == command(app) and _now() < until <= _now() + PAUSE:
            return f"{app} was refused, and is not asked for again before {until:%H:%M} UTC: {what['reason']}"
    except (ValueError, KeyError, TypeError):
        pass
    return ""


def _remember(app, why):
    os.makedirs(REFUSED, mode=0o700, exist_ok=True)
    with open(f"{REFUSED}/{app}.json", "w", encoding="utf-8") as stream:
        json.dump({"time": _now().isoformat(), "command": command(app), "reason": why}, stream)


def _forget(app):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{REFUSED}/{app}.json")


def gone(apps):
    """List the apps whose certificates certbot still renews, and that no longer have one by ACME.

    :param apps: those that have.
    :return: names, sorted.

    CLI Example:

    .. code-block:: bash

        salt-call acme.gone '[faq, tickets]'
    """
    directory = f"{CONFIG}/renewal"
    names = os.listdir(directory) if os.path.isdir(directory) else []
    found = [re.fullmatch(rf"{PREFIX}(.+)\.conf", name) for name in names]
    return sorted(match[1] for match in found if match and match[1] not in apps)


def remove(apps):
    """Have certbot forget the certificates of apps.

    :param apps: names.
    :raises CommandExecutionError: when it does not.

    CLI Example: none, it serves the state ``acme.retired``.
    """
    for app in apps:
        words = ["certbot", "delete", "--non-interactive", "--cert-name", f"{PREFIX}{app}"]
        done = __salt__["cmd.run_all"](words, python_shell=False, ignore_retcode=True)
        if done["retcode"]:
            raise CommandExecutionError(f"{app}: {failure(done['stdout'] + done['stderr'])}")
        _forget(app)


def _read(path):
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError), open(path, encoding="utf-8") as stream:
        return stream.read()
    return None


def _now():
    return datetime.datetime.now(datetime.UTC)


def _settings(app):
    """Return the settings of an app, which an operator may have typed."""
    return declared(__pillar__["app"], app)

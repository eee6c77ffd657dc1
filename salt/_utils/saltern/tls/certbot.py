"""certbot: what it keeps, how it is asked for a certificate, and its reason in one line where it gets none."""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from saltern.system import files
from saltern.tls import certificate

CONFIG = "/etc/letsencrypt"
WEBROOT = "/var/lib/saltern/acme"
HOOK = "/usr/local/lib/saltern/certificate-renewed"
LOG = "/var/log/letsencrypt/letsencrypt.log"

# The name of each lineage of ours begins so. Others are an operator's own.
PREFIX = "saltern-"

# Where no authority was reached, certbot says one of these: the authority counts no failed request then.
UNREACHED = re.compile(
    r"^ValueError: Requesting |ConnectionError|SSLError|Timeout: |Max retries exceeded|Another instance of Certbot",
    re.MULTILINE,
)

# What certbot says around a reason.
PROGRESS = r"Saving debug log|Ask for help|Requesting|Renewing|Account registered|An unexpected error|Some challenges"

# Characters of a reason, at most.
REASON = 400


def pair(app: str) -> str | None:
    """Return the key and the certificates that certbot has for an app.

    :param app: the app's name.
    :return: text, or ``None`` where there are none.
    """
    key, chain = (files.read(f"{CONFIG}/live/{PREFIX}{app}/{name}.pem") for name in ("privkey", "fullchain"))
    return f"{key}{chain}" if key and chain and certificate.is_pair(f"{key}{chain}") else None


def server(app: str) -> str | None:
    """Return the directory of the authority at which certbot renews an app's certificate.

    :param app: the app's name.
    :return: an address, or ``None`` where certbot renews none.
    """
    found = re.search(r"^server = (\S+)$", files.read(f"{CONFIG}/renewal/{PREFIX}{app}.conf") or "", re.MULTILINE)
    return found and found[1]


def gone(apps: Collection[str]) -> list[str]:
    """List the apps whose certificates certbot still renews, though they no longer get one by ACME.

    :param apps: those that get one by ACME.
    :return: names, sorted.
    """
    directory = f"{CONFIG}/renewal"
    names = os.listdir(directory) if os.path.isdir(directory) else []
    found = [re.fullmatch(rf"{PREFIX}(.+)\.conf", name) for name in names]
    return sorted(match[1] for match in found if match and match[1] not in apps)


def command(acme: Mapping[str, Any], app: str, domains: Iterable[str]) -> list[str]:
    """Return the command line that asks for a certificate.

    :param acme: the setting ``nginx.tls.acme``.
    :param app: the app's name.
    :param domains: the app's.
    """
    words = ["certbot", "certonly", "--non-interactive", "--agree-tos", "--server", acme["server"]]
    words += ["--email", acme["email"]] if acme["email"] else ["--register-unsafely-without-email"]
    words += ["--no-eff-email", "--cert-name", f"{PREFIX}{app}", "--webroot", "--webroot-path", WEBROOT]
    words += ["--key-type", "ecdsa", "--deploy-hook", HOOK]
    # certbot is asked only where the certificate that is there is of no use.
    words += ["--force-renewal", "--renew-with-new-domains"]
    return [*words, *(word for domain in domains for word in ("--domain", domain))]


def removal(app: str) -> list[str]:
    """Return the command line that has certbot forget an app's certificate.

    :param app: the app's name.
    """
    return ["certbot", "delete", "--non-interactive", "--cert-name", f"{PREFIX}{app}"]


def failure(output: str) -> str:
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
    return known if len(known) <= REASON else known[: REASON - 3] + "..."

"""The certificate by which nginx serves an app's domains, wherever it comes from.

Key and certificates of an app are one file, which changes by one rename and is there before nginx's configuration names
it: a certificate of the pillar, one of the host's own authority, or one by ACME; and a placeholder until that is
there. So the configuration is the same for each of them, and nginx starts whatever becomes of an authority.
"""

import contextlib
import datetime
import os
import ssl

from salt.exceptions import CommandExecutionError

from saltern.apps import declared
from saltern.system import files
from saltern.tls import host as hosts_own

__load__ = ["by_acme", "hsts", "is_pair", "mistakes", "pair", "path", "retired"]
__load__ += ["snippets", "source", "unused", "write"]

DIRECTORY = "/etc/ssl/saltern/sites"

# Of a certificate's life, what is left when the host's own authority issues a new one; see the module certificate.
RENEWED = 1 / 3

# What browsers ask for before they have a domain built in; see https://hstspreload.org.
PRELOAD_SECONDS = 31536000

PLACEHOLDER = "Saltern: no certificate yet"


# --- What the pillar says ---------------------------------------------------------------------------------------------


def mistakes(settings, hosts, minion_id):
    """List what is wrong with what is declared of HTTPS, on the hosts that serve it.

    :param settings: a mapping of formula to settings, complete.
    :param hosts: the inventory, rows by host id.
    :param minion_id: the host's id.
    :return: a message for each mistake.

    CLI Example: none, it serves ``settings.compiled``.
    """
    return judged(settings, _now()) if "proxy" in hosts[minion_id]["roles"] else []


def judged(settings, now):
    """List what is wrong with what is declared of HTTPS; see ``mistakes``."""
    found, tls = [], settings["nginx"]["tls"]
    if tls["source"] == "acme" and not tls["acme"]["agree_terms"]:
        found.append("nginx.tls.acme.agree_terms: expected True, once you have read the authority's terms of service")
    hsts = tls["hsts"]
    if hsts["preload"] and not (hsts["include_subdomains"] and hsts["max_age"] >= PRELOAD_SECONDS):
        found.append(
            f"nginx.tls.hsts.preload: expected include_subdomains beside it, and a max_age of {PRELOAD_SECONDS} or more"
        )
    for app, one in sorted(settings["app"].items()):
        path, given = f"app.{app}.site", [word for word in ("certificate", "key") if one["site"].get(word)]
        if len(given) == 1:
            (missing,) = {"certificate", "key"} - {*given}
            found.append(f"{path}.{missing}: missing; expected it beside {given[0]}")
        elif given:
            amiss_ = amiss(one["site"]["key"], one["site"]["certificate"], one["domains"], now)
            found += [f"{path}.{word}: {what}" for word, what in sorted(amiss_.items())]
    return found


def amiss(key, certificate, domains, now):
    """Say what keeps a certificate from serving some domains.

    :param key: in PEM.
    :param certificate: in PEM, followed by those between it and its authority.
    :param domains: what it is to be for.
    :param now: the time.
    :return: a mapping of ``key`` or ``certificate`` to what is wrong there and what was expected.
    """
    try:
        one = _certificates(certificate)[0]
    except (ValueError, IndexError):
        return {"certificate": "cannot be read; expected certificates in PEM, its own first"}
    try:
        is_its_own = _key(key).public_key() == one.public_key()
    except Exception:
        # Whatever it is, the library has an error of its own for it.
        return {"key": "cannot be read; expected a private key in PEM, without a passphrase"}
    if not is_its_own:
        return {"key": "is that of another certificate; expected the one of app.<name>.site.certificate's first"}
    if one.not_valid_after_utc <= now:
        return {"certificate": f"expired on {one.not_valid_after_utc:%Y-%m-%d}; expected one that is valid"}
    if one.not_valid_before_utc > now:
        return {"certificate": f"is valid from {one.not_valid_before_utc:%Y-%m-%d} on; expected one that is valid now"}
    if lacking := [domain for domain in domains if not is_covered(domain, names_of(one))]:
        return {"certificate": f"is not for {', '.join(lacking)}; expected one for all domains of the app"}
    return _refused(key, certificate)


def _refused(key, certificate):
    """Say why OpenSSL, and so nginx, does not take a key and certificates: too short a key, a signature by SHA-1."""
    # In memory alone.
    with open(os.memfd_create("saltern"), "w", encoding="ascii", errors="replace") as stream:
        stream.write(joined(key, certificate))
        stream.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"/proc/self/fd/{stream.fileno()}")
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or "no reason given"
            return {"certificate": f"is refused by OpenSSL ({reason.lower()}); expected another"}
    return {}


def joined(key, certificate):
    """Write a key and its certificates as one text."""
    return key.rstrip("\n") + "\n" + certificate.rstrip("\n") + "\n"


def is_covered(domain, names):
    """Tell whether one of a certificate's names is that of a domain.

    :param domain: in lower case.
    :param names: such as ``shop.example.com`` or ``*.example.com``.
    """
    _, _, parent = domain.partition(".")
    wanted = {domain, f"*.{parent}"} if parent else {domain}
    return any(name.lower() in wanted for name in names)


def names_of(certificate):
    """Return the domains that a certificate is for."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return []


def hsts(tls):
    """Return the header that has browsers use HTTPS alone.

    :param tls: the setting ``nginx.tls``.
    :return: its value; nothing where HTTP serves as well, and is to be used then.

    CLI Example: none, it serves a template.
    """
    words = tls["hsts"]
    if not (tls["redirect"] and words["max_age"]):
        return ""
    parts = [f"max-age={words['max_age']}"]
    parts += ["includeSubDomains"] if words["include_subdomains"] else []
    parts += ["preload"] if words["preload"] else []
    return "; ".join(parts)


def source(app):
    """Return whose certificate an app has: ``pillar``, ``acme`` or ``authority``.

    :param app: the app's name.

    CLI Example:

    .. code-block:: bash

        salt-call site_certificate.source tickets
    """
    return "pillar" if _settings(app)["site"].get("certificate") else __pillar__["nginx"]["tls"]["source"]


def by_acme():
    """List the apps of this host that have a certificate by ACME.

    :return: names, sorted.

    CLI Example: none, it serves a state file.
    """
    return [app for app in sorted(__pillar__["nginx"]["sites"]) if source(app) == "acme"]


# --- On a host --------------------------------------------------------------------------------------------------------


def path(app):
    """Return where nginx has an app's key and certificates.

    :param app: the app's name.

    CLI Example: none, it serves state files.
    """
    return f"{DIRECTORY}/{app}.pem"


def pair(app):
    """Return an app's key and certificates as they should be now.

    :param app: the app's name.
    :return: text; ``None`` where they are yet to be made: by the host's own authority, or as a placeholder.

    CLI Example: none, it would print a private key.
    """
    kind, there, domains = source(app), _read(path(app)), _settings(app)["domains"]
    if kind == "pillar":
        return joined(_settings(app)["site"]["key"], _settings(app)["site"]["certificate"])
    if kind == "acme":
        # Whatever was there before the first one serves until then.
        issued = __salt__["acme.pair"](app)
        return issued or (there if is_pair(there) else None)
    return there if is_own(there, domains, hosts_own.own(), _now()) else None


def is_pair(text):
    """Tell whether a text is a key and its certificate.

    :param text: what a file says, ``None`` where there is none.

    CLI Example: none, it serves the module acme.
    """
    try:
        return bool(text) and _key(text).public_key() == _certificates(text)[0].public_key()
    except Exception:
        return False


def is_own(text, domains, authority, now):
    """Tell whether a host's own authority has issued what is there, for these domains, not too long ago.

    :param text: what the file says, ``None`` where there is none.
    :param domains: of the app.
    :param authority: its certificate, ``None`` where it is yet to be made.
    :param now: the time.
    """
    from cryptography.exceptions import InvalidSignature

    if not authority or not is_pair(text):
        return False
    one = _certificates(text)[0]
    left = (one.not_valid_after_utc - now) / (one.not_valid_after_utc - one.not_valid_before_utc)
    try:
        one.verify_directly_issued_by(_certificates(authority)[0])
    except (ValueError, TypeError, InvalidSignature):
        return False
    return left >= RENEWED and {*names_of(one)} == {*domains}


def write(app, text):
    """Write an app's key and certificates; the file is the old one or the new one at any moment.

    :param app: the app's name.
    :param text: what ``pair`` returned. Where that is ``None``, one is made.

    CLI Example: none, it serves the state ``certificate.site``.
    """
    if text is None and source(app) == "acme":
        text = placeholder(_settings(app)["domains"], _now())
    elif text is None:
        domains = _settings(app)["domains"]
        text = hosts_own.issued_here(__opts__["id"], domains[0], domains)
    files.write(path(app), text, 0o600)


def placeholder(domains, now):
    """Make a certificate that nobody believes, for nginx to start with.

    :param domains: of the app.
    :param now: the time.
    :return: a key and its certificate in one text, in PEM.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, PLACEHOLDER)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode() + certificate.public_bytes(serialization.Encoding.PEM).decode()


def snippets():
    """Return what nginx's configuration says of each app's certificate, as far as it follows from what is in it.

    :return: text by path in nginx's tree.

    CLI Example: none, it serves the state ``nginx_tree.current``.
    """
    return {f"tls/{app}.conf": snippet(path(app), _read(path(app))) for app in sorted(__pillar__["nginx"]["sites"])}


def snippet(path, text):
    """Write what nginx's configuration says of a certificate.

    :param path: the file.
    :param text: what it says, ``None`` where it is yet to be written.
    :return: directives.
    """
    lines = [f"ssl_certificate {path};", f"ssl_certificate_key {path};"]
    one = None
    with contextlib.suppress(ValueError, IndexError):
        one = _certificates(text or "")[0]
    # Of one that cannot be asked about, as Let's Encrypt's since 2025, nginx would warn.
    if one and _responder(one):
        lines.append("ssl_stapling on;")
    if not (one and is_placeholder(one)):
        lines.append("add_header Strict-Transport-Security $hsts always;")
    return "".join(f"{line}\n" for line in lines)


def _responder(certificate):
    """Return the address at which an authority tells whether a certificate was revoked (OCSP), or nothing."""
    from cryptography import x509

    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (ValueError, x509.ExtensionNotFound):
        return None
    is_ocsp = (one for one in access if one.access_method == x509.oid.AuthorityInformationAccessOID.OCSP)
    return next((one.access_location.value for one in is_ocsp), None)


def is_placeholder(certificate):
    """Tell whether a certificate is one that nginx only starts with."""
    return certificate.issuer == certificate.subject and PLACEHOLDER in certificate.subject.rfc4514_string()


def unused():
    """List the files of apps that are served no more.

    :return: paths, sorted.

    CLI Example: none, it serves the state ``certificate.retired``.
    """
    names = os.listdir(DIRECTORY) if os.path.isdir(DIRECTORY) else []
    wanted = {f"{app}.pem" for app in __pillar__["nginx"]["sites"]}
    return [f"{DIRECTORY}/{name}" for name in sorted(names) if name not in wanted]


def retired(paths):
    """Remove what ``unused`` found.

    :param paths: of files.
    :raises CommandExecutionError: when a file cannot be removed.

    CLI Example: none, it serves the state ``certificate.retired``.
    """
    try:
        for one in paths:
            os.unlink(one)
    except OSError as error:
        raise CommandExecutionError(f"{error.filename}: {error.strerror}") from None


def _certificates(text):
    from cryptography import x509

    return x509.load_pem_x509_certificates(text.encode())


def _key(text):
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_private_key(text.encode(), None)


def _read(path):
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError), open(path, encoding="ascii") as stream:
        return stream.read()
    return None


def _now():
    return datetime.datetime.now(datetime.UTC)


def _settings(app):
    """Return the settings of an app, which an operator may have typed."""
    return declared(__pillar__["app"], app)

"""Maintenance: nginx answers in an app's place, from when an operator says so until an operator ends it.

What an operator said lies in ``/var/lib/saltern/maintenance/<app>.json``, and so outlasts converges, releases and
boots. From it follows ``maintenance/<app>.conf`` of nginx's tree, which the app's site includes.
"""

import dataclasses
import datetime
import email.utils
import html
import ipaddress
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern import apps
from saltern.host import Host
from saltern.releases import history
from saltern.system import files, terminal
from saltern.web import tree

ROOT = "/var/lib/saltern/maintenance"
# Where nothing is said of an end, seconds after which a client may ask again.
RETRY = 300
# What nginx takes as one word of its configuration has 4096 bytes, and each character may become seven of them.
LONGEST = 500
TITLE, MESSAGE = "Maintenance", "This site is down for maintenance. Please try again later."
# What nginx answers, outside of maintenance, in the place of a process type that is away; see the module away.
# Whoever gets it may ask again after so many seconds.
AWAY_RETRY = 10
AWAY_TITLE, AWAY_MESSAGE = "One moment", "This site is being updated. Please try again in a few seconds."

# What nginx would read as the end of a word. A `$` has no way out there: pages and problems have none.
SPECIAL = re.compile(r"[\"\\]")

PAGE = (
    "<!DOCTYPE html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    "<title>{title}</title><body style='font:1.1em/1.5 sans-serif;max-width:34em;margin:15vh auto;padding:0 1em'>"
    "<h1>{title}</h1><p>{message}</p>{until}</body></html>\n"
)


@dataclasses.dataclass(frozen=True)
class Notice:
    """What an operator has said of an app in maintenance.

    :param message: what its visitors are told. Empty for words of ours.
    :param allow: addresses and networks whose clients get the app's own answers.
    :param until: when it is expected to end, as ISO 8601. Empty where nobody knows.
    :param since: when it began, as ISO 8601.
    :param who: the person who began it.
    """

    message: str = ""
    allow: tuple[str, ...] = ()
    until: str = ""
    since: str = "a time"
    who: str = "somebody"


def path(app: str) -> str:
    """Return the file that says that an app is in maintenance.

    :param app: the app's name.
    """
    return f"{ROOT}/{app}.json"


def of(app: str) -> Notice | None:
    """Return what was said of an app in maintenance, ``None`` where it is not in maintenance.

    :param app: the app's name.
    """
    if not os.path.lexists(path(app)):
        return None
    try:
        said = json.loads(files.read(path(app)) or "")
        allow = tuple(_network(one) for one in said["allow"])
        words = {word: str(said[word]) for word in ("message", "until", "since", "who")}
        if words["until"]:
            _moment(words["until"])
        return Notice(allow=allow, **words)
    except (ValueError, TypeError, KeyError):
        # The file was damaged. The app was closed, and why it was is not known.
        return Notice()


def begin(host: Host, app: str, message: Any = None, allow: Any = None, until: Any = None) -> str:
    """Have nginx answer in an app's place.

    :param host: the host.
    :param app: the app's name.
    :param message: what its visitors are told.
    :param allow: addresses and networks whose clients get the app's own answers: a list, or text with commas.
    :param until: when it is expected to end.
    :return: what was done, in words.
    :raises CommandExecutionError: when the app has no site here, a value is not acceptable, or nginx refuses it.
    """
    _refuse_without_site(host, app)
    now = datetime.datetime.now(datetime.UTC)
    said = Notice(_message(message), _networks(allow), _until(until, now), history.now(), history.who())
    before = files.read(path(app))
    os.makedirs(ROOT, mode=0o755, exist_ok=True)
    files.write(path(app), json.dumps(dataclasses.asdict(said)))
    try:
        tree.promote(tree.ROOT, {snippet_path(app): snippet(app, said)})
    except CommandExecutionError:
        _restore(app, before)
        raise
    return "; ".join([note(app, said, now), *_others(host)])


def end(host: Host, app: str) -> str:
    """Have an app answer by itself again.

    :param host: the host.
    :param app: the app's name.
    :return: what was done, in words.
    :raises CommandExecutionError: when no app has this name, or nginx refuses its configuration.
    """
    before = files.read(path(app))
    if not os.path.lexists(path(app)):
        apps.declared(host.pillar["app"], app)
        return "; ".join([f"{app} is not in maintenance", *_others(host)])
    forget([app])
    if app in host.pillar["nginx"]["sites"] | host.pillar["nginx"]["guests"]:
        try:
            tree.promote(tree.ROOT, {snippet_path(app): snippet(app, None)})
        except CommandExecutionError:
            _restore(app, before)
            raise
    return "; ".join([f"{app} is no longer in maintenance: it answers by itself", *_others(host)])


def told(host: Host, app: str) -> str:
    """Say whether an app is in maintenance.

    :param host: the host.
    :param app: the app's name.
    :raises CommandExecutionError: when no app has this name.
    """
    said = of(app)
    if said is None:
        apps.declared(host.pillar["app"], app)
        return f"{app} is not in maintenance"
    return note(app, said, datetime.datetime.now(datetime.UTC))


def note(app: str, said: Notice, now: datetime.datetime) -> str:
    """Say that an app is in maintenance, for whom, and how that ends.

    :param app: the app's name.
    :param said: what was said of it.
    :param now: the time.
    """
    allowed = f", but to {', '.join(said.allow)}" if said.allow else ""
    expected = ""
    if said.until:
        expected = f"; it {'was' if _moment(said.until) <= now else 'is'} to end by {said.until}"
    return (
        f"{app} is in maintenance since {said.since}, by {said.who}: nginx answers 503 in its place{allowed}{expected}"
        f"; app.maintenance {app} off ends it"
    )


def notes(names: Iterable[str]) -> list[str]:
    """Say which apps are in maintenance; see ``note``.

    :param names: of apps.
    """
    now = datetime.datetime.now(datetime.UTC)
    return [note(app, said, now) for app in sorted(names) if (said := of(app))]


def left(names: Iterable[str]) -> list[str]:
    """List the apps of which something is said here, and that are not declared any more.

    :param names: of the apps that are declared.
    """
    there = os.listdir(ROOT) if os.path.isdir(ROOT) else []
    return sorted({name.removesuffix(".json") for name in there if name.endswith(".json")} - {*names})


def forget(names: Iterable[str]) -> None:
    """Forget what was said of apps.

    :param names: of apps.
    """
    for app in names:
        _restore(app, None)


def snippet_path(app: str) -> str:
    """Return where nginx's tree has what follows for an app's site.

    :param app: the app's name.
    """
    return f"maintenance/{app}.conf"


def snippets(pillar: Mapping[str, Any]) -> dict[str, str]:
    """Return for each site what nginx answers in the app's place, and to whom.

    :param pillar: of the host.
    :return: text by path in nginx's tree.
    """
    nginx = pillar["nginx"]
    return {snippet_path(app): snippet(app, of(app)) for app in sorted(nginx["sites"] | nginx["guests"])}


def snippet(app: str, said: Notice | None) -> str:
    """Write for an app's site what nginx answers in the app's place, and to whom.

    :param app: the app's name.
    :param said: what was said of it, ``None`` where it is not in maintenance.
    """
    key = app.replace("-", "_")
    until = _moment(said.until) if said and said.until else None
    retry = email.utils.format_datetime(until, usegmt=True) if until else str(RETRY)
    # An app's own 503 has no Retry-After of ours, but where nobody reaches the app.
    told = f'"$is_kept_out_of_{key} $site_port $status:$upstream_addr"'
    maps = {"retry_after": told, "page": "''", "problem": "''"}
    values = {"retry_after": "''", "page": _word(page(said, until)), "problem": _word(problem(said, until))}
    lines = [f"# {app}. Managed by Saltern (app.maintenance).", f"geo $is_kept_out_of_{key} {{"]
    lines += [f"    default {1 if said else 0};", *(f"    {one} 0;" for one in (said.allow if said else ())), "}"]
    for word, source in maps.items():
        lines += [f"map {source} ${word}_of_{key} {{", f"    default {values[word]};"]
        if word == "retry_after":
            lines += [f'    "~^1 (80|443) 503:" {_word(retry)};'] if said else []
            lines += [f'    "~ 503:$" "{AWAY_RETRY}";']
        lines += ["}"]
    return "".join(f"{line}\n" for line in lines)


def _word(text: str) -> str:
    """Write a text as one word of nginx's configuration."""
    escaped = SPECIAL.sub(r"\\\g<0>", text)
    return f'"{escaped}"'


def page(said: Notice | None, until: datetime.datetime | None) -> str:
    """Return what a browser gets. No character of the operator's is one of HTML or of nginx.

    :param said: what was said of the app, ``None`` where it is not in maintenance: then it may be away for a moment.
    :param until: when it is expected to end.
    """
    title, message = _told(said)
    message = html.escape(message).replace("\n", "<br>").replace("$", "&#36;").replace("\\", "&#92;")
    end = f"<p>It is expected to end by {until:%Y-%m-%d %H:%M} UTC.</p>" if until else ""
    return PAGE.format(title=title, message=message, until=end).rstrip("\n")


def problem(said: Notice | None, until: datetime.datetime | None) -> str:
    """Return what a client gets that asks for JSON: a problem, as RFC 9457 has it.

    :param said: as ``page`` has it.
    :param until: when it is expected to end.
    """
    facts = {"title": "Service Unavailable", "status": 503, "detail": _told(said)[1]}
    text = json.dumps(facts | ({"until": f"{until:%Y-%m-%dT%H:%M:%SZ}"} if until else {}), ensure_ascii=False)
    return text.replace("$", "\\u0024")


def _told(said: Notice | None) -> tuple[str, str]:
    return (TITLE, said.message or MESSAGE) if said else (AWAY_TITLE, AWAY_MESSAGE)


def _restore(app: str, text: str | None) -> None:
    if text is not None:
        files.write(path(app), text)
    elif os.path.lexists(path(app)):
        os.unlink(path(app))


def _refuse_without_site(host: Host, app: str) -> None:
    """Refuse an app that this host's nginx has no site of, or of which it does not ask yet whether it is closed."""
    one = apps.declared(host.pillar["app"], app)
    if "proxy" not in host.roles:
        raise CommandExecutionError(f"{host.id}: does not have the role proxy; expected a proxy, which has the sites")
    if app not in host.pillar["nginx"]["sites"] | host.pillar["nginx"]["guests"]:
        lacks = "domains" if not one["domains"] else "web processes"
        raise CommandExecutionError(f"{app}: has no site; expected an app that nginx serves (app.{app}: no {lacks})")
    if f"include {snippet_path(app)};" not in (files.read(f"{tree.ROOT}/sites/{app}.conf") or ""):
        raise CommandExecutionError(f"{app}: nginx does not have its site yet; converge first: salt-call state.apply")


def _others(host: Host) -> list[str]:
    others = host.pillar["nginx"]["others"]
    return [f"other proxies are asked by themselves: {', '.join(others)}"] if others else []


def _message(value: Any) -> str:
    text = "" if value is None else value
    is_text = isinstance(text, str) and len(text) <= LONGEST
    if not is_text or any(unicodedata.category(char) in ("Cc", "Cs") for char in text.replace("\n", "")):
        raise CommandExecutionError(
            f"message: not acceptable; expected text of at most {LONGEST} characters, without control characters"
        )
    return text.strip()


def _networks(value: Any) -> tuple[str, ...]:
    parts = value if isinstance(value, list | tuple) else ("" if value is None else str(value)).strip("[] ").split(",")
    found = []
    for part in filter(None, (str(part).strip(" '\"") for part in parts)):
        try:
            found.append(_network(part))
        except ValueError:
            shown = terminal.escaped(part[:60]).replace("\n", " ")
            raise CommandExecutionError(
                f"allow: '{shown}' is no address; expected addresses or networks, such as 192.0.2.7,10.0.0.0/8"
            ) from None
    return tuple(dict.fromkeys(found))


def _network(text: str) -> str:
    """Return an address or a network as nginx and people write it.

    :raises ValueError: when the text is neither.
    """
    network = ipaddress.ip_network(text)
    return str(network.network_address if network.num_addresses == 1 else network)


def _until(value: Any, now: datetime.datetime) -> str:
    if value is None:
        return ""
    if span := re.fullmatch(r"\+([1-9][0-9]{0,4})([mhd])", str(value)):
        unit = {"m": "minutes", "h": "hours", "d": "days"}[span[2]]
        until = now + datetime.timedelta(**{unit: int(span[1])})
    else:
        try:
            until = _moment(str(value))
        except ValueError:
            raise CommandExecutionError(
                "until: not acceptable; expected a time with its zone, such as 2026-11-30T06:00Z, or a span from now, "
                "such as +90m, +2h or +1d"
            ) from None
    if until <= now:
        raise CommandExecutionError(f"until: {until:%Y-%m-%dT%H:%MZ} is over; expected a time to come")
    return until.astimezone(datetime.UTC).isoformat(timespec="seconds")


def _moment(text: str) -> datetime.datetime:
    """Read a time with its zone.

    :raises ValueError: when the text is none.
    """
    try:
        found = datetime.datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError(text)
        return found.astimezone(datetime.UTC)
    except OverflowError:
        raise ValueError(text) from None

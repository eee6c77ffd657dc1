"""Attachments: a backing service, bound to an app through one config variable.

What follows from an app's ``attach`` is worked out here: which databases and Redis instances there are and who owns
them, where they are reached, and the URL that the app gets.
"""

import contextlib
import functools
import hashlib
import hmac
import os
from urllib.parse import quote, unquote, urlencode, urlsplit

from salt.exceptions import CommandExecutionError

from saltern import inventory

__load__ = ["derived", "digest", "environ", "holders", "login", "operator_password", "password", "renewed"]
__load__ += ["requisites", "shared", "targets", "users"]

LOOPBACK = "127.0.0.1"
POSTGRES_PORT = 5432

# What an app verifies its resources with: that the authority is theirs and the address too, on its own host as well.
AUTHORITIES = "/etc/ssl/saltern/ca.pem"
QUERIES = {
    "postgres": {"sslmode": "verify-full", "sslrootcert": AUTHORITIES},
    "redis": {"ssl_ca_certs": AUTHORITIES, "ssl_cert_reqs": "required", "ssl_check_hostname": "true"},
}

# An app has the hundred ports from its ``port``, so that its settings can never take a port of another app: the first
# is where the app hosts' nginx serves it, 1 to 98 are its web processes' (see the module process), the last is its
# Redis instance's.
REDIS_OFFSET = 99

# How their URLs begin. A release from before there was TLS has redis://.
SCHEMES = {"postgres": ("postgres",), "redis": ("redis", "rediss")}

# Which role provides a resource, and which setting holds the resources of that kind.
PROVIDERS = {"postgres": ("database", "databases"), "redis": ("cache", "instances")}

# What the tag is long that tells an app's logins apart, in hexadecimal digits, and what it costs to make one.
TAG = 6
ITERATIONS = 4096

# Connections that PostgreSQL keeps for superusers, its superuser_reserved_connections; and the fewest that an app can
# have: a release starts beside the one that serves.
OPERATORS = 3
FEWEST = 2

# The user of a Redis instance by which the host itself asks it. No app can have this name.
OPERATOR = "operator"

# PostgreSQL's own databases: an app that owned one would own the operator's, or all that are yet to be made.
RESERVED = {"postgres": ("postgres", "template0", "template1"), "redis": ()}


def derived(settings, hosts, minion_id):
    """Complete checked settings with what follows from them.

    :param settings: a mapping of formula to settings, with defaults.
    :param hosts: the inventory, rows by host id.
    :param minion_id: the host's id.
    :return: the settings, and a list of mistakes.

    CLI Example: none, it serves ``settings.compiled``.
    """
    peers = {role: inventory.peers(hosts, minion_id, role) for role in ("database", "cache", "app")}
    return derive(settings, hosts, minion_id, peers)


def derive(settings, hosts, minion_id, peers):
    """Complete checked settings with what follows from them; see ``derived``.

    :param peers: the ids of the environment's hosts by role.
    """
    apps, found, replaced = settings["app"], [], set()
    for kind, (_, plural) in PROVIDERS.items():
        for resource in settings[kind][plural].values():
            resource["owner"] = None
    for app, one in sorted(apps.items()):
        found += _app_mistakes(app, one)
        for variable, target in sorted(one["attach"].items()):
            path = f"app.{app}.attach.{variable}"
            kinds = [kind for kind in (*PROVIDERS, "service") if kind in target]
            if "version" in target and "service" not in target:
                found.append(f"{path}.version: is a service's; expected it beside service")
            if len(kinds) > 1 or not (kinds or "url" in target):
                found.append(f"{path}: expected one of postgres, redis, service or url")
            elif "service" in kinds:
                found += _attach_service(path, target, apps, peers["app"], hosts, minion_id)
            elif kinds and "url" in target:
                replaced.add((kinds[0], target[kinds[0]]))
            elif kinds:
                found += _attach_resource(path, target, kinds[0], app, one, settings, peers, hosts, minion_id)
    for kind, (_, plural) in PROVIDERS.items():
        for name, resource in sorted(settings[kind][plural].items()):
            # What is said of one that a URL replaces may stay, for the day on which the URL goes again.
            if resource["owner"] is None and (kind, name) not in replaced:
                found.append(f"{kind}.{plural}.{name}: no app attaches it; expected the name of an attached {kind}")
    found += _duplicates(apps)
    found += _share(settings["postgres"])
    _reach(settings, peers, hosts, minion_id)
    roles = hosts[minion_id]["roles"]
    web = {app: one for app, one in sorted(apps.items()) if one["formation"].get("web")}
    settings["nginx"]["sites"] = {app: _site(one) for app, one in web.items() if one["domains"] and "proxy" in roles}
    idle = [domain for app, one in sorted(apps.items()) if app not in web for domain in one["domains"]]
    settings["nginx"]["idle"] = idle if "proxy" in roles else []
    settings["nginx"]["fronts"] = {app: _site(one) for app, one in web.items() if "app" in roles}
    return settings, found


def _share(postgres):
    """Give each database its share of PostgreSQL's connections, so that no app can take those of another.

    :param postgres: the formula's settings; ``connections`` of each database are completed.
    :return: a list of mistakes.
    """
    attached = {name: one for name, one in sorted(postgres["databases"].items()) if one["owner"]}
    said = {name: one["connections"] for name, one in attached.items() if "connections" in one}
    most = postgres["max_connections"] - OPERATORS
    others = [name for name in attached if name not in said]
    left = most - sum(said.values())
    if others and left // len(others) >= FEWEST:
        for name in others:
            attached[name]["connections"] = left // len(others)
    elif attached and left < FEWEST * len(others):
        needed = sum(said.values()) + FEWEST * len(others) + OPERATORS
        what = ", ".join(f"postgres.databases.{name}.connections" for name in said) or "postgres.max_connections"
        return [
            f"{what}: {len(attached)} databases would need {needed} connections, {OPERATORS} for operators and at "
            f"least {FEWEST} for each that says nothing among them; expected at most the "
            f"{postgres['max_connections']} of postgres.max_connections"
        ]
    return []


def _reach(settings, peers, hosts, minion_id):
    """Say where the resources of this host listen and who may come, and whether it shares any with other hosts."""
    elsewhere = [hosts[name]["address"] for name in peers["app"] if name != minion_id]
    own = hosts[minion_id]["address"]
    involved = set()
    for kind, (role, plural) in PROVIDERS.items():
        if any(resource["owner"] for resource in settings[kind][plural].values()):
            involved |= {*peers[role], *peers["app"]}
        # Redis would not listen on an address that it is told twice.
        settings[kind]["listen"] = [own] if elsewhere and own != LOOPBACK else []
    local = [f"{LOOPBACK}/32", "::1/128"] if minion_id in peers["app"] else []
    settings["postgres"]["clients"] = [*local, *(f"{address}/32" for address in elsewhere)]
    settings["certificates"]["alone"] = minion_id not in involved or involved == {minion_id}


def _site(one):
    its = {word: value for word, value in one["site"].items() if word not in ("certificate", "key")}
    return {"domains": one["domains"], "port": one["port"], **its}


def _app_mistakes(app, one):
    """List the mistakes inside one app's settings that a schema cannot tell."""
    found = []
    if one["in_flight"]["requests"] < one["site"]["timeout"]:
        found.append(
            f"app.{app}.in_flight.requests: {one['in_flight']['requests']} s would cut off answers that "
            f"app.{app}.site.timeout allows; expected at least {one['site']['timeout']}"
        )
    for variable in sorted(set(one["attach"]) & set(one["config"])):
        found.append(f"app.{app}.config.{variable}: is also in app.{app}.attach; expected it in one of them")
    for variable, value in sorted(one["config"].items()):
        try:
            size = len(f"{variable}={value}".encode())
        except UnicodeEncodeError:
            found.append(f"app.{app}.config.{variable}: expected text that UTF-8 can encode")
            continue
        # Linux's MAX_ARG_STRLEN: one string of an environment, with its NUL; see execve(2).
        if size >= 131072:
            found.append(f"app.{app}.config.{variable}: {size} bytes with its name; expected less than 131072")
    return found


def _duplicates(apps):
    """List the ports and domains that two apps claim."""
    found, ports, domains = [], {}, {}
    for app, one in sorted(apps.items()):
        owner = ports.setdefault(one["port"], app)
        if owner != app:
            found.append(f"app.{app}.port: is also the port of {owner}; expected one of its own")
        for index, domain in enumerate(one["domains"]):
            owner = domains.setdefault(domain, (app, index))
            if owner != (app, index):
                found.append(f"app.{app}.domains[{index}]: is also a domain of {owner[0]}; expected it once")
    return found


def _attach_service(path, target, apps, app_hosts, hosts, minion_id):
    name, version = target["service"], target.get("version")
    if name not in apps:
        return [f"{path}.service: no app has this name; expected one of {', '.join(sorted(apps))}"]
    versions = apps[name]["provides"]
    if version not in versions:
        known = ", ".join(sorted(versions)) or "none"
        return [f"{path}.version: {name} does not provide it; expected one of {known} (app.{name}.provides)"]
    if not app_hosts:
        return [_no_host(path, hosts, minion_id, "app")]
    target["address"] = _address(app_hosts, hosts, minion_id)
    target["port"] = apps[name]["port"]
    target["path"] = versions[version]["path"]
    return []


def _attach_resource(path, target, kind, app, one, settings, peers, hosts, minion_id):
    role, plural = PROVIDERS[kind]
    name = target[kind]
    if name in RESERVED[kind]:
        return [f"{path}.{kind}: is PostgreSQL's own database; expected another name"]
    if kind == "redis" and app == "default":
        return [f"{path}.{kind}: default is Redis's own user; expected an app of another name"]
    resource = settings[kind][plural].setdefault(name, {"owner": None})
    if resource["owner"] not in (None, app):
        return [f"{path}.{kind}: belongs to {resource['owner']}, which attaches it too; expected one of its own"]
    resource["owner"] = app
    # An app is one role with one password in Postgres, and has one port for Redis.
    others = [other for other, its in settings[kind][plural].items() if its["owner"] == app and other != name]
    if others:
        what = "database" if kind == "postgres" else "Redis instance"
        return [f"{path}.{kind}: {app} attaches the {what} {others[0]} too, and an app has one; expected {others[0]}"]
    if kind == "redis":
        resource["port"] = one["port"] + REDIS_OFFSET
    if not peers[role]:
        return [_no_host(path, hosts, minion_id, role)]
    if "password" not in resource and set(peers[role]) | set(peers["app"]) != {minion_id}:
        return [
            f"{kind}.{plural}.{name}.password: missing; expected text, in pillar/secrets: several hosts must know it, "
            "so that none can make it for itself"
        ]
    target["address"] = _address(peers[role], hosts, minion_id)
    target["port"] = resource.get("port", POSTGRES_PORT)
    return []


def _no_host(path, hosts, minion_id, role):
    return (
        f"{path}: no host of {hosts[minion_id]['environment']} has the role {role}; expected one in pillar/hosts.yaml"
    )


def _address(candidates, hosts, minion_id):
    """Return where a host reaches the first of some others: at itself, if it is one of them."""
    return LOOPBACK if minion_id in candidates else hosts[candidates[0]]["address"]


def derive_password(key, kind, name):
    """Derive a password that only one host needs from that host's key.

    :param key: the host's key, as text.
    :param kind: ``postgres`` or ``redis``.
    :param name: the resource's name.
    :return: 40 hexadecimal digits, 160 bits.
    """
    return hmac.new(key.encode(), f"{kind}/{name}".encode(), hashlib.sha256).hexdigest()[:40]


def url(target, app, secret=None):
    """Write the URL of an attachment.

    :param target: one entry of an app's ``attach``, as ``derive`` completes it.
    :param app: the app's name.
    :param secret: the resource's password, for a database or a Redis instance.
    :return: the value of the config variable.
    """
    if "url" in target:
        return target["url"]
    where = f"{target['address']}:{target['port']}"
    if "service" in target:
        return f"http://{where}{target['path']}"
    kind, scheme, path = ("redis", "rediss", "0") if "redis" in target else ("postgres", "postgres", target["postgres"])
    query = urlencode(QUERIES[kind], safe="/")
    user = login_of(app, kind, secret)
    return f"{scheme}://{user}:{quote(secret, safe='')}@{where}/{quote(path, safe='')}?{query}"


@functools.cache
def login_of(app, kind, secret):
    """Name the login by which an app is known with a password.

    Each password has a login of its own: the one before stays valid beside it, and who is connected by it is seen. All
    hosts find the same name without asking each other, since it follows from the password; of that it tells 24 bits, by
    a function that is slow to try.

    :param app: the app's name.
    :param kind: ``postgres`` or ``redis``.
    :param secret: the password.
    :return: such as ``tickets_3f9a01``, which no app can be called.
    """
    return f"{app}_{hashlib.pbkdf2_hmac('sha256', secret.encode(), f'{kind}/{app}'.encode(), ITERATIONS).hex()[:TAG]}"


def login(kind, name):
    """Return by which login an app comes to what it attaches, as declared.

    :param kind: ``postgres`` or ``redis``.
    :param name: the resource's name.
    :return: such as ``tickets_3f9a01``.
    :raises CommandExecutionError: when the host has no key.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.login postgres tickets
    """
    return login_of(__pillar__[kind][PROVIDERS[kind][1]][name]["owner"], kind, password(kind, name))


def password(kind, name):
    """Return the password of a resource: the pillar's, or this host's own.

    :param kind: ``postgres`` or ``redis``.
    :param name: the resource's name.
    :return: the password.
    :raises CommandExecutionError: when the host has no key.

    CLI Example: none, it would print a secret.
    """
    given = __pillar__[kind][PROVIDERS[kind][1]][name].get("password")
    return _own_password(kind, name) if given is None else given


def digest(name, user=None):
    """Return by what a Redis instance knows the password of a user: its SHA-256.

    :param name: the instance.
    :param user: ``operator``, or the app where it is not given.
    :return: 64 hexadecimal digits.

    CLI Example: none, it serves a template.
    """
    secret = operator_password(name) if user == OPERATOR else password("redis", name)
    return hashlib.sha256(secret.encode()).hexdigest()


def operator_password(name):
    """Return the password by which this host asks one of its Redis instances.

    :param name: the instance.

    CLI Example: none, it would print a secret.
    """
    return _own_password(OPERATOR, name)


def _own_password(kind, name):
    path = os.path.join(os.path.dirname(__opts__["conf_file"]), "host.key")
    try:
        with open(path, encoding="ascii") as stream:
            key = stream.read().strip()
    except FileNotFoundError:
        key = ""
    if not key:
        raise CommandExecutionError(f"{path}: missing; expected this host's key, which bootstrap.sh makes: run it")
    return derive_password(key, kind, name)


def requisites(app):
    """Return the states of this host that must have succeeded before an app can have what it attaches.

    :param app: the app's name.
    :return: requisites, as a state file says them.

    CLI Example: none, it serves a state file.
    """
    roles = __pillar__["hosts"][__opts__["id"]]["roles"]
    found = []
    for _, target in sorted(__pillar__["app"][app]["attach"].items()):
        if "postgres" in target and "url" not in target and "database" in roles:
            found.append({"postgres_attachment": f"postgres-attachment-{target['postgres']}"})
        if "redis" in target and "url" not in target and "cache" in roles:
            found.append({"service_config": f"redis-loaded-{target['redis']}"})
    return found


def environ(app):
    """Return an app's whole config on this host: its variables and its attachments' URLs.

    :param app: the app's name.
    :return: a mapping of variable to value.

    CLI Example: none, it would print secrets.
    """
    one = __pillar__["app"][app]
    variables = dict(one["config"])
    for variable, target in one["attach"].items():
        kind = next((kind for kind in PROVIDERS if kind in target and "url" not in target), None)
        variables[variable] = url(target, app, password(kind, target[kind]) if kind else None)
    return variables


def targets(app):
    """Return what an app attaches, without what this host derives of it. What has a URL is not derived.

    :param app: the app's name.
    :return: by variable, such as ``{'DATABASE_URL': {'postgres': 'tickets'}}``.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.targets tickets
    """
    attach = __pillar__["app"][app]["attach"]
    return {variable: _target(target) for variable, target in attach.items() if "url" not in target}


def _target(target):
    return {word: target[word] for word in (*PROVIDERS, "service", "version") if word in target}


def renewed(app, number, current):
    """Work out the attachments of an earlier release as they are today: its own may no longer be valid.

    :param app: the app's name.
    :param number: the release.
    :param current: the release that serves. What it has of the same attachment works.
    :return: value by variable, and a sentence for each attachment that is not there any more.

    CLI Example: none, it would print secrets.
    """
    serving = _attached(app, current)
    works = {str(target): variable for variable, target in serving.items()}
    variables = __salt__["release_store.environ"](app, current)
    values, missing = {}, []
    for variable, target in sorted(_attached(app, number).items()):
        reason = _missing(target, __pillar__["app"], targets(app))
        if not reason and str(target) in works:
            values[variable] = variables[works[str(target)]].decode()
        elif reason := reason or _unready(target):
            missing.append(f"{reason}, which it has as {variable}")
        else:
            values[variable] = _derived(app, target)
    return values, missing


def shared(app, number):
    """List the variables by which a release has the same attachment as is declared, be its password another.

    :param app: the app's name.
    :param number: the release.
    :return: names.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.shared tickets 3
    """
    today = targets(app)
    return sorted(variable for variable, target in _attached(app, number).items() if today.get(variable) == target)


def _attached(app, number):
    """Return what a release has attached, by variable; one of before that was written down, as far as its URLs tell."""
    record, today = __salt__["release_store.record"](app, number), targets(app)
    variables = __salt__["release_store.environ"](app, number)
    if "attached" in record:
        return {variable: target for variable, target in record["attached"].items() if variable in variables}
    instances = __pillar__["redis"]["instances"]
    ports = {one["port"]: name for name, one in instances.items() if one["owner"] == app}
    found = {variable: told(value.decode("utf-8", "replace"), app, ports) for variable, value in variables.items()}
    services = {variable: target for variable, target in today.items() if "service" in target and variable in found}
    return {variable: target for variable, target in found.items() if target} | services


def told(value, app, ports):
    """Tell what a URL that was derived for an app leads to.

    :param value: a variable's value.
    :param app: the app's name.
    :param ports: the app's Redis instances by port.
    :return: such as ``{'postgres': 'tickets'}``; empty where it was not derived.
    """
    with contextlib.suppress(ValueError):
        where = urlsplit(value)
        is_ours = AUTHORITIES in unquote(where.query) and (where.username or "").partition("_")[0] == app
        if is_ours and where.scheme == "postgres":
            return {"postgres": unquote(where.path[1:])}
        if is_ours and where.scheme == "rediss":
            return {"redis": ports.get(where.port, f"at port {where.port}")}
    return {}


def _missing(target, apps, today):
    """Say what is not there any more of what a release has attached, or return ``None``."""
    for kind in PROVIDERS:
        if kind in target and not any(one.get(kind) == target[kind] for one in today.values()):
            what = {"postgres": "database", "redis": "Redis instance"}[kind]
            return f"the {what} {target[kind]} is no longer attached"
    if "service" in target:
        if target["service"] not in apps:
            return f"there is no app {target['service']}"
        if target["version"] not in apps[target["service"]]["provides"]:
            return f"{target['service']} no longer provides {target['version']}"
    return None


def _unready(target):
    """Say what of this host is declared and not made yet, or return ``None``."""
    roles = __pillar__["hosts"][__opts__["id"]]["roles"]
    if "database" in roles and "postgres" in target:
        one = __pillar__["postgres"]["databases"][target["postgres"]]
        if __salt__["postgres_attachment.plan"](target["postgres"], one["owner"], one["connections"])[0]:
            return f"the database {target['postgres']} is not as declared yet"
    if "cache" in roles and "redis" in target:
        port = __pillar__["redis"]["instances"][target["redis"]]["port"]
        with contextlib.suppress(CommandExecutionError):
            if login("redis", target["redis"]) in __salt__["redis_connection.admitted"](target["redis"], port):
                return None
        return f"the Redis instance {target['redis']} is not as declared yet"
    return None


def _derived(app, target):
    """Return the URL of what a release has attached, where the release that serves has none of it."""
    for today in __pillar__["app"][app]["attach"].values():
        kind = next((kind for kind in PROVIDERS if kind in target), None)
        if kind and today.get(kind) == target[kind] and "url" not in today:
            return url(today, app, password(kind, target[kind]))
    # Releases are on app hosts, which reach a service at themselves.
    service = __pillar__["app"][target["service"]]
    where = {"address": LOOPBACK, "port": service["port"], "path": service["provides"][target["version"]]["path"]}
    return url(target | where, app)


def holders(kind, leaving=True, staying=()):
    """List which releases of this host log in to databases or Redis instances by which login.

    :param kind: ``postgres`` or ``redis``.
    :param leaving: ``False`` to pass over those that a converge would stop.
    :param staying: apps of which it would stop none; see ``users``.
    :return: releases, such as ``tickets v3``, by login.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.holders postgres
    """
    found = {}
    for app, number in __salt__["process.releases"]():
        if not leaving and _is_leaving(app, number, staying):
            continue
        for value in __salt__["release_store.environ"](app, number).values():
            user = _login_in(value.decode("utf-8", "replace"), kind)
            if user and f"{app} v{number}" not in found.setdefault(user, []):
                found[user].append(f"{app} v{number}")
    return found


def _login_in(value, kind):
    """Return the login in a URL of a kind of resource, be it this host's or not."""
    with contextlib.suppress(ValueError):
        where = urlsplit(value)
        if where.scheme in SCHEMES[kind]:
            return unquote(where.username or "")
    return ""


def users(kind, name, staying=()):
    """List the releases of this host that run with a resource in their config, as ``tickets v3``.

    A dry run passes over those that the converge would stop. Those of other hosts cannot be seen from here: of them the
    resource knows the connections.

    :param kind: ``postgres`` or ``redis``.
    :param name: a database, or the port of a Redis instance.
    :param staying: the apps whose release has failed in this run, and an empty name where the removal of apps has.
    :return: releases, sorted.

    CLI Example:

    .. code-block:: bash

        salt-call attachment.users postgres tickets
    """
    found, own = [], __pillar__["hosts"][__opts__["id"]]["address"]
    for app, number in __salt__["process.releases"]():
        values = __salt__["release_store.environ"](app, number).values()
        is_used = any(is_of(value.decode("utf-8", "replace"), kind, str(name), own) for value in values)
        if is_used and not (__opts__["test"] and _is_leaving(app, number, staying)):
            found.append(f"{app} v{number}")
    return found


def _is_leaving(app, number, staying):
    """Tell whether a converge would stop a release."""
    if app not in __pillar__["app"]:
        return "" not in staying
    if app in staying:
        return False
    try:
        return __salt__["release.plan"](app)["number"] != number
    except CommandExecutionError:
        return False


def is_of(value, kind, name, own=LOOPBACK):
    """Tell whether a variable's value is the URL of a resource of this host.

    :param value: text.
    :param kind: ``postgres`` or ``redis``.
    :param name: a database, or the port of a Redis instance.
    :param own: the host's address.
    :return: a boolean.
    """
    try:
        where = urlsplit(value)
        of = {"postgres": unquote(where.path[1:]), "redis": str(where.port)}[kind]
    except ValueError:
        return False
    return where.scheme in SCHEMES[kind] and where.hostname in (LOOPBACK, own) and of == name

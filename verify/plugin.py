"""Fixtures for the formulas' checks, and our options of pytest.

testinfra asks each host from inside, in the lab or over ssh. ``outside`` is an HTTP client on this machine.
"""

import json
import os
import subprocess
import time
import warnings
from functools import cache
from pathlib import Path

import pytest
import requests
import testinfra.backend
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InsecureRequestWarning

from verify import declared
from verify.salt_in_process import settle

settle()
testinfra.backend.BACKENDS["lab"] = "lab.backend.LabBackend"


def pytest_addoption(parser):
    parser.addoption("--tree", default=".", help="the tree whose inventory and pillar say what the hosts should be")


def pytest_configure(config):
    # A long traceback would show the values of variables, and some are secrets.
    config.option.tbstyle = "short"


@cache
def _settings(tree, host_id):
    return declared.settings(tree, host_id)


@pytest.fixture(scope="module")
def host_id(host):
    """The host's id."""
    return host.check_output("sed -n 's/^id: //p' /etc/salt/minion")


@pytest.fixture(scope="module")
def tree(request):
    """The tree that declares the host."""
    return Path(request.config.getoption("--tree")).resolve()


@pytest.fixture(scope="module")
def settings(host_id, tree):
    """The host's settings, by formula."""
    return _settings(tree, host_id)


@pytest.fixture(scope="module")
def roles(settings, host_id):
    """The host's roles."""
    return settings["hosts"][host_id]["roles"]


@pytest.fixture(scope="module")
def apps(settings, roles):
    """The apps that run on the host, by name."""
    return settings["app"] if "app" in roles else {}


@pytest.fixture(scope="module")
def address(host, request, settings, host_id):
    """The address at which this machine reaches the host."""
    kind, _, target = host.backend.get_pytest_id().partition("://")
    if kind == "salt":
        return settings["hosts"][host_id]["address"]
    if kind in ("lab", "podman"):
        inspect = subprocess.run(["podman", "inspect", target], check=True, capture_output=True, text=True)
        networks = json.loads(inspect.stdout)[0]["NetworkSettings"]["Networks"]
        return next(network["IPAddress"] for network in networks.values())
    if kind == "ssh":
        config = request.config.getoption("--ssh-config")
        command = ["ssh", *(["-F", config] if config else []), "-G", target]
        asked = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return dict(line.split(" ", 1) for line in asked.splitlines() if " " in line)["hostname"]
    return "127.0.0.1"


@pytest.fixture(scope="module")
def ports(host, address):
    """The ports at which this machine reaches the host's 80 and 443, by scheme.

    A VirtualBox machine is reached only through this machine's loopback, by ssh and by forwarded ports.
    """
    if host.backend.get_pytest_id().startswith("ssh://") and address.startswith("127."):
        return {"http": os.environ.get("SALTERN_PORT", "8080"), "https": os.environ.get("SALTERN_HTTPS_PORT", "8443")}
    return {"http": "80", "https": "443"}


# Limits of an app's whole answer, in seconds and bytes.
ANSWER, LARGEST = 60, 20_000_000


class OfDomain(HTTPAdapter):
    """Reaches a host by its address and asks by TLS for one domain. test_https.py checks the certificate."""

    def __init__(self, domain):
        self.domain = domain
        super().__init__()

    def init_poolmanager(self, *arguments, **options):
        super().init_poolmanager(*arguments, server_hostname=self.domain, **options)


def first(app):
    """Return the name and the password of the first user of an app's site, in bytes; ``None`` where it has none."""
    return next(((name.encode(), word.encode()) for name, word in app["site"]["access"]["users"].items()), None)


@pytest.fixture(scope="module")
def outside(address, ports, settings):
    """A function that asks the host's proxy, from this machine, for a path of a domain.

    It uses HTTPS if HTTP only redirects there, or else HTTP. A site that has users gets the password of the first.
    """
    known = {domain for one in settings["nginx"]["sites"].values() for domain in declared.in_full(one["domains"])}
    apps = settings["app"].values()
    users = {domain: user for one in apps if (user := first(one)) for domain in declared.in_full(one["domains"])}
    with requests.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureRequestWarning)
        session.trust_env = False

        def ask(method, domain, path, scheme=None, **options):
            scheme = scheme or ("https" if settings["nginx"]["tls"]["redirect"] and domain in known else "http")
            if scheme == "https":
                session.mount(f"https://{address}:{ports[scheme]}", OfDomain(domain))
            headers = {"Host": domain} | options.pop("headers", {})
            options = {"timeout": 30, "verify": False, "allow_redirects": False, "auth": users.get(domain)} | options
            url = f"{scheme}://{address}:{ports[scheme]}{path}"
            # A time limit for each read is no limit for the whole answer, which an app may make endless.
            deadline, content = time.monotonic() + ANSWER, b""
            with session.request(method, url, headers=headers, stream=True, **options) as answer:
                for part in answer.iter_content(1 << 16):
                    content += part
                    assert len(content) <= LARGEST, f"{domain}{path} answers with more than {LARGEST} bytes"
                    assert time.monotonic() < deadline, f"{domain}{path} does not end its answer within {ANSWER} s"
            answer._content = content
            return answer

        yield ask


# What an operator has said of an app in maintenance.
MAINTENANCE = "/var/lib/saltern/maintenance/%s.json"


@pytest.fixture(scope="module")
def healthy(host, settings):
    """A function that tells which statuses an app's health check may have outside.

    An operator may have closed it, it may refuse this machine's address, and these checks may be over its limits.
    """

    def statuses(app):
        # At a domain that several apps share, the site of one counts for all.
        sites = settings["nginx"]["sites"].items()
        site = settings["app"][next((name for name, one in sites if app in one["guests"]), app)]["site"]
        refused = {403} if site["access"]["allow"] or site["access"]["deny"] else set()
        return opened(app) | refused | ({429} if {"rate", "connections"} & site["limits"].keys() else set())

    def opened(app):
        expected = settings["app"][app]["health"]["status"]
        record = host.file(MAINTENANCE % app)
        if not record.exists:
            return {expected}
        return {503, expected} if json.loads(record.content_string)["allow"] else {503}

    return statuses


@pytest.fixture(scope="module")
def python(host):
    """A function that runs Python on the host, as root or as another user, and returns what it prints, as JSON."""

    def run(code, *arguments, user=None):
        command = ["runuser", "-u", user, "--"] if user else []
        command += ["python3", "-IS", "-c", code, *map(str, arguments)]
        return json.loads(host.check_output(" ".join(["%s"] * len(command)), *command))

    return run


PROCESSES = """
import json, os, pathlib, pwd
found = []
for entry in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        lines = (entry / "status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        environ = (entry / "environ").read_bytes().decode("utf-8", "surrogateescape")
        found.append({
            "pid": int(entry.name),
            "parent": int(status["PPid"]),
            "user": pwd.getpwuid(int(status["Uid"].split()[0])).pw_name,
            "groups": status["Groups"].split(),
            "cwd": os.readlink(entry / "cwd"),
            "group": next((path for line in (entry / "cgroup").read_text().splitlines()
                           for number, kind, path in [line.split(":", 2)] if kind in ("", "pids")), ""),
            "title": (entry / "cmdline").read_bytes().decode("utf-8", "replace").replace(chr(0), " ").strip(),
            "environ": dict(item.split("=", 1) for item in environ.split(chr(0)) if "=" in item),
        })
    except (FileNotFoundError, ProcessLookupError):
        continue
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def processes(host, python):
    """A function that returns what the kernel tells of an app's processes, by supervisor's names.

    Each is the process that the launcher started from the Procfile's line; ``launcher`` and ``descendants`` are the
    other processes.
    """

    def below(pid, found):
        own = [one for one in found.values() if one["parent"] == pid]
        return own + [other for one in own for other in below(one["pid"], found)]

    def scope(app, name):
        release, kind, *index = name.removeprefix(f"{app}.").split(".")
        parts = (app, kind, *(index or "0"))
        return "-".join(["app", *(part.replace("-", "\\x2d") for part in parts)]) + f".{release}.scope"

    def of(app):
        found = {one["pid"]: one for one in python(PROCESSES)}
        lines = host.run("supervisorctl status").stdout.splitlines()
        named = {}
        for line in lines:
            words = line.split()
            if words and words[0].startswith(f"{app}.") and "pid" in words:
                there = [one for one in found.values() if one["group"].endswith("/" + scope(app, words[0]))]
                # A process that has just ended has none of these. The test then reports the missing name.
                for launcher in (one for one in there if " --first " in one["title"] and one["user"] == "root"):
                    for first, *others in filter(None, [below(launcher["pid"], found)]):
                        named[words[0]] = first | {"launcher": launcher, "descendants": others}
        return named

    return of

"""memcached: an instance for each app that attaches one."""

import json

import pytest

from verify.attached import PARTS

# Sends lines to a memcached instance as a process would, or with another login.
LINES = (
    PARTS
    + """
import socket, ssl
login, password = changes.get("login", parts["USER"]), changes.get("password", parts["PASSWORD"])
context = ssl.create_default_context(cafile=changes.get("authorities", parts["SSL_CA_CERTS"]))
words = f"{login} {password}"
lines = ([f"set login 0 0 {len(words)}\\r\\n{words}"] if login else []) + changes["lines"]
answers = []
try:
    host = changes.get("host", parts["HOST"])
    with socket.create_connection((host, int(parts["PORT"])), 5) as plain:
        connection = plain if changes.get("plain") else context.wrap_socket(plain, server_hostname=host)
        stream = connection.makefile("rwb")
        for line in lines:
            stream.write(line.encode() + b"\\r\\n")
            stream.flush()
            answer = [stream.readline().decode().strip()]
            while answer[-1].startswith(("STAT", "VALUE")):
                answer.append(stream.readline().decode().strip())
            answers += answer
except OSError as error:
    answers.append(type(error).__name__)
print(json.dumps(answers))
"""
)


@pytest.fixture(scope="module")
def instances(settings, roles):
    """The instances of the host, by name."""
    if "memcached" not in roles:
        pytest.skip("the host does not have the role memcached")
    return {name: one for name, one in settings["memcached"]["instances"].items() if one["owner"]}


@pytest.fixture(scope="module")
def attached(apps, instances, processes):
    """Each attached instance: its name, the variable, and the PID of a process that has the URL."""
    if not apps:
        pytest.skip("no app runs on the host")
    found = []
    for app, one in sorted(apps.items()):
        for variable, target in one["attach"].items():
            if "memcached" in target and "url" not in target:
                found.append((target["memcached"], variable, next(iter(processes(app).values()))["pid"]))
    return found


@pytest.fixture(scope="module")
def memcached(python):
    """A function that sends lines and returns the answers."""

    def send(pid, variable, *lines, **changes):
        return python(LINES, pid, variable, json.dumps(changes | {"lines": lines}))

    return send


def test_each_instance_runs_now_and_at_every_boot(host, instances):
    for name in instances:
        assert host.service(f"memcached@{name}").is_running
        assert host.service(f"memcached@{name}").is_enabled


def test_no_other_instance_runs(host, instances):
    listed = host.check_output("systemctl list-units --plain --no-legend --state=active 'memcached*.service'")
    assert {line.split()[0] for line in listed.splitlines()} == {f"memcached@{name}.service" for name in instances}


def test_debians_stock_instance_does_not_run(host, instances):
    assert not host.service("memcached").is_running
    assert not host.socket("tcp://127.0.0.1:11211").is_listening


def test_an_app_reaches_its_instance_with_the_url_it_was_given(attached, memcached):
    for _, variable, pid in attached:
        answers = memcached(pid, variable, "set verify 0 60 1\r\n1", "incr verify 2", "delete verify")
        assert answers == ["STORED", "STORED", "3", "DELETED"]


def test_no_login_and_a_wrong_one_are_refused(attached, memcached):
    for _, variable, pid in attached:
        assert memcached(pid, variable, "get verify", login="") == ["CLIENT_ERROR unauthenticated"]
        for changes in ({"password": "wrong"}, {"login": "default"}):
            refused, *others = memcached(pid, variable, "get verify", **changes)
            assert refused == "CLIENT_ERROR authentication failure"
            assert others in (["CLIENT_ERROR unauthenticated"], [""], ["ConnectionResetError"])


def test_plaintext_and_another_authority_are_refused(attached, memcached):
    for _, variable, pid in attached:
        assert not {"STORED", "END"} & {*memcached(pid, variable, "get verify", plain=True)}
        others = memcached(pid, variable, "get verify", authorities="/etc/ssl/certs/ca-certificates.crt")
        assert others == ["SSLCertVerificationError"]


def test_an_app_does_not_administer_its_instance(attached, memcached):
    for _, variable, pid in attached:
        # The app can neither end it, nor read what others have stored.
        for line in ("shutdown", "lru_crawler metadump all", "watch mutations"):
            assert memcached(pid, variable, line)[1].startswith(("ERROR", "CLIENT_ERROR")), line


def test_the_network_is_refused(attached, host, memcached, settings):
    own = host.check_output("hostname -I").split()[0]
    # If other hosts run apps, it also listens on the host's address.
    answer = ["STORED", "END"] if settings["memcached"]["listen"] else ["ConnectionRefusedError"]
    for _, variable, pid in attached:
        assert memcached(pid, variable, "get other", host=own) == answer


def test_the_settings_are_in_force(attached, memcached, instances, settings):
    for name, variable, pid in attached:
        lines = memcached(pid, variable, "stats settings")
        said = dict(line.removeprefix("STAT ").split(" ", 1) for line in lines if line.startswith("STAT "))
        assert int(said["maxbytes"]) == instances[name]["megabytes"] << 20
        assert int(said["maxconns"]) == instances[name]["places"]
        assert int(said["item_size_max"]) == settings["memcached"]["item_size"] << 20
        assert said["auth_enabled_ascii"] == f"/etc/saltern/memcached/{name}.logins"
        assert (said["ssl_enabled"], said["udpport"]) == ("yes", "0")


def test_an_instance_has_no_more_memory_than_its_limit_and_what_it_needs_beside(host, instances):
    for name, instance in instances.items():
        shown = host.check_output("systemctl show -p MemoryMax --value memcached@%s", name)
        assert int(shown) == instance["ceiling"] << 20


def test_only_memcached_and_root_read_the_passwords(host, instances):
    for name in instances:
        logins = host.file(f"/etc/saltern/memcached/{name}.logins")
        assert (logins.user, logins.group, logins.mode) == ("root", "memcache", 0o640)


def test_an_instance_is_root_in_nothing(host, instances):
    for name in instances:
        pid = host.check_output("systemctl show -p MainPID --value memcached@%s", name)
        status = dict(line.split(":\t", 1) for line in host.file(f"/proc/{pid}/status").content_string.splitlines())
        assert (status["CapEff"], status["NoNewPrivs"]) == ("0" * 16, "1")
        assert host.file(f"/proc/{pid}").user == "memcache"

"""RabbitMQ: a vhost for each app that attaches one."""

import json

import pytest

# Logs in to RabbitMQ with the URL or the parts in a process's environment, or with changes. Prints the answer: "open",
# the broker's message, or the error that ended the connection; see https://www.rabbitmq.com/resources/specs.
CONNECT = r"""
import json, socket, ssl, struct, sys, urllib.parse
pid, variable, changes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with open(f"/proc/{pid}/environ", "rb") as stream:
    environ = dict(item.decode().split("=", 1) for item in stream.read().split(bytes(1)) if b"=" in item)
if variable in environ:
    url = urllib.parse.urlsplit(environ[variable])
    parts = {"host": url.hostname, "port": url.port, "user": url.username}
    parts |= {"password": urllib.parse.unquote(url.password), "vhost": urllib.parse.unquote(url.path[1:])}
else:
    parts = {name: environ[f"{variable}_{name.upper()}"] for name in ("host", "port", "user", "password", "vhost")}
parts |= changes
host, port, user, password, vhost = (parts[name] for name in ("host", "port", "user", "password", "vhost"))
context = ssl.create_default_context(cafile=changes.get("authorities", "/etc/ssl/saltern/ca.pem"))

def short(text):
    return struct.pack("!B", len(text.encode())) + text.encode()

def long(data):
    return struct.pack("!I", len(data)) + data

def send(method, data):
    stream.write(struct.pack("!BHI", 1, 0, 4 + len(data)) + struct.pack("!HH", 10, method) + data + b"\xce")
    stream.flush()

def receive():
    head = stream.read(7)
    # It may be TLS that answers.
    if len(head) < 7 or head[0] != 1:
        raise ConnectionError
    data = stream.read(struct.unpack("!I", head[3:])[0] + 1)[:-1]
    method = struct.unpack("!H", data[2:4])[0]
    if method == 50:
        raise PermissionError(data[7:7 + data[6]].decode())
    return data[4:]

try:
    with socket.create_connection((host, int(port)), 5) as plain:
        connection = plain if changes.get("plain") else context.wrap_socket(plain, server_hostname=host)
        connection.settimeout(15)
        stream = connection.makefile("rwb")
        stream.write(b"AMQP\x00\x00\x09\x01")
        stream.flush()
        receive()
        # With it the broker says why it refuses.
        why = long(short("authentication_failure_close") + b"t\x01")
        properties = long(short("capabilities") + b"F" + why)
        send(11, properties + short("PLAIN") + long(f"\0{user}\0{password}".encode()) + short("en_US"))
        send(31, receive()[:8])
        send(40, short(vhost) + short("") + b"\x00")
        receive()
        answer = "open"
except PermissionError as error:
    answer = str(error)
except OSError as error:
    answer = type(error).__name__
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def attached(apps, roles, processes):
    """Each attached vhost: its name, its app, the variable, and the PID of a process that has the URL."""
    if "broker" not in roles:
        pytest.skip("the host does not have the role broker")
    if not apps:
        pytest.skip("no app runs on the host")
    found = []
    for app, one in sorted(apps.items()):
        for variable, target in one["attach"].items():
            if "rabbitmq" in target and "url" not in target:
                found.append((target["rabbitmq"], app, variable, next(iter(processes(app).values()))["pid"]))
    if not found:
        pytest.skip("no app attaches a vhost")
    return found


@pytest.fixture(scope="module")
def connect(python):
    """A function that logs in with the URL of a process, or with changes, and returns the outcome."""
    return lambda pid, variable, **changes: python(CONNECT, pid, variable, json.dumps(changes))


@pytest.fixture(scope="module")
def definitions(host):
    """A function that returns the broker's users, vhosts, permissions and limits."""

    def of():
        said = host.check_output("rabbitmqctl -q export_definitions - --format json")
        return json.loads(said[said.index("{") :])

    return of


def test_the_broker_runs_now_and_at_every_boot(host, roles):
    if "broker" in roles:
        assert host.service("rabbitmq-server").is_running
        assert host.service("rabbitmq-server").is_enabled


def test_an_app_logs_in_with_the_url_it_was_given(attached, connect):
    for _, _, variable, pid in attached:
        assert connect(pid, variable) == "open"


def test_no_login_and_a_wrong_password_are_refused(attached, connect):
    for _, _, variable, pid in attached:
        assert connect(pid, variable, password="wrong").startswith("ACCESS_REFUSED")
        assert connect(pid, variable, user="", password="").startswith("ACCESS_REFUSED")
        assert connect(pid, variable, user="guest", password="guest").startswith("ACCESS_REFUSED")


def test_an_app_has_no_other_vhost(attached, connect):
    for own, _, variable, pid in attached:
        for other in {"/", "no-such-vhost", *(name for name, *_ in attached)} - {own}:
            assert connect(pid, variable, vhost=other).startswith("NOT_ALLOWED")


def test_plaintext_and_another_authority_are_refused(attached, connect):
    for _, _, variable, pid in attached:
        assert connect(pid, variable, plain=True) in ("ConnectionError", "ConnectionResetError", "TimeoutError")
        assert connect(pid, variable, plain=True, port=5672) == "ConnectionRefusedError"
        others = connect(pid, variable, authorities="/etc/ssl/certs/ca-certificates.crt")
        assert others == "SSLCertVerificationError"


def test_it_listens_at_its_own_port_alone_and_for_erlang_on_the_loopback(host, roles, settings, host_id):
    if "broker" in roles:
        listening = [line.split()[3] for line in host.check_output("ss -Hltn").splitlines()]
        at = {where for where in listening if where.rpartition(":")[2] in ("4369", "5671", "5672", "15672", "25672")}
        addresses = ["127.0.0.1", *settings["rabbitmq"]["listen"]]
        assert at == {"127.0.0.1:4369", "127.0.0.1:25672", *(f"{address}:5671" for address in addresses)}


def test_each_app_has_a_vhost_and_nobody_else_any(attached, definitions, settings):
    found = definitions()
    users = {user["name"]: user for user in found["users"]}
    assert "guest" not in users
    for name, app, *_ in attached:
        logins = [one["user"] for one in found["permissions"] if one["vhost"] == name]
        assert {login.rpartition("_")[0] for login in logins} == {app}
        most = settings["rabbitmq"]["vhosts"][name].get("max_connections", settings["rabbitmq"]["max_connections"])
        limit = {"component": "vhost-limits", "name": "limits", "vhost": name, "value": {"max-connections": most}}
        assert limit in found["parameters"]
        assert {users[login]["limits"]["max-connections"] for login in logins} == {most}


def test_the_settings_are_in_force(host, roles, settings):
    if "broker" in roles:
        asked = "{vm_memory_monitor:get_memory_limit(),rabbit_disk_monitor:get_disk_free_limit()," + (
            "element(2,application:get_env(rabbit,consumer_timeout))}"
        )
        memory, disk, timeout = host.check_output("rabbitmqctl -q eval %s", f"{asked}.").strip("{}\n").split(",")
        units = {"mb": 1_000_000, "gb": 1_000_000_000}
        for said, key in ((memory, "memory"), (disk, "free_disk")):
            amount = settings["rabbitmq"][key]
            assert int(said) == int(amount[:-2]) * units[amount[-2:]]
        assert int(timeout) == settings["rabbitmq"]["job_timeout"] * 60000


def test_only_rabbitmq_and_root_read_its_key_and_its_cookie(host, roles):
    if "broker" in roles:
        for path, mode in {"/etc/ssl/saltern/rabbitmq.pem": 0o600, "/var/lib/rabbitmq/.erlang.cookie": 0o400}.items():
            file = host.file(path)
            assert (file.user, file.mode) == ("rabbitmq", mode)
        assert (host.file("/etc/rabbitmq").user, host.file("/etc/rabbitmq").mode) == ("root", 0o750)

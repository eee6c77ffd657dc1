"""Redis: an instance for each app that attaches one."""

import pytest

from verify.attached import PARTS

# Sends commands to a Redis instance as a process would, or with another password.
COMMANDS = (
    PARTS
    + """
import socket, ssl
user, password = parts["USER"], changes.get("password", parts["PASSWORD"])
assert parts["SSL_CERT_REQS"] == "required"
context = ssl.create_default_context(cafile=changes.get("authorities", parts["SSL_CA_CERTS"]))
commands = ([["AUTH", changes.get("user", user), password]] if password else []) + changes["commands"]
answers = []
try:
    host = changes.get("host", parts["HOST"])
    with socket.create_connection((host, changes.get("port", int(parts["PORT"]))), 5) as plain:
        connection = plain if changes.get("plain") else context.wrap_socket(plain, server_hostname=host)
        stream = connection.makefile("rwb")
        for command in commands:
            words = [word.encode() for word in command]
            stream.write(b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(w), w) for w in words))
            stream.flush()
            line = stream.readline().decode().strip()
            if line.startswith("*"):
                line = [stream.readline() and stream.readline().decode().strip() for _ in range(int(line[1:]))]
            answers.append(line)
except OSError as error:
    answers.append(type(error).__name__)
print(json.dumps(answers))
"""
)


@pytest.fixture(scope="module")
def attached(every):
    """Each attached instance: its name, its app, the variable, and the PID of a process that has the URL."""
    return [one for *one, target in every if target.get("access") != "read"]


@pytest.fixture(scope="module")
def reading(every):
    """Each instance that an app borrows to read, as ``attached``."""
    return [one for *one, target in every if target.get("access") == "read"]


@pytest.fixture(scope="module")
def every(apps, roles, processes):
    """Each attached instance, as ``attached``, and the attachment."""
    if "cache" not in roles:
        pytest.skip("the host does not have the role cache")
    if not apps:
        pytest.skip("no app runs on the host")
    found = []
    for app, one in sorted(apps.items()):
        for variable, target in one["attach"].items():
            if "redis" in target and "url" not in target:
                found.append((target["redis"], app, variable, next(iter(processes(app).values()))["pid"], target))
    return found


@pytest.fixture(scope="module")
def redis(python):
    """A function that sends commands and returns the answers."""
    import json

    def send(pid, variable, *commands, **changes):
        return python(COMMANDS, pid, variable, json.dumps(changes | {"commands": commands}))

    return send


def test_each_instance_runs_now_and_at_every_boot(host, roles, settings):
    if "cache" in roles:
        for name in settings["redis"]["instances"]:
            assert host.service(f"redis-server@{name}").is_running
            assert host.service(f"redis-server@{name}").is_enabled


def test_no_other_instance_runs(host, roles, settings):
    if "cache" in roles:
        listed = host.check_output("systemctl list-units --plain --no-legend --state=active 'redis-server*.service'")
        running = {line.split()[0] for line in listed.splitlines()}
        assert running == {f"redis-server@{name}.service" for name in settings["redis"]["instances"]}


def test_debians_stock_instance_does_not_run(host, roles):
    if "cache" in roles:
        assert not host.service("redis-server").is_running
        assert not host.socket("tcp://127.0.0.1:6379").is_listening


def test_an_app_reaches_its_instance_with_the_url_it_was_given(attached, redis):
    assert attached
    for _, _, variable, pid in attached:
        assert redis(pid, variable, ["PING"]) == ["+OK", "+PONG"]


def test_who_reads_an_instance_of_another_app_writes_nothing(reading, redis):
    for name, _, variable, pid in reading:
        answers = redis(pid, variable, ["PING"], ["EXISTS", "x"], ["SET", "x", "x"], ["PUBLISH", "x", "x"])
        assert answers[:3] == ["+OK", "+PONG", ":0"], name
        assert [answer.split()[0] for answer in answers[3:]] == ["-NOPERM", "-NOPERM"], name


def test_no_password_and_a_wrong_one_are_refused(attached, redis):
    for _, _, variable, pid in attached:
        assert redis(pid, variable, ["PING"], password="")[0].startswith("-NOAUTH")
        assert redis(pid, variable, ["PING"], password="wrong")[0].startswith("-WRONGPASS")
        # There is no other user.
        for user in ("default", "operator"):
            assert redis(pid, variable, ["PING"], user=user)[0].startswith("-WRONGPASS")


def test_plaintext_and_another_authority_are_refused(attached, redis):
    for _, _, variable, pid in attached:
        assert "+PONG" not in redis(pid, variable, ["PING"], plain=True)
        others = redis(pid, variable, ["PING"], authorities="/etc/ssl/certs/ca-certificates.crt")
        assert others == ["SSLCertVerificationError"]


def test_an_app_does_not_administer_its_instance(attached, redis):
    for _, _, variable, pid in attached:
        for command in (
            ["CONFIG", "SET", "maxmemory", "1gb"],
            ["ACL", "LIST"],
            ["SHUTDOWN", "NOSAVE"],
            # Nor can it lift the limits of its own clients.
            ["CLIENT", "NO-EVICT", "ON"],
        ):
            assert redis(pid, variable, command)[1].startswith("-NOPERM"), command


def test_the_network_is_refused(attached, host, redis, settings):
    own = host.check_output("hostname -I").split()[0]
    # If other hosts run apps, it also listens on the host's address.
    answer = ["+OK", "+PONG"] if settings["redis"]["listen"] else ["ConnectionRefusedError"]
    for _, _, variable, pid in attached:
        assert redis(pid, variable, ["PING"], host=own) == answer


def test_the_settings_are_in_force(attached, redis, settings):
    for name, _, variable, pid in attached:
        instance = settings["redis"]["instances"][name]
        limits = [redis(pid, variable, ["CONFIG", "GET", key])[1][1] for key in ("maxclients", "maxmemory-clients")]
        clients = instance.get("maxmemory_clients", settings["redis"]["maxmemory_clients"])
        assert limits[0] == str(instance["places"])
        assert limits[1] == str(int(clients[:-2]) * {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}[clients[-2:]])
        memory = instance.get("maxmemory", settings["redis"]["maxmemory"])
        policy = instance.get("maxmemory_policy", settings["redis"]["maxmemory_policy"])
        unit = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}[memory[-2:]]
        asked = [["CONFIG", "GET", key] for key in ("maxmemory", "maxmemory-policy", "appendonly", "appendfsync")]
        assert [pair[1] for pair in redis(pid, variable, *asked)[1:]] == [
            str(int(memory[:-2]) * unit),
            policy,
            "yes",
            settings["redis"]["appendfsync"],
        ]


def test_only_redis_and_root_read_the_passwords(host, settings, roles):
    if "cache" in roles:
        for name in settings["redis"]["instances"]:
            config = host.file(f"/etc/redis/redis-{name}.conf")
            assert (config.user, config.group, config.mode) == ("root", "redis", 0o640)
            users = host.file(f"/etc/saltern/redis/{name}.users")
            assert (users.user, users.group, users.mode) == ("root", "redis", 0o640)


def test_a_fork_is_not_refused_for_its_memory(host, roles):
    if "cache" in roles:
        # A container has its machine's kernel settings and cannot change them.
        in_container = host.run("systemd-detect-virt --container --quiet").rc == 0
        assert host.file("/etc/sysctl.d/60-saltern-redis.conf").exists is not in_container
        assert in_container or host.sysctl("vm.overcommit_memory") == 1

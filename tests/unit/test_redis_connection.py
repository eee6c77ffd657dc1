"""Connections to Redis: the served certificate, how Redis loads another one, and who is connected."""

import contextlib
import datetime
import io
import socket
import ssl
import threading

import pytest
from salt.exceptions import CommandExecutionError

from saltern.system import systemd
from saltern.tls import certificate

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Two files with a key and a certificate."""
    directory = tmp_path_factory.mktemp("pairs")
    authority = certificate.new_authority("dev", NOW)
    for name in ("own", "other"):
        (directory / f"{name}.pem").write_text(certificate.issue(authority, "one", "10.0.0.1", NOW))
    return directory


@pytest.fixture
def server(pairs):
    """A TLS server that answers with the given lines; it yields its port and the text that it has read."""

    @contextlib.contextmanager
    def serve(*answers):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pairs / "own.pem")
        read = []

        def answer(listener):
            with contextlib.suppress(OSError):
                while True:
                    plain, _ = listener.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                        for line in answers:
                            read.append(connection.recv(1000))
                            connection.sendall(line)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=answer, args=(listener,), daemon=True).start()
            yield listener.getsockname()[1], read
            # Closing alone would not wake the thread that waits on it.
            listener.shutdown(socket.SHUT_RDWR)

    return serve


def test_it_is_known_which_certificate_is_served(redis_connection, server, pairs):
    with server() as (port, _):
        assert redis_connection.serves(port, str(pairs / "own.pem")) is True
        assert redis_connection.serves(port, str(pairs / "other.pem")) is False
        assert redis_connection.serves(port, str(pairs / "missing.pem")) is False
    with pytest.raises(CommandExecutionError, match=rf"^Redis at port {port} does not answer: Connection refused$"):
        redis_connection.serves(port, str(pairs / "own.pem"))


def test_redis_is_told_to_read_its_certificate(redis_connection, server, dunders):
    dunders(redis_connection, salt={"attachment.operator_password": lambda name: f"{name}'s-own"})
    with server(b"+OK\r\n", b"+OK\r\n") as (port, read):
        redis_connection.read_certificate("jobs", port, "/a.pem")
    assert read[0] == b"*3\r\n$4\r\nAUTH\r\n$8\r\noperator\r\n$10\r\njobs's-own\r\n"
    assert read[1].startswith(b"*6\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$13\r\ntls-cert-file\r\n$6\r\n/a.pem\r\n")


def test_what_redis_answers_is_told_and_no_password(redis_connection, server, dunders):
    dunders(redis_connection, salt={"attachment.operator_password": lambda name: "hunter2"})
    with (
        server(b"-WRONGPASS invalid\r\n") as (port, _),
        pytest.raises(CommandExecutionError, match=r"^jobs: Redis answers AUTH with: -WRONGPASS invalid$"),
    ):
        redis_connection.read_certificate("jobs", port, "/a.pem")


def test_other_hosts_that_are_connected_are_listed(redis_connection, dunders):
    dunders(redis_connection, pillar={"hosts": {"one": {"address": "10.0.0.1"}}}, opts={"id": "one"})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert redis_connection.remote(port) == []
    with socket.create_server(("127.0.0.2", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.2", port), source_address=("127.0.0.3", 0))
        with client:
            assert redis_connection.remote(port) == ["127.0.0.3"]
        assert redis_connection.remote(port) == []


STATES = {
    "it serves it": ({}, None),
    "it serves another one": ({"serves": False}, "read"),
    "it does not run": ({"started": None, "serves": False}, None),
    "a dry run before it is written": ({"watch": True, "test": True}, "would"),
    "a dry run of a restart": ({"watch": True, "test": True, "restarted": True}, None),
    "a dry run of what runs otherwise": ({"serves": False, "test": True}, "would"),
}


@pytest.mark.parametrize("options, expected", STATES.values(), ids=STATES)
def test_a_certificate_is_served_without_a_restart(redis_instance, dunders, monkeypatch, options, expected):
    read, test = [], options.get("test", False)
    salt = {
        "redis_connection.serves": lambda port, path: options.get("serves", True),
        "redis_connection.read_certificate": lambda *arguments: read.append(arguments),
    }
    monkeypatch.setattr(systemd, "started", lambda unit, among: options.get("started", 1))
    changes = {"x": 1} if options.get("restarted") else {}
    running = {"x": {"name": "redis-server@jobs", "changes": changes, "result": True}}
    dunders(redis_instance, salt=salt, opts={"test": test}, running=running, context={}, instance_id="", lowstate=[])
    function = redis_instance.mod_watch if options.get("watch") else redis_instance.certificate_served
    state = function("jobs", 8199, "/a.pem")
    assert state["result"] is (None if expected == "would" else True)
    assert state["changes"] == ({"jobs": {"old": "another certificate", "new": "served"}} if expected else {})
    assert read == ([("jobs", 8199, "/a.pem")] if expected == "read" else [])


def test_answers_are_read_as_redis_writes_them(redis_connection):
    for text, expected in (
        (b"+OK\r\n", "OK"),
        (b":7\r\n", 7),
        (b"$5\r\na\r\nbc\r\n", "a\r\nbc"),
        (b"$-1\r\n", ""),
        (b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", ["a", [1]]),
    ):
        assert redis_connection.answer(io.BytesIO(text)) == expected
    for text, expected in ((b"-NOPERM no\r\n", "-NOPERM no"), (b"", "nothing"), (b"HTTP/1.1\r\n", "HTTP/1.1")):
        with pytest.raises(ValueError, match=expected):
            redis_connection.answer(io.BytesIO(text))


def test_whom_redis_admits_is_read_from_its_answer_and_from_a_file(redis_connection):
    lines = [
        "user default off sanitize-payload resetchannels -@all",
        "# user gone on #00",
        "user shop_0a0a0a on sanitize-payload #aa #bb ~* &* +@all -@admin",
        "user operator on #cc ~* &* +@all",
    ]
    assert redis_connection.admitted_by(lines) == {"shop_0a0a0a": ["aa", "bb"], "operator": ["cc"]}


def test_the_address_of_a_connected_user_is_read(redis_connection):
    text = (
        "id=3 addr=127.0.0.1:5000 laddr=127.0.0.1:8199 name= user=shop_0a0a0a\n"
        "id=4 addr=[::1]:5001 laddr=[::1]:8199 user=shop_0a0a0a\nid=5 addr=10.0.0.4:5002 user=operator\n"
    )
    assert redis_connection.clients(text) == {"shop_0a0a0a": ["127.0.0.1", "::1"], "operator": ["10.0.0.4"]}

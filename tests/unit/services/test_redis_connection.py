"""Connections to Redis: the served certificate, how Redis loads another one, and who is connected."""

import contextlib
import datetime
import io
import socket
import ssl
import threading

import pytest
from salt.exceptions import CommandExecutionError

from saltern.host import Host
from saltern.services import redis_connection
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
def with_a_key(tmp_path):
    """A host, which has a key."""
    (tmp_path / "host.key").write_text("key\n")
    return Host("one", {}, str(tmp_path / "host.key"), False, None)


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


def test_it_is_known_which_certificate_is_served(server, pairs):
    with server() as (port, _):
        assert redis_connection.serves(port, str(pairs / "own.pem")) is True
        assert redis_connection.serves(port, str(pairs / "other.pem")) is False
        assert redis_connection.serves(port, str(pairs / "missing.pem")) is False
    with pytest.raises(CommandExecutionError, match=rf"^Redis at port {port} does not answer: Connection refused$"):
        redis_connection.serves(port, str(pairs / "own.pem"))


def test_redis_is_told_to_read_its_certificate(server, with_a_key):
    with server(b"+OK\r\n", b"+OK\r\n") as (port, read):
        redis_connection.read_certificate(with_a_key, "jobs", port, "/a.pem")
    own = with_a_key.own_password("operator", "jobs").encode()
    assert read[0] == b"*3\r\n$4\r\nAUTH\r\n$8\r\noperator\r\n$40\r\n" + own + b"\r\n"
    assert read[1].startswith(b"*6\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$13\r\ntls-cert-file\r\n$6\r\n/a.pem\r\n")


def test_what_redis_answers_is_told_and_no_password(server, with_a_key):
    with (
        server(b"-WRONGPASS invalid\r\n") as (port, _),
        pytest.raises(CommandExecutionError, match=r"^jobs: Redis answers AUTH with: -WRONGPASS invalid$"),
    ):
        redis_connection.read_certificate(with_a_key, "jobs", port, "/a.pem")


def test_other_hosts_that_are_connected_are_listed():
    on = Host("one", {"hosts": {"one": {"address": "10.0.0.1"}}}, "", False, None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert redis_connection.remote(on, port) == []
    with socket.create_server(("127.0.0.2", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.2", port), source_address=("127.0.0.3", 0))
        with client:
            assert redis_connection.remote(on, port) == ["127.0.0.3"]
        assert redis_connection.remote(on, port) == []


def test_answers_are_read_as_redis_writes_them():
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


def test_whom_redis_admits_is_read_from_its_answer_and_from_a_file():
    lines = [
        "user default off sanitize-payload resetchannels -@all",
        "# user gone on #00",
        "user shop_0a0a0a on sanitize-payload #aa #bb ~* &* +@all -@admin",
        "user operator on #cc ~* &* +@all",
    ]
    assert redis_connection.admitted_by(lines) == {"shop_0a0a0a": ["aa", "bb"], "operator": ["cc"]}


def test_the_address_of_a_connected_user_is_read():
    text = (
        "id=3 addr=127.0.0.1:5000 laddr=127.0.0.1:8199 name= user=shop_0a0a0a\n"
        "id=4 addr=[::1]:5001 laddr=[::1]:8199 user=shop_0a0a0a\nid=5 addr=10.0.0.4:5002 user=operator\n"
    )
    assert redis_connection.clients(text) == {"shop_0a0a0a": ["127.0.0.1", "::1"], "operator": ["10.0.0.4"]}

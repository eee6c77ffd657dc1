"""Who listens on a port, by the kernel's tables."""

import os
import socket
import subprocess
import sys

import pytest

from saltern.system import listener

LISTEN = """
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
print("listens", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("family, address", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")])
@pytest.mark.parametrize("has_diag", [True, False], ids=["asked", "from its tables"])
def test_who_listens_is_read_from_the_kernel(monkeypatch, family, address, has_diag):
    if not has_diag:
        # No such protocol.
        monkeypatch.setattr(listener.sockets, "NETLINK_SOCK_DIAG", 30)
    with socket.socket(family) as server:
        server.bind((address, 0))
        server.listen()
        port = server.getsockname()[1]
        inode = os.fstat(server.fileno()).st_ino
        assert [one for one in listener.listening() if one[0] == port] == [(port, os.getuid(), inode)]
        assert listener.stranger(port, [os.getpid()]) is None
        assert port in listener.ports([os.getpid()])
        assert f"PID {os.getpid()} (" in listener.stranger(port, [])
    assert listener.stranger(port, []) is None
    assert port not in listener.ports([os.getpid()])
    assert listener.ports([]) == []


def test_one_that_shares_the_port_is_named():
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        command = [sys.executable, "-c", LISTEN, str(port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            other.stdout.readline()
            said = listener.stranger(port, [os.getpid()])
            assert said.startswith("user ") and f"PID {other.pid} (python" in said
            assert listener.stranger(port, [os.getpid(), other.pid]) is None
            other.communicate()


GROUPS = {
    "11:pids:/app.slice/app-shop.slice/app-shop-web-1.v3.scope\n": "shop v3 web.1",
    "0::/app.slice/app-my\\x2dshop.slice/app-my\\x2dshop-send\\x2dnow-12.v3.scope\n": "my-shop v3 send-now.12",
    "0::/app.slice/app-shop.slice/app-shop-release-0.v3.scope\n": "shop v3 release",
}


@pytest.mark.parametrize("text, expected", GROUPS.items())
def test_a_process_of_an_app_is_named_as_it_is_called(monkeypatch, text, expected):
    monkeypatch.setattr(listener, "_read", lambda path: text)
    assert listener._whose(7) == expected


@pytest.mark.parametrize(
    "text, shown", [("gunicorn\n", "gunicorn"), ("x\nv1 serves\n", "x?v1 serves"), ("\x1bc\n", "?c")]
)
def test_what_a_process_calls_itself_is_one_line(monkeypatch, text, shown):
    monkeypatch.setattr(listener, "_read", lambda path: text)
    assert listener._comm(7) == shown

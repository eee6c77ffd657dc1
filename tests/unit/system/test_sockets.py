"""TCP sockets, by the kernel's tables."""

import os
import socket
import struct
import threading

from saltern.system import sockets

OLD = "127.0.0.1:8101"


def test_the_kernel_is_asked_for_connections():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            with accepted:
                inodes, _ = sockets.opened(os.getpid())

                def look():
                    found = sockets.diagnosed((sockets.ESTABLISHED, sockets.LISTEN))
                    own = [found[inode] for inode in inodes if inode in found]
                    return next(one for one in own if one.peer == f"127.0.0.1:{port}")

                one, own_port = look(), client.getsockname()[1]
                expected = sockets.Socket(sockets.ESTABLISHED, own_port, f"127.0.0.1:{port}", os.getuid())
                assert one == expected
                client.sendall(b"request")
                threading.Event().wait(0.05)
                accepted.sendall(b"answer")
                assert client.recv(100) == b"answer"
                one = look()
                assert (one.is_answering, one.received) == (True, 6)


def test_the_kernel_is_asked_for_listening_sockets_alone():
    with (
        socket.create_server(("127.0.0.1", 0)) as v4,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as v6,
        socket.create_connection(v4.getsockname()),
    ):
        found = sockets.diagnosed([sockets.LISTEN])
        assert {one.state for one in found.values()} == {sockets.LISTEN}
        for server in (v4, v6):
            one = found[os.fstat(server.fileno()).st_ino]
            assert (one.port, one.uid) == (server.getsockname()[1], os.getuid())


def test_a_message_of_an_older_kernel_says_less():
    address = struct.pack("!HH4s12x4s12x", 40_000, 8101, bytes([127, 0, 0, 1]), bytes([127, 0, 0, 1]))
    message = bytearray(sockets.ATTRIBUTES)
    message[sockets.STATE] = sockets.ESTABLISHED
    message[sockets.SOURCE_PORT : sockets.SOURCE_PORT + len(address)] = address
    struct.pack_into("=II", message, sockets.UID, 1000, 77)
    expected = 77, sockets.Socket(sockets.ESTABLISHED, 40_000, OLD, 1000)
    assert sockets.parsed(bytes(message), socket.AF_INET) == expected


def test_what_a_process_has_open_is_sockets_and_files(tmp_path):
    path = tmp_path / "body"
    with open(path, "w", encoding="ascii"), socket.socket() as one:
        inodes, paths = sockets.opened(os.getpid())
        assert os.fstat(one.fileno()).st_ino in inodes
        assert str(path) in paths
    assert sockets.opened(1 << 30) == ([], [])

"""TCP sockets as the kernel has them, and who has which of them open."""

import dataclasses
import glob
import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h and net/tcp_states.h.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE = 4, 20, 0x1, 0x300, 2, 3
INET_DIAG_INFO = 2
ESTABLISHED, SYN_SENT, LISTEN = 1, 2, 10
# Where a netlink message has the fields of struct inet_diag_msg, and where the attributes after it begin.
STATE, SOURCE_PORT, TARGET_PORT, TARGET, UID, INODE, ATTRIBUTES = 17, 20, 22, 40, 80, 84, 88
# The same of struct tcp_info: milliseconds since data was sent and received, and the bytes that were received.
DATA_SENT, DATA_RECEIVED, BYTES_RECEIVED = 44, 52, 128


@dataclasses.dataclass(frozen=True)
class Socket:
    """A TCP connection, or a listening socket.

    :param state: as net/tcp_states.h numbers it.
    :param port: its own.
    :param peer: the other end, such as ``127.0.0.1:8101``.
    :param uid: whose it is.
    :param is_answering: what came last on it was received, after all that was sent.
    :param received: bytes.
    """

    state: int
    port: int
    peer: str
    uid: int = 0
    is_answering: bool = False
    received: int = 0


def diagnosed(states: Iterable[int]) -> dict[int, Socket]:
    """Return the TCP sockets of the host; see sock_diag(7).

    :param states: which, as net/tcp_states.h numbers them.
    :return: ``Socket`` by inode.
    :raises OSError: where the kernel has no such diagnosis.
    """
    found: dict[int, Socket] = {}
    mask = sum(1 << state for state in states)
    for family in (socket.AF_INET, socket.AF_INET6):
        # struct inet_diag_req_v2: of any address.
        request = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0, mask)
        found |= dict(parsed(message, family) for message in _answers(request))
    return found


def _answers(request: bytes) -> Iterator[bytes]:
    """Yield the messages with which the kernel answers a request, each with its header."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        header = struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0)
        netlink.sendto(header + request, (0, 0))
        while True:
            answer = netlink.recv(1 << 16)
            while answer:
                length, kind = struct.unpack_from("=IH", answer)
                if kind == NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", answer, 16)[0], "sock_diag")
                if kind == NLMSG_DONE:
                    return
                yield answer[:length]
                answer = answer[(length + 3) & ~3 :]


def parsed(message: bytes, family: int) -> tuple[int, Socket]:
    """Read one message of ``diagnosed``.

    :param message: with its header.
    :param family: of addresses.
    :return: the inode and the ``Socket``.
    """
    port, peer_port = struct.unpack_from("!HH", message, SOURCE_PORT)
    size = 4 if family == socket.AF_INET else 16
    peer = f"{socket.inet_ntop(family, message[TARGET : TARGET + size])}:{peer_port}"
    uid, inode = struct.unpack_from("=II", message, UID)
    sent = received_at = received = 0
    offset = ATTRIBUTES
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, offset)
        if kind == INET_DIAG_INFO and length >= 4 + BYTES_RECEIVED + 8:
            (sent,) = struct.unpack_from("=I", message, offset + 4 + DATA_SENT)
            (received_at,) = struct.unpack_from("=I", message, offset + 4 + DATA_RECEIVED)
            (received,) = struct.unpack_from("=Q", message, offset + 4 + BYTES_RECEIVED)
        offset += max(4, (length + 3) & ~3)
    return inode, Socket(message[STATE], port, peer, uid, received > 0 and received_at < sent, received)


def opened(pid: int | str) -> tuple[list[int], list[str]]:
    """Return what a process has open; nothing where it has ended.

    :param pid: its PID.
    :return: the inodes of its sockets, and the paths of all else.
    """
    inodes, paths = [], []
    for name in glob.iglob(f"/proc/{pid}/fd/*"):
        try:
            target = os.readlink(name)
        except OSError:
            continue
        if found := re.fullmatch(r"socket:\[(\d+)\]", target):
            inodes.append(int(found[1]))
        else:
            paths.append(target)
    return inodes, paths

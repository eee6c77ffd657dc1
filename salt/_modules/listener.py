"""Who listens on a port of this host: any user of it may, and may answer as an app would."""

import glob
import os
import pwd
import re
import socket
import struct

__load__ = ["ports", "stranger"]

# linux/netlink.h, linux/sock_diag.h and net/tcp_states.h.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE = 4, 20, 0x1, 0x300, 2, 3
TCP_LISTEN = 10
# The scope of a process; see the launcher, formulas/app/files/process.py.
SCOPE = re.compile(r"/app-([^/-]+)-([^/-]+)-([0-9]+)\.v([0-9]+)\.scope$", re.MULTILINE)


def stranger(port, pids):
    """Name who listens on a port besides a process, or in its place.

    :param port: a TCP port.
    :param pids: the PIDs of the process and of what it has started.
    :return: a phrase such as ``shop v1 web.1, PID 812 (python3.11)``, or ``None`` where nobody else listens.

    CLI Example: none, it serves the module release.
    """
    sockets = {inode: uid for listened, uid, inode in listening() if listened == port}
    others = sockets.keys() - held(pids)
    return named(others, sockets) if others else None


def ports(pids):
    """List the ports on which a process listens, at any address.

    :param pids: the PIDs of the process and of what it has started.
    :return: TCP ports, sorted.

    CLI Example: none, it serves the module release.
    """
    own = held(pids)
    return sorted({port for port, _, inode in listening() if inode in own})


def listening():
    """Return the port, the UID and the inode of each listening socket."""
    try:
        return [one for family in (socket.AF_INET, socket.AF_INET6) for one in _diagnosed(family)]
    except OSError:
        # A kernel without tcp_diag. Its tables have every connection too, and take twenty times as long.
        return [one for name in ("tcp", "tcp6") for one in tabled(_read(f"/proc/net/{name}"))]


def _diagnosed(family):
    """Return the same of one family as the kernel has it; see sock_diag(7)."""
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        # struct inet_diag_req_v2: of any address, and of the states LISTEN alone.
        request = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 0, 0, 1 << TCP_LISTEN)
        header = struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0)
        netlink.sendto(header + request, (0, 0))
        while True:
            answer = netlink.recv(1 << 16)
            while answer:
                length, kind = struct.unpack_from("=IH", answer)
                if kind == NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", answer, 16)[0], "sock_diag")
                if kind == NLMSG_DONE:
                    return found
                # struct inet_diag_msg, after the header of 16 bytes.
                found.append((*struct.unpack_from("!H", answer, 20), *struct.unpack_from("=II", answer, 80)))
                answer = answer[(length + 3) & ~3 :]


def tabled(text):
    """Return the same of the text of ``/proc/net/tcp`` or ``tcp6``; see proc_pid_net(5)."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return [(int(row[1].rpartition(":")[2], 16), int(row[7]), int(row[9])) for row in rows if row[3] == "0A"]


def held(pids):
    """Return the inodes of the sockets that processes have open.

    :param pids: their PIDs. Of one that has ended there is nothing.
    """
    links = (_link(name) for pid in pids for name in glob.iglob(f"/proc/{pid}/fd/*"))
    return {int(link[8:-1]) for link in links if link.startswith("socket:[")}


def named(inodes, sockets):
    """Name who has sockets open: processes of apps as they are called, others by their user.

    :param inodes: the sockets'.
    :param sockets: UID by inode, for a socket that no process has open any more.
    """
    found, seen = [], set()
    for pid in sorted(int(path[6:]) for path in glob.iglob("/proc/[0-9]*")):
        if own := held([pid]) & inodes - seen:
            seen |= own
            found.append(f"{_whose(pid)}, PID {pid} ({_comm(pid)})")
    found += [f"user {_user(sockets[inode])}" for inode in sorted(inodes - seen)]
    return " and ".join(found)


def _comm(pid):
    """Return what a process calls itself, in one line: it may be anything."""
    name = _read(f"/proc/{pid}/comm").removesuffix("\n")
    return "".join(char if char.isprintable() else "?" for char in name)


def _whose(pid):
    """Return which process of an app a PID is of, or its user."""
    if scope := SCOPE.search(_read(f"/proc/{pid}/cgroup")):
        app, kind, index, number = (part.replace("\\x2d", "-") for part in scope.groups())
        return f"{app} v{number} {kind}{f'.{index}' if index != '0' else ''}"
    try:
        return f"user {_user(os.stat(f'/proc/{pid}').st_uid)}"
    except OSError:
        return "a process that has ended"


def _user(uid):
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""

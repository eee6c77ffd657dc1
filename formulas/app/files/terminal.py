#!/usr/bin/python3 -IS
"""Run a command as another user, who cannot reach the terminal that the command was started at.

    terminal USER COMMAND [ARGUMENT ...]

A program with root's terminal, as its controlling terminal or as an open file, can type into root's shell (TIOCSTI). So
the command gets a session and a terminal of its own, for each standard stream that is a terminal. Pipes and files stay
as they are, byte for byte. The command gets no other open file of root's, and no variable but TERM.

The command gets what is typed only once it reads from its terminal: in "... | less" the keys are for less. runuser
--pty and script would send the pipes through the terminal too, and all keys to the command.
"""

import contextlib
import ctypes
import fcntl
import os
import pwd
import select
import signal
import socket
import struct
import sys
import termios
import time
import tty

STANDARD = (0, 1, 2)
FORWARDED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)
# The messages between root's process and the one that keeps the command's session.
STARTED, ASKS, STOPPED, ENDED, GO_ON = b"s", b"a", b"z", b"e", b"g"
SIZE = 65536
# linux/prctl.h
PR_SET_NO_NEW_PRIVS = 38
# Seconds to show a command's last output, where a process that it left behind still has the terminal open.
REST = 0.5


def main(user, *command):
    account = pwd.getpwnam(user)
    _close_others()
    terminal = _terminal()
    if terminal is None:
        _become(account, command)
    sys.exit(Attendant(terminal).attend(account, command))


def _close_others():
    """Close the files that root's shell had open, and open those of the three standard streams that are closed."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in STANDARD:
            with contextlib.suppress(OSError):
                os.close(int(name))
    while (fd := os.open("/dev/null", os.O_RDWR)) in STANDARD:
        os.set_inheritable(fd, True)
    os.close(fd)


def _terminal():
    """Return root's terminal, or ``None`` where root has none."""
    with contextlib.suppress(OSError):
        return os.open("/dev/tty", os.O_RDWR)
    for fd in STANDARD:
        if os.isatty(fd):
            try:
                return os.open(os.ttyname(fd), os.O_RDWR | os.O_NOCTTY)
            except OSError:
                # The terminal has no name in a container: it is outside.
                return os.dup(fd)
    return None


def _become(account, command):
    """Become a command of another user."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTOU):
        signal.signal(number, signal.SIG_DFL)
    # From here on no program gives the command another user's rights: other processes of its user may control it.
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.chdir("/")
    os.umask(0o022)
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.execve(command[0], command, {name: os.environ[name] for name in ("TERM",) if name in os.environ})


def _leave_pipes():
    null = os.open("/dev/null", os.O_RDWR)
    for fd in STANDARD:
        os.dup2(null, fd)
    os.close(null)


class Attendant:
    """The process between root's terminal and the command's.

    :param terminal: root's.
    """

    def __init__(self, terminal):
        self.terminal = terminal
        self.master, self.slave = os.openpty()
        self.modes = termios.tcgetattr(terminal)
        termios.tcsetattr(self.slave, termios.TCSANOW, self.modes)
        self._resize()
        # Otherwise a program behind a pipe could read and write the terminal too.
        self.is_alone = os.isatty(0) and os.isatty(1)
        self.is_reading = self.is_raw = False
        self.group = None
        self.pending = b""

    def attend(self, account, command):
        """Run a command, and return its exit status as a shell would.

        :param account: whose it is, as ``pwd`` has it.
        :param command: its path and its arguments.
        """
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        is_first = self.is_alone and self._is_foreground()
        os.fchown(self.slave, account.pw_uid, -1)
        if not os.fork():
            try:
                _keep(account, command, self.slave, theirs, is_first)
            finally:
                os._exit(126)
        theirs.close()
        os.close(self.slave)
        os.set_blocking(self.master, False)
        self.group = struct.unpack("=i", self.line.recv(5)[1:])[0]
        for number in FORWARDED:
            # A shell starts background jobs with these two signals ignored, and nohup with a third.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, _: self._signal(number))
        signal.signal(signal.SIGWINCH, lambda *_: self._resize())
        signal.signal(signal.SIGCONT, lambda *_: self._go_on())
        try:
            if is_first:
                self._read()
            # The other end of a pipe must see the end when the command closes it.
            _leave_pipes()
            return self._relay()
        finally:
            self._restore()

    def _relay(self):
        status = None
        until = float("inf")
        while status is None or time.monotonic() < until:
            keys = [self.terminal] if self.is_reading and not self.pending else []
            line = [self.line] if status is None else []
            writable = [self.master] if self.pending else []
            wait = None if status is None else REST / 5
            found, writable, _ = select.select([self.master, *line, *keys], writable, [], wait)
            if writable:
                self._type()
            if self.terminal in found:
                self._take()
            if self.master in found and not self._show():
                break
            if self.line in found:
                status = self._told()
                until = time.monotonic() + REST
            if status is not None and not found:
                break
        while status is None:
            status = self._told()
        return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)

    def _show(self):
        """Show what the command printed. Return whether its terminal is still open."""
        try:
            text = os.read(self.master, SIZE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        while text:
            text = text[os.write(self.terminal, text) :]
        return True

    def _take(self):
        """Read what was typed. Where root's terminal has gone, the command ends."""
        try:
            self.pending = os.read(self.terminal, SIZE)
        except OSError:
            self.pending = b""
        if not self.pending:
            self.is_reading = False
            self._signal(signal.SIGHUP)

    def _type(self):
        with contextlib.suppress(BlockingIOError):
            self.pending = self.pending[os.write(self.master, self.pending) :]

    def _told(self):
        """Serve the command's requests, and return its status if it has ended."""
        said = self.line.recv(SIZE)
        if said[:1] == ENDED:
            return struct.unpack("=i", said[1:])[0]
        if not said:
            # The process that kept the session was killed.
            return signal.SIGKILL
        if said == ASKS:
            self._read()
        elif self._is_at_shell():
            self._restore()
            os.kill(0, signal.SIGSTOP)
        with contextlib.suppress(OSError):
            self.line.send(GO_ON)
            if said == ASKS:
                # Its answer comes once the command may read: a Ctrl-Z that came before that would be lost.
                self.line.recv(SIZE)
        return None

    def _read(self):
        """Send what is typed to the command from now on."""
        # In the background it stops, as each job that reads from the terminal does. A group without a shell is not
        # stopped.
        for _ in range(100):
            if self._is_foreground():
                break
            os.kill(0, signal.SIGTTIN)
            time.sleep(0.05)
        else:
            self._signal(signal.SIGHUP)
            return
        self.is_reading = True
        self.modes = termios.tcgetattr(self.terminal)
        self._make_raw()

    def _make_raw(self):
        tty.setraw(self.terminal, termios.TCSADRAIN)
        self.is_raw = True
        if not self.is_alone:
            modes = termios.tcgetattr(self.terminal)
            modes[1] |= self.modes[1] & termios.OPOST
            termios.tcsetattr(self.terminal, termios.TCSADRAIN, modes)

    def _restore(self):
        if self.is_raw and self._is_foreground():
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self.terminal, termios.TCSADRAIN, self.modes)
        self.is_raw = False

    def _go_on(self):
        if self.is_reading and self._is_foreground():
            self._make_raw()
        self._resize()

    def _is_at_shell(self):
        """Tell whether there is a shell that could continue it."""
        with contextlib.suppress(OSError):
            return os.tcgetpgrp(self.terminal) >= 0
        return False

    def _is_foreground(self):
        try:
            return os.tcgetpgrp(self.terminal) == os.getpgrp()
        except OSError:
            # This terminal controls no session: no shell manages it.
            return True

    def _resize(self):
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(self.terminal, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def _signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.group, number)


def _keep(account, command, slave, line, is_first):
    """Keep a session with a terminal and the command until the command ends.

    :param account: whose it is.
    :param command: its path and its arguments.
    :param slave: the terminal.
    :param line: the connection to the attendant.
    :param is_first: whether the command may read from the terminal at once. Otherwise the command is stopped when it
        reads, as a background job is, and the attendant is asked.
    """
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    group = os.fork()
    if not group:
        os.setpgid(0, 0)
        if is_first:
            os.tcsetpgrp(slave, os.getpgrp())
        for fd in STANDARD:
            if os.isatty(fd):
                os.dup2(slave, fd)
        _become(account, command)
    with contextlib.suppress(PermissionError):
        os.setpgid(group, group)
    if is_first:
        # Keys come from here on. A Ctrl-Z that came before there is a foreground group would be lost.
        os.tcsetpgrp(slave, group)
    _leave_pipes()
    line.send(STARTED + struct.pack("=i", group))
    while True:
        _, status = os.waitpid(group, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        is_asking = os.WSTOPSIG(status) in (signal.SIGTTIN, signal.SIGTTOU)
        line.send(ASKS if is_asking else STOPPED)
        if not line.recv(1):
            break
        if is_asking:
            os.tcsetpgrp(slave, group)
        os.killpg(group, signal.SIGCONT)
        if is_asking:
            line.send(GO_ON)
    line.send(ENDED + struct.pack("=i", status))
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

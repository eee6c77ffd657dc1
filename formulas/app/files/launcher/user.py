"""What a process of the app's user gets: a shell's signals, and no view of other users' processes."""

import _signal as signal
import os

# linux/sched.h and linux/mount.h.
CLONE_NEWNS, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 0x20000, 0x2, 0x4, 0x8, 0x4000, 0x80000


def hide_others():
    """Hide other users' processes from this process and its children: their command lines are not for an app.

    The process gets a /proc of its own. systemd's services and monitoring still see all processes.

    :return: why that failed, as in a container that may not mount; ``None`` where it worked.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    if (
        libc.unshare(CLONE_NEWNS)
        or libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None)
        or libc.mount(b"proc", b"/proc", b"proc", flags, b"hidepid=2")
    ):
        return f"sees other users' processes: {os.strerror(ctypes.get_errno())}"
    return None


def default_signals():
    """Restore the signals that a shell leaves alone: Python ignores them, and an execve keeps that."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

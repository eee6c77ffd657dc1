"""What a process has of its own, as the app's user: the signals of a shell, and no sight of others."""

import _signal as signal
import os

# linux/sched.h and linux/mount.h.
CLONE_NEWNS, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 0x20000, 0x2, 0x4, 0x8, 0x4000, 0x80000


def hide_others():
    """Have what comes from here see its own user's processes alone: command lines of others are not an app's business.

    By a /proc of its own: systemd's services and monitoring go on to see all.

    :return: why it could not be done, as in a container that may not mount; ``None`` where it was.
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
    """Start a process as a shell would: Python ignores these signals, and an execve keeps that."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

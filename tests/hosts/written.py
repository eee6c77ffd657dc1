"""The files that root writes and reads during a converge, as Python's audit hook reports them.

The hook in salt-call's interpreter looks at each path before it is opened: could another user have replaced the file,
or a directory above it?
"""

from lab import Host

LOG = "/root/written"
HOOK = r'''
import os, stat, sys

LOG = "/root/written"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK
# By event: where a path is among its arguments, and where the directory is that it starts from.
PATHS = {
    "os.rename": ((0, 2), (1, 3)), "os.link": ((1, 3),), "os.symlink": ((1, 2),), "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),), "os.remove": ((0, 1),), "os.chmod": ((0, 2),), "os.chown": ((0, 3),),
    "os.utime": ((0, 3),), "os.truncate": ((0, None),),
}
IGNORED = ("/proc/", "/dev/", "/sys/")
is_busy = False


def hook(event, arguments):
    global is_busy
    if is_busy or (event != "open" and event not in PATHS):
        return
    is_busy = True
    try:
        if event == "open":
            look(event, arguments[0], None, arguments[2])
        for path, start in PATHS.get(event, ()):
            # What makes something new follows no link that is there already.
            flags = os.O_WRONLY | (os.O_EXCL if event in ("os.mkdir", "os.symlink", "os.link") else 0)
            look(event, arguments[path], None if start is None else arguments[start], flags)
    finally:
        is_busy = False


def look(event, path, start, flags):
    if isinstance(path, int) or not isinstance(flags, int):
        return
    path = os.fsdecode(path)
    if isinstance(start, int) and start >= 0:
        path = os.path.join(os.readlink(f"/proc/self/fd/{start}"), path)
    path = os.path.abspath(path)
    if path.startswith(IGNORED) or path.startswith(LOG):
        return
    is_written = bool(flags & WRITING)
    doubt = why(path, flags)
    if is_written or (doubt and flags & CAREFUL != CAREFUL):
        fd = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, f"{'written' if is_written else 'read'}\t{event}\t{path}\t{doubt}\n".encode())
        os.close(fd)


def why(path, flags):
    """Say which directory above a path somebody else may write; empty where there is none."""
    directory = os.path.dirname(path)
    for above in {*parts(directory), *parts(os.path.realpath(directory))}:
        try:
            found = os.lstat(above)
        except OSError:
            continue
        if stat.S_ISLNK(found.st_mode) or (found.st_uid == 0 and not found.st_mode & 0o022):
            continue
        if found.st_uid == 0 and found.st_mode & stat.S_ISVTX and above == directory:
            # What is root's in /tmp nobody else replaces.
            try:
                own = os.lstat(path)
            except OSError:
                own = None
            if flags & os.O_EXCL or (own and own.st_uid == 0 and not stat.S_ISLNK(own.st_mode)):
                continue
        if found.st_uid == 0 and found.st_mode & stat.S_ISVTX and above != directory:
            continue
        return f"{above} is {found.st_uid}:{found.st_gid} {stat.S_IMODE(found.st_mode):04o}"
    return ""


def parts(directory):
    while True:
        yield directory
        if directory == "/":
            return
        directory = os.path.dirname(directory)


if "salt-call" in " ".join(sys.orig_argv):
    sys.addaudithook(hook)
'''
PACKAGES = "/opt/saltern/current/lib/python3.*/site-packages"


def watch(host: Host) -> None:
    """Make each salt-call from now on log the files that it writes."""
    host.run("sh", "-c", f'cat >"$(echo {PACKAGES})/written.py"', input=HOOK)
    host.sh(f"echo 'import written' >\"$(echo {PACKAGES})/zz_written.pth\"; rm -f {LOG}")


def watched(host: Host) -> tuple[set[str], list[str]]:
    """Stop the log; return the written paths, and each use of a path that users other than root could replace."""
    lines = host.sh(f'rm "$(echo {PACKAGES})/zz_written.pth" "$(echo {PACKAGES})/written.py"; cat {LOG}').stdout
    found = [line.split("\t") for line in lines.splitlines()]
    doubts = sorted({"\t".join(words) for words in found if words[3]})
    return {words[2] for words in found if words[0] == "written"}, doubts

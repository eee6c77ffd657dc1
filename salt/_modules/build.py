"""Builds: an app's tarball, fetched, judged and unpacked with its virtual environment.

A build is complete or not there: it is made beside its place and renamed into it.
"""

import base64
import contextlib
import csv
import fcntl
import filecmp
import grp
import hashlib
import itertools
import json
import os
import pathlib
import posixpath
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zlib

from salt.exceptions import CommandExecutionError

__load__ = ["foresee", "is_first", "is_unpacked", "unpack"]

ROOT = "/srv/apps"
LOCKS = "/run/saltern"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
FORMAT = 1
# How many builds are looked at for what a new one has too: what was deployed last is most like what comes now.
NEWEST = 5
# What uv makes: files that all may read, and those that all may run.
MODES = (stat.S_IFREG | 0o644, stat.S_IFREG | 0o755)
COMPILE = ("/usr/bin/python3", "-IS", "-m", "compileall", "-q")

# What reading a file raises that is no build.
UNREADABLE = (tarfile.TarError, zlib.error, OSError, EOFError, ValueError, AttributeError)


def is_unpacked(app):
    """Tell whether the declared build of an app is on the host.

    :param app: the app's name.
    :return: a boolean.

    CLI Example:

    .. code-block:: bash

        salt-call build.is_unpacked tickets
    """
    return os.path.isdir(_path(app, __pillar__["app"][app]["build"]["sha256"]))


def is_first(app):
    """Tell whether the declared build of an app can be unpacked early: it waits for no other app.

    Where apps serve, a build is judged by what the others run when it is its turn. Where the host is to trust
    authorities of its own, one of them may be the server's that has the build.

    :param app: the app's name.
    :return: a boolean.

    CLI Example: none, it serves the app's states.
    """
    source = __pillar__["app"][app]["build"]["source"]
    if source.startswith("https://") and __pillar__["base"]["ca_certificates"]:
        return False
    serves = any(__salt__["release_store.current"](one) is not None for one in __pillar__["app"])
    return not serves and not is_unpacked(app)


def _path(app, sha256):
    return f"{ROOT}/{app}/builds/{sha256[:12]}"


def unpack(app):
    """Bring the declared build of an app onto the host.

    Where another process is at it, which a run that was killed may have left behind, it waits for what that one makes.

    :param app: the app's name.
    :raises CommandExecutionError: with the step that failed, the reason and what to do. Nothing is left behind.

    CLI Example:

    .. code-block:: bash

        salt-call build.unpack tickets
    """
    target = _path(app, __pillar__["app"][app]["build"]["sha256"])
    directory = os.path.dirname(target)
    try:
        group = grp.getgrnam(app).gr_gid
    except KeyError:
        raise CommandExecutionError(
            f"{app}: has no user on this host yet; expected a converge of all of it first"
        ) from None
    os.makedirs(directory, exist_ok=True)
    os.chown(directory, 0, group)
    os.chmod(directory, 0o750)
    os.makedirs(LOCKS, mode=0o700, exist_ok=True)
    with open(f"{LOCKS}/{app}.build", "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not is_unpacked(app):
            _unpack(app, target, group)


def _unpack(app, target, group):
    """Make a build beside its place and rename it into it, while nobody else does."""
    declared, directory = __pillar__["app"][app]["build"], os.path.dirname(target)
    staged = f"{directory}/.{os.path.basename(target)}"
    shutil.rmtree(staged, ignore_errors=True)
    fetched = f"{staged}.tar.gz"
    try:
        tarball = _fetch(app, declared["source"], fetched)
        found = _sha256(tarball)
        if found != declared["sha256"]:
            raise CommandExecutionError(
                f"app.{app}.build.sha256: {declared['source']} has the sha256 {found}; expected the declared one. "
                "Declare the build that is meant, or put the right one there"
            )
        extract(tarball, staged)
        build = _judge(app, staged)
        __salt__["contract.judge"](
            app, declared["sha256"], build, lambda version: __salt__["contract.text_of"](app, staged, version)
        )
        _make_venv(app, staged)
        os.chown(staged, 0, group)
        os.chmod(staged, 0o750)
        os.rename(staged, target)
    except OSError as error:
        raise CommandExecutionError(
            f"app.{app}.build: {error.strerror or error}: {error.filename or staged}"
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if os.path.exists(fetched):
            os.unlink(fetched)


def foresee(app):
    """Refuse the declared build of an app for what it would do to others, where its tarball is at hand.

    :param app: the app's name.
    :raises CommandExecutionError: with the reason.

    CLI Example: none, it serves the dry run of the state ``build.unpacked``.
    """
    declared = __pillar__["app"][app]["build"]
    source = declared["source"]
    tarball = __salt__["cp.cache_file"](source) if source.startswith("salt://") else source
    # What is elsewhere is not fetched by a dry run, and what is another will be refused by its digest.
    if tarball and os.path.isfile(tarball) and _sha256(tarball) == declared["sha256"]:
        build, documents = described(tarball)
        __salt__["contract.judge"](app, declared["sha256"], build, documents.__getitem__)


# Bytes of an OpenAPI document, four for each of the characters that it may have.
MAX_DOCUMENT = 8_000_000


def described(tarball):
    """Read what a build says of itself, and the documents of the versions that it says it has.

    :param tarball: path of a ``.tar.gz``.
    :return: its ``build.json``, and the documents' texts by version. Both empty where it is no build.
    """
    build, documents, wanted = {}, {}, {}
    with contextlib.suppress(*UNREADABLE), tarfile.open(tarball) as tar:
        # They stand in it by name, the wheels after them.
        for member in itertools.takewhile(lambda one: one.name < "openapi0", tar):
            if member.name == "build.json":
                build = json.load(tar.extractfile(member))
                wanted = {__salt__["contract.path"](version): version for version in build.get("contracts") or {}}
            elif member.name in wanted:
                # More than this openapi.parse refuses.
                documents[wanted[member.name]] = tar.extractfile(member).read(MAX_DOCUMENT + 1).decode()
        return build, documents
    return {}, {}


def _fetch(app, source, fetched):
    """Return a path of the tarball on this host."""
    if source.startswith("https://"):
        return _download(app, source, fetched)
    path = __salt__["cp.cache_file"](source) if source.startswith("salt://") else source
    if not path or not os.path.isfile(path):
        raise CommandExecutionError(
            f"app.{app}.build.source: {source}: no such file; put the build there that was declared"
        )
    return path


def _download(app, source, fetched):
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import HTTPError
    from urllib3.util import Retry

    session = requests.Session()
    retry = Retry(3, backoff_factor=0.5, status_forcelist=(502, 503, 504), raise_on_status=False)
    session.mount("https://", HTTPAdapter(max_retries=retry))
    try:
        # requests would trust its own list of authorities, not the host's.
        with session.get(source, stream=True, timeout=(10, 60), verify=CA_BUNDLE) as answer:
            answer.raise_for_status()
            with open(fetched, "wb") as stream:
                shutil.copyfileobj(answer.raw, stream)
    except (requests.RequestException, HTTPError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"answered {status}" if status else f"cannot be reached ({type(error).__name__})"
        raise CommandExecutionError(f"app.{app}.build.source: the server {reason}; expected the tarball") from error
    return fetched


def _sha256(path):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def extract(tarball, target):
    """Unpack a tarball whose every member stays inside the target.

    :param tarball: path of a ``.tar.gz``.
    :param target: a directory that is not there yet.
    :raises CommandExecutionError: naming the first member that is not acceptable, or a damaged tarball.
    """
    try:
        with tarfile.open(tarball, "r:gz") as tar:
            members = tar.getmembers()
            # gzip knows at its end only whether it was whole; tar may stop before.
            while tar.fileobj.read(1 << 20):
                pass
            links = {posixpath.normpath(member.name) for member in members if member.issym()}
            refusal = next(filter(None, (_refusal(member, links) for member in members)), None)
            if refusal:
                raise CommandExecutionError(f"{tarball}: {refusal}; expected members that stay inside the build")
            os.mkdir(target)
            for member in members:
                member.uid = member.gid = 0
                member.uname = member.gname = "root"
                member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            # The members were judged above, more strictly than the filter "data", which Debian 12's Python lacks.
            options = {"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(target, members, **options)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        # gzip's own errors are OSErrors without an errno; a full disk has one.
        if isinstance(error, OSError) and error.errno:
            raise
        raise CommandExecutionError(f"{tarball}: damaged: {error}; build it again") from error


def _refusal(member, links):
    """Say why a member of a tarball is not acceptable, or return ``None``.

    :param links: paths of the tarball's symbolic links.
    """
    path = posixpath.normpath(member.name)
    if member.name.startswith("/") or path == ".." or path.startswith("../"):
        return f"{member.name} leaves the build"
    if not (member.isfile() or member.isdir() or member.issym()):
        return f"{member.name} is neither a file, a directory nor a symbolic link"
    if member.issym():
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
        if member.linkname.startswith("/") or target == ".." or target.startswith("../"):
            return f"{member.name} links out of the build"
        # Where `name` is a link itself, `name/..` is elsewhere than it looks.
        parts = pathlib.PurePosixPath(member.linkname).parts
        if ".." in itertools.dropwhile(lambda part: part == "..", parts):
            return f"{member.name} links through a name and back"
    if not links.isdisjoint(map(str, pathlib.PurePosixPath(path).parents)):
        return f"{member.name} lies behind a symbolic link"
    return None


def _judge(app, staged):
    """Refuse a build that is not one, or not for this host; return what it says of itself."""
    try:
        with open(f"{staged}/build.json", encoding="utf-8") as stream:
            build = json.load(stream)
        python, form, name, processes = build["python"], build["format"], build["app"], build["processes"]
        build["version"], build["commit"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise CommandExecutionError(
            f"app.{app}.build: has no valid build.json; make it with bin/build-release"
        ) from error
    if form != FORMAT:
        raise CommandExecutionError(f"app.{app}.build: has the format {form}; expected {FORMAT}. Build it again")
    if name != app:
        raise CommandExecutionError(f"app.{app}.build: is a build of {name}; declare one of {app}")
    if not isinstance(processes, dict) or not all(isinstance(line, str) for line in processes.values()):
        raise CommandExecutionError(f"app.{app}.build: has no valid build.json; make it with bin/build-release")
    own = _python_version()
    if python != own:
        raise CommandExecutionError(
            f"app.{app}.build: is for Python {python}, this host has {own}; "
            f"build it with bin/build-release --python {own}"
        )
    if os.path.lexists(f"{staged}/.venv"):
        raise CommandExecutionError(f"app.{app}.build: has a .venv of its own; make it with bin/build-release")
    for name in ("Procfile", "requirements.txt"):
        if not os.path.isfile(f"{staged}/{name}"):
            raise CommandExecutionError(f"app.{app}.build: has no {name}; make it with bin/build-release")
    return build


def _python_version():
    command = ["/usr/bin/python3", "-IS", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _make_venv(app, staged):
    """Make the virtual environment from the wheelhouse, with no index.

    It is relocatable, since the build is renamed into its place; what an earlier build has too is one file on the disk.
    Root does this, so nothing of the build is run: no source is built, uv asks the environment's Python what it is
    while there is nothing in it, and the byte code is made by the system's Python, which neither looks for modules in
    the build (-I) nor reads the .pth files of its wheels (-S).
    """
    from uv import find_uv_bin

    uv = find_uv_bin()
    make = [uv, "venv", "-q", "--relocatable", "--no-project", "--python", "/usr/bin/python3", ".venv"]
    look = [uv, "pip", "list", "-q", "--python", ".venv"]
    fill = [uv, "pip", "install", "-q", "--python", ".venv", "--no-index", "--find-links", "wheelhouse", "--no-build"]
    fill += ["--exact", "--require-hashes", "-r", "requirements.txt"]
    # Its cache is none of the build's own files, and on the same file system, so that it can link from it.
    with tempfile.TemporaryDirectory(prefix=".uv-", dir=os.path.dirname(staged)) as cache:
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/root",
            "UV_CACHE_DIR": cache,
            "UV_LINK_MODE": "hardlink",
            "UV_NO_CONFIG": "1",
            "UV_OFFLINE": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        _run(app, make, staged, environ)
        # It remembers the answer, and need not ask when there are wheels, whose .pth files Python would run.
        _run(app, look, staged, environ)
        is_whole = _link_wheels(app, pathlib.Path(staged))
        # What is linked it leaves as it is, and says whether that is what the build asks for.
        _run(app, fill, staged, environ)
    # uv's own, and open to everybody.
    os.unlink(f"{staged}/.venv/.lock")
    # What is there and fits its source stays. What cannot be compiled cannot be imported either; that is the app's to
    # say, at its start. With all processors, where there is much of it.
    _run(None, [*COMPILE, "-j", "1" if is_whole else "0", "."], staged, environ)


def _run(app, command, staged, environ):
    """Run a command in the directory of a build; it may fail where no app is named."""
    # The app's user reads what is made here, whatever the umask of the shell that salt-call came from.
    done = subprocess.run(command, cwd=staged, env=environ, umask=0o022, capture_output=True, text=True, check=False)
    if done.returncode and app:
        lines = "; ".join(done.stderr.strip().splitlines()[-4:])
        raise CommandExecutionError(f"app.{app}.build: its virtual environment cannot be made: {lines}")


# --- What two builds share --------------------------------------------------------------------------------------------


def _link_wheels(app, staged):
    """Link what the same wheels brought into earlier builds of an app, with its byte code.

    A build has most wheels of the last one, and to install and compile these takes longer than all else of it. The
    files are those that a wheel says that it has, by digest, and no others: an edit by hand is not taken over. Byte
    code says itself by which size and time it belongs to a file, which is the same one. Nothing is linked from another
    app's build: what is in there besides wheels is that app's to choose.

    :param app: the app's name.
    :param staged: the directory of the build, a path, with an environment that has nothing yet.
    :return: whether there is nothing left to install.
    """
    builds = sorted(pathlib.Path(ROOT, app, "builds").glob("[!.]*"), key=_modified, reverse=True)
    left, links, python = _wheels(staged), {}, _python_version()
    for build in builds[:NEWEST]:
        for name in left if _is_for(build, python) else ():
            with contextlib.suppress(OSError, ValueError, csv.Error):
                if filecmp.cmp(build / "wheelhouse" / name, staged / "wheelhouse" / name, shallow=False):
                    found = _brought(build, name, python)
                    # Of two wheels with the same file, uv says which one counts.
                    if not links.keys() & found:
                        links |= {path: build / ".venv" / path for path in found}
                        left = [other for other in left if other != name]
    return _link_all(links, staged / ".venv") and not left


def _modified(path):
    """Return when a directory was modified; 0 where another run has just removed it."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0


def _wheels(staged):
    """List the wheels of a build that its requirements name by digest."""
    pinned = (staged / "requirements.txt").read_text(encoding="utf-8", errors="replace")
    wheels = sorted(path.name for path in (staged / "wheelhouse").glob("*.whl"))
    return [name for name in wheels if f"--hash=sha256:{_sha256(staged / 'wheelhouse' / name)}" in pinned]


def _is_for(build, python):
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return json.loads((build / "build.json").read_text()).get("python") == python
    return False


def _brought(build, wheel, python):
    """Return the files that a wheel brought into a build's virtual environment, and the byte code of them.

    :param build: a path.
    :param wheel: the name of its file.
    :param python: the build's Python, such as ``3.11``.
    :return: paths relative to the environment.
    :raises ValueError: when one of them is not as it came.
    """
    # The names of most begin with those of the distribution and its version, as the directory's does.
    venv, name = build / ".venv", "-".join(wheel.split("-")[:2])
    if sum(other.startswith(f"{name}-") for other in os.listdir(build / "wheelhouse")) > 1:
        raise ValueError(f"{name}: which of its wheels was installed is not known")
    directory = f"lib/python{python}/site-packages"
    found = [f"{directory}/{name}.dist-info/RECORD"]
    with (venv / found[0]).open(newline="") as stream:
        for file, digest, *_ in csv.reader(stream):
            path = os.path.normpath(f"{directory}/{file}")
            if path == found[0] and not digest:
                continue
            is_inside = path.startswith(("lib/", "bin/"))
            if not is_inside or (venv / path).lstat().st_mode not in MODES or digest != _recorded_digest(venv / path):
                raise ValueError(path)
            found.append(path)
    if (venv / found[0]).lstat().st_mode not in MODES:
        raise ValueError(found[0])
    modules = [pathlib.PurePath(path) for path in found if path.endswith(".py")]
    # Where Salt's own byte code is (sys.pycache_prefix), the build's is not.
    byte_code = [f"{path.parent}/__pycache__/{path.stem}.{sys.implementation.cache_tag}.pyc" for path in modules]
    return [*found, *(path for path in byte_code if _mode(venv / path) in MODES)]


def _mode(path):
    """Return the mode of a file, or ``None`` where there is none."""
    with contextlib.suppress(OSError):
        return path.lstat().st_mode
    return None


def _recorded_digest(path):
    """Return the digest of a file as a wheel's RECORD has it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"


def _link_all(links, venv):
    """Link files into a virtual environment: all of them, or none.

    :param links: the file to link to, by path in the environment.
    :param venv: the environment's path.
    :return: whether they are there.
    """
    before, made = os.umask(0o022), []
    directories = sorted({parent for path in links for parent in (venv / path).parents if not parent.exists()})
    try:
        for directory in directories:
            directory.mkdir()
        for path, there in links.items():
            # uv writes into a RECORD as it is; what else is there it replaces by a rename.
            (shutil.copy2 if path.endswith("/RECORD") else os.link)(there, venv / path)
            made.append(venv / path)
    except OSError:
        for path in made:
            path.unlink()
        # uv takes an empty directory for a distribution.
        for directory in reversed(directories):
            with contextlib.suppress(OSError):
                directory.rmdir()
        return False
    finally:
        os.umask(before)
    return True

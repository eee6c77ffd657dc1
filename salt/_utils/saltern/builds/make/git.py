"""What is built: a tree of git, read so that nothing of the clone decides what comes out."""

import contextlib
import dataclasses
import os
import subprocess
import tarfile
from collections.abc import Collection, Iterator, Mapping
from typing import NoReturn

from saltern.builds.form import MAX_TIME
from saltern.builds.make.telling import ascii_name
from saltern.refusal import Refusal

# The first second that a zip file can hold: the date of files that no commit dates.
EPOCH = 315532800
# Environment variables of git.
Variables = Mapping[str, str]
NONE: Variables = {}
# The last second that each host's file system can keep.
LATEST = MAX_TIME - 1


@dataclasses.dataclass(frozen=True)
class Source:
    """What is built: a tree of git, the commit that it is of, and a repository that holds its objects."""

    tree: str
    commit: str | None
    version: str
    date: int
    repository: str


def git(*arguments: str, cwd: str, stdin: bytes | None = None, variables: Variables = NONE) -> str:
    """Run git, with nothing of the clone, its hooks or the calling process deciding what comes out.

    :param arguments: git's own.
    :param cwd: where it runs.
    :param stdin: bytes for its standard input.
    :param variables: environment variables to add.
    :return: its standard output, as text.
    :raises Refusal: with what git said.
    """
    return _asked(*arguments, cwd=cwd, stdin=stdin, variables=variables) or ""


def _asked(
    *arguments: str, cwd: str, code: Collection[int] = (0,), stdin: bytes | None = None, variables: Variables = NONE
) -> str | None:
    """Do the same, with exit codes that are an answer: ``None`` is returned for those other than 0."""
    # In a hook, git says in its environment which repository runs it: another one.
    own = ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE"]
    own += ["GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_QUARANTINE_PATH"]
    environ = {name: value for name, value in os.environ.items() if name not in own}
    environ |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_LITERAL_PATHSPECS": "1"}
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.splitIndex=false", "-c", "core.fsmonitor=false"]
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=cwd,
            env=environ | dict(variables),
            input=stdin,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        if error.filename != "git":
            raise
        raise Refusal("git: not installed; install it") from error
    if done.returncode == 0:
        return os.fsdecode(done.stdout)
    if done.returncode in code:
        return None
    reason = os.fsdecode(done.stderr).strip() or f"exit code {done.returncode}"
    if "dubious ownership" in reason:
        raise Refusal(
            f"{cwd}: another user's repository; run this as that user, or tell git's safe.directory that it is safe"
        )
    if "not a git repository" in reason or "must be run in a work tree" in reason:
        raise Refusal(f"{cwd}: not in a git work tree; expected a clone of the app's code; `git init` makes one")
    raise Refusal(f"{cwd}: git {arguments[0]}: {' '.join(reason.removeprefix('fatal: ').split())}")


def find_source(app_dir: str, ref: str | None, worktree: bool, scratch: str) -> Source:
    """Find what is to be built.

    :param app_dir: the app's directory.
    :param ref: a commit's name, or ``None`` for HEAD with nothing uncommitted.
    :param worktree: whether to take the files as they are on disk.
    :param scratch: an empty directory for a repository that stands before the clone's: nothing is written to that one.
    :return: a ``Source``.
    :raises Refusal: when it cannot be found, or is not what it seems.
    """
    app_dir = os.path.realpath(app_dir)
    facts = git(
        *("rev-parse", "--path-format=absolute", "--show-object-format", "--is-shallow-repository"),
        *("--git-path", "objects", "--git-path", "shallow", "--show-toplevel", "--show-prefix"),
        cwd=app_dir,
    )
    object_format, shallow, objects, shallow_file, _, prefix = facts.removesuffix("\n").split("\n")
    repository = f"{scratch}/repository"
    git("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", repository, cwd=scratch)
    os.makedirs(f"{repository}/objects/info", exist_ok=True)
    with open(f"{repository}/objects/info/alternates", "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(f"{objects}\n")
    if worktree:
        tree = _write_worktree(app_dir, prefix, repository)
        return Source(tree, None, f"tree-{tree[:12]}", EPOCH, repository)

    commit = _resolve(f"{ref or 'HEAD'}^{{commit}}", app_dir)
    if commit is None:
        if ref in (None, "HEAD"):
            raise Refusal(f"{app_dir}: the repository has no commit yet; commit the app, or build it with --worktree")
        raise Refusal(f"--ref {ref}: no such commit; expected a branch, a tag or a commit. Perhaps `git fetch --tags`")
    if ref is None:
        _refuse_uncommitted(app_dir, prefix)
    found = _resolve(f"{commit}:{prefix.rstrip('/')}", app_dir)
    if found is None:
        raise Refusal(f"{app_dir}: not in {ref or 'HEAD'} ({commit[:12]}); commit it, or build it with --worktree")
    last = git("rev-list", "-1", "--timestamp", commit, "--", ".", cwd=app_dir)
    if not last:
        _refuse_empty(app_dir)
    date, touched = last.split()
    if shallow == "true":
        # The last commit of a shallow clone seems to have added every file.
        with open(shallow_file, encoding="ascii") as stream:
            if touched in stream.read().split():
                raise Refusal(
                    f"{app_dir}: the clone is too shallow to tell which commit touched it last; `git fetch --unshallow`"
                )
    return Source(found, touched, touched[:12], min(max(int(date), EPOCH), LATEST), repository)


def _resolve(name: str, cwd: str) -> str | None:
    """Return the object that git knows by a name, or ``None``."""
    found = _asked("rev-parse", "--verify", "--quiet", "--end-of-options", name, cwd=cwd, code=(0, 1, 128))
    return found.strip() if found else found


def _refuse_uncommitted(app_dir: str, prefix: str) -> None:
    entries = git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".", cwd=app_dir)
    changed = [entry[3:].removeprefix(prefix) for entry in entries.split("\0") if entry]
    if changed:
        named = ", ".join(map(ascii_name, changed[:3])) + (f" and {len(changed) - 3} more" if changed[3:] else "")
        raise Refusal(
            f"{app_dir}: uncommitted changes in {named}; "
            "commit them, build them with --worktree, or leave them out with --ref HEAD"
        )


def _write_worktree(app_dir: str, prefix: str, repository: str) -> str:
    """Return the tree of an app's files as they are on disk, written with an index of its own."""
    for entry in git("ls-files", "-z", "--stage", "--", ".", cwd=app_dir).split("\0"):
        if entry.startswith("160000 "):
            _refuse_submodule(entry.partition("\t")[2])
    which = ("--cached", "--others", "--exclude-standard", "--deduplicate")
    listed = git("ls-files", "-z", *which, "--", ".", cwd=app_dir)
    paths = [path for path in listed.split("\0") if path]
    for path in paths:
        if path.endswith("/"):
            _refuse_submodule(path.rstrip("/"))
    # A file that has become a directory is still listed, beside the files in it.
    kept = [path for path in paths if not os.path.isdir(f"{app_dir}/{path}") or os.path.islink(f"{app_dir}/{path}")]
    variables = {"GIT_INDEX_FILE": f"{repository}/index", "GIT_OBJECT_DIRECTORY": f"{repository}/objects"}
    stdin = os.fsencode("".join(f"{path}\0" for path in kept))
    git("update-index", "--add", "--remove", "-z", "--stdin", cwd=app_dir, stdin=stdin, variables=variables)
    if not git("ls-files", cwd=app_dir, variables=variables):
        _refuse_empty(app_dir)
    return git("write-tree", *([f"--prefix={prefix}"] if prefix else []), cwd=app_dir, variables=variables).strip()


def _refuse_empty(app_dir: str) -> NoReturn:
    raise Refusal(f"{app_dir}: has no files; expected an app, with a Procfile and a requirements.txt")


def _refuse_submodule(path: str) -> NoReturn:
    raise Refusal(f"{ascii_name(path)}: a submodule; expected files. Copy them in, or require them as a wheel")


@contextlib.contextmanager
def open_code(source: Source, scratch: str) -> Iterator[tarfile.TarFile]:
    """Open the tarball that git makes of a source's tree.

    It is made in a repository that has no settings or attributes but the tree's own, and of a tree, not a commit, so
    that ``export-subst`` has nothing to put in: what it would, such as the names of branches, differs between clones.

    :param source: what is built.
    :param scratch: a directory for what passes.
    :raises Refusal: for a submodule.
    """
    for entry in git("ls-tree", "-r", "-z", source.tree, cwd=source.repository).split("\0"):
        if entry.startswith("160000 "):
            _refuse_submodule(entry.partition("\t")[2])
    nowhere = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_ATTR_NOSYSTEM": "1"}
    nowhere |= {"GIT_CONFIG_COUNT": "0", "XDG_CONFIG_HOME": source.repository, "HOME": source.repository}
    path = f"{scratch}/code.tar"
    git("archive", "--format=tar", "-o", path, source.tree, cwd=source.repository, variables=nowhere)
    with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as code:
        yield code

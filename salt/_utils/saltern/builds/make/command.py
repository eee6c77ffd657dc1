"""The command ``bin/build``."""

import argparse
import contextlib
import json
import os
import platform
import re
import shlex
import tempfile
import time
from collections.abc import Iterable, Sequence
from typing import Any

from saltern import commands
from saltern.builds.form import FORMAT, sha256_of
from saltern.builds.make import cache, sandbox, sources, steps, targets
from saltern.builds.make import output as out
from saltern.builds.make.aptfile import OF_BUILDS as OF_BUILDS_PACKAGES
from saltern.builds.make.aptfile import packages_of
from saltern.builds.make.code import judge_code, read_processes, read_text, replaced
from saltern.builds.make.contracts import contracts_of
from saltern.builds.make.declaration import app_schema, declare, declared_builds, forget
from saltern.builds.make.git import find_source, open_code
from saltern.builds.make.migrations import installed_migrations, migrations_of
from saltern.builds.make.pins import LOCK_IT, OF_BUILDS, read_pins
from saltern.builds.make.tarball import whole_build, write_build
from saltern.builds.make.telling import ascii_name, elapsed, say
from saltern.builds.make.wheels import Lock, collect_wheels
from saltern.refusal import Refusal

DESCRIPTION = """\
Make a build: an app's code from git, the wheels of its locked requirements and build.json, in one tarball."""
HELP = """\
The build is <output>/<app>-<version>-py<python>.tar.gz. Its version is the newest commit that touched APP_DIR, or, with
--worktree, the digest of the files as they are on disk (what git ignores stays out). APP_DIR holds a Procfile and a
requirements.txt with every requirement pinned and hashed. What has no wheel for the hosts is refused, unless
--allow-sdist names it: then it is built from its source, apart from the network, by what requirements-build.txt locks.
Nothing is compiled on a host.
First it runs, without network and config, what the tree asks for: `npm run build`, its process type `build`, Django's
collectstatic.
An Aptfile names the Debian packages that the app's hosts must have, one a line.
An app that provides versions of an API to others has an OpenAPI document of each, openapi/v1.yaml.
One line of JSON on the standard output says what was made: app, version, python, path, sha256.

examples:
  build examples/faq
  build ~/shop --python 3.11 --ref v1.4
  build . --worktree --declare pillar/builds/dev.sls
  build ~/shop --declare pillar/builds/production.sls --source https://builds.example.com/shop
  build --forget shop --declare pillar/builds/production.sls

Wheels come by pip, with pip's own configuration (pip.conf, PIP_INDEX_URL, HTTPS_PROXY, SSL_CERT_FILE), and are kept in
$XDG_CACHE_HOME/saltern/wheels, or ~/.cache/saltern/wheels, within a bound; it may be removed at any time.
Exit codes: 0, 1 for what was refused, with the reason, 2 for a command line that cannot be read."""


def parse_arguments(arguments: Sequence[str], pythons: Iterable[str]) -> argparse.Namespace:
    """Read a command line; the process ends where it cannot be read.

    :param arguments: what follows the command's name.
    :param pythons: those for which builds can be made; the first is the one where none is given.
    """
    pythons = list(pythons)
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine())
    parser = commands.parser("build", DESCRIPTION, HELP)
    add = parser.add_argument
    add("app_dir", metavar="APP_DIR", nargs="?", help="the app's directory, in a git work tree")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ref", help="build this commit, branch or tag (default: HEAD, with nothing uncommitted)")
    which.add_argument("--worktree", action="store_true", help="build the files as they are on disk")
    add("--name", help="the app's name (default: the directory's)")
    add("--version", metavar="V", help="name the build this, instead of by its commit")
    default = pythons[0]
    add("--python", choices=pythons, default=default, help=f"the hosts' Python (default: {default})")
    add(
        "--machine", choices=targets.MACHINES, default=machine, help="the hosts' architecture (default: this machine's)"
    )
    add(
        "--reversible",
        action="store_true",
        help="say that the builds before it work with the database as its migrations leave it",
    )
    add(
        "--allow-sdist",
        metavar="NAME",
        action="append",
        default=[],
        help="build this requirement from its source, which has no wheel for the hosts; once for each",
    )
    add(
        "--within",
        metavar="COMMAND",
        default="",
        help="where no Python of this machine fits the wheels, run the steps in the hosts' Debian by this command; "
        "make build gives the lab's",
    )
    add("--output", metavar="DIR", default="dist", help="where the build goes (default: dist)")
    add(
        "--keep",
        metavar="N",
        type=int,
        default=out.KEPT,
        help="keep this many builds of the app there, beside those that pillar/builds declares and those with a "
        f"--version; older ones are removed (default: {out.KEPT})",
    )
    add("--force", action="store_true", help="build even if the very same build is there")
    add("--declare", metavar="FILE", help="write app.<app>.build into this pillar file")
    add("--forget", metavar="APP", help="build nothing: take app.<APP>.build out of the file that --declare names")
    add(
        "--source",
        metavar="BASE",
        help="where hosts will find it: a directory, salt:// or https:// (default: --output)",
    )
    options = parser.parse_args(arguments)
    if options.forget is not None:
        if options.app_dir is not None or not options.declare:
            parser.error("--forget: builds nothing; expected --forget APP --declare FILE and no APP_DIR")
        return options
    if options.app_dir is None:
        parser.error("the following arguments are required: APP_DIR")
    if options.machine not in targets.MACHINES:
        parser.error(f"--machine: hosts of this machine's architecture, {machine}, are not supported; say which one")
    if options.version is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", options.version):
        parser.error("--version: expected up to 64 letters, digits and . _ + -")
    if options.keep < 1:
        parser.error("--keep: expected 1 or more")
    if options.source and not options.declare:
        parser.error("--source: says what --declare writes; give --declare FILE too")
    return options


def build(options: argparse.Namespace, tree: str, scratch: str) -> dict[str, Any]:
    """Make the build that the command line asks for.

    :param options: the parsed command line.
    :param tree: the directory of the tree.
    :param scratch: an empty directory.
    :return: ``app``, ``version``, ``python``, ``path`` and ``sha256``.
    :raises Refusal: when there cannot be such a build.
    """
    started = time.monotonic()
    app_dir = options.app_dir
    pattern, expected, schema = app_schema(tree)
    if not os.path.isdir(app_dir):
        raise Refusal(f"{app_dir}: no such directory; expected an app's, with a Procfile and a requirements.txt")
    app = options.name if options.name is not None else os.path.basename(os.path.realpath(app_dir))
    if not re.match(pattern, app):
        raise Refusal(f"{ascii_name(app)}: not an app's name; expected {expected}. Say it with --name")
    output = os.path.abspath(options.output)
    base = options.source or output
    # salt:// itself is the root of what a master serves.
    base = base[:-1] if base.endswith("://") else base.rstrip("/")
    build_schema = schema["properties"]["build"]
    if options.declare:
        source = build_schema["properties"]["source"]
        if not re.match(source["pattern"], f"{base}/{app}"):
            raise Refusal(f"{base}: not a place that hosts can read; expected {source['x-expected']}. Say --source")
        declared_builds(options.declare, pattern, build_schema)

    source = find_source(app_dir, options.ref, options.worktree, scratch)
    version = options.version or source.version
    file = f"{app}-{version}-py{options.python}.tar.gz"
    path = f"{output}/{file}"
    target = targets.Target(options.python, *targets.read(tree)[options.python], options.machine)
    record = {
        "format": FORMAT,
        "app": app,
        "version": version,
        "commit": source.commit,
        "tree": source.tree,
        "python": options.python,
        "platform": target.tags()[0],
        "reversible": options.reversible,
    }
    there = None if options.force else whole_build(path, record)
    if there:
        record = there
        say(f"{app} {version} is built already; --force builds it again")
        # As new as what is built now: the oldest are removed.
        os.utime(path)
    else:
        out.make(output)
        with contextlib.ExitStack() as stack:
            code = stack.enter_context(open_code(source, scratch))
            judge_code(code, app_dir)
            procfile = read_text(code, "Procfile", app_dir, "expected one, such as `web: gunicorn shop.wsgi`")
            [types] = schema["properties"]["formation"]["patternProperties"]
            record["processes"] = read_processes(procfile, types)
            record["packages"] = packages_of(code, app_dir, target, tree)
            own = packages_of(code, app_dir, target, tree, OF_BUILDS_PACKAGES)
            within = _within(options.within, [*record["packages"], *own])
            command = record["processes"].pop(steps.BUILD, None)
            [versions] = schema["properties"]["provides"]["patternProperties"]
            record["contracts"] = contracts_of(code, versions)
            lock = read_text(code, "requirements.txt", app_dir, f"expected the app's requirements; {LOCK_IT}")
            pins = read_pins(lock, target.markers())
            locked = Lock(pins, lock)
            if options.allow_sdist:
                names = [name for named in options.allow_sdist for name in named.split(",") if name]
                has_lock = OF_BUILDS in code.getnames()
                of_builds = read_text(code, OF_BUILDS, app_dir, "") if has_lock else None
                variables = steps.variables_of(code)
                builder = sources.Builder(names, of_builds, app_dir, record["packages"], variables, target, within)
                locked = sources.with_built(locked, builder, scratch)
            wheelhouse, record["wheels"] = collect_wheels(locked, target, scratch)
            if locked.text != lock:
                code = stack.enter_context(replaced(code, "requirements.txt", locked.text, scratch))
            if wanted := steps.steps_of(code, command, pins):
                wheels = sandbox.Wheels(wheelhouse, list(record["wheels"]), target)
                code = stack.enter_context(steps.take(code, wanted, wheels, source.date, scratch, within))
                judge_code(code, app_dir)
                record["contracts"] = contracts_of(code, versions)
            record["migrations"] = migrations_of(code)
            record["installed_migrations"] = installed_migrations(code, wheelhouse, record["wheels"])
            write_build(path, code, wheelhouse, record, source.date)
        say(f"{app} {version} built in {elapsed(started)}, {os.path.getsize(path) / 1e6:.1f} MB")
    digest = sha256_of(path)
    if options.declare:
        declared = {"source": f"{base}/{file}", "sha256": digest, "processes": sorted(record["processes"])}
        declared |= {"packages": record["packages"]} if record["packages"] else {}
        declare(options.declare, app, declared, pattern, build_schema)
        say(f"{options.declare} declares {app} {version}")
    pillars = {
        f"{tree}/pillar/builds",
        *([os.path.dirname(os.path.realpath(options.declare))] if options.declare else []),
    }
    out.prune(output, app, path, options.keep, pillars)
    cache.prune()
    return {"app": app, "version": version, "python": options.python, "path": path, "sha256": digest}


def _within(command: str, packages: Iterable[str]) -> list[str]:
    """Return the words of the command that runs a step in the hosts' Debian with packages, if there is one."""
    return [*shlex.split(command), *(f"--package={name}" for name in sorted(set(packages)))] if command else []


def main(arguments: Sequence[str], tree: str) -> int:
    """Run the command line.

    :param arguments: what follows the command's name.
    :param tree: the directory of the tree.
    :return: an exit code: 0, or 1 for a refusal.
    """
    options = parse_arguments(arguments, targets.read(tree))

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="build-") as scratch:
            made = (
                forget(options.declare, options.forget, tree)
                if options.forget is not None
                else build(options, tree, scratch)
            )
            line = json.dumps(made)
        try:
            print(line, flush=True)
        except OSError as error:
            raise Refusal(f"standard output: {error.strerror}; expected to print the build's one line there") from error

    cure = "mend that, or choose another place with --output, TMPDIR or XDG_CACHE_HOME"
    return commands.run("build", work, cure, place=options.output)

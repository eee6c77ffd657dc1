"""bin/build: real repositories of git, real wheels from the configured index, and every refusal in one line."""

import contextlib
import fcntl
import hashlib
import importlib.util
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
import yaml
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parents[2]
PROCFILE = "web: exec python -m http.server $PORT\nrelease: python -c 'print(\"migrated\")'\n"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12\n"


def locked(name, marker=""):
    """Return a requirement of the tree's own lock, with its hashes, as a line of a requirements.txt."""
    lock = (ROOT / "requirements/dev.txt").read_text()
    version, hashes = re.search(rf"^{name}==(\S+)[^\\\n]*\\\n((?:    --hash=.*\n)+)", lock, re.MULTILINE).groups()
    return f"{name}=={version}{marker} \\\n{hashes}"


IDNA = locked("idna")
BARE = f"idna=={re.search('==([^ ]+)', IDNA)[1]}"


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """An environment of its own for git, and one cache of wheels for all tests."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = {f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    return environ | identity | own


@pytest.fixture(scope="session")
def command():
    """The command, as a module."""
    loader = SourceFileLoader("build_tool", str(ROOT / "bin/build"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


@pytest.fixture
def git(environment):
    def run(cwd, *arguments):
        command = ["git", "-c", "protocol.file.allow=always", *arguments]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return run


@pytest.fixture
def commit(git):
    """Return a function that writes files into a directory and commits them: ``commit(directory, {path: text})``."""

    def write_and_commit(directory, files):
        write(directory, files)
        git(directory, "add", "--all", "--force", ".")
        git(directory, "commit", "--quiet", "--message", "a change")
        return git(directory, "rev-parse", "HEAD")

    return write_and_commit


def write(directory, files):
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)


@pytest.fixture
def shop(tmp_path, git, commit):
    """An app in a sub-directory of a repository that holds other things too."""
    repository = tmp_path / "code"
    repository.mkdir()
    git(repository, "init", "--quiet")
    files = {"Procfile": PROCFILE, "requirements.txt": IDNA, "shop/wsgi.py": "application = None\n"}
    commit(repository, {"README": "all of it\n", **{f"shop/{path}": text for path, text in files.items()}})
    return repository / "shop"


@pytest.fixture
def run(environment, tmp_path):
    """Return a function that runs the command and returns what it did."""

    def call(*arguments, **options):
        environ = environment | options.pop("env", {})
        # Its own choice is tried by one test; the wheels here are the older Python's.
        python = options.pop("python", "3.11")
        if python and arguments and isinstance(arguments[0], Path) and "--python" not in arguments:
            arguments = (*arguments, "--python", python)
        command = [sys.executable, str(ROOT / "bin/build"), *map(str, arguments)]
        options = {"cwd": tmp_path} | options
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, **options)

    return call


@pytest.fixture
def made(run):
    """Return a function that runs the command, which must succeed, and returns the line that it prints, parsed."""

    def call(*arguments, **options):
        done = run(*arguments, **options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1
        result = json.loads(done.stdout)
        assert result["sha256"] == hashlib.sha256(Path(result["path"]).read_bytes()).hexdigest()
        return result

    return call


def contents(result):
    """Return the members of a build, a file's as bytes, by name."""
    with tarfile.open(result["path"]) as tar:
        return {one.name: tar.extractfile(one).read() if one.isfile() else None for one in tar}


def record(result):
    return json.loads(contents(result)["build.json"])


def refused(done, *words):
    """Ask of a run that it was refused, in one line with these words."""
    lines = done.stderr.splitlines()
    if len(lines) > 1:
        # Before it failed it may have said what takes the time.
        assert lines[0].startswith("build: wheels: "), done.stderr
        del lines[0]
    assert (done.returncode, done.stdout, len(lines)) == (1, "", 1), done
    assert lines[0].startswith("build: ")
    for word in words:
        assert word in lines[0], lines[0]


# --- What a build is --------------------------------------------------------------------------------------------------


CONTRACT = """\
openapi: 3.1.0
info: {title: shop, version: "1.2"}
paths:
  /v1/items:
    get:
      responses:
        200: {description: Items., content: {application/json: {schema: {$ref: "#/components/schemas/Items"}}}}
components:
  schemas:
    Items: {type: array, items: {$ref: "#/components/schemas/Any"}, example: {$ref: an example}}
    Any: {}
"""


def test_a_build_says_which_contracts_it_has(shop, made, commit):
    assert record(made(shop))["contracts"] == {}
    others = {"openapi/README.md": "x", "openapi/shared.yaml": "- x", "other/v3.yaml": "x", "openapi/old/v4.yaml": "x"}
    commit(shop, {"openapi/v1.yaml": CONTRACT, "openapi/v2.yaml": CONTRACT.replace("shop", "Läden"), **others})
    said = record(made(shop))["contracts"]
    digest = hashlib.sha256(CONTRACT.encode()).hexdigest()
    assert said["v1"] == {"title": "shop", "version": "1.2", "sha256": digest}
    assert (said.keys(), said["v2"]["title"]) == ({"v1", "v2"}, "Läden")


def test_a_build_from_before_there_were_contracts_is_made_again(shop, command, made):
    result = made(shop)
    wanted = {"app": "shop"}
    assert command.whole_build(result["path"], wanted)["app"] == "shop"
    with tarfile.open(result["path"], "w:gz") as tar:
        text = json.dumps({"app": "shop", "wheels": {}}).encode()
        info = tarfile.TarInfo("build.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    assert command.whole_build(result["path"], wanted) is None


CONTRACTS = {
    "no YAML": (
        "a: b: c",
        "openapi/v1.yaml: line 1: no YAML: 'mapping values are not allowed in this context'; expected an OpenAPI",
    ),
    "a list": ("- a", "openapi/v1.yaml: no mapping; expected an OpenAPI document"),
    "no version of OpenAPI": ("info: {}", "openapi/v1.yaml: openapi: expected a version 3.0 or 3.1"),
    "Swagger": (CONTRACT.replace("openapi: 3.1.0", "swagger: '2.0'"), "openapi: expected a version 3.0 or 3.1"),
    "no title": (CONTRACT.replace("title: shop, ", ""), 'openapi/v1.yaml: info: "title" is a required property'),
    "a status that is none": (CONTRACT.replace("200:", "ok:"), "openapi/v1.yaml: paths./v1/items.get.responses: "),
    "a reference to nothing": (
        CONTRACT.replace("schemas/Items", "schemas/None"),
        "openapi/v1.yaml: $ref #/components/schemas/None: leads to nothing; expected what is in the document",
    ),
    "a reference out of it": (
        CONTRACT.replace("#/components/schemas/Items", "shared.yaml#/Items"),
        "openapi/v1.yaml: $ref shared.yaml#/Items: leads out of the document; copy what it leads to",
    ),
    "a reference to an anchor": (
        CONTRACT.replace("#/components/schemas/Items", "#items"),
        "$ref #items: not followed; expected a $ref to a place, such as #/components/schemas/Comment",
    ),
    "a reference that moves": (
        CONTRACT.replace("Any: {}", 'Any: {$dynamicRef: "#items"}'),
        "$dynamicRef #items: not followed; expected a $ref to a place, such as #/components/schemas/Comment",
    ),
    "two documents": ("a: 1\n---\nb: 1\n", "line 2: no YAML: 'but found another document'"),
    "tabs": ("a:\n\tb: 1\n", "line 2: no YAML: 'found character that cannot start any token'"),
    "lists in lists": ("[" * 50_000, "openapi/v1.yaml: line 1: more than 100 lists and mappings inside each other"),
    "a key twice": (CONTRACT.replace("    Any:", "    Items:"), "line 11: 'Items' is there twice in one mapping"),
    "a number that JSON has not": (
        CONTRACT.replace("Any: {}", "Any: {maximum: .inf}"),
        "a number that JSON cannot say",
    ),
    "no operation": (
        CONTRACT.partition("paths:")[0] + "paths: {}\n",
        "openapi/v1.yaml: paths: describes no operation; expected one at least",
    ),
}


@pytest.mark.parametrize("text, message", CONTRACTS.values(), ids=CONTRACTS)
def test_a_contract_is_refused_that_is(text, message, shop, run, commit):
    commit(shop, {"openapi/v1.yaml": text})
    refused(run(shop), message)


def test_a_contract_that_holds_itself_is_taken(shop, made, commit):
    comment = '{type: object, properties: {replies: {type: array, items: {$ref: "#/components/schemas/Any"}}, '
    comment += 'parent: {$ref: "#/components/schemas/Any", readOnly: true}}}'
    commit(shop, {"openapi/v1.yaml": CONTRACT.replace("Any: {}", f"Any: {comment}")})
    assert record(made(shop))["contracts"]["v1"]["title"] == "shop"


def test_a_contract_that_cannot_be_judged_in_bounds_is_refused(command, monkeypatch):
    def late(function, *, seconds, megabytes):
        raise ValueError(f"takes longer than {seconds} s")

    monkeypatch.setattr(command.bounded, "call", late)
    with pytest.raises(
        command.Refusal, match=r"^openapi/v1\.yaml: takes longer than 30 s; expected an OpenAPI document$"
    ):
        command.read_document("openapi/v1.yaml", CONTRACT)


# What is a migration: by its path, its content and whether it is the app's own.
DJANGO_ONE = b"from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    pass\n"
ALEMBIC_ONE = b'"""x"""\nrevision: str = "1"\ndown_revision = None\n\n\ndef upgrade() -> None:\n    pass\n'
MIGRATIONS = {
    "Django's": ("wagtail/migrations/0001_initial.py", DJANGO_ONE, True, True),
    "Django's base class": ("django/db/migrations/migration.py", b"class Migration:\n", True, False),
    "Django's loader": ("django/db/migrations/loader.py", b"class MigrationLoader:\n", True, False),
    "a package's start": ("wagtail/migrations/__init__.py", b"", True, False),
    "a test's": ("wagtail/test/app/migrations/0001_initial.py", DJANGO_ONE, True, False),
    "Alembic's": ("airflow/migrations/versions/0001_a.py", ALEMBIC_ONE, True, True),
    "Alembic's, by another name": ("db/revisions/1_a.py", ALEMBIC_ONE, True, False),
    "a word that Alembic has too": ("shop/version.py", b'revision = "1"\n', False, False),
    "Alembic itself": ("alembic/script/revision.py", b"class Revision:\n    revision = None\n", True, False),
    "Flask-Migrate itself": ("flask_migrate/__init__.py", b"def migrate(directory=None):\n", False, False),
    "yoyo's": ("shop/migrations/0001.py", b"from yoyo import step\n\nsteps = [step('x')]\n", True, True),
    "aerich's": ("shop/migrations/models/0_a.py", b"async def upgrade(db):\n", True, True),
    "peewee's": ("shop/migrations/001.py", b"def migrate(migrator, database):\n", True, True),
    "SQL": ("procrastinate/sql/migrations/00.sql", b"ALTER TABLE x", True, True),
    "SQL of anything": ("shop/schema.sql", b"CREATE TABLE x", False, False),
    "what is no code": ("shop/migrations/README", DJANGO_ONE, False, False),
}


@pytest.mark.parametrize(("name", "content", "own", "in_wheel"), MIGRATIONS.values(), ids=MIGRATIONS)
def test_what_is_a_migration_in_the_apps_own_code_and_in_a_wheel(command, name, content, own, in_wheel):
    assert (command.is_migration(name, content, own=True), command.is_migration(name, content)) == (own, in_wheel)


def wheel(path, name, version, files, requires=""):
    path.mkdir(exist_ok=True)
    file = path / f"{name}-{version}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
    files = files | {
        f"{name}-{version}.dist-info/METADATA": metadata,
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-{version}.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in files.items():
            archive.writestr(zipfile.ZipInfo(member), content)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


def test_a_build_says_which_migrations_it_installs(shop, made, commit, tmp_path):
    wheels = tmp_path / "wheels"
    env = {"PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def installed(requirements, **files):
        commit(shop, {"requirements.txt": requirements} | files)
        return record(made(shop, env=env))["installed_migrations"]

    plain = wheel(wheels, "plain", "1", {"plain.py": ""})
    seven = wheel(wheels, "wagtail", "7", {"wagtail/migrations/0001.py": DJANGO_ONE})
    same = wheel(wheels, "wagtail", "7.1", {"wagtail/migrations/0001.py": DJANGO_ONE, "wagtail/new.py": "x"})
    eight = wheel(wheels, "wagtail", "8", {f"wagtail/migrations/000{n}.py": DJANGO_ONE for n in (1, 2)})
    unknown = installed(plain)
    assert unknown.keys() == {"unknown"}
    # What starts its processes, or tells people of it, is no part of what they do to a database.
    assert installed(plain, **{"Procfile": "web: x\nworker: y\nrelease: z\n", "README.md": "x"}) == unknown
    assert installed(plain, **{"shop/tables.py": "x = 1\n"}) != unknown
    before = installed(plain + seven)
    assert before.keys() == {"wagtail"}
    assert installed(plain + same) == before
    after = installed(plain + eight)
    assert after.keys() == {"wagtail"} and after != before
    own = installed(plain + eight, **{"x/migrations/1.py": "class Migration:\n"})
    assert own == after | {"code": own["code"]}


def test_a_build_from_before_it_said_what_it_installs_is_made_again(shop, command, made):
    said = record(made(shop))
    assert said["installed_migrations"]
    result = made(shop)
    kept = {key: value for key, value in said.items() if key != "installed_migrations"} | {"wheels": {}}
    with tarfile.open(result["path"], "w:gz") as tar:
        text = json.dumps(kept).encode()
        info = tarfile.TarInfo("build.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    assert command.whole_build(result["path"], {"app": "shop"}) is None
    assert record(made(shop)) == said


REASONS = {
    "a wheel that there is not": (
        "ERROR: Could not find a version that satisfies the requirement salt==3008.3 (from versions: none)\n"
        "ERROR: No matching distribution found for salt==3008.3\n",
        [
            "salt==3008.3: has no wheel for Python 3.11 on x and nothing is compiled",
            "`pip wheel --no-deps salt==3008.3`",
            "PIP_FIND_LINKS",
            "lock again",
        ],
    ),
    "a newer Python": (
        "ERROR: Ignored the following versions that require a different python version: 5.1 Requires-Python >=3.10; "
        "6.0 Requires-Python >=3.12; 6.0.1 Requires-Python >=3.13\n"
        "ERROR: No matching distribution found for Django==6.0\n",
        ["Django==6.0: needs Python >=3.12, and this build is for Python 3.11 on x", "--python-version", "--python"],
    ),
    "a newer Python of another version": (
        "ERROR: Ignored the following versions that require a different python version: 16.0 Requires-Python >=3.12\n"
        "ERROR: No matching distribution found for Django==6.0\n",
        ["Django==6.0: has no wheel"],
    ),
    "a newer Python that is noticed late": (
        "ERROR: Package 'shop' requires a different Python: 3.11.2 not in '>=3.12,<4'\n",
        ["shop: needs Python >=3.12,<4, and this build is for Python 3.11 on x"],
    ),
}


@pytest.mark.parametrize(("errors", "words"), REASONS.values(), ids=REASONS)
def test_why_pip_failed_is_said_with_what_to_do(command, errors, words):
    said = command.pip_reason("", errors, "Python 3.11 on x")
    assert all(word in said for word in words), said
    assert "\n" not in said


def test_a_requirement_that_needs_a_newer_python_says_that(shop, run, commit, tmp_path):
    wheels = tmp_path / "wheels"
    pinned = wheel(wheels, "newer", "1", {"newer.py": ""}, "Requires-Python: >=3.12\n")
    commit(shop, {"requirements.txt": pinned})

    class Index(BaseHTTPRequestHandler):
        def do_GET(self):
            file = wheels / "newer-1-py3-none-any.whl"
            link = f'<a href="/{file.name}" data-requires-python="&gt;=3.12">{file.name}</a>'.encode()
            body = file.read_bytes() if self.path.endswith(".whl") else link
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_CONFIG_FILE": os.devnull, "PIP_EXTRA_INDEX_URL": ""}
    env |= {"NO_PROXY": "127.0.0.1", "PIP_INDEX_URL": f"http://127.0.0.1:{server.server_port}/simple"}
    of_index = run(shop, env=env | {"PIP_FIND_LINKS": ""})
    server.shutdown()
    server.server_close()
    of_directory = run(shop, env=env | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)})
    for done in (of_index, of_directory):
        refused(done, "needs Python >=3.12, and this build is for Python 3.11 on manylinux_2_36", "--python")


def test_the_examples_contracts_are_valid(command):
    for version in ("v1", "v2"):
        text = (ROOT / f"examples/faq/openapi/{version}.yaml").read_text()
        assert command.read_document(version, text)["version"] == version[1:]


def test_a_build_holds_the_code_the_wheels_and_what_they_are(shop, made, git):
    result = made(shop)
    head = git(shop, "rev-parse", "HEAD")
    assert result["path"] == str(shop.parents[1] / f"dist/shop-{head[:12]}-py3.11.tar.gz")
    assert {key: result[key] for key in ("app", "version", "python")} == {
        "app": "shop",
        "version": head[:12],
        "python": "3.11",
    }
    files = contents(result)
    [wheel] = [name for name in files if name.startswith("wheelhouse/")]
    assert set(files) == {"Procfile", "build.json", "requirements.txt", "shop", "shop/wsgi.py", "wheelhouse", wheel}
    said = record(result)
    digest = hashlib.sha256(files[wheel]).hexdigest()
    assert digest in IDNA
    assert said["wheels"] == {wheel.removeprefix("wheelhouse/"): digest}
    assert list(said["processes"].items()) == [
        ("web", "exec python -m http.server $PORT"),
        ("release", "python -c 'print(\"migrated\")'"),
    ]
    assert (said["format"], said["app"], said["version"], said["python"]) == (1, "shop", head[:12], "3.11")
    assert (said["commit"], said["tree"]) == (head, git(shop, "rev-parse", "HEAD:shop"))


def test_a_build_is_for_the_first_debian_where_none_is_given(shop, made):
    first, *_ = yaml.safe_load((ROOT / "salt/debian.yaml").read_text()).values()
    assert record(made(shop, python=None))["python"] == first["python"].rpartition(".")[0]


def test_the_same_commit_gives_the_same_bytes_whatever_the_clone(shop, made, git, commit, tmp_path):
    attributes = {
        "shop/.gitattributes": "*.txt.in export-subst\nsecret.txt export-ignore\n",
        "shop/v.txt.in": "$Format:%H %d %h$\n",
        "shop/secret.txt": "left out\n",
        "shop/Größe 1.txt": "a name\n",
        "shop/crlf.sh": "#!/bin/sh\n",
    }
    commit(shop.parent, attributes)
    (shop / "crlf.sh").chmod(0o755)
    (shop / "current").symlink_to("shop/wsgi.py")
    commit(shop.parent, {})
    first = made(shop, "--force")

    clone = tmp_path / "elsewhere" / "another name"
    git(tmp_path, "clone", "--quiet", str(shop.parent), str(clone))
    git(clone, "tag", "v1")
    commit(clone, {"README": "a later commit that does not touch the app\n"})
    git(clone, "config", "core.autocrlf", "true")
    git(clone, "config", "tar.umask", "0077")
    write(clone, {".git/info/attributes": "wsgi.py export-ignore\n* ident\n"})
    for path in (clone / "shop").rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    write(tmp_path, {"attributes": "Procfile export-ignore\n"})
    write(tmp_path, {"gitconfig": f"[core]\nattributesFile = {tmp_path}/attributes\neol = crlf\n"})
    env = {
        "GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"),
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
        "HOME": str(tmp_path),
        "PYTHONHASHSEED": "7",
    }
    second = made(clone / "shop", "--output", tmp_path / "out", "--ref", "HEAD", env=env, umask=0o077)

    assert first["path"] != second["path"]
    assert first["sha256"] == second["sha256"]
    files = contents(second)
    assert "secret.txt" not in files
    assert files["v.txt.in"] == b"$Format:%H %d %h$\n"
    assert files["crlf.sh"] == b"#!/bin/sh\n"
    with tarfile.open(second["path"]) as tar:
        members = {one.name: one for one in tar}
    assert list(members) == sorted(members, key=os.fsencode)
    assert members["crlf.sh"].mode == 0o755
    assert members["shop/wsgi.py"].mode == 0o644
    assert members["current"].linkname == "shop/wsgi.py"
    assert {(one.uid, one.gid, one.uname, one.gname) for one in members.values()} == {(0, 0, "", "")}
    assert {one.mtime for one in members.values()} == {int(git(shop, "log", "-1", "--format=%ct"))}


def test_the_version_is_the_newest_commit_that_touched_the_app(shop, made, commit, git):
    touched = git(shop, "rev-parse", "HEAD")
    commit(shop.parent, {"README": "not the app\n"})
    assert made(shop)["version"] == touched[:12]
    assert made(shop, "--version", "1.2.3")["path"].endswith("/shop-1.2.3-py3.11.tar.gz")


def test_an_earlier_commit_is_built_by_its_name(shop, made, commit, git):
    git(shop, "tag", "v1")
    commit(shop, {"shop/wsgi.py": "application = 2\n"})
    write(shop, {"shop/wsgi.py": "application = 3\n"})
    result = made(shop, "--ref", "v1")
    assert result["version"] == git(shop, "rev-parse", "v1")[:12]
    assert contents(result)["shop/wsgi.py"] == b"application = None\n"


def test_the_work_tree_is_built_as_it_is_on_disk_and_git_is_left_as_it_was(shop, made, commit, git):
    commit(shop.parent, {"shop/.gitignore": "*.log\n", "shop/kept.log": "tracked though ignored\n", "shop/gone": "-"})
    clean = made(shop, "--worktree")
    assert record(clean)["tree"] == git(shop, "rev-parse", "HEAD:shop")
    write(shop, {"new.py": "new\n", "left.log": "ignored\n", "shop/wsgi.py": "edited\n"})
    write(shop.parent, {"README": "not the app's\n"})
    (shop / "gone").unlink()
    write(shop, {"gone/is a directory": "now\n"})
    git(shop, "add", "new.py")
    write(shop, {"new.py": "newer than the index\n"})

    def repository():
        return {path: path.read_bytes() for path in (shop.parent / ".git").rglob("*") if path.is_file()}

    before = repository()
    result = made(shop, "--worktree")
    assert repository() == before
    said = record(result)
    assert said["commit"] is None
    assert result["version"] == said["version"] == f"tree-{said['tree'][:12]}"
    files = contents(result)
    assert files["new.py"] == b"newer than the index\n"
    assert files["shop/wsgi.py"] == b"edited\n"
    assert files["gone/is a directory"] == b"now\n"
    assert "kept.log" in files
    assert "left.log" not in files
    assert made(shop, "--worktree", "--force", umask=0o077)["sha256"] == result["sha256"]


def test_an_app_may_be_the_whole_of_a_repository_without_a_commit(tmp_path, made, git):
    directory = tmp_path / "solo"
    write(directory, {"Procfile": PROCFILE, "requirements.txt": ""})
    git(directory, "init", "--quiet")
    result = made(".", "--worktree", cwd=directory)
    assert set(contents(result)) == {"Procfile", "build.json", "requirements.txt", "wheelhouse"}
    # What was built does not become a part of the app.
    assert made(".", "--worktree", cwd=directory)["version"] == result["version"]


def test_it_builds_the_same_in_a_hook_of_another_repository(shop, made, git, tmp_path):
    other = tmp_path / "other"
    git(tmp_path, "init", "--quiet", str(other))
    result = made(shop, env={"GIT_DIR": str(other / ".git"), "GIT_INDEX_FILE": str(other / "index"), "GIT_PREFIX": ""})
    assert result["version"] == git(shop, "rev-parse", "HEAD")[:12]


# --- Wheels -----------------------------------------------------------------------------------------------------------


def test_markers_are_asked_of_the_hosts_python(shop, made, commit):
    """Debian 12 has Python 3.11.2, Debian 13 has 3.13.5; the one that runs this may be any."""
    lock = [
        locked("idna", " ; python_full_version < '3.11.3'"),
        locked("colorama", " ; sys_platform == 'win32'"),
        locked("backports-tarfile", " ; python_version < '3.12'"),
        locked("iniconfig", " ; python_full_version >= '3.13.1' and platform_machine == 'x86_64'"),
    ]
    commit(shop, {"requirements.txt": "# a lock\n\n" + "".join(lock)})

    def names(result):
        return {parse_wheel_filename(file)[0] for file in record(result)["wheels"]}

    assert names(made(shop, "--python", "3.11", "--machine", "x86_64")) == {"idna", "backports-tarfile"}
    assert names(made(shop, "--python", "3.13", "--machine", "x86_64")) == {"iniconfig"}
    assert names(made(shop, "--python", "3.13", "--machine", "aarch64")) == set()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(("python", "tag", "glibc"), [("3.11", "cp311", 36), ("3.13", "cp313", 41)])
def test_compiled_wheels_are_the_hosts(shop, made, commit, python, tag, glibc, machine):
    commit(shop, {"requirements.txt": locked("markupsafe")})
    said = record(made(shop, "--python", python, "--machine", machine))
    [wheel] = said["wheels"]
    tags = parse_wheel_filename(wheel)[3]
    assert {(one.interpreter, one.abi) for one in tags} == {(tag, tag)}
    assert all(re.fullmatch(rf"manylinux.*_{machine}", one.platform) for one in tags)
    assert said["platform"] == f"manylinux_2_{glibc}_{machine}"


def test_a_change_of_the_code_alone_needs_no_index(shop, made, commit):
    wheels = record(made(shop))["wheels"]
    commit(shop, {"shop/wsgi.py": "application = 2\n"})
    result = made(shop, env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""})
    assert record(result)["wheels"] == wheels


def test_a_damaged_wheel_in_the_cache_is_fetched_again(shop, made, tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    first = made(shop, env=cache)
    [kept] = (tmp_path / "cache").rglob("*.whl")
    kept.write_bytes(b"damaged")
    assert made(shop, "--force", env=cache)["sha256"] == first["sha256"]


# --- Again ------------------------------------------------------------------------------------------------------------


def test_a_whole_build_is_used_again_and_a_damaged_one_is_not(shop, run, made, tmp_path):
    first = made(shop)
    path = Path(first["path"])
    whole = path.stat()
    again = run(shop, env={"PIP_NO_INDEX": "1"})
    assert json.loads(again.stdout) == first
    assert "built already" in again.stderr
    assert path.stat().st_ino == whole.st_ino
    assert made(shop, "--force") == first
    assert path.stat().st_ino != whole.st_ino

    damaged = bytearray(path.read_bytes())
    for harm in (damaged[: len(damaged) // 2], damaged[:-8] + bytes(8), b"", b"not a tarball"):
        path.write_bytes(harm)
        assert made(shop) == first
    with tarfile.open(path) as whole, tarfile.open(tmp_path / "less.tar.gz", "w:gz") as less:
        for member in whole:
            if not member.name.endswith(".whl"):
                less.addfile(member, whole.extractfile(member))
    os.rename(tmp_path / "less.tar.gz", path)
    assert made(shop) == first


def test_a_build_of_another_tree_under_the_same_version_is_replaced(shop, made, commit):
    first = made(shop, "--version", "1")
    commit(shop, {"shop/wsgi.py": "application = 2\n"})
    second = made(shop, "--version", "1")
    assert first["path"] == second["path"]
    assert contents(second)["shop/wsgi.py"] == b"application = 2\n"


# --- What a host makes of it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_the_example_is_built_and_a_host_accepts_it(made, build, tmp_path, python):
    result = made(ROOT / "examples/faq", "--worktree", "--python", python, "--output", tmp_path / "out")
    build.extract(result["path"], str(tmp_path / "unpacked"))
    said = json.loads((tmp_path / "unpacked/build.json").read_text())
    assert (said["format"], said["python"]) == (build.FORMAT, python)
    assert set(said["processes"]) >= {"web", "release"}
    assert (tmp_path / "unpacked/manage.py").stat().st_mode & 0o111
    on_disk = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "unpacked/wheelhouse").iterdir()
    }
    assert on_disk == said["wheels"]


# --- The pillar -------------------------------------------------------------------------------------------------------


def test_a_build_is_declared_beside_the_others(shop, made, tmp_path, settings):
    pillar = tmp_path / "pillar/builds/dev.sls"
    first = made(shop, "--declare", pillar)
    assert "\n# Written by bin/build" in pillar.read_text()
    assert yaml.safe_load(pillar.read_text()) == {
        "app": {
            "shop": {"build": {"source": first["path"], "sha256": first["sha256"], "processes": ["release", "web"]}}
        }
    }
    made(shop, "--name", "stall", "--declare", pillar, "--source", "salt://builds/")
    last = made(shop, "--version", "2", "--declare", pillar, "--source", "https://builds.example.com/shop")
    apps = yaml.safe_load(pillar.read_text())["app"]
    assert list(apps) == ["shop", "stall"]
    assert apps["shop"]["build"] == {
        "source": "https://builds.example.com/shop/shop-2-py3.11.tar.gz",
        "sha256": last["sha256"],
        "processes": ["release", "web"],
    }
    assert re.fullmatch(r"salt://builds/stall-[0-9a-f]{12}-py3\.11\.tar\.gz", apps["stall"]["build"]["source"])
    assert os.listdir(pillar.parent) == ["dev.sls"]
    schema = re.match(r"# yaml-language-server: \$schema=(.*)\n", pillar.read_text())[1]
    assert (ROOT / "pillar/builds" / schema).resolve() == ROOT / "docs/environment.schema.json"


def test_apps_that_are_declared_at_the_same_time_wait_for_each_other(shop, environment, tmp_path):
    pillar = tmp_path / "builds/dev.sls"
    pillar.parent.mkdir()
    other = {"app": {"other": {"build": {"source": "/srv/other.tar.gz", "sha256": "0" * 64}}}}
    held = os.open(pillar.parent, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    command = [sys.executable, ROOT / "bin/build", shop, "--declare", pillar]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as it:
        while it.poll() is None and not re.search(
            rf"-> FLOCK +ADVISORY +WRITE {it.pid} ", Path("/proc/locks").read_text()
        ):
            time.sleep(0.05)
        pillar.write_text(yaml.safe_dump(other))
        os.close(held)
        assert it.wait() == 0
    assert list(yaml.safe_load(pillar.read_text())["app"]) == ["other", "shop"]


@pytest.mark.parametrize(
    "text",
    [
        "app:\n  shop:\n    port: 8000\n",
        "app:\n  shop:\n    build: {source: /srv/x, sha256: short}\n",
        "app: {}\npostgres: {}\n",
        "{% set x = 1 %}\napp: {}\n",
        "just text\n",
        "- a list\n",
        "a: [\n",
        "a\0b",
    ],
)
def test_a_file_that_holds_anything_else_is_left_alone(shop, run, tmp_path, text):
    pillar = tmp_path / "mine.sls"
    pillar.write_text(text)
    refused(run(shop, "--declare", pillar), str(pillar), "expected a file that --declare wrote")
    assert pillar.read_text() == text
    assert not (tmp_path / "dist").exists()


def test_the_build_of_an_app_that_is_removed_is_forgotten_and_the_others_stay(shop, run, made, tmp_path):
    pillar = tmp_path / "pillar/builds/dev.sls"
    made(shop, "--declare", pillar)
    stall = made(shop, "--name", "stall", "--declare", pillar)
    done = run("--forget", "shop", "--declare", pillar)
    assert done.returncode == 0
    assert json.loads(done.stdout)["app"] == "shop"
    assert "declares no build of shop any more; the tarball stays where it is: " in done.stderr
    assert list(yaml.safe_load(pillar.read_text())["app"]) == ["stall"]
    assert Path(stall["path"]).exists()
    before = pillar.read_text()
    refused(run("--forget", "shop", "--declare", pillar), "declares no build of shop; expected one of stall")
    refused(run("--forget", "", "--declare", pillar), "expected one of stall")
    assert pillar.read_text() == before
    assert run("--forget", "stall", "--declare", pillar).returncode == 0
    assert yaml.safe_load(pillar.read_text()) == {"app": {}}
    refused(run("--forget", "stall", "--declare", pillar), "declares no build of stall or another")
    refused(run("--forget", "shop", "--declare", tmp_path / "other.sls"), "other.sls: no such file")
    assert not (tmp_path / "other.sls").exists()
    pillar.write_text("app: {shop: {port: 8000}}\n")
    refused(run("--forget", "shop", "--declare", pillar), "expected a file that --declare wrote")


# --- Refusals ---------------------------------------------------------------------------------------------------------

HASH = "--hash=sha256:" + "0" * 64
CODE = {
    "no Procfile": ({"Procfile": None}, ["has no Procfile", "expected one"]),
    "an empty Procfile": ({"Procfile": "\n# none\n"}, ["Procfile", "has no process type"]),
    "a line that is no process": ({"Procfile": "web: a\nworker b\n"}, ["Procfile line 2", "`type: command`"]),
    "a process without a command": ({"Procfile": "web:  \n"}, ["Procfile line 1", "`type: command`"]),
    "a process type's name": ({"Procfile": "Web: a\n"}, ["Procfile line 1: Web", "lower-case letters"]),
    "a process type's name of 32 characters": ({"Procfile": "a" * 32 + ": b\n"}, ["line 1: aaa", "at most 31 lower"]),
    "a command with a NUL": ({"Procfile": "web: a\0b\n"}, ["Procfile line 1: web: has a NUL"]),
    "more commands than a host reads": (
        {"Procfile": "".join(f"p{number}: {'x' * 1000}\n" for number in range(1100))},
        ["Procfile: larger than 524288 bytes; expected less. Move long commands into scripts"],
    ),
    "a contract that is a link": (
        {"api.yaml": CONTRACT, "openapi/v1.yaml": Path("../api.yaml")},
        ["openapi/v1.yaml: a link; expected a file"],
    ),
    "a link through a name and back": (
        {"a/b": "x", "c": "x", "link": Path("a/../c")},
        ["link: links through a name and back, to a/../c; expected c"],
    ),
    "a process type twice": ({"Procfile": "web: a\nweb: b\n"}, ["Procfile line 2: web", "twice"]),
    "a link of a Procfile to itself": ({"Procfile": Path("Procfile")}, ["has no Procfile"]),
    "no requirements": ({"requirements.txt": None}, ["has no requirements.txt", "uv pip compile"]),
    "an unhashed requirement": ({"requirements.txt": f"\n{BARE}\n"}, ["line 2: idna", "--hash", "uv pip compile"]),
    "a short hash": ({"requirements.txt": f"{BARE} --hash=sha256:00\n"}, ["line 1: idna", "--hash"]),
    "an unpinned requirement": ({"requirements.txt": f"idna>=3 {HASH}\n"}, ["line 1: idna", "not pinned"]),
    "a bare requirement": ({"requirements.txt": f"idna {HASH}\n"}, ["line 1: idna", "not pinned"]),
    "a wildcard": ({"requirements.txt": f"idna==3.* {HASH}\n"}, ["line 1: idna", "not pinned"]),
    "a requirement twice": ({"requirements.txt": IDNA + IDNA}, ["idna", "twice"]),
    "an editable": ({"requirements.txt": "-e .\n"}, ["line 1: -e", "expected pinned requirements only"]),
    "another file": ({"requirements.txt": f"{IDNA}-r more.txt\n"}, ["-r", "expected pinned requirements only"]),
    "an index": ({"requirements.txt": "--index-url=https://me:hunter2@x/\n"}, ["line 1: --index-url:", "pip.conf"]),
    "a URL": ({"requirements.txt": "shop @ https://me:hunter2@example.com/shop.whl\n"}, ["line 1: shop", "a URL"]),
    "a URL without a name": ({"requirements.txt": "git+https://me:hunter2@example.com/x\n"}, ["line 1: not a req"]),
    "a path": ({"requirements.txt": "./vendored\n"}, ["line 1: not a requirement"]),
    "bytes": ({"requirements.txt": b"\xff\xfe"}, ["requirements.txt: not UTF-8"]),
    "no wheel": ({"requirements.txt": locked("salt")}, ["salt==", "has no wheel for Python 3.11 on manylinux_2_36"]),
    "another file than the locked one": (
        {"requirements.txt": f"{BARE} {HASH}\n"},
        [BARE, "not what requirements.txt locks"],
    ),
    "a dependency that is not locked": (
        {"requirements.txt": locked("jinja2")},
        ["requirements.txt: not whole", "markupsafe"],
    ),
    "the record's name": ({"build.json": "{}"}, ["build.json", "rename it"]),
    "the wheelhouse's name": ({"wheelhouse/x.whl": ""}, ["wheelhouse", "rename it"]),
    "a virtual environment": ({".venv/pyvenv.cfg": ""}, [".venv", "rename it"]),
    "a link out of the app": ({"a/link": Path("../../README")}, ["a/link", "links out of", "Copy what it links to"]),
    "a link to anywhere": ({"link": Path("/etc/passwd")}, ["link: links out of", "/etc/passwd"]),
    "a deep path": ({"/".join(["a"] * 101): "x"}, ["a/a/a", "100 directories deep", "Move it"]),
    "a long path": ({"/".join(["a" * 200] * 6): "x"}, ["longer than 1000 bytes", "Move it"]),
    "a pointer of git-lfs": ({"movie.mp4": LFS}, ["movie.mp4: a git-lfs pointer"]),
}


@pytest.mark.parametrize(("files", "words"), CODE.values(), ids=CODE)
def test_code_that_cannot_be_a_build_is_refused(shop, run, commit, tmp_path, files, words):
    for path, content in files.items():
        place = shop / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            place.unlink()
        if isinstance(content, Path):
            place.symlink_to(content)
        elif content is not None:
            place.write_bytes(content if isinstance(content, bytes) else content.encode())
    commit(shop, {})
    done = run(shop)
    refused(done, *words)
    assert "hunter2" not in done.stderr
    assert os.listdir(tmp_path / "dist") == [".gitignore"]


def test_a_commit_of_a_time_that_no_host_keeps_is_built(shop, made, git, environment):
    write(shop, {"later": "x"})
    git(shop, "add", "--all")
    environment |= {"GIT_COMMITTER_DATE": "@9999999999 +0000", "GIT_AUTHOR_DATE": "@9999999999 +0000"}
    git(shop, "commit", "--quiet", "--message", "later")
    with tarfile.open(made(shop)["path"]) as tar:
        assert {member.mtime for member in tar} == {(1 << 32) - 1}


def test_uncommitted_changes_are_refused_by_name(shop, run):
    write(shop, {"shop/wsgi.py": "edited\n", "a\nb": "", "c.py": "", "d.py": "", "e.py": ""})
    refused(run(shop), "uncommitted changes in ", "shop/wsgi.py, 'a\\nb', c.py and 2 more", "--worktree", "--ref HEAD")


def test_changes_beside_the_app_are_not_its_own(shop, made):
    write(shop.parent, {"README": "edited\n"})
    made(shop)


def test_a_submodule_is_refused(shop, run, git, tmp_path):
    library = tmp_path / "library"
    shutil.copytree(shop.parent, library)
    git(shop, "submodule", "--quiet", "add", str(library), "vendored/library")
    refused(run(shop, "--worktree"), "vendored/library", "a submodule")
    git(shop, "commit", "--quiet", "--message", "a submodule")
    refused(run(shop), "vendored/library", "a submodule")


def test_a_repository_in_the_app_is_refused(shop, run, tmp_path):
    shutil.copytree(shop.parent / ".git", shop / "vendored/.git")
    write(shop, {"vendored/x.py": ""})
    refused(run(shop, "--worktree"), "vendored", "a submodule")


def test_a_shallow_clone_is_refused_where_it_cannot_tell_the_version(shop, run, made, commit, git, tmp_path):
    touched = git(shop, "rev-parse", "HEAD")
    commit(shop.parent, {"README": "not the app\n"})
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{shop.parent}", str(clone))
    refused(run(clone / "shop"), "too shallow", "git fetch --unshallow")
    git(clone, "fetch", "--quiet", "--unshallow")
    assert made(clone / "shop")["version"] == touched[:12]


def test_places_that_hold_no_app_are_refused(shop, run, git, tmp_path):
    refused(run(tmp_path / "nowhere"), "nowhere: no such directory")
    (tmp_path / "plain").mkdir()
    refused(run(tmp_path / "plain"), "plain: not in a git work tree")
    git(tmp_path, "init", "--quiet", "fresh")
    refused(run(tmp_path / "fresh"), "fresh: the repository has no commit yet", "--worktree")
    refused(run(tmp_path / "fresh", "--worktree"), "fresh: has no files")
    git(tmp_path / "fresh", "commit", "--quiet", "--allow-empty", "--message", "nothing yet")
    refused(run(tmp_path / "fresh"), "fresh: has no files")
    git(tmp_path, "init", "--quiet", "--bare", "bare")
    refused(run(tmp_path / "bare"), "bare: not in a git work tree")
    refused(run(shop, "--ref", "v9"), "--ref v9: no such commit")
    (shop.parent / "empty").mkdir()
    refused(run(shop.parent / "empty"), "empty: not in HEAD", "--worktree")


@pytest.mark.parametrize("name", ["Shop", "nginx", "postgres", "", "a/b", "-x", "x" * 40, "new\nline"])
def test_a_name_that_no_app_can_have_is_refused(shop, run, name):
    refused(run(shop, f"--name={name}"), "not an app's name", "--name")


def test_an_index_that_cannot_be_reached_is_said_without_its_password(shop, run, tmp_path):
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    env |= {"PIP_INDEX_URL": "https://me:hunter2@127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_EXTRA_INDEX_URL": ""}
    done = run(shop, env=env | {"NO_PROXY": "127.0.0.1"})
    refused(done, "the package index fails", "Connection refused", "PIP_INDEX_URL")
    assert "hunter2" not in done.stderr
    proxied = run(
        shop,
        env=env | {"PIP_INDEX_URL": "https://index.invalid/simple", "HTTPS_PROXY": "http://me:hunter2@127.0.0.1:9"},
    )
    refused(proxied, "the package index fails", "proxy")
    assert "hunter2" not in proxied.stderr
    assert list((tmp_path / "cache/saltern/wheels").iterdir()) == []


def test_an_index_that_answers_with_an_error_is_said_without_its_password(shop, run, tmp_path):
    class Broken(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(500)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    env |= {"PIP_RETRIES": "0", "PIP_EXTRA_INDEX_URL": "", "NO_PROXY": "127.0.0.1"}
    done = run(shop, env=env | {"PIP_INDEX_URL": f"http://me:hunter2@127.0.0.1:{server.server_port}/simple"})
    server.shutdown()
    server.server_close()
    refused(done, "the package index fails", "500", "PIP_INDEX_URL")
    assert "hunter2" not in done.stderr


def test_no_reason_of_pips_is_passed_on_with_a_password(command):
    log = "Could not fetch URL https://x/idna/: 401 Client Error for url: https://me:hunter2@x/idna/ - skipping\n"
    for reason in (
        command.pip_reason(log, "ERROR: No matching distribution found for idna==3\n", "Python 3.11"),
        command.pip_reason("", "ERROR: no answer from https://me:hunter2@x/\n", "Python 3.11"),
    ):
        assert "https://x/" in reason
        assert "hunter2" not in reason


def test_an_output_that_cannot_be_written_is_refused(shop, run, tmp_path):
    (tmp_path / "file").write_text("not a directory\n")
    refused(run(shop, "--output", tmp_path / "file/dist"), "file/dist: Not a directory", "--output")
    refused(run(shop, "--output", tmp_path / "file"), "file: ", "--output")
    refused(run(shop, "--declare", tmp_path / "file/dev.sls"), "file", "Not a directory")


def test_a_build_that_finds_no_room_leaves_nothing_behind(shop, run, made, tmp_path):
    first = made(shop)

    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    refused(run(shop, "--force", preexec_fn=no_room), "File too large", "--output")
    assert sorted(os.listdir(tmp_path / "dist")) == [".gitignore", Path(first["path"]).name]
    assert made(shop) == first


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "APP_DIR"),
        (["x", "--python", "3.12"], "3.12"),
        (["x", "--ref", "a", "--worktree"], "not allowed with"),
        (["x", "--version", "../up"], "--version: expected"),
        (["x", "--source", "/srv"], "--declare"),
        (["x", "--nonsense"], "--nonsense"),
        (["x", "--forget", "x", "--declare", "y"], "no APP_DIR"),
        (["--forget", "x"], "--declare FILE"),
    ],
)
def test_a_command_line_that_cannot_be_read_ends_with_2(run, arguments, word):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert word in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("source", ["http://builds.example.com", "dist", "ftp://x", "https://a b"])
def test_a_source_that_no_host_can_read_is_refused(shop, run, tmp_path, source):
    refused(run(shop, "--declare", tmp_path / "dev.sls", "--source", source), source, "--source")
    assert not (tmp_path / "dev.sls").exists()


def test_help_names_every_option(run):
    done = run("--help")
    assert done.returncode == 0
    for word in (
        "APP_DIR",
        "--ref",
        "--worktree",
        "--python",
        "--declare",
        "--source",
        "--forget",
        "pip.conf",
        "Exit codes",
    ):
        assert word in done.stdout


# --- The tools' virtual environment -----------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    """A copy of the command in a tree without a virtual environment."""
    (tmp_path / "tree/bin").mkdir(parents=True)
    (tmp_path / "tree/salt").mkdir()
    shutil.copy(ROOT / "salt/debian.yaml", tmp_path / "tree/salt")
    return Path(shutil.copy(ROOT / "bin/build", tmp_path / "tree/bin")).parents[1]


def test_it_enters_the_trees_virtual_environment(tree):
    (tree / ".venv").symlink_to(sys.prefix)
    done = subprocess.run([sys.executable, "-IS", tree / "bin/build", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: build" in done.stdout


def test_without_it_one_line_says_what_to_do(tree):
    done = subprocess.run([sys.executable, "-IS", tree / "bin/build", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"build: \w+ is not installed: .*; run make tools\n", done.stderr)


def test_what_is_said_commands_no_terminal(command, capsys):
    command.say(command.Refusal("openapi/v1.yaml: paths: \x1b[2J\x9b\u202e"))
    assert capsys.readouterr().err == "build: openapi/v1.yaml: paths: \\x1b[2J\\x9b\\u202e\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["bin/build-release", "examples/faq"], "run bin/build, which takes the same options; nothing was done"),
        (
            ["make", "release", "APP=faq", "SUITE=trixie"],
            "run make build APP='faq' SUITE='trixie', which takes the same variables; nothing was done",
        ),
    ],
)
def test_a_former_name_tells_the_new_one_and_does_nothing(command, expected):
    own = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.returncode
    assert expected in done.stderr
    assert done.stdout == ""

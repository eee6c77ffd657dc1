"""Code that cannot be a build."""

import contextlib
import os
from pathlib import Path

import pytest

from tests.unit.builds.make.apps import (
    BARE,
    CONTRACT,
    IDNA,
    LFS,
    locked,
    refused,
)

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

"""A build's tarball: the same content gives the same bytes, and a damaged one is made again."""

import hashlib
import io
import json
import os
import resource
import tarfile
from pathlib import Path

import pytest
import yaml

from saltern.builds.form import FORMAT
from saltern.builds.make import tarball
from saltern.builds.tarball import extract
from tests.unit.builds.make.apps import IDNA, ROOT, contents, record, refused, write


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


def test_a_build_older_than_contracts_is_made_again(shop, made):
    result = made(shop)
    wanted = {"app": "shop"}
    assert tarball.whole_build(result["path"], wanted)["app"] == "shop"
    with tarfile.open(result["path"], "w:gz") as tar:
        text = json.dumps({"app": "shop", "wheels": {}}).encode()
        info = tarfile.TarInfo("build.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    assert tarball.whole_build(result["path"], wanted) is None


def test_a_build_without_a_list_of_what_it_installs_is_made_again(shop, made):
    said = record(made(shop))
    assert said["installed_migrations"]
    result = made(shop)
    kept = {key: value for key, value in said.items() if key != "installed_migrations"} | {"wheels": {}}
    with tarfile.open(result["path"], "w:gz") as tar:
        text = json.dumps(kept).encode()
        info = tarfile.TarInfo("build.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    assert tarball.whole_build(result["path"], {"app": "shop"}) is None
    assert record(made(shop)) == said


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


@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_the_example_is_built_and_a_host_accepts_it(made, tmp_path, python):
    result = made(ROOT / "examples/faq", "--worktree", "--python", python, "--output", tmp_path / "out")
    extract(result["path"], str(tmp_path / "unpacked"))
    said = json.loads((tmp_path / "unpacked/build.json").read_text())
    assert (said["format"], said["python"]) == (FORMAT, python)
    assert set(said["processes"]) >= {"web", "release"}
    assert (tmp_path / "unpacked/manage.py").stat().st_mode & 0o111
    on_disk = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "unpacked/wheelhouse").iterdir()
    }
    assert on_disk == said["wheels"]


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

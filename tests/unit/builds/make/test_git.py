"""Which code is built: commits, the work tree, and repositories that are refused."""

import shutil
import tarfile

from tests.unit.builds.make.apps import PROCFILE, contents, record, refused, write


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
    # An earlier build does not become a part of the app.
    assert made(".", "--worktree", cwd=directory)["version"] == result["version"]


def test_it_builds_the_same_in_a_hook_of_another_repository(shop, made, git, tmp_path):
    other = tmp_path / "other"
    git(tmp_path, "init", "--quiet", str(other))
    result = made(shop, env={"GIT_DIR": str(other / ".git"), "GIT_INDEX_FILE": str(other / "index"), "GIT_PREFIX": ""})
    assert result["version"] == git(shop, "rev-parse", "HEAD")[:12]


def test_a_commit_of_a_time_that_no_host_keeps_is_built(shop, made, git, environment, monkeypatch):
    write(shop, {"later": "x"})
    git(shop, "add", "--all")
    for who in ("COMMITTER", "AUTHOR"):
        monkeypatch.setitem(environment, f"GIT_{who}_DATE", "@9999999999 +0000")
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

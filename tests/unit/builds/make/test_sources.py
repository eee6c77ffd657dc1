"""Requirements without a wheel: what is built from source, apart, and what is refused with the way out."""

import hashlib
import io
import os
import re
import tarfile

import pytest
from packaging.utils import parse_wheel_filename

from tests.unit.builds.make.apps import contents, record, wheel

# A backend that lies in the source itself, and makes a wheel of what it sees.
BACKEND = """\
import os, socket, zipfile
def get_requires_for_build_wheel(config_settings=None):
    return {asks}
def build_wheel(directory, config_settings=None, metadata_directory=None):
    {work}
    name = "{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as archive:
        for path, text in (
            ("{name}.py", seen),
            ("{name}-{version}.dist-info/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"),
            ("{name}-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {tag}\\n"),
            ("{name}-{version}.dist-info/RECORD", ""),
        ):
            archive.writestr(zipfile.ZipInfo(path), text)
    return name
"""
LOOK = """\
    seen = repr((sorted(os.environ), os.getcwd(), os.environ["SOURCE_DATE_EPOCH"], sorted(os.listdir("/root"))))
    try:
        socket.create_connection(("192.0.2.1", 9), 1)
    except OSError as error:
        seen += repr(error.errno)
"""
PYPROJECT = '[build-system]\nrequires = {requires}\nbuild-backend = "own"\nbackend-path = ["."]\n'


def source(
    path, requires=(), asks=(), work=LOOK, name="odd", version="1.0", tag="py3-none-any", members=(), project=""
):
    """Write a source into a directory; return its line of a requirements file."""
    path.mkdir(exist_ok=True)
    backend = BACKEND.format(asks=list(asks), work=work.strip(), name=name, version=version, tag=tag)
    texts = {"own.py": backend, "pyproject.toml": project or PYPROJECT.format(requires=list(requires))}
    file = path / f"odd-{version}.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        for member, text in [*((f"odd-{version}/{one}", text) for one, text in texts.items()), *members]:
            info = tarfile.TarInfo(member)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return f"odd=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


@pytest.fixture
def index(tmp_path):
    """What has the sources and wheels of a test, and the environment by which pip knows it."""
    (tmp_path / "index").mkdir()
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    return tmp_path / "index", env | {"PIP_FIND_LINKS": str(tmp_path / "index"), "PIP_EXTRA_INDEX_URL": ""}


@pytest.fixture
def told(run, commit, shop, index):
    """Return a function that commits files whose build is refused, and returns the last line that was told."""

    def call(files, *arguments):
        commit(shop, files)
        done = run(shop, *(arguments or ("--allow-sdist", "odd")), env=index[1])
        assert (done.returncode, done.stdout) == (1, ""), done
        assert "Traceback" not in done.stderr
        return done.stderr

    return call


def test_a_requirement_without_a_wheel_is_refused_with_the_way_out(told, index):
    said = told({"requirements.txt": source(index[0])}, "--python", "3.11")
    assert "odd==1.0: has no wheel for Python 3.11 on manylinux_2_36" in said
    assert "`make build` with ALLOW_SDIST=odd, or bin/build with --allow-sdist odd" in said


def test_a_wheel_is_built_apart_and_the_host_is_told_its_hash(made, commit, shop, index, tmp_path):
    commit(shop, {"requirements.txt": f"# a lock\n{source(index[0])}"})
    result = made(shop, "--allow-sdist", "Odd", env=index[1] | {"AWS_SECRET": "of whoever builds"})
    [(file, digest)] = record(result)["wheels"].items()
    assert file == "odd-1.0-py3-none-any.whl"
    [line] = re.findall("^odd.*$", contents(result)["requirements.txt"].decode(), re.MULTILINE)
    assert line.startswith(f"odd==1.0 --hash=sha256:{digest} --hash=sha256:")
    [kept] = (tmp_path / "cache").glob("saltern/wheels/built-*/*.whl")
    seen = kept.read_bytes().decode("latin-1")
    assert "AWS_SECRET" not in seen
    assert "'/mnt/app', '315532800', []" in seen
    # There is no way to any network.
    assert "])101" in seen or ")101" in seen
    # What was built once needs no source again, and a change of the code makes the same wheel.
    (index[0] / "odd-1.0.tar.gz").unlink()
    commit(shop, {"shop/wsgi.py": "application = 2\n"})
    assert record(made(shop, "--allow-sdist", "odd", env=index[1]))["wheels"] == {file: digest}


def test_the_same_source_gives_the_same_bytes(made, commit, shop, index, tmp_path):
    commit(shop, {"requirements.txt": source(index[0])})
    first = made(shop, "--allow-sdist", "odd", env=index[1])
    (tmp_path / "elsewhere").mkdir()
    other = {"XDG_CACHE_HOME": str(tmp_path / "other"), "TMPDIR": str(tmp_path / "elsewhere")}
    assert made(shop, "--allow-sdist", "odd", "--force", env=index[1] | other)["sha256"] == first["sha256"]


def test_a_damaged_wheel_in_the_cache_is_built_again(made, commit, shop, index, tmp_path):
    commit(shop, {"requirements.txt": source(index[0])})
    first = made(shop, "--allow-sdist", "odd", env=index[1])
    for kept in (tmp_path / "cache").rglob("*.whl"):
        kept.write_bytes(b"damaged")
    assert made(shop, "--allow-sdist", "odd", "--force", env=index[1])["sha256"] == first["sha256"]


def test_what_builds_a_wheel_is_locked_too(made, told, commit, shop, index):
    work = "    import maker\n    seen = maker.TEXT\n"
    pinned = wheel(index[0], "maker", "2.0", {"maker.py": "TEXT = 'made'\n"})
    lock = source(index[0], requires=["maker>=1; python_version > '3'", "never; python_version < '3'"], work=work)
    files = {"requirements.txt": lock}
    said = told(files)
    assert "build: requirements-build.txt: there is no such file; expected the locked requirements of what" in said
    assert """printf '%s\\n' 'maker>=1; python_version > '"'"'3'"'"'' >>requirements-build.in""" in said
    assert ">>requirements-build.in && uv pip compile --universal --generate-hashes requirements-build.in" in said
    said = told(files | {"requirements-build.txt": pinned.replace("2.0", "0.9")})
    assert "requirements-build.txt: lacks maker>=1" in said
    said = told(files | {"requirements-build.txt": "maker>=1\n"})
    assert "requirements-build.txt line 1: maker: not pinned" in said
    assert "requirements-build.in -o requirements-build.txt" in said
    commit(shop, files | {"requirements-build.txt": pinned})
    assert [*record(made(shop, "--allow-sdist", "odd", env=index[1]))["wheels"]] == ["odd-1.0-py3-none-any.whl"]


def test_what_a_backend_asks_for_by_itself_is_locked_too(told, index):
    said = told({"requirements.txt": source(index[0], asks=["later"]), "requirements-build.txt": ""})
    assert "requirements-build.txt: lacks later; expected the locked requirements of what builds odd" in said


def test_a_source_of_another_digest_is_refused(told, index):
    lock = source(index[0])
    source(index[0], work="    seen = 'another'\n")
    assert "odd==1.0: what the index has is not what requirements.txt locks; lock it again" in told(
        {"requirements.txt": lock}
    )


def test_a_name_that_is_no_requirement_is_refused(told, index):
    said = told({"requirements.txt": source(index[0])}, "--allow-sdist", "odd,even")
    assert "build: --allow-sdist even: requirements.txt has no such requirement for Python 3.11" in said


def test_neither_a_wheel_nor_a_source_is_told(told, index):
    lock = source(index[0])
    (index[0] / "odd-1.0.tar.gz").unlink()
    assert "odd==1.0: the index has neither a wheel for the hosts nor a source of it" in told(
        {"requirements.txt": lock}
    )


def test_a_wheel_that_there_is_is_taken(run, commit, shop, index):
    commit(shop, {"requirements.txt": wheel(index[0], "odd", "1.0", {"odd.py": ""})})
    done = run(shop, "--allow-sdist", "odd", env=index[1])
    assert (done.returncode, "build: odd: has a wheel, and is not built from its source" in done.stderr) == (0, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"work": "    print('one'); raise SystemExit('no luck')"}, ["odd 1.0: exit code 1; it said last:", "no luck"]),
        (
            {"work": "    raise SystemExit('odd.c:1:10: fatal error: Python.h: No such file or directory')"},
            ["Python.h is missing: apt install python3-dev, and build again"],
        ),
        ({"work": "    return 'nothing'"}, ["odd 1.0: its build made no wheel; lock another version"]),
        (
            {"work": "    os.symlink('/etc/shadow', directory + '/odd-1.0-py3-none-any.whl'); return ''"},
            ["odd 1.0: its build made no wheel; lock another version"],
        ),
        (
            {"work": "    open(directory + '/odd-1.0-py3-none-any.whl', 'w').close(); return ''"},
            ["odd-1.0-py3-none-any.whl: its build made no wheel (BadZipFile); lock another version"],
        ),
        ({"project": "build-system = 3"}, ["odd==1.0: its source cannot be read: pyproject.toml: its build-system"]),
        ({"project": "[build-system]\nrequires = 'a'"}, ["pyproject.toml: its build-system is none; lock another"]),
        ({"project": "build-system"}, ["odd==1.0: its source cannot be read: "]),
        ({"name": "even"}, ["odd 1.0: its build made even-1.0-py3-none-any.whl; expected a wheel of the version"]),
        (
            {"tag": "cp27-cp27m-win32"},
            [
                "odd-1.0-cp27-cp27m-win32.whl: was built from the source of odd and does not fit Python 3.11",
                "container of the hosts",
            ],
        ),
        ({"members": [("../x", "")]}, ["odd==1.0: its source cannot be read: ", "../x leaves the build"]),
        ({"members": [("other", "")]}, ["odd==1.0: its source cannot be read: "]),
        ({"requires": ["a b"]}, ["'a b': is no requirement of a build; lock another version"]),
    ],
)
def test_what_no_host_could_use_is_refused(told, index, options, words):
    said = told({"requirements.txt": source(index[0], **options)})
    assert all(word in said for word in words), said


def test_a_name_is_given_in_each_way(made, commit, shop, index):
    commit(shop, {"requirements.txt": source(index[0])})
    for given in (["--allow-sdist", "odd,ODD"], ["--allow-sdist", "odd", "--allow-sdist", "odd"]):
        [file] = record(made(shop, "--force", *given, env=index[1]))["wheels"]
        assert parse_wheel_filename(file)[0] == "odd"

"""The steps of a build, really run: what they see, what of theirs is in the build, and what is refused."""

import gzip
import io
import json
import os
import shutil
import sys
import tarfile

import pytest

from saltern.builds.make import sandbox, steps, targets
from saltern.refusal import Refusal
from tests.unit.builds.make.apps import ROOT, contents, record

OWN = "{}.{}".format(*sys.version_info)
PROCFILE = "web: exec python -m http.server $PORT\nbuild: sh build.sh\n"
DJANGO = {
    "requirements.txt": (ROOT / "tests/apps/album/requirements.txt").read_text(),
    "Procfile": "web: exec python -m http.server $PORT\n",
    "manage.py": "import os, sys\nfrom django.core.management import execute_from_command_line\n"
    "os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\nexecute_from_command_line(sys.argv)\n",
    "settings.py": "import os\nSECRET_KEY = os.environ['SECRET_KEY']\nSTATIC_ROOT = 'collected'\n"
    "STATIC_URL = '/static/'\nINSTALLED_APPS = ['django.contrib.staticfiles']\nSTATICFILES_DIRS = ['assets']\n"
    "STORAGES = {'staticfiles': {'BACKEND': 'django.contrib.staticfiles.storage.ManifestStaticFilesStorage'}}\n",
    "assets/site.css": "body { color: black }\n" * 100,
}
PROJECT = '[[io.buildpacks.build.env]]\nname = "SECRET_KEY"\nvalue = "of the build"\n'


@pytest.fixture
def built(made, commit, shop):
    """Return a function that commits files and builds them with this machine's Python."""

    def call(files, *arguments, **options):
        commit(shop, files)
        return made(shop, "--python", OWN, *arguments, **options)

    return call


@pytest.fixture
def told(run, commit, shop, tmp_path):
    """Return a function that commits files whose build is refused, and returns what was told."""

    def call(files):
        commit(shop, files)
        done = run(shop, "--python", OWN)
        assert (done.returncode, done.stdout) == (1, "")
        assert list(tmp_path.glob("dist/*.tar.gz")) == []
        return done.stderr

    return call


def test_what_the_process_type_build_makes_is_in_the_build(built):
    script = """
        mkdir -p static node_modules/x pkg/__pycache__
        head -c 5000 /dev/zero | tr '\\0' a >static/site.css
        echo '#!/bin/sh' >static/run; chmod 750 static/run
        ln -s site.css static/main.css
        echo changed >shop/wsgi.py; rm kept.txt; mkfifo pipe
        touch node_modules/x/index.js pkg/__pycache__/a.pyc pkg/b.pyc
    """
    made = built({"Procfile": PROCFILE, "build.sh": script, "kept.txt": "kept\n"})
    found = contents(made)
    assert found["static/site.css"] == b"a" * 5000
    assert gzip.decompress(found["static/site.css.gz"]) == b"a" * 5000
    assert (found["shop/wsgi.py"], found["kept.txt"]) == (b"changed\n", b"kept\n")
    assert not [name for name in found if "node_modules" in name or name.endswith((".pyc", "__pycache__", "pipe"))]
    with tarfile.open(made["path"]) as tar:
        assert (tar.getmember("static/run").mode, tar.getmember("static/main.css").linkname) == (0o755, "site.css")
    # It is a step, and no process that a formation could have.
    assert list(record(made)["processes"]) == ["web"]


def test_a_step_has_the_wheels_and_neither_network_nor_config_nor_files_of_whoever_builds(built, tmp_path):
    script = """
        env | sort >seen.env
        python -c 'import idna, sys; print(sys.prefix)' >seen.prefix
        cat /proc/net/route | wc -l >seen.routes
        ls -A /home /root /run >seen.files
        touch /etc/x "$HOME/x" /tmp/x 2>/dev/null; ls /tmp >seen.tmp
        python - <<'END'
import os, socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname())
open("seen.uid", "w").write(str(os.getuid()))
END
        (sleep 300; touch late) &
        exit 0
    """
    found = contents(built({"Procfile": PROCFILE, "build.sh": script}, env={"AWS_SECRET": "of whoever builds"}))
    seen = dict(line.split("=", 1) for line in found["seen.env"].decode().splitlines())
    assert seen.keys() - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        *("HOME", "LANG", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "SOURCE_DATE_EPOCH"),
    }
    assert (seen["LANG"], seen["HOME"]) == ("C.UTF-8", "/mnt/home")
    assert (found["seen.prefix"], found["seen.routes"]) == (b"/mnt/venv\n", b"1\n")
    assert (found["seen.files"].split(), found["seen.tmp"]) == ([b"/home:", b"/root:", b"/run:"], b"x\n")
    assert found["seen.uid"].decode() == str(os.geteuid() or sandbox.NOBODY)


def test_the_same_tree_gives_the_same_bytes(built, made, shop, tmp_path):
    script = """
        for name in c a b; do date >$name.txt; ls -la --time-style=full-iso . >/dev/null; done
        pwd >where; for name in c a b; do echo $name >$name.txt; done
        python -c 'print(hash("x"), {"x", "y", "z"})' >order
        python -m compileall -q . || true
    """
    first = built({"Procfile": PROCFILE, "build.sh": script})
    (tmp_path / "elsewhere").mkdir()
    again = made(shop, "--python", OWN, "--force", env={"TMPDIR": str(tmp_path / "elsewhere"), "LANG": "de_DE"})
    assert again["sha256"] == first["sha256"]


def test_djangos_static_files_are_collected_where_it_asks_for_it(built):
    found = contents(built(DJANGO | {"project.toml": PROJECT}))
    [hashed] = [
        name for name in found if name.startswith("collected/site.") and name.count(".") == 2 and "gz" not in name
    ]
    assert {"collected/site.css", "collected/site.css.gz", f"{hashed}.gz"} <= found.keys()
    assert json.loads(found["collected/staticfiles.json"])["paths"] == {"site.css": hashed.removeprefix("collected/")}


def test_settings_that_need_config_are_told_with_what_to_do(told):
    lines = told(DJANGO).splitlines()
    assert "build: collectstatic: exit code 1; it said last:" in lines
    assert "build:   KeyError: 'SECRET_KEY'" in lines
    assert lines[-1].startswith("build: a build has no config: have the settings do without, or give them a value")


@pytest.mark.parametrize(
    "files",
    [
        {"project.toml": PROJECT + '[[io.buildpacks.build.env]]\nname = "DISABLE_COLLECTSTATIC"\nvalue = "1"\n'},
        {"settings.py": DJANGO["settings.py"].replace("STATIC_ROOT", "# STATIC_ROOT")},
        {"requirements.txt": ""},
        {"Procfile": "web: a\nbuild: python manage.py collectstatic --noinput --settings other || true\n"},
    ],
    ids=["left out", "no STATIC_ROOT", "no Django", "a step of its own"],
)
def test_nothing_is_collected_where_nobody_asks_for_it(built, files):
    assert "collected" not in contents(built(DJANGO | files))


def test_npms_build_runs_with_its_lock(built, told):
    package = {"name": "shop", "version": "1.0.0", "scripts": {"build": "mkdir dist && echo made >dist/a.js"}}
    lock = {"name": "shop", "version": "1.0.0", "lockfileVersion": 3, "requires": True, "packages": {"": package}}
    files = {"package.json": json.dumps(package), "package-lock.json": json.dumps(lock)}
    if shutil.which("npm"):
        assert contents(built(files))["dist/a.js"] == b"made\n"
    else:
        assert "npm: not installed; expected it for package.json's script `build`: apt install nodejs npm" in told(
            files
        )


def test_a_package_without_a_lock_or_a_script_is_no_step(built, run, shop, commit):
    commit(shop, {"package.json": '{"scripts": {"build": "exit 1"}}'})
    done = run(shop, "--python", OWN)
    assert (done.returncode, "is not run without a package-lock.json" in done.stderr) == (0, True)
    assert "dist" not in contents(built({"package.json": '{"scripts": {}}', "package-lock.json": "{}"}))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo one; echo two >&2; exit 3",
            "build: Procfile build: exit code 3; it said last:\nbuild:   one\nbuild:   two",
        ),
        ("kill -9 $$", "build: Procfile build: exit code 137"),
        ("echo 'web: b' >Procfile", "build: Procfile: a step of the build changed it, after it was read"),
        (
            "rm shop/wsgi.py; mkdir shop/wsgi.py",
            "build: shop/wsgi.py: a step of the build made another kind of file of it",
        ),
        ("ln -s /etc/passwd x", "build: x: links out of "),
        ("mkdir wheelhouse", "build: wheelhouse: the place is the build's own"),
    ],
)
def test_what_no_build_can_have_is_refused(told, script, message):
    assert message in told({"Procfile": PROCFILE, "build.sh": script})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[io", "project.toml: no TOML: "),
        ("[[io.buildpacks.build.env]]\nname = 1\n", "project.toml: io.buildpacks.build.env: expected [["),
        ("[[io.buildpacks.build.env]]\nname = 'a=b'\nvalue = ''\n", "project.toml: io.buildpacks.build.env: expected"),
        ("io = 1\n", None),
        ("[project]\nname = 'x'\n", None),
    ],
)
def test_a_project_file_is_read_as_buildpacks_have_it(text, message):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo("project.toml")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))
    stream.seek(0)
    with tarfile.open(fileobj=stream) as code:
        if message is None:
            assert steps.variables_of(code) == {}
        else:
            with pytest.raises(Refusal) as refused:
                steps.variables_of(code)
            assert str(refused.value).startswith(message)


def test_a_step_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "LIMIT", 1)
    tmp_path.chmod(0o711)
    directory = sandbox.make(str(tmp_path))
    with pytest.raises(Refusal, match="slow: not done after 1 s; it said last:\n  begun"):
        sandbox.run(directory, "slow", ["sh", "-c", "echo begun; sleep 60"], {"PATH": sandbox.SYSTEM}, network=False)


def test_wheels_for_any_python_do_for_another_one_too(made, commit, shop):
    commit(shop, {"Procfile": PROCFILE, "build.sh": "echo made >made"})
    for python in ("3.11", "3.13"):
        assert contents(made(shop, "--python", python))["made"] == b"made\n"


def test_wheels_that_fit_no_python_here_are_told(tmp_path):
    for name in ("app", "wheels"):
        (tmp_path / name).mkdir()
    file = "shop-1.0-cp37-cp37m-win32.whl"
    (tmp_path / "wheels" / file).write_bytes(b"")
    wheels = sandbox.Wheels(str(tmp_path / "wheels"), [file], targets.Target("3.13", "3.13.5", 41, "x86_64"))
    with pytest.raises(Refusal, match=r"no Python of this machine fits the wheels of a build for Python 3\.13: "):
        sandbox.make_environment(str(tmp_path), wheels, ())

"""The wheels of a build: which ones, from where, and the message where there is none."""

import os
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from packaging.utils import parse_wheel_filename

from saltern.builds.make import wheels as wheels_
from tests.unit.builds.make.apps import locked, record, refused, wheel

REASONS = {
    "a wheel that there is not": (
        "ERROR: Could not find a version that satisfies the requirement salt==3008.3 (from versions: none)\n"
        "ERROR: No matching distribution found for salt==3008.3\n",
        [
            "salt==3008.3: has no wheel for Python 3.11 on x; lock a version",
            "`make build` with ALLOW_SDIST=salt, or bin/build with --allow-sdist salt",
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
def test_why_pip_failed_is_said_with_what_to_do(errors, words):
    said = wheels_.pip_reason("", errors, "Python 3.11 on x")
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


def test_markers_are_asked_of_the_hosts_python(shop, made, commit):
    """Debian 12 has Python 3.11.2 and Debian 13 has 3.13.5; the Python that runs this may be any."""
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


def test_a_change_of_one_requirement_fetches_that_alone(shop, run, commit, tmp_path):
    index = tmp_path / "index"
    lock = [wheel(index, name, "1", {f"{name}.py": ""}) for name in ("one", "two")]
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_CONFIG_FILE": os.devnull, "PIP_EXTRA_INDEX_URL": ""}
    env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    commit(shop, {"requirements.txt": "".join(lock)})
    assert "wheels: fetching 2 for" in run(shop, env=env).stderr
    commit(shop, {"requirements.txt": "".join([lock[0], wheel(index, "two", "2", {"two.py": ""})])})
    (index / "one-1-py3-none-any.whl").unlink()
    told = run(shop, env=env).stderr
    assert "wheels: 1 from" in told
    assert "wheels: fetching 1 for" in told


def test_a_damaged_wheel_in_the_cache_is_fetched_again(shop, made, tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    first = made(shop, env=cache)
    [kept] = (tmp_path / "cache").rglob("*.whl")
    kept.write_bytes(b"damaged")
    assert made(shop, "--force", env=cache)["sha256"] == first["sha256"]


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


def test_no_reason_of_pips_is_passed_on_with_a_password():
    log = "Could not fetch URL https://x/idna/: 401 Client Error for url: https://me:hunter2@x/idna/ - skipping\n"
    for reason in (
        wheels_.pip_reason(log, "ERROR: No matching distribution found for idna==3\n", "Python 3.11"),
        wheels_.pip_reason("", "ERROR: no answer from https://me:hunter2@x/\n", "Python 3.11"),
    ):
        assert "https://x/" in reason
        assert "hunter2" not in reason

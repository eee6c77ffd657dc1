"""Every command of the README and of docs/, as its reader would type it in a clone."""

import base64
import json
import re
import shutil
import subprocess

import pytest
import yaml

from lab.pillar import overlaid
from lab.tree import copy_tree
from tests.hosts import readme
from tests.hosts.conftest import ROOT
from tests.hosts.readme import COMMANDS, blocks

OWN_APP = "docs/how-to/own-app.md"
# The file that each piece of pillar of these pages is for.
PLACES = ("common.sls", "environments/dev.sls", *["environments/production.sls"] * 2)
PILLAR = [yaml.safe_load(text) for language, text in blocks(OWN_APP, "docs/how-to/https.md") if language == "yaml"]

# A lab of its own: the developer's lab may be up at the same time.
LAB = "readme"
SUBNET = ("10.77.0.", "10.79.0.")


@pytest.fixture(scope="module")
def clone(tmp_path_factory, reader):
    """A clone of the tree, with an app of one's own beside it."""
    directory = tmp_path_factory.mktemp("readme")
    readme.clone(directory / "saltern", *SUBNET)
    copy_tree(ROOT / "tests/apps/mirror", directory / "shop")
    readme.commit(directory / "shop")
    yield directory / "saltern"
    subprocess.run(["make", "-s", "down"], cwd=directory / "saltern", env=reader, check=True)
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def reader():
    """The environment of the README's reader."""
    return readme.environ(LAB)


@pytest.fixture(scope="module")
def type_in(clone, reader):
    """A function that runs a command of a page in the clone and returns what it prints."""

    def run(command: str, **replaced: str) -> str:
        assert command in COMMANDS, f"no page says: {command}"
        for old, new in replaced.items():
            command = command.replace(old, new)
        done = subprocess.run(["sh", "-c", command], cwd=clone, env=reader, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def port(type_in):
    """The URL of the README host's proxy on this machine."""
    shown = type_in("make up")
    assert "http://tickets.localhost:" in shown
    return re.search(r"http://tickets\.localhost:(\d+)", shown)[1]


def test_make_up_run_again_changes_nothing(port, type_in):
    assert "0 changed" in type_in("make up")


def test_what_to_try_first(port, type_in):
    assert " passed" in type_in("make verify")
    curl = "curl --fail http://tickets.localhost:8080/"
    assert "<title>" in type_in(curl, **{"8080": port})
    logs = type_in("make logs FOLLOW=0")
    assert "tickets[web.1]" in logs
    assert "faq[web.1]" in logs
    logs = type_in("make logs APP=tickets PROCESS=worker FOLLOW=0")
    assert "tickets[worker.1]" in logs
    assert "web." not in re.sub(r"(?m)^.*?: ", "", logs)
    assert "dev" in type_in("make status")
    assert "0 changed" in type_in("make apply")
    assert re.fullmatch(r"dev  nothing would change in \d+ states\n", type_in("make drift"))


def test_the_environments_are_at_parity(type_in, clone):
    assert "The same everywhere" in type_in("make parity")
    assert "<table>" in (clone / "parity.html").read_text()


def test_who_provides_what_and_who_attaches_it(port, type_in, clone):
    shown = type_in("make contracts")
    assert re.search(r"faq\W+v1\W+/v1\W+faq 1\W+tickets as FAQ_API", shown), shown
    assert "<svg" in (clone / "contracts.html").read_text()


def test_make_drift_fails_when_a_host_has_drifted(port, clone, reader):
    subprocess.run(["podman", "exec", f"{LAB}-dev", "sh", "-c", "echo '# edited' >>/etc/nginx/nginx.conf"], check=True)
    done = subprocess.run(["make", "-s", "drift"], cwd=clone, env=reader, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout == "dev  1 state would change: nginx-config\n"


def test_the_readme_and_the_page_declare_the_same_app():
    (five_lines,) = (text for language, text in blocks("README.md") if language == "yaml")
    assert ("yaml", five_lines) in blocks(OWN_APP)
    assert len(five_lines.splitlines()) == 5


def test_an_app_of_ones_own(port, type_in, clone):
    for path, settings in zip(PLACES, PILLAR, strict=True):
        file = clone / "pillar" / path
        file.write_text(yaml.safe_dump(overlaid(yaml.safe_load(file.read_text()), settings)))
    type_in("make build APP=../shop")
    type_in("make apply")
    config = next(iter(PILLAR[1]["app"].values()))["config"]
    done = subprocess.run(
        ["curl", "--fail", "-s", f"http://shop.localhost:{port}/environ"], capture_output=True, text=True, check=True
    )
    environ = json.loads(done.stdout)["environ"]
    assert {name: base64.b64decode(environ[name]).decode() for name in config} == config
    assert {"DATABASE_URL", "REDIS_URL"} <= environ.keys()


def test_the_message_about_a_mistake_is_the_one_shown(port, clone, reader):
    (shown,) = (text for language, text in blocks(OWN_APP) if language == "" and "did you mean" in text)
    varying = clone / "pillar/environments/dev.sls"
    right = varying.read_text()
    varying.write_text(right.replace("    formation:\n      web: 2\n      worker: 1", "    formaton:\n      web: 2"))
    assert varying.read_text() != right
    done = subprocess.run(["make", "apply"], cwd=clone, env=reader, capture_output=True, text=True, check=False)
    varying.write_text(right)
    assert done.returncode != 0
    assert shown.strip() in done.stdout


def test_a_build_for_production_is_declared(type_in, clone):
    type_in("bin/build ../shop --declare pillar/builds/production.sls --source https://builds.example.com")
    build = yaml.safe_load((clone / "pillar/builds/production.sls").read_text())["app"]["shop"]["build"]
    assert build["source"].startswith("https://builds.example.com/shop-")


def test_an_app_is_removed(port, type_in, clone, reader):
    # The others are production's.
    for path in PLACES[:2]:
        file = clone / "pillar" / path
        said = yaml.safe_load(file.read_text())
        del said["app"]["shop"]
        file.write_text(yaml.safe_dump(said))
    done = subprocess.run(["make", "apply"], cwd=clone, env=reader, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "expected the app there too, or else remove the build with make build-forget APP=shop ENV=dev" in done.stdout
    type_in("make build-forget APP=shop")
    type_in("make apply")
    answer = subprocess.run(
        ["curl", "-s", f"http://shop.localhost:{port}/"], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "No app has this domain.\n"


def test_make_down_leaves_nothing(type_in):
    type_in("make down")
    names = subprocess.run(["podman", "ps", "-a", "--format={{.Names}}"], capture_output=True, text=True, check=True)
    assert f"{LAB}-dev" not in names.stdout.split()

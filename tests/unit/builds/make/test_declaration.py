"""The pillar file that declares builds."""

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.unit.builds.make.apps import ROOT, refused


def test_a_build_is_declared_beside_the_others(shop, made, tmp_path):
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


def test_whoever_forgets_a_build_in_the_wrong_environment_is_told_the_right_one(shop, run, made, tmp_path):
    builds = tmp_path / "pillar/builds"
    production = builds / "production.sls"
    made(shop, "--declare", production)
    right = f"expected {production} (ENV=production)"
    refused(run("--forget", "shop", "--declare", builds / "dev.sls"), f"dev.sls: no such file; {right}")
    (builds / "dev.sls").write_text("app: {}\n")
    refused(run("--forget", "shop", "--declare", builds / "dev.sls"), f"dev.sls: declares no build of shop; {right}")
    assert list(yaml.safe_load(production.read_text())["app"]) == ["shop"]


def test_the_file_that_declares_a_build_is_named(shop, run, tmp_path):
    pillar = tmp_path / "pillar/builds/dev.sls"
    done = run(shop, "--declare", pillar, "--version", "7")
    assert done.stderr.splitlines()[-1] == f"build: {pillar} declares shop 7"


@pytest.mark.parametrize("source", ["http://builds.example.com", "dist", "ftp://x", "https://a b"])
def test_a_source_that_no_host_can_read_is_refused(shop, run, tmp_path, source):
    refused(run(shop, "--declare", tmp_path / "dev.sls", "--source", source), source, "--source")
    assert not (tmp_path / "dev.sls").exists()

"""bin/issue-certificates as an operator types it, with real keys: what each host gets, renewals, and every refusal."""

import datetime
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from saltern.tls import certificate, https
from tests.copies import copy
from tests.keyring import Keyring

ROOT = Path(__file__).resolve().parents[3]
HOSTS = {
    "db1": {"environment": "production", "roles": ["database", "cache"], "address": "10.0.0.1"},
    "app1.example.com": {"environment": "production", "roles": ["app", "proxy"], "address": "10.0.0.2"},
    "staging1": {"environment": "staging", "roles": ["app"], "address": "10.0.1.1"},
    "dev1": {"environment": "dev", "roles": ["app"], "address": "10.0.2.1"},
    "dev2": {"environment": "dev", "roles": ["database"], "address": "10.0.2.2"},
}
DB1 = "pillar/certificates/production/db1.sls"
APP1 = "pillar/certificates/production/app1_example_com.sls"


@pytest.fixture(scope="module")
def keys():
    """The keys of the hosts of production and of two operators."""
    keys = {name: Keyring(name) for name in ("db1", "app1.example.com", "alice", "bob")}
    yield keys
    for key in keys.values():
        key.close()


@pytest.fixture
def tree(tmp_path, keys):
    """A copy of what the tool reads, with an inventory of several hosts."""
    tree = tmp_path / "tree"
    copy(
        tree,
        "bin",
        "pillar",
        "formulas",
        "salt/_modules",
        "salt/_utils",
        own=("builds", "keys", "secrets", "certificates"),
    )
    (tree / "pillar/secrets").mkdir()
    (tree / "pillar/hosts.yaml").write_text(yaml.safe_dump(HOSTS))
    for directory, names in {"hosts": ("db1", "app1.example.com"), "operators": ("alice", "bob")}.items():
        (tree / "pillar/keys" / directory).mkdir(parents=True)
        for name in names:
            (tree / f"pillar/keys/{directory}/{name}.asc").write_text(keys[name].public)
    return tree


@pytest.fixture
def run(tree, tmp_path, keys):
    """A function that runs the tool, or another one of the tree, and returns what it did."""

    def call(*arguments, tool="issue-certificates", home="alice"):
        environ = {"XDG_DATA_HOME": str(tmp_path / "data"), "GNUPGHOME": str(keys[home].directory)}
        command = [sys.executable, tree / "bin" / tool, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | environ, check=False)

    return call


@pytest.fixture
def issue(run):
    """A function that runs the tool, which must work, and returns its lines by file, and the last one."""

    def call(*arguments):
        done = run(*(arguments or ("production",)))
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        *lines, last = done.stdout.splitlines()
        assert "PRIVATE" not in done.stdout
        return dict(line.split(": ", 1) for line in lines), last

    return call


@pytest.fixture
def refused(run, tree):
    """A function that runs the tool, which must refuse and write nothing, and returns the lines that it says."""

    def call(*arguments):
        before = texts(tree)
        done = run(*(arguments or ("production",)))
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert texts(tree) == before
        return [line.removeprefix("issue-certificates: ") for line in done.stderr.splitlines()]

    return call


def texts(tree):
    return {str(path.relative_to(tree)): path.read_text() for path in (tree / "pillar/certificates").glob("*/*")}


def said(tree, name):
    return yaml.safe_load((tree / name).read_text())["certificates"]


def words(found):
    """Return the line about each file, without the date."""
    return {name: text.partition(";")[0] for name, text in found.items()}


def test_each_host_gets_its_own_key_which_it_and_the_operators_read(tree, issue, keys, tmp_path):
    found, last = issue()
    assert words(found) == {APP1: "issued", DB1: "issued"}
    directory = tmp_path / "data/saltern/authorities/production"
    assert last == f"{directory}: the authority of production is made; its key is for operators alone"
    assert directory.stat().st_mode & 0o777 == 0o700
    (authority,) = directory.iterdir()
    assert (authority.name, authority.stat().st_mode & 0o777) == ("authority.pem", 0o600)
    for name, host, other in ((DB1, "db1", "app1.example.com"), (APP1, "app1.example.com", "db1")):
        assert (tree / name).read_text().startswith("#!yaml|gpg\n")
        its = said(tree, name)
        key = keys[host].decrypt(its["key"])
        assert key.startswith(b"-----BEGIN PRIVATE KEY-----\n")
        assert keys["alice"].decrypt(its["key"]) == keys["bob"].decrypt(its["key"]) == key
        assert keys[other].decrypt(its["key"]) is None
        names = certificate.names_of(host, HOSTS[host]["address"])
        now = certificate.now()
        assert certificate.amiss(key.decode(), its["certificate"], its["authorities"], names, now) == {}
    assert said(tree, DB1)["authorities"] == said(tree, APP1)["authorities"]
    assert "PRIVATE" not in "".join(texts(tree).values())


def test_the_same_again_changes_nothing(tree, issue):
    issue()
    before = texts(tree)
    found, last = issue()
    assert words(found) == {APP1: "unchanged", DB1: "unchanged"}
    assert last.endswith(": its key is for operators alone")
    assert texts(tree) == before


def change(tree, host, **row):
    hosts = yaml.safe_load((tree / "pillar/hosts.yaml").read_text())
    hosts[host] = hosts.get(host, {}) | row
    (tree / "pillar/hosts.yaml").write_text(yaml.safe_dump(hosts))


def test_another_address_a_new_host_and_one_that_has_gone(tree, issue, keys):
    issue()
    change(tree, "db1", address="10.0.0.9")
    change(tree, "db2", environment="production", roles=["database"], address="10.0.0.3")
    change(tree, "app1.example.com", environment="staging")
    (tree / "pillar/keys/hosts/db2.asc").write_text(keys["bob"].public)
    found, _ = issue()
    assert words(found) == {
        APP1: "removed",
        DB1: "issued anew: the one before is not for 10.0.0.9",
        "pillar/certificates/production/db2.sls": "issued",
    }
    assert not (tree / APP1).exists()


def test_it_renews_in_time_or_when_it_is_told(tree, issue):
    issue("production", "--days", "3")
    assert words(issue()[0]) == {APP1: "unchanged", DB1: "unchanged"}
    before = said(tree, DB1)
    assert words(issue("production", "--renew", "--days", "1")[0]) == {APP1: "renewed", DB1: "renewed"}
    assert said(tree, DB1)["certificate"] != before["certificate"]
    assert said(tree, DB1)["authorities"] == before["authorities"]


def test_a_certificate_is_renewed_with_a_third_of_its_life_left(tree, issue, tmp_path, keys):
    issue()
    authority = (tmp_path / "data/saltern/authorities/production/authority.pem").read_text()
    now = certificate.now()
    for days, expected in ((100, "renewed: 99 days were left"), (200, "unchanged")):
        begun = now - datetime.timedelta(days=365 - days)
        its = said(tree, DB1)
        its["certificate"] = certificate.parted(certificate.issue(authority, "db1", "10.0.0.1", begun))[1]
        (tree / DB1).write_text("#!yaml|gpg\n" + yaml.safe_dump({"certificates": its}))
        assert words(issue()[0])[DB1] == expected


def test_another_key_of_the_host_or_the_operators(tree, issue, run, keys):
    issue()
    (tree / "pillar/keys/operators/bob.asc").unlink()
    assert run("check", tool="secret").returncode == 1
    done = run("rekey", tool="secret")
    assert done.returncode == 0, done.stderr
    assert run("check", tool="secret").returncode == 0
    key = keys["db1"].decrypt(said(tree, DB1)["key"])
    assert key
    assert keys["bob"].decrypt(said(tree, DB1)["key"]) is None
    assert keys["app1.example.com"].decrypt(said(tree, DB1)["key"]) is None
    assert words(issue()[0]) == {APP1: "unchanged", DB1: "unchanged"}
    (tree / "pillar/keys/hosts/db1.asc").write_text(keys["bob"].public)
    found, _ = issue()
    assert words(found) == {
        APP1: "unchanged",
        DB1: "issued anew: the keys of those who may read it have changed",
    }
    assert keys["bob"].decrypt(said(tree, DB1)["key"]) not in (None, key)


def test_a_key_that_others_can_read_is_seen(tree, issue, run, keys):
    issue()
    its = said(tree, DB1)
    message = keys["db1"].encrypt(
        keys["db1"].decrypt(its["key"]), *(keys[name] for name in ("alice", "bob", "app1.example.com"))
    )
    (tree / DB1).write_text("#!yaml|gpg\n" + yaml.safe_dump({"certificates": its | {"key": message}}))
    done = run("check", tool="secret")
    assert done.returncode == 1
    assert (
        f"certificates.key: {DB1}: not encrypted to the keys of host db1, operator alice, operator bob" in done.stderr
    )
    its["key"] = keys["db1"].decrypt(its["key"]).decode()
    (tree / DB1).write_text("#!yaml|gpg\n" + yaml.safe_dump({"certificates": its}))
    done = run("check", tool="secret")
    command = "bin/issue-certificates production"
    assert done.stderr == f"secret: certificates.key: {DB1}: not encrypted; write it with {command}\n"


def test_a_file_of_no_host_is_seen_and_encrypted_to_nobody(tree, issue, run):
    issue()
    shutil.copy(tree / DB1, tree / "pillar/certificates/production/gone.sls")
    done = run("check", tool="secret")
    assert (
        "pillar/certificates/production/gone.sls: of no host of production; run bin/issue-certificates" in done.stderr
    )
    before = (tree / "pillar/certificates/production/gone.sls").read_text()
    done = run("rekey", tool="secret")
    assert "gone.sls: of no host of production" in done.stdout
    assert (tree / "pillar/certificates/production/gone.sls").read_text() == before
    assert words(issue()[0])["pillar/certificates/production/gone.sls"] == "removed"


def test_an_authority_is_replaced_in_three_steps_in_which_everybody_is_believed(tree, issue):
    issue()
    (old,) = said(tree, DB1)["authorities"]
    own = said(tree, DB1)["certificate"]
    found, last = issue("production", "--replace-authority")
    assert set(words(found).values()) == {"trusts others now"}
    assert "a new authority is trusted, and issues nothing yet" in last
    first, new = said(tree, DB1)["authorities"]
    assert (first, said(tree, DB1)["certificate"]) == (old, own)
    assert set(words(issue()[0]).values()) == {"unchanged"}
    issue("production", "--replace-authority")
    assert said(tree, DB1)["authorities"] == [new, old]
    now, names = certificate.now(), certificate.names_of("db1", "10.0.0.1")
    assert certificate.amiss(None, said(tree, DB1)["certificate"], [new], names, now) == {}
    assert set(words(issue()[0]).values()) == {"unchanged"}
    issue("production", "--replace-authority")
    assert said(tree, DB1)["authorities"] == [new]
    assert certificate.amiss(None, said(tree, DB1)["certificate"], [new], names, now) == {}
    assert set(words(issue()[0]).values()) == {"unchanged"}


def test_devs_keys_are_in_clear(tree, issue):
    found, _ = issue("dev")
    assert words(found) == {f"pillar/certificates/dev/dev{n}.sls": "issued" for n in (1, 2)}
    its = said(tree, "pillar/certificates/dev/dev2.sls")
    names = certificate.names_of("dev2", "10.0.2.2")
    assert certificate.amiss(its["key"], its["certificate"], its["authorities"], names, certificate.now()) == {}
    assert words(issue("dev")[0]) == {f"pillar/certificates/dev/dev{n}.sls": "unchanged" for n in (1, 2)}


def test_its_refusals(tree, issue, refused, tmp_path, keys):
    assert refused("prod") == ["ENV: no environment has this name; expected one of dev, production, staging"]
    assert refused("production", "--days", "0") == ["--days: expected 1 to 3650"]
    inside = tree / "pillar/authority"
    assert refused("production", "--authority", str(inside)) == [
        f"{inside}: lies in the tree, which is on every host; expected a directory outside of it"
    ]
    assert refused("staging") == [
        "pillar/keys/hosts/staging1.asc: no such file; expected the public key that bootstrap.sh prints on it"
    ]
    (tree / "pillar/keys/hosts/db1.asc").unlink()
    (tree / "pillar/keys/hosts/app1.example.com.asc").unlink()
    expected = "no such file; expected the public key that bootstrap.sh prints on it"
    assert refused() == [f"pillar/keys/hosts/{name}.asc: {expected}" for name in ("app1.example.com", "db1")]
    assert not (tmp_path / "data").exists()


def test_another_authority_than_the_one_that_has_issued_is_refused(issue, refused, tmp_path):
    issue()
    (line,) = refused("production", "--authority", str(tmp_path / "elsewhere"))
    assert line.startswith(f"{tmp_path}/elsewhere: no authority, and that of pillar/certificates/production is to be")
    (tmp_path / "data/saltern/authorities/production/authority.pem").chmod(0o640)
    (line,) = refused()
    assert "others may read it" in line


DOMAINS = ["shop.example.com", "www.example.com"]
SITE = ("production", "--site", f"tickets={','.join(DOMAINS)}")
SECRETS, SETTINGS = "pillar/secrets/production.sls", "pillar/environments/production.sls"


def test_the_authority_issues_for_an_apps_domains_too(tree, run, keys, tmp_path):
    before = (tree / SETTINGS).read_text()
    done = run(*SITE)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(";")[0] for line in done.stdout.splitlines()] == [
        f"{SETTINGS}: app.tickets.site.certificate is written",
        f"{SECRETS}: app.tickets.site.key is written",
    ]
    own = yaml.safe_load((tree / SETTINGS).read_text())["app"]["tickets"]["site"]["certificate"]
    message = yaml.safe_load((tree / SECRETS).read_text())["app"]["tickets"]["site"]["key"]
    for name in ("db1", "app1.example.com", "bob"):
        key = keys[name].decrypt(message).decode()
        assert https.amiss(key, own, DOMAINS, certificate.now()) == {}
    authority = (tmp_path / "data/saltern/authorities/production/authority.pem").read_text()
    assert certificate.amiss(None, own, [certificate.parted(authority)[1]], DOMAINS, certificate.now()) == {}
    # Comments and everything else stay.
    assert (tree / SETTINGS).read_text().startswith(before.splitlines()[0])
    assert set(before.splitlines()) <= set((tree / SETTINGS).read_text().splitlines())
    # A second run issues another certificate of the same authority.
    assert run(*SITE).returncode == 0
    assert yaml.safe_load((tree / SETTINGS).read_text())["app"]["tickets"]["site"]["certificate"] != own
    assert (tmp_path / "data/saltern/authorities/production/authority.pem").read_text() == authority


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("dev", *SITE[1:]),
            "--site: the hosts of dev issue for their apps themselves; expected another environment",
        ),
        (
            ("production", "--site", "tickets=shop_example.com"),
            "--site: expected an app and its domains, tickets=shop.example.com,www.example.com",
        ),
        (
            ("production", "--site", "tickets"),
            "--site: expected an app and its domains, tickets=shop.example.com,www.example.com",
        ),
    ],
)
def test_what_is_no_site_is_refused(tree, run, arguments, message):
    before = (tree / SETTINGS).read_text()
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"issue-certificates: {message}\n")
    assert (tree / SETTINGS).read_text() == before
    assert not (tree / SECRETS).exists()

"""Who can read a secret after a host or an operator came or left, and what the check finds without a key."""

import shutil

import pytest
import yaml

from tests.render.minion import ALONE
from tests.unit.secrets.written import FILE, NAME, VALUES, contents, messages


def test_the_values_of_an_app_that_is_removed_leave_the_file_and_the_others_stay(tree, keys, run, write, refused):
    common = tree / "pillar/common.sls"
    declared = common.read_text()
    common.write_text(declared.replace("\napp:\n", "\napp:\n  shop: {port: 8400}\n"))
    write(b"one")
    write(b"two", "app.shop.config.KEY")
    write(b"three", "app.shop.config.TOKEN")
    common.write_text(declared)
    kept = messages(tree)[NAME]
    done = run("remove", "--environment", "production", "app.shop")
    assert done.returncode == 0, done.stderr.decode()
    *lines, last = done.stdout.decode().splitlines()
    assert lines == [f"{FILE}: app.shop.config.{name} is removed" for name in ("KEY", "TOKEN")]
    assert last == "Whoever could read a value has had it: where it opens something, change it there"
    assert messages(tree) == {NAME: kept}
    assert (tree / FILE).read_text().startswith("#!yaml|gpg\n# Written by ")
    assert keys["alice"].decrypt(kept) == b"one"
    expected = f"not in {FILE}; expected one of {NAME}, or what they begin with"
    for name in ("app.shop", "app.ticket", f"{NAME}.x", ""):
        assert refused("remove", "--environment", "production", name) == [f"{name}: {expected}"]
    assert run("remove", "--environment", "production", NAME).returncode == 0
    assert run("check").returncode == 0
    assert refused("remove", "--environment", "production", NAME) == [f"{NAME}: not in {FILE}, which holds no secret"]
    write(b"again")
    assert keys["web1"].decrypt(messages(tree)[NAME]) == b"again"


def test_who_has_left_can_read_nothing_that_is_written_after(tree, keys, run, write):
    write(b"one")
    write(b"two", "app.faq.config.SECRET_KEY")
    (tree / "pillar/keys/operators/bob.asc").unlink()
    done = run("rekey", "--environment", "production")
    assert done.returncode == 0, done.stderr.decode()
    first, second = done.stdout.decode().splitlines()
    assert first == f"{FILE}: 2 of 2 values encrypted anew; they can be read by host web1, operator alice"
    assert second.startswith("no longer by key ")
    assert second.endswith(f"which has had them; change these values: {NAME}, app.faq.config.SECRET_KEY")
    assert [keys["bob"].decrypt(message) for message in messages(tree).values()] == [None, None]
    for reader in ("web1", "alice"):
        assert [keys[reader].decrypt(message) for message in messages(tree).values()] == [b"one", b"two"]


def test_a_new_host_can_read_what_was_there_before_it(tree, keys, run, write):
    write(b"one")
    hosts = tree / "pillar/hosts.yaml"
    hosts.write_text(hosts.read_text().replace("environment: staging", "environment: production"))
    done = run("rekey")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == [
        f"{FILE}: 1 of 1 values encrypted anew; they can be read by host staging1, host web1, operator alice, "
        "operator bob",
        "pillar/secrets/staging.sls: no secrets",
    ]
    assert keys["staging1"].decrypt(messages(tree)[NAME]) == b"one"


def test_a_master_can_read_for_all_and_its_minions_need_no_key(tree, keys, run, refused, write):
    write(b"told by a master")
    master = {"environment": "staging", "roles": ["master"], "address": "10.0.0.9"}
    (tree / "pillar/hosts.yaml").write_text(yaml.safe_dump(ALONE | {"master1": master}))
    assert refused("check") == [
        "pillar/keys/hosts/master1.asc: no such file; expected the public key that bootstrap.sh prints on it"
    ]
    (tree / "pillar/keys/hosts/master1.asc").write_text(keys["master1"].public)
    (tree / "pillar/keys/hosts/web1.asc").unlink()
    assert run("rekey").returncode == 0
    assert run("check").returncode == 0
    assert keys["master1"].decrypt(messages(tree)[NAME]) == b"told by a master"
    assert keys["web1"].decrypt(messages(tree)[NAME]) is None
    assert "host master1, operator alice, operator bob" in write(b"anew")


def test_rekeying_the_same_readers_changes_nothing(tree, run, write):
    write(b"one")
    before = contents(tree)
    done = run("rekey")
    assert done.returncode == 0
    assert f"{FILE}: 0 of 1 values encrypted anew; they can be read by " in done.stdout.decode()
    assert contents(tree) == before


def test_a_value_comes_through_a_rekeying_byte_for_byte(tree, keys, run, write):
    for number, value in enumerate(VALUES.values()):
        write(value, f"app.tickets.config.V{number}")
    (tree / "pillar/keys/operators/bob.asc").unlink()
    assert run("rekey").returncode == 0
    assert [keys["web1"].decrypt(message) for message in messages(tree).values()] == list(VALUES.values())


def test_all_values_are_encrypted_anew_or_none(tree, keys, refused, write):
    write(b"one")
    file = tree / FILE
    mine = keys["bob"].encrypt(b"two").replace("\n", "\n        ")
    file.write_text(f"{file.read_text()}      OF_BOB: |\n        {mine}\n")
    (tree / "pillar/keys/operators/bob.asc").unlink()
    [line] = refused("rekey")
    assert line.startswith(f"app.tickets.config.OF_BOB: {FILE}: cannot be decrypted with a key of yours (")


def test_who_cannot_read_cannot_rekey(tree, refused, write):
    write(b"one")
    (tree / "pillar/keys/operators/bob.asc").unlink()
    [line] = refused("rekey", home="staging1")
    assert line == (
        f"{NAME}: {FILE}: cannot be decrypted with a key of yours (no secret key); "
        "expected to be run by an operator who can read it"
    )


def test_a_check_without_a_key_finds_what_others_can_read(tree, run, refused, write, tmp_path_factory):
    assert run("check").returncode == 0
    write(b"one")
    assert run("check").returncode == 0
    key = tree / "pillar/keys/operators/bob.asc"
    public = key.read_text()
    key.unlink()
    assert refused("check", home="staging1") == [
        f"{NAME}: {FILE}: not encrypted to the keys of host web1, operator alice, and no others; run make secrets-rekey"
    ]
    key.write_text(public)
    (tree / "pillar/keys/operators/carol.asc").write_text((tree / "pillar/keys/hosts/staging1.asc").read_text())
    [line] = refused("check")
    assert line.startswith(f"{NAME}: {FILE}: not encrypted to the keys of host web1, operator alice, operator bob, ")


def test_a_check_finds_the_key_of_a_host_that_has_left(tree, refused):
    shutil.copy(tree / "pillar/keys/hosts/web1.asc", tree / "pillar/keys/hosts/web9.asc")
    assert refused("check") == [
        "pillar/keys/hosts/web9.asc: no host of pillar/hosts.yaml has this id; remove it and run make secrets-rekey"
    ]


def other(character):
    return "y" if character == "x" else "x"


DAMAGED = {
    "a changed character": lambda lines: [*lines[:4], lines[4][:9] + other(lines[4][9]) + lines[4][10:], *lines[5:]],
    "a lost line": lambda lines: [*lines[:4], *lines[5:]],
    "a lost end": lambda lines: lines[:6],
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_message_is_refused_by_its_path(tree, refused, write, damage):
    write(b"one" * 1000)
    lines = yaml.safe_load((tree / FILE).read_text())["app"]["tickets"]["config"]["SECRET_KEY"].splitlines()
    text = "\n".join(f"        {line}" for line in damage(lines))
    (tree / FILE).write_text(f"#!yaml|gpg\napp:\n  tickets:\n    config:\n      SECRET_KEY: |\n{text}\n")
    message = f"{NAME}: {FILE}: damaged: it is not what was encrypted; write it again with make secret ENV=production "
    for arguments in (["rekey"], ["check"]):
        assert refused(*arguments) == [f"{message}NAME={NAME}"]

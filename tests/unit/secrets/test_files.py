"""Secrets on a host: damaged messages, values in plain text, and the reasons why a message cannot be decrypted."""

import pytest

from saltern.secrets import files as secrets
from tests.keyring import Keyring


@pytest.fixture(scope="module")
def web1():
    """A host's key."""
    key = Keyring("web1")
    yield key
    key.close()


@pytest.fixture(scope="module")
def message(web1):
    """A message that the host can decrypt, of a few lines."""
    return web1.encrypt(str([number**2 for number in range(300)]).encode())


def other(character):
    return "A" if character != "A" else "B"


DAMAGES = {
    "a changed character": lambda text: text[:200] + other(text[200]) + text[201:],
    "another checksum": lambda text: text.replace("\n=", "\n=" + other(text[text.index("\n=") + 2]), 1),
    "a lost line": lambda text: "\n".join(text.split("\n")[:4] + text.split("\n")[5:]),
    "a line twice": lambda text: "\n".join([*text.split("\n")[:5], *text.split("\n")[4:]]),
    "a lost checksum": lambda text: "\n".join(line for line in text.split("\n") if not line.startswith("=")),
    "a lost end": lambda text: text[:300],
    "text after it": lambda text: f"{text}hunter2",
    "two messages": lambda text: text + text,
    "no content": lambda text: "-----BEGIN PGP MESSAGE-----\n\n-----END PGP MESSAGE-----\n",
    "base64 that is none": lambda text: text.replace("\n\n", "\n\nA\n", 1),
}


def test_what_gpg_wrote_is_whole(message, web1):
    assert secrets.is_whole(message)
    assert secrets.is_whole(message.rstrip("\n"))
    assert secrets.is_whole(message.replace("\n\n", "\nComment: a header\n\n", 1))
    assert secrets.is_whole(web1.encrypt(b"x" * 100_000))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_changed_message_is_not_whole(message, damage):
    assert damage(message) != message
    assert not secrets.is_whole(damage(message))


def test_the_checksum_is_that_of_the_standard():
    # The check value of CRC-24/OPENPGP.
    assert secrets.crc24(b"123456789") == 0x21CF02


JUDGED = {
    "an empty file": ("", {}),
    "a header alone": ("#!yaml|gpg\n", {}),
    "plain text": ("#!yaml|gpg\na: {b: hunter2}\n", {("a", "b"): "not encrypted; write it with {command}"}),
    "a number": ("#!yaml|gpg\na: {b: 1}\n", {("a", "b"): "not encrypted; write it with {command}"}),
    "a list": ("#!yaml|gpg\na: [1]\n", {("a",): "not encrypted; write it with {command}"}),
    "no header": ("a: {b: hunter2}\n", {(): "line 1: expected #!yaml|gpg, by which Salt decrypts the file"}),
    "dev's header": ("#!yaml\na: {b: hunter2}\n", {(): "line 1: expected #!yaml|gpg, by which Salt decrypts the file"}),
    "Jinja": ("#!jinja|yaml|gpg\na: b\n", {(): "line 1: expected #!yaml|gpg, by which Salt decrypts the file"}),
}


@pytest.mark.parametrize("text, found", JUDGED.values(), ids=JUDGED)
def test_what_is_no_message_is_found_by_path(text, found):
    assert secrets.judged(text) == found


def test_a_whole_message_is_not_reported(message):
    lines = "\n".join(f"  {line}" for line in message.splitlines())
    assert secrets.judged(f"#!yaml|gpg\na: |\n{lines}\n") == {}
    damaged = lines.replace("  \n", "  \n  AAAA\n", 1)
    assert secrets.judged(f"#!yaml|gpg\na: |\n{damaged}\n") == {
        ("a",): "damaged: it is not what was encrypted; write it again with {command}"
    }


URL = ("app", "shop", "attach", "MAIL_URL", "url")
PASSWORD = ("redis", "instances", "shop", "password")
PLAIN = {
    "a password": ({"redis": {"instances": {"shop": {"password": "hunter2"}}}}, [PASSWORD]),
    "a password like a URL": ({"redis": {"instances": {"shop": {"password": "https://hunter2"}}}}, [PASSWORD]),
    "a URL with a password": ({"app": {"shop": {"attach": {"MAIL_URL": {"url": "smtp://a:b@c"}}}}}, [URL]),
    "a URL that cannot be read": ({"app": {"shop": {"attach": {"MAIL_URL": {"url": "smtp://a:b@[c"}}}}}, [URL]),
    "a URL without a password": ({"app": {"shop": {"attach": {"MAIL_URL": {"url": "smtp://c:25"}}}}}, []),
    "a config variable": ({"app": {"shop": {"config": {"A": "b"}}}}, []),
    "what has the wrong form": ({"app": [], "redis": {"instances": {"shop": None}}, 1: {2: 3}}, []),
    "nothing": (None, []),
}


@pytest.mark.parametrize("said, paths", PLAIN.values(), ids=PLAIN)
def test_a_secret_in_plain_text_is_what_its_schema_marks_so(schemas, said, paths):
    assert list(secrets.secrets_in({"properties": schemas}, said)) == paths


@pytest.mark.parametrize(
    "text, where",
    [
        ("redis: {instances: {shop: {password: hunter2}}}\n", "pillar/common.sls"),
        ("{% set a = 1 %}\nredis: {instances: {shop: {password: hunter2}}}\n", "the pillar"),
        ("#!yaml\nredis: {instances: {shop: {password: 'hunter2{{'}}}\n", "pillar/common.sls"),
    ],
    ids=["YAML", "Jinja", "YAML that looks like Jinja"],
)
def test_a_secret_in_plain_text_is_found_with_its_file(schemas, text, where):
    pillar = {"redis": {"instances": {"shop": {"password": "hunter2"}}}}
    shared = [("pillar/common.sls", text)]
    assert secrets.in_plain_text(shared, pillar, {}, schemas) == {PASSWORD: where}


def test_a_secret_that_is_encrypted_is_in_plain_text_only_where_a_file_says_it(schemas):
    pillar = {"redis": {"instances": {"shop": {"password": "hunter2"}}}}
    assert secrets.in_plain_text([("pillar/common.sls", "{}")], pillar, {PASSWORD: "a message"}, schemas) == {}
    shared = [("pillar/common.sls", "redis: {instances: {shop: {password: hunter2}}}")]
    found = secrets.in_plain_text(shared, pillar, {PASSWORD: "a message"}, schemas)
    assert found == {PASSWORD: "pillar/common.sls"}


def test_the_reason_why_a_message_is_locked(web1, message, tmp_path, monkeypatch):
    def why(text):
        return secrets.why_locked(text, str(web1.directory), "web1")

    assert why(message) == ""
    assert why(web1.encrypt(b"")) == "there is nothing in it; write it again with {command}"
    stranger = Keyring("stranger")
    assert why(stranger.encrypt(b"hunter2")).startswith("cannot be decrypted with this host's key (web1); expected ")
    stranger.close()
    assert why("no message").startswith("cannot be decrypted (gpg: ")
    assert secrets.why_locked(message, str(tmp_path), "web1") == (
        "cannot be decrypted: this host (web1) has no key; run bootstrap.sh, which makes one"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why(message) == "cannot be decrypted: gpg is not installed; run bootstrap.sh"

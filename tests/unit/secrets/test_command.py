"""bin/secret as an operator types it, with real keys: what it writes, who can read it, and every refusal in a line."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.copies import copy
from tests.keyring import Keyring
from tests.render.minion import ALONE

ROOT = Path(__file__).parents[3]
NAME = "app.tickets.config.SECRET_KEY"
FILE = "pillar/secrets/production.sls"


@pytest.fixture(scope="module")
def keys():
    """The keys of a host of production, one of staging, a Salt master, and two operators."""
    keys = {name: Keyring(name) for name in ("web1", "staging1", "master1", "alice", "bob")}
    yield keys
    for key in keys.values():
        key.close()


@pytest.fixture
def tree(tmp_path, keys):
    """A copy of what the tool reads, with the keys of the hosts and of both operators."""
    # The keys and the secrets of whoever runs the tests are not the tests'.
    copy(tmp_path, "bin", "pillar", "formulas", "salt/_modules", "salt/_utils", own=("builds", "keys", "secrets"))
    (tmp_path / "pillar/secrets").mkdir()
    (tmp_path / "pillar/hosts.yaml").write_text(yaml.safe_dump(ALONE))
    for directory, names in {"hosts": ("web1", "staging1"), "operators": ("alice", "bob")}.items():
        (tmp_path / "pillar/keys" / directory).mkdir(parents=True, exist_ok=True)
        for name in names:
            (tmp_path / f"pillar/keys/{directory}/{name}.asc").write_text(keys[name].public)
    return tmp_path


@pytest.fixture
def run(tree, keys):
    """A function that runs the tool and returns what it did."""

    def call(*arguments, value=b"", home="alice"):
        command = [sys.executable, tree / "bin/secret", *arguments]
        environ = os.environ | {"GNUPGHOME": str(keys[home].directory)}
        return subprocess.run(command, input=value, capture_output=True, env=environ, check=False)

    return call


@pytest.fixture
def write(run):
    """A function that writes a value, which must work, and returns what the tool printed."""

    def call(value, name=NAME, environment="production"):
        done = run("set", "--environment", environment, name, value=value)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stderr == b""
        return done.stdout.decode()

    return call


@pytest.fixture
def refused(run, tree):
    """A function that runs the tool, which must refuse and change nothing, and returns the lines that it says."""

    def call(*arguments, **options):
        before = contents(tree)
        done = run(*arguments, **options)
        assert done.returncode == 1, done.stderr.decode()
        assert done.stdout == b""
        assert contents(tree) == before
        lines = done.stderr.decode().splitlines()
        assert all(line.startswith("secret: ") for line in lines), done.stderr.decode()
        return [line.removeprefix("secret: ") for line in lines]

    return call


def contents(tree):
    return {path: path.read_bytes() for path in (tree / "pillar").rglob("*") if path.is_file()}


def messages(tree, environment="production"):
    """Return the PGP messages of a secrets file, by path."""
    found = {}

    def walk(value, path):
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, (*path, key))
        else:
            found[".".join(path)] = value

    walk(yaml.safe_load((tree / f"pillar/secrets/{environment}.sls").read_text()), ())
    return found


VALUES = {
    "a word": b"hunter2",
    "spaces and quotes": b' it\'s "quoted" \\ $HOME `id` % # : - ',
    "Jinja": b"{{ 7 * 7 }} {% if %} {# #}",
    "UTF-8": "pä\u2028ß \U0001f512 \u202e".encode(),
    "several lines": b"\n-----BEGIN KEY-----\r\nabc\n\n\ndef\n-----END KEY-----",
    "a line break of DOS": b"value\r",
    "100 kB": b"0123456789abcdef" * 6250,
    "what looks like a message": b"-----BEGIN PGP MESSAGE-----\n\nabcd\n=abcd\n-----END PGP MESSAGE-----",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_can_be_read_by_the_hosts_and_all_operators_byte_for_byte(tree, keys, write, value):
    said = write(value)
    assert said == f"{FILE}: {NAME} is written; it can be read by host web1, operator alice, operator bob\n"
    [(name, message)] = messages(tree).items()
    assert name == NAME
    for reader in ("web1", "alice", "bob"):
        assert keys[reader].decrypt(message) == value
    assert keys["staging1"].decrypt(message) is None


def test_one_line_break_at_the_end_is_left_out(tree, keys, write):
    write(b"hunter2\n")
    assert keys["web1"].decrypt(messages(tree)[NAME]) == b"hunter2"


def test_the_file_is_for_salts_gpg_renderer_and_shows_names_alone(tree, write):
    write(b"hunter2xyzzy")
    text = (tree / FILE).read_text()
    assert text.startswith("#!yaml|gpg\n")
    assert "      SECRET_KEY: |\n        -----BEGIN PGP MESSAGE-----\n" in text
    assert "hunter2xyzzy" not in text


def test_comments_order_and_mode_of_the_file_stay(tree, keys, write):
    write(b"one", "app.tickets.config.B")
    file = tree / FILE
    file.write_text(file.read_text().replace("      B: |", "      # Turned every month.\n      B: |") + "# The end.\n")
    file.chmod(0o640)
    before = file.read_text()
    write(b"two", "app.tickets.config.A")
    after = file.read_text()
    assert list(messages(tree)) == ["app.tickets.config.B", "app.tickets.config.A"]
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    assert file.stat().st_mode & 0o777 == 0o640
    assert keys["web1"].decrypt(messages(tree)["app.tickets.config.B"]) == b"one"


@pytest.mark.parametrize("variable", ["on", "NO", "null", "y"])
def test_a_name_that_yaml_reads_as_something_else_stays_a_name(tree, write, variable):
    write(b"value", f"app.tickets.config.{variable}")
    assert list(messages(tree)) == [f"app.tickets.config.{variable}"]


def test_a_value_takes_the_place_of_the_one_before(tree, keys, write):
    write(b"one")
    write(b"two")
    assert [keys["web1"].decrypt(message) for message in messages(tree).values()] == [b"two"]


REFUSED = {
    "app.tikets.config.KEY": "app.tikets: unknown setting; did you mean 'tickets'?",
    "app.tickets.confg.KEY": "app.tickets.confg: unknown setting; did you mean 'config'?",
    "ngnix.gzip": "ngnix: unknown setting; did you mean 'nginx'?",
    "app.tickets.config.PORT": "app.tickets.config.PORT: a name that cannot be used here; expected ",
    "app.tickets.config.KEY.more": "app.tickets.config.KEY: found mapping; expected text without NUL",
    "app.tickets.formation.web": "app.tickets.formation.web: only text can be encrypted; expected the path of a text",
    "app.tickets.config": "app.tickets.config: only text can be encrypted; expected the path of a text in it",
    "app.tickets.site.extra": "app.tickets.site.extra: is the same in every environment; expected it in pillar/common",
    "app..config": "NAME: no setting's path; expected one such as app.tickets.config.SECRET_KEY",
    "": "NAME: no setting's path; expected one such as app.tickets.config.SECRET_KEY",
}


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: name or "none")
def test_a_name_that_is_no_secrets_is_refused_before_the_value_is_read(refused, name):
    [line] = refused("set", "--environment", "production", name, value=b"hunter2xyzzy")
    assert line.startswith(REFUSED[name])


BAD_VALUES = {
    "none": (NAME, b"", "no value; expected one, from a prompt or from standard input"),
    "a line break alone": (NAME, b"\n", "no value; expected one, from a prompt or from standard input"),
    "an empty line at the end": (
        NAME,
        b"hunter2xyzzy\n\n",
        "ends with an empty line, which would not reach the host; ",
    ),
    "another encoding": (NAME, "hunter2xyzzyé".encode("latin-1"), "not in UTF-8; expected text in UTF-8, such as "),
    "NUL": (NAME, b"hunter2xyzzy\0", "not acceptable; expected text without NUL"),
    "a short password": (
        "redis.instances.tickets.password",
        b"hunter2xyzzy",
        "not acceptable; expected 16 to 256 ASCII characters without spaces",
    ),
    "no URL": ("app.tickets.attach.MAIL_URL.url", b"hunter2xyzzy", "not acceptable; expected a URL"),
}


@pytest.mark.parametrize("name, value, message", BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_value_that_no_host_would_get_is_refused_and_not_shown(refused, name, value, message):
    [line] = refused("set", "--environment", "production", name, value=value)
    assert line.startswith(f"{name}: {message}")
    assert "hunter2xyzzy" not in line


@pytest.mark.parametrize(
    "environment, message",
    [
        ("dev", "ENV: dev's secrets are none and stand in clear in pillar/secrets/dev.sls; edit that file"),
        ("prod", "ENV: no environment has this name; expected one of production, staging"),
    ],
)
def test_only_secrets_outside_dev_are_encrypted(refused, environment, message):
    assert refused("set", "--environment", environment, NAME, value=b"x") == [message]
    assert refused("rekey", "--environment", environment) == [message]
    assert refused("remove", "--environment", environment, NAME) == [message]


def bad_keys(keys):
    """Return what is in the file of a key that cannot be used, by what is said of it."""
    expired = Keyring("expired", expires="1d", made="20200101T000000")
    revoked, signing = Keyring("revoked"), Keyring("signing", usage="sign")
    revoked.revoke()
    made = {
        "the key has expired (": expired.public,
        "the key is revoked": revoked.public,
        "nothing can be encrypted to this key; expected one with a subkey for encryption that is valid": signing.public,
        "a private key! Expected a public one; remove it, also from git, and make a new key": keys["web1"].private,
        "holds 2 keys; expected one public key: ": keys["web1"].public + keys["bob"].public,
        "holds 0 keys; expected one public key: ": "no key\n",
        "no such file; expected the public key that bootstrap.sh prints on it": None,
    }
    for key in (expired, revoked, signing):
        key.close()
    return made


def test_a_key_that_cannot_be_used_is_named(tree, keys, refused):
    file = tree / "pillar/keys/hosts/web1.asc"
    for message, content in bad_keys(keys).items():
        file.unlink() if content is None else file.write_text(content)
        [line] = refused("set", "--environment", "production", NAME, value=b"x")
        assert line.startswith(f"pillar/keys/hosts/web1.asc: {message}")


def test_without_an_operator_nothing_is_written(tree, refused):
    shutil.rmtree(tree / "pillar/keys/operators")
    [line] = refused("set", "--environment", "production", NAME, value=b"x")
    assert line.startswith("pillar/keys/operators: no operator's key, ")


def test_a_file_that_holds_anything_in_clear_is_not_written(tree, refused):
    (tree / FILE).write_text("#!yaml|gpg\napp: {tickets: {config: {A: hunter2xyzzy}}}\n")
    [line] = refused("set", "--environment", "production", NAME, value=b"x")
    assert line == (
        f"app.tickets.config.A: {FILE}: not encrypted; write it with make secret ENV=production "
        "NAME=app.tickets.config.A"
    )


def test_a_closed_standard_input_is_no_value(tree):
    command = f"exec {sys.executable} {tree}/bin/secret set --environment production {NAME} <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "secret: a file: Bad file descriptor; nothing was changed, mend that\n"


# --- The prompt -------------------------------------------------------------------------------------------------------


def typed(tree, *lines, environ=None):
    """Run the tool in a terminal, type lines at its prompts, and return its exit code and what the terminal showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        # A shell starts what runs in its background with it ignored.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        command = [sys.executable, str(tree / "bin/secret"), "set", "--environment", "production", NAME]
        os.execve(command[0], command, os.environ | (environ or {}))
    shown = b""
    try:
        for count, line in enumerate(lines, 1):
            while shown.count(b": ") < count:
                shown += os.read(terminal, 1024)
            # getpass discards what was typed before it turned the echo off.
            time.sleep(0.3)
            os.write(terminal, line)
        while chunk := os.read(terminal, 1024):
            shown += chunk
    except OSError:
        # The terminal's other end is closed.
        pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_a_prompt_asks_twice_and_shows_nothing(tree, keys):
    code, shown = typed(tree, b"hunter2xyzzy\n", b"hunter2xyzzy\n")
    assert code == 0, shown
    assert f"{NAME}: " in shown
    assert f"{NAME}, once more: " in shown
    assert "hunter2xyzzy" not in shown
    assert keys["web1"].decrypt(messages(tree)[NAME]) == b"hunter2xyzzy"


def test_two_answers_that_differ_change_nothing(tree):
    code, shown = typed(tree, b"hunter2xyzzy\n", b"hunter3xyzzy\n")
    assert code == 1
    assert f"secret: {NAME}: not the same twice; nothing was changed, run it again" in shown
    assert not (tree / FILE).exists()


@pytest.mark.parametrize("key", [b"\x03", b"\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_an_interrupted_prompt_changes_nothing(tree, key):
    code, shown = typed(tree, key)
    assert code == 130
    assert "secret: interrupted; nothing was changed" in shown
    assert "Traceback" not in shown
    assert not (tree / FILE).exists()


def test_an_interrupted_run_leaves_nothing_behind(tree, keys, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("scratch")
    command = [sys.executable, tree / "bin/secret", "set", "--environment", "production", NAME]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | {"TMPDIR": str(scratch)})
    while not list(scratch.iterdir()):
        assert run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM
    run.stdin.close()
    assert list(scratch.iterdir()) == []
    assert not (tree / FILE).exists()


# --- What is removed --------------------------------------------------------------------------------------------------


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


# --- Another set of readers -------------------------------------------------------------------------------------------


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


DAMAGED = {
    "a changed character": lambda lines: [*lines[:4], lines[4][:9] + "x" + lines[4][10:], *lines[5:]],
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

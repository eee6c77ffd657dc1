"""bin/secret as an operator types it, with real keys: what it writes, who can read it, and each refusal in one line."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.keyring import Keyring
from tests.unit.secrets.written import FILE, NAME, VALUES, messages

ROOT = Path(__file__).parents[3]


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
    """Return the contents of key files that cannot be used, by the message for each."""
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
        # A shell's background jobs ignore SIGINT.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        command = [sys.executable, str(tree / "bin/secret"), "set", "--environment", "production", NAME]
        os.execve(command[0], command, os.environ | (environ or {}))
    shown = b""
    try:
        for count, line in enumerate(lines, 1):
            while shown.count(b": ") < count:
                shown += os.read(terminal, 1024)
            # getpass discards input from before it turned the echo off.
            time.sleep(0.3)
            os.write(terminal, line)
        while chunk := os.read(terminal, 1024):
            shown += chunk
    except OSError:
        # The command has closed the terminal.
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

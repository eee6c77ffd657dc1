"""Salt with real keys: values encrypted to the host reach it byte for byte; anything else stops the run by path."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import yaml

from tests.copies import copy
from tests.keyring import Keyring
from verify import declared

from .minion import ALONE, BUILDS, ROOT, Host, certificates
from .refused import assert_refused

FILE = "pillar/secrets/production.sls"
WRITE = "make secret ENV=production NAME=app.tickets.config"
FAILED = "Failed to load ext_pillar settings: "

VALUES = {
    "WORD": "hunter2",
    "QUOTES": ' it\'s "quoted" \\ \\n $HOME `id` % # : - ',
    "JINJA": "{{ 7 * 7 }} {% if %} {# #}",
    "UTF_8": "pä\u2028ß \U0001f512",
    "LINES": "\n-----BEGIN KEY-----\r\nabc\n\n\ndef\n-----END KEY-----",
    "DOS": "value\r",
    "LARGE": "0123456789abcdef" * 6250,
    "MESSAGE": "-----BEGIN PGP MESSAGE-----\n\nabcd\n=abcd\n-----END PGP MESSAGE-----",
}


@pytest.fixture(scope="module")
def keys():
    """The keys of the host and of another host."""
    keys = {name: Keyring(name) for name in ("web1", "web2")}
    yield keys
    for key in keys.values():
        key.close()


def secrets_file(values):
    """Return a secrets file with config variables of tickets.

    :param values: a mapping of variable to PGP message, or to anything else.
    """
    lines = ["#!yaml|gpg", "app:", "  tickets:", "    config:"]
    for name, value in values.items():
        lines += [f"      {name}: |", *(f"        {line}" for line in value.splitlines())]
    return "\n".join(lines) + "\n"


@pytest.fixture
def host(keys):
    """A host of production with its key. Its directory's path is short: see Keyring."""
    with tempfile.TemporaryDirectory(prefix="host-") as directory:
        host = Host(Path(directory), "web1")
        host.declare("hosts.yaml", ALONE)
        host.declare("builds/production.sls", BUILDS)
        (host.directory / "gpgkeys").symlink_to(keys["web1"].directory)
        yield host


@pytest.fixture
def without_key(tmp_path):
    """A host of production without a key."""
    host = Host(tmp_path, "web1")
    host.declare("hosts.yaml", ALONE)
    host.declare("builds/production.sls", BUILDS)
    return host


def running_agents(directory):
    """Return the gpg agents that serve a directory of keys."""
    listed = subprocess.run(["ps", "-eo", "stat,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f"--homedir {directory} " in line and not line.startswith("Z")]


def test_a_value_reaches_the_host_byte_for_byte(host, keys):
    host.declare(
        "secrets/production.sls",
        secrets_file({name: keys["web1"].encrypt(value.encode()) for name, value in VALUES.items()}),
    )
    config = host.ask("pillar.get", "app:tickets:config", "unmask=True")
    assert {name: config.get(name) for name in VALUES} == VALUES
    assert host.states()


def test_gpg_leaves_no_agent_behind(host, keys):
    host.declare("secrets/production.sls", secrets_file({"A": keys["web1"].encrypt(b"hunter2")}))
    keys["web1"].stop_agent()
    assert host.call("state.show_top")[0] == 0
    # The agent was told to end, but nobody waited for its end.
    deadline = time.monotonic() + 10
    while running_agents(host.directory / "gpgkeys") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running_agents(host.directory / "gpgkeys") == []


def test_who_verifies_a_host_reads_its_secrets_with_their_own_key(tmp_path, keys, monkeypatch):
    copy(tmp_path, "bootstrap", "pillar", "formulas", "salt")
    shutil.copy(ROOT / "bootstrap.sh", tmp_path)
    (tmp_path / "pillar/hosts.yaml").write_text(yaml.safe_dump(ALONE))
    message = keys["web1"].encrypt(b"hunter2", keys["web2"])
    for name, text in {"secrets": secrets_file({"A": message}), "builds": yaml.safe_dump(BUILDS)}.items():
        (tmp_path / f"pillar/{name}").mkdir()
        (tmp_path / f"pillar/{name}/production.sls").write_text(text)
    own = keys["web2"].directory
    monkeypatch.setenv("GNUPGHOME", str(own))
    assert declared.settings(tmp_path, "web1")["app"]["tickets"]["config"]["A"] == "hunter2"
    # The agent may know a passphrase, so it is not ended.
    assert running_agents(own)
    monkeypatch.setenv("GNUPGHOME", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"app\.tickets\.config\.A: .* cannot be decrypted"):
        declared.settings(tmp_path, "web1")


COMMANDS = ["state.apply test=True", "--out json state.apply test=True", "state.show_top", "settings.load app"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_message_for_another_host_stops_the_run_by_its_path(host, keys, command):
    messages = {"A": keys["web1"].encrypt(b"hunter2xyzzy"), "B": keys["web2"].encrypt(b"hunter3xyzzy")}
    host.declare("secrets/production.sls", secrets_file(messages))
    code, output = host.call(*command.split())
    assert_refused(
        code,
        output.replace(FAILED, ""),
        [
            f"app.tickets.config.B: {FILE}: cannot be decrypted with this host's key (web1); expected that key in "
            "pillar/keys/hosts/web1.asc, and make secrets-rekey after it"
        ],
    )
    assert "hunter" not in output
    assert "BEGIN PGP" not in output


def test_a_host_without_a_key_is_told_of_each_value_that_it_cannot_read(without_key, keys):
    messages = {name: keys["web2"].encrypt(b"hunter2xyzzy") for name in ("A", "B")}
    without_key.declare("secrets/production.sls", secrets_file(messages))
    code, output = without_key.call("state.apply", "test=True")
    reason = f"{FILE}: cannot be decrypted: this host (web1) has no key; run bootstrap.sh, which makes one"
    output = output.replace(FAILED, "")
    assert_refused(code, output, [f"app.tickets.config.{name}: {reason}" for name in ("A", "B")])


def test_a_damaged_message_stops_the_run_even_where_gpg_prints_a_part_of_it(host, keys):
    lines = keys["web1"].encrypt(str([number**2 for number in range(20_000)]).encode()).split("\n")
    damaged = "\n".join([*lines[:-6], lines[-6][::-1], *lines[-5:]])
    # Salt would have taken this text as the value.
    assert keys["web1"].gpg("--decrypt", input=damaged.encode(), check=False).stdout
    host.declare("secrets/production.sls", secrets_file({"A": damaged, "B": keys["web1"].encrypt(b"hunter2xyzzy")}))
    code, output = host.call("state.apply", "test=True")
    message = f"app.tickets.config.A: {FILE}: damaged: it is not what was encrypted; write it again with {WRITE}.A"
    assert_refused(code, output, [message])


def test_plain_text_stops_the_run_without_being_shown(host, keys):
    text = secrets_file({"A": keys["web1"].encrypt(b"hunter2xyzzy")}) + "      B: hunter3xyzzy\n"
    host.declare("secrets/production.sls", text)
    code, output = host.call("state.apply", "test=True")
    assert_refused(code, output, [f"app.tickets.config.B: {FILE}: not encrypted; write it with {WRITE}.B"])
    assert "hunter" not in output


def test_a_secrets_file_that_salt_would_not_decrypt_stops_the_run(host, keys):
    text = secrets_file({"A": keys["web1"].encrypt(b"hunter2xyzzy")})
    host.declare("secrets/production.sls", text.replace("#!yaml|gpg", "#!yaml"))
    code, output = host.call("state.apply", "test=True")
    assert_refused(code, output, [f"{FILE}: line 1: expected #!yaml|gpg, by which Salt decrypts the file"])


def test_ciphertext_is_never_taken_for_a_value(host, keys):
    minion = host.directory / "minion"
    config = yaml.safe_load(minion.read_text())
    minion.write_text(yaml.safe_dump(config | {"gpg_decrypt_must_succeed": False}))
    host.declare("secrets/production.sls", secrets_file({"A": keys["web2"].encrypt(b"hunter2xyzzy")}))
    code, output = host.call("state.apply", "test=True")
    assert code != 0
    assert f"app.tickets.config.A: {FILE}: cannot be decrypted with this host's key (web1); " in output
    assert "Result:" not in output


@pytest.mark.parametrize("name", ["common.sls", "environments/production.sls"])
def test_a_secret_in_plain_text_elsewhere_stops_the_run(host, name):
    path = host.pillar / name
    said = yaml.safe_load(path.read_text()) | {"redis": {"instances": {"tickets": {"password": "hunter2-xyzzy-0123"}}}}
    host.declare(name, said)
    code, output = host.call("state.apply", "test=True")
    setting = "redis.instances.tickets.password"
    assert_refused(
        code,
        output,
        [
            f"{setting}: pillar/{name}: in plain text; expected it encrypted: write it with make secret "
            f"ENV=production NAME={setting}, and remove it there"
        ],
    )
    assert "xyzzy" not in output


CERTIFICATES = "pillar/certificates/production/web1.sls"


@pytest.fixture
def certified(host):
    """A function that writes the host's certificates with a given key; and those certificates."""
    address = yaml.safe_load((host.pillar / "hosts.yaml").read_text())["web1"]["address"]
    given = certificates("web1", address)

    def write(key):
        text = "#!yaml|gpg\n" + yaml.safe_dump({"certificates": given | {"key": key}})
        host.declare("certificates/production/web1.sls", text)

    return write, given


def test_a_hosts_private_key_is_a_message_to_it(host, keys, certified):
    write, given = certified
    write(keys["web1"].encrypt(given["key"].encode()))
    assert host.ask("pillar.get", "certificates:key", "unmask=True") == given["key"].rstrip("\n")
    assert host.states()


def test_a_private_key_of_another_or_in_clear_stops_the_run_by_its_path(host, keys, certified):
    write, given = certified
    write(keys["web2"].encrypt(given["key"].encode()))
    code, output = host.call("state.apply", "test=True")
    locked = "cannot be decrypted with this host's key (web1); expected that key in pillar/keys/hosts/web1.asc"
    message = f"certificates.key: {CERTIFICATES}: {locked}, and make secrets-rekey after it"
    assert_refused(code, output.replace(FAILED, ""), [message])
    write(given["key"])
    code, output = host.call("state.apply", "test=True")
    message = f"certificates.key: {CERTIFICATES}: not encrypted; write it with bin/issue-certificates production"
    assert_refused(code, output, [message])
    assert "PRIVATE" not in output


def test_a_certificate_that_is_not_the_hosts_stops_the_run(host, keys, certified):
    write, given = certified
    write(keys["web1"].encrypt(given["key"].encode()))
    hosts = host.pillar / "hosts.yaml"
    hosts.write_text(hosts.read_text().replace("10.77.2.10", "10.77.2.11"))
    code, output = host.call("state.apply", "test=True")
    expected = "expected what bin/issue-certificates production writes: run it"
    assert_refused(code, output, [f"certificates.certificate: is not for 10.77.2.11; {expected}"])


def test_what_is_in_devs_files_is_no_secret(tmp_path):
    host = Host(tmp_path, "dev")
    host.declare("builds/dev.sls", BUILDS)
    host.declare("secrets/dev.sls", {"redis": {"instances": {"tickets": {"password": "hunter2-xyzzy-0123"}}}})
    assert host.states()

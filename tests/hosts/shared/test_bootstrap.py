"""bootstrap.sh on a bare host: each refusal is one line and leaves the host as it was."""

import pytest

from lab import Host, machine
from lab.podman import podman

SCRIPT = "/srv/saltern/bootstrap.sh"


def refused(host: Host, *arguments: str, **environment: str) -> str:
    """Run bootstrap.sh, which must refuse; return its one line."""
    done = host.run(SCRIPT, *arguments, check=False, env=environment)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("bootstrap.sh: ")
    return lines[0].removeprefix("bootstrap.sh: ")


@pytest.fixture
def untouched(bare):
    """Fail the test if it leaves any file of Salt on the host."""
    yield
    found = bare.sh("find /opt/saltern /etc/salt /usr/local/bin /usr/local/lib -mindepth 1 2>/dev/null || true").stdout
    assert [path for path in found.splitlines() if "dist-packages" not in path and "/python3" not in path] == []


def test_it_refuses_another_user_than_root(bare, untouched):
    # Other users cannot read the tree, so this user runs a copy.
    bare.sh(f"install -m 755 {SCRIPT} /tmp/copy.sh")
    done = bare.run("runuser", "-u", "nobody", "--", "/tmp/copy.sh", check=False)
    bare.sh("rm /tmp/copy.sh")
    assert (done.returncode, done.stderr) == (1, "bootstrap.sh: not root: run it with sudo, or as root\n")


def test_it_refuses_an_id_that_the_inventory_does_not_have(bare, untouched):
    said = refused(bare, "--id", "dve")
    assert said.startswith(
        "id 'dve' is not in pillar/hosts.yaml: add a row for it, or give one that is there with --id ("
    )
    assert said.endswith("(app1 app2 db1 dev proxy1 staging-app1 staging-db1)")


def test_it_refuses_an_option_that_it_does_not_have(bare, untouched):
    assert refused(bare, "--ids", "dev") == (
        "--ids: unknown option; expected --id ID, --masterless, --master or --minion-of HOST --master-key FINGERPRINT"
    )
    assert refused(bare, "--master", "--masterless") == (
        "--masterless: expected one of --masterless, --master and --minion-of"
    )
    assert refused(bare, "--minion-of", "10.0.0.1", "--master-key", "1f:3c").startswith(
        "--master-key: expected the fingerprint of 10.0.0.1's key, 32 pairs of hexadecimal digits"
    )
    assert refused(bare, "--minion-of", "a b").startswith("--minion-of: 'a b' is no name and no address of a host")
    assert refused(bare, "--master-key", "1f:3c") == "--master-key: is a minion's; expected it beside --minion-of"
    assert refused(bare, "--id") == "--id: expected a host of pillar/hosts.yaml after it"


def test_it_refuses_another_release_of_debian(bare, untouched):
    bare.sh("cp -L /etc/os-release /root/os-release; sed -i 's/^VERSION_ID=.*/VERSION_ID=11/' /usr/lib/os-release")
    try:
        assert refused(bare) == ("not a supported Debian: found 'debian 11', expected Debian 12 or 13; use such a host")
    finally:
        bare.sh("cp /root/os-release /usr/lib/os-release; rm /root/os-release")


def test_it_refuses_a_host_without_systemd(bare, lab, suite):
    options = ["--rm", *machine.limits(), f"--volume={lab.tree}:/srv/saltern:ro", f"localhost/saltern-lab:{suite}"]
    done = podman("run", *options, SCRIPT, "--id", "dev", check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "bootstrap.sh: systemd is not running: boot the host with systemd as its init, then run this again"
    )


def test_it_refuses_a_file_of_authorities_that_is_not_there(bare, untouched):
    assert refused(bare, SSL_CERT_FILE="/absent.pem") == (
        "SSL_CERT_FILE: /absent.pem: no such file; give the authorities' certificates in PEM"
    )


def test_it_says_that_the_index_cannot_be_reached(bare, untouched):
    said = refused(bare, PIP_INDEX_URL="https://127.0.0.1:1/simple", PIP_RETRIES="0")
    assert said == (
        "uv: the package index did not answer as expected (Connection refused); "
        "set PIP_INDEX_URL, HTTPS_PROXY or SSL_CERT_FILE"
    )


def test_it_refuses_packages_that_are_not_the_locked_ones(bare, edited, untouched, tree):
    lock = (tree / "requirements/salt.txt").read_text()
    pinned = lock[lock.index("\nmsgpack==") :]
    hashes = [
        line.split(":")[1].split()[0] for line in pinned[: pinned.index("\nmultidict")].splitlines() if "--hash" in line
    ]
    for digest in hashes:
        edited("requirements/salt.txt", digest, "0" * 64)
    assert refused(bare, **machine.index_environment()) == (
        "Salt: what the index gave does not match the hashes of requirements/salt.txt; do not use that index"
    )

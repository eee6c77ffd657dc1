"""Builds of an app: what a host refuses, and where a build may come from."""

import http.client
import http.server
import io
import shutil
import ssl
import tarfile
import threading

import pytest
import trustme
import yaml

from lab.worktree import commit
from tests.hosts.applied import apply, converged
from tests.hosts.client import Client
from tests.hosts.conftest import ROOT
from tests.hosts.kept import kept

MIRROR = {
    "port": 8300,
    "domains": ["mirror.localhost"],
    "formation": {"web": 2, "worker": 1},
    "health": {"grace": 10, "settle": 1},
}


@pytest.fixture(scope="module")
def deployed(host, lab, tree, pillar):
    """The converge that deployed mirror, with its build from Salt's file roots."""
    lab.build(ROOT / "tests/apps/mirror", host.python)
    pillar.merge(app={"mirror": MIRROR})
    path, copied = tree / "pillar/builds/dev.sls", tree / "formulas/mirror.tar.gz"
    text = path.read_text()
    builds = yaml.safe_load(text)
    shutil.copy(tree / builds["app"]["mirror"]["build"]["source"].removeprefix("/srv/saltern/"), copied)
    builds["app"]["mirror"]["build"]["source"] = "salt://mirror.tar.gz"
    path.write_text(yaml.safe_dump(builds))
    applied = apply(host).succeeded()
    path.write_text(text)
    copied.unlink()
    return applied


@pytest.fixture
def mirror(deployed, host):
    return Client(host.address, "mirror.localhost")


@pytest.mark.alike("trixie")
def test_a_process_type_that_the_procfile_lacks_is_refused(host, mirror, tree, pillar, pids):
    before = pids("mirror")
    pillar.merge(app={"mirror": {"formation": {"clock": 1}}})
    # The declaration names the build's process types, so the run stops before any state.
    done = host.run("salt-call", "state.apply", check=False)
    assert done.returncode != 0
    said = "app.mirror.formation.clock: the declared build has no such process type; expected one of "
    said += "asgi, beat, web, worker"
    assert said in done.stdout
    assert "Result:" not in done.stdout
    # An older declaration does not name them: the build itself is asked once it is on the host.
    path = tree / "pillar/builds/dev.sls"
    text = path.read_text()
    builds = yaml.safe_load(text)
    assert builds["app"]["mirror"]["build"].pop("processes") == ["asgi", "beat", "release", "web", "worker"]
    path.write_text(yaml.safe_dump(builds))
    applied = apply(host)
    path.write_text(text)
    assert "app.mirror.formation.clock: the Procfile of build" in applied.failed["app-release-mirror"]
    assert applied.failed["app-release-mirror"].endswith("expected one of asgi, beat, web, worker")
    assert pids("mirror") == before
    pillar.merge(app={"mirror": {"formation": {"clock": None}}})
    apply(host).changed_nothing()


@pytest.fixture
def declared(tree):
    """The declared build of mirror, and a function that declares another one until the test is over."""
    path = tree / "pillar/builds/dev.sls"
    text = path.read_text()

    def declare(**changes):
        builds = yaml.safe_load(text)
        builds["app"]["mirror"]["build"] |= changes
        path.write_text(yaml.safe_dump(builds))

    yield yaml.safe_load(text)["app"]["mirror"]["build"], declare
    path.write_text(text)


@pytest.mark.alike("bookworm")
def test_a_build_with_another_sha256_is_refused(host, mirror, declared, release):
    number = release()
    _, declare = declared
    declare(sha256="0" * 64)
    applied = apply(host)
    assert "app.mirror.build.sha256: " in applied.failed["app-build-mirror"]
    assert "expected the declared one" in applied.failed["app-build-mirror"]
    assert release() == number
    assert mirror.get("/healthz").status_code == 200
    assert host.sh("ls -A /srv/apps/mirror/builds").stdout.count("\n") == 1


ABSENT = {
    "a file": (
        "/srv/saltern/dist/absent.tar.gz",
        "/srv/saltern/dist/absent.tar.gz: no such file; put the build there that was declared",
    ),
    "a server": (
        "https://127.0.0.1:9/mirror.tar.gz",
        "the server cannot be reached (ConnectionError); expected the tarball",
    ),
}


@pytest.mark.alike("bookworm")
@pytest.mark.parametrize("source, told", ABSENT.values(), ids=ABSENT)
def test_a_source_that_is_not_there_is_refused(host, mirror, declared, source, told):
    _, declare = declared
    declare(source=source, sha256="0" * 64)
    assert apply(host).failed["app-build-mirror"] == f"app.mirror.build.source: {told}"


@pytest.mark.alike("bookworm")
def test_a_build_for_another_python_is_refused(host, lab, mirror, declared):
    other = {"3.11": "3.13", "3.13": "3.11"}[host.python]
    lab.build(ROOT / "tests/apps/mirror", other)
    assert f"is for Python {other}, this host has {host.python}" in apply(host).failed["app-build-mirror"]


@pytest.mark.alike("bookworm")
def test_a_truncated_build_is_refused(host, tree, mirror, declared):
    build, declare = declared
    whole = (tree / build["source"].removeprefix("/srv/saltern/")).read_bytes()
    (tree / "dist/half.tar.gz").write_bytes(whole[: len(whole) // 2])
    sha256 = host.sh("sha256sum /srv/saltern/dist/half.tar.gz").stdout.split()[0]
    declare(source="/srv/saltern/dist/half.tar.gz", sha256=sha256)
    assert "damaged" in apply(host).failed["app-build-mirror"]


def packed(tree, name, *members):
    """Put a tarball into the tree's builds.

    :param members: pairs of a name or a tarfile.TarInfo, and a text.
    """
    with tarfile.open(tree / "dist" / name, "w:gz") as tar:
        for member, text in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))


def link(name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


OUTSIDE = "expected members that stay inside the build"
HOSTILE = {
    "a member that climbs out": ([("../evil", "x")], f"../evil leaves the build; {OUTSIDE}"),
    "an absolute member": ([("/tmp/evil", "x")], f"/tmp/evil leaves the build; {OUTSIDE}"),
    "a link that leaves": ([(link("evil", "/etc"), "")], f"evil links out of the build; {OUTSIDE}"),
    "a member behind a link": (
        [(link("a", "b"), ""), ("a/evil", "x")],
        f"a/evil lies behind a symbolic link; {OUTSIDE}",
    ),
    "a deep path": ([("/".join(["evil"] * 3000), "x")], "expected what a host can keep; build it again"),
    "no build.json": ([("Procfile", "web: x")], "has no valid build.json; make it with bin/build"),
}


@pytest.mark.alike
@pytest.mark.parametrize("what", HOSTILE)
def test_a_tarball_is_refused_that_has(what, host, tree, mirror, declared, release):
    members, reason = HOSTILE[what]
    number = release()
    packed(tree, "hostile.tar.gz", *members)
    _, declare = declared
    sha256 = host.sh("sha256sum /srv/saltern/dist/hostile.tar.gz").stdout.split()[0]
    declare(source="/srv/saltern/dist/hostile.tar.gz", sha256=sha256)
    assert apply(host).failed["app-build-mirror"].endswith(reason)
    assert release() == number
    assert host.sh("find / -xdev -name evil -not -path '/proc/*'").stdout == ""
    assert host.sh("ls -A /srv/apps/mirror/builds").stdout.count("\n") == 1


@pytest.mark.alike("bookworm")
def test_a_build_without_a_procfile_is_refused(host, tree, mirror, declared):
    build, declare = declared
    source = tree / build["source"].removeprefix("/srv/saltern/")
    with tarfile.open(source) as whole, tarfile.open(tree / "dist/no-procfile.tar.gz", "w:gz") as without:
        for member in whole:
            if member.name != "Procfile":
                without.addfile(member, whole.extractfile(member) if member.isfile() else None)
    sha256 = host.sh("sha256sum /srv/saltern/dist/no-procfile.tar.gz").stdout.split()[0]
    declare(source="/srv/saltern/dist/no-procfile.tar.gz", sha256=sha256)
    assert apply(host).failed["app-build-mirror"] == "app.mirror.build: has no Procfile; make it with bin/build"


@pytest.mark.alike("trixie")
def test_a_build_can_come_from_the_file_roots(deployed):
    assert {"app-build-mirror", "app-release-mirror"} <= deployed.changed


@pytest.mark.alike("trixie")
def test_a_build_can_come_over_https_from_an_authority_of_the_site(host, lab, tree, mirror, declared, pillar):
    build, declare = declared
    gateway = str(lab.subnet[1])
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(gateway).configure_cert(context)

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tree / "dist")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer((gateway, 0), Files) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        declare(source=f"https://{gateway}:{server.server_port}/{build['source'].rpartition('/')[2]}")
        host.sh(f"rm -r /srv/apps/mirror/builds/{build['sha256'][:12]}")
        refused = apply(host).failed["app-build-mirror"]
        assert refused == "app.mirror.build.source: the server cannot be reached (SSLError); expected the tarball"
        certificate = authority.cert_pem.bytes().decode()
        pillar.merge(base={"ca_certificates": {"test": certificate}})
        # The running processes lost their directory with the build, so a new release replaces them.
        authority_states = {"base-ca-certificate-test", "base-ca-certificates"}
        assert apply(host).succeeded().changed == {"app-build-mirror", "app-release-mirror"} | authority_states
        apply(host).changed_nothing()
        server.shutdown()
    # An authority that is no longer declared is no longer trusted.
    pillar.merge(base={"ca_certificates": None})
    declare()
    assert apply(host).succeeded().changed == {"base-ca-retired", "base-ca-certificates"}
    assert certificate.strip() not in host.sh("cat /etc/ssl/certs/ca-certificates.crt").stdout


REFUSED = {
    "a package that Debian lacks": ("tre", "has no such package; expected tree. Change the Aptfile, and build again"),
    "one in whose place apt would remove another": ("chrony", "chrony: would remove systemd-timesyncd; expected "),
}


@pytest.mark.alike("trixie")
@pytest.mark.parametrize("name, told", REFUSED.values(), ids=REFUSED)
def test_a_package_is_refused_before_anything_is_changed(name, told, host, mirror, declared, pillar):
    _, declare = declared
    declare(packages=[name])
    pillar.merge(app={"mirror": {"formation": {"web": 1}}})
    # Salt goes on after a failure in a dry run.
    dry, applied = apply(host, "test=True"), apply(host)
    assert applied.failed.keys() == {"app-packages-judged"}
    assert applied.changed == set()
    for failed in (dry.failed, applied.failed):
        assert failed["app-packages-judged"].startswith(f"app.mirror.build: Aptfile: {name}")
        assert told in failed["app-packages-judged"]
    pillar.merge(app={"mirror": {"formation": {"web": 2}}})


@pytest.mark.alike("trixie")
def test_the_packages_of_an_aptfile_are_there_for_as_long_as_a_release_needs_them(
    host, lab, mirror, declared, pillar, tmp_path, release, verify
):
    apply(host).succeeded()
    number = release()
    code = tmp_path / "mirror"
    shutil.copytree(ROOT / "tests/apps/mirror", code)
    (code / "Aptfile").write_text("# what an operator wants\ntree\n")
    commit(code)
    lab.build(code, host.python)
    assert converged(host) == {"app-packages", "app-build-mirror", "app-release-mirror"}
    assert host.sh("mirror-run tree --version").stdout.startswith("tree v")
    [(name, listed)] = host.salt("app.packages").items()
    assert (name, listed["apps"]) == ("tree", ["mirror"])
    assert listed["installed"] == host.sh("dpkg-query --show --showformat='${Version}' tree").stdout
    verify(host, "app")
    # An earlier release asks for no package. The one that was left can still be gone back to, and needs its own.
    host.salt("release.rollback", "mirror", str(number), "force=True")
    build, declare = declared
    declare(**build)
    apply(host).succeeded()
    assert "tree" in host.salt("app.packages")
    assert kept(host) == {}
    host.sh("apt-get -qq purge tree")
    done = host.run("salt-call", "release.rollback", "mirror", str(number + 1), "force=True", check=False)
    assert "the package tree is not installed: apt-get install tree" in done.stdout + done.stderr
    host.sh("apt-get -qq install tree")
    host.salt("release.rollback", "mirror", str(number + 1), "force=True")
    assert release() == number + 1
    # With the app, it is no longer asked for. It stays until an operator removes it.
    pillar.merge(app={"mirror": None})
    apply(host).succeeded()
    assert host.salt("app.packages") == {}
    assert kept(host)["package:tree"]["remove"] == "apt-get purge tree"
    apply(host).changed_nothing()
    assert kept(host)["package:tree"]["since"]
    host.sh(kept(host)["package:tree"]["remove"] + " --yes -qq")
    assert "package:tree" not in kept(host)

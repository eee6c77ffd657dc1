"""The lab's decisions, none of which needs a container."""

import ipaddress
import os
import resource
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab import elsewhere, image, inside, machine, network, tree
from lab.host import decoded, plain
from lab.podman import LabError

NETWORK = ipaddress.ip_network


@pytest.mark.parametrize(
    ("taken", "first"),
    [
        ([], "10.78.0.0/24"),
        (["10.78.0.0/24"], "10.78.1.0/24"),
        (["10.78.0.0/23", "10.78.3.128/25"], "10.78.2.0/24"),
        (["192.168.0.0/16"], "10.78.0.0/24"),
        (["10.78.0.7/32"], "10.78.1.0/24"),
    ],
)
def test_the_first_subnet_that_overlaps_no_other_is_free(taken, first):
    assert next(network.free_subnets(map(NETWORK, taken))) == NETWORK(first)


def test_no_subnet_is_free_where_a_larger_network_holds_the_pool():
    assert list(network.free_subnets([NETWORK("10.0.0.0/8")])) == []


def rows(**addresses):
    return {
        host: {"environment": environment, "address": address} for host, (environment, address) in addresses.items()
    }


def test_the_subnet_of_an_environment_is_the_24_of_its_hosts():
    declared = rows(a=("dev", "10.77.0.10"), b=("dev", "10.77.0.200"), c=("staging", "10.77.1.10"))
    assert tree.subnet_of(declared, "dev") == NETWORK("10.77.0.0/24")


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (rows(a=("staging", "10.77.1.10")), "no host is in the environment dev"),
        (rows(a=("dev", "10.77.0.10"), b=("dev", "10.77.1.10")), "10.77.0.0/24, 10.77.1.0/24"),
    ],
)
def test_an_environment_without_one_subnet_is_refused(declared, said):
    with pytest.raises(LabError, match=said):
        tree.subnet_of(declared, "dev")


@pytest.mark.parametrize(
    "text",
    [
        "dev: {environment: dev, roles: []}",
        "dev: {environment: dev, roles: [], address: 300.1.1.1}",
        "dev: web",
        "a: [",
        "a:\n\tb",
    ],
)
def test_a_broken_inventory_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "pillar").mkdir()
    (tmp_path / "pillar/hosts.yaml").write_text(text)
    with pytest.raises(LabError) as refused:
        tree.inventory(tmp_path)
    assert str(refused.value).startswith("pillar/hosts.yaml: ")
    assert "\n" not in str(refused.value)


def test_the_mirrors_of_one_suite_are_those_of_another_by_name():
    listed = [
        "http://mirror.example/debian/ bookworm main",
        "http://mirror.example/debian/ bookworm-updates main",
        "https://mirror.example/debian-security/ bookworm-security main",
    ]
    assert [str(mirror) for mirror in machine.rewritten(listed, "trixie")] == [
        "deb http://mirror.example/debian/ trixie main",
        "deb https://mirror.example/debian-security/ trixie-security main",
        "deb http://mirror.example/debian/ trixie-updates main",
    ]
    assert next(mirror.suite for mirror in machine.rewritten(listed, "bookworm")) == "bookworm"


@pytest.mark.parametrize(
    "line",
    [
        "http://mirror.example/debian/ bookworm-backports main",
        "http://mirror.example/debian/ bookworm contrib",
        "http://mirror.example/debian/ sid main",
        "file:/srv/mirror/ bookworm main",
        "",
    ],
)
def test_what_a_host_cannot_use_is_no_mirror(line):
    assert machine.rewritten([line], "bookworm") == []


def test_a_mirror_that_is_listed_for_each_architecture_is_one():
    assert len(machine.rewritten(["http://mirror.example/debian/ trixie main"] * 2, "trixie")) == 1


RECIPE = image.Recipe(suite="bookworm", mirrors=("deb http://mirror.example/debian bookworm main",))


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "trixie"},
        {"mirrors": ("deb http://other.example/debian bookworm main",)},
        {"apt_options": ('Acquire::Check-Date "false";',)},
        {"authorities": (("site.crt", b"one"),)},
        {"authorities": (("site.crt", b"another"),)},
        {"packages": ("systemd",)},
        {"masked": ()},
    ],
)
def test_the_digest_of_a_recipe_changes_with_each_of_its_parts(change):
    fields = {"suite": RECIPE.suite, "mirrors": RECIPE.mirrors}
    digests = {
        RECIPE.digest,
        image.Recipe(**(fields | change)).digest,
        image.Recipe(**(fields | {"packages": ("x",)})).digest,
    }
    assert len(digests) == 3


def test_the_digest_of_a_recipe_is_that_of_an_equal_one():
    same = image.Recipe(suite="bookworm", mirrors=("deb http://mirror.example/debian bookworm main",))
    assert same.digest == RECIPE.digest


def test_an_authority_is_installed_and_none_needs_no_hook():
    assert not any("ca-certificates" in option and "hook" in option for option in image.mmdebstrap_options(RECIPE, []))
    hooks = " ".join(image.mmdebstrap_options(RECIPE, [Path("/tmp/a site.crt")]))
    assert "copy-in '/tmp/a site.crt' /usr/local/share/ca-certificates" in hooks


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("I: running\nE: Unable to locate package x\nE: mmdebstrap failed to run", "Unable to locate package x"),
        ("Error: no space left on device", "no space left on device"),
        ("something odd\n", "something odd"),
    ],
)
def test_the_first_error_of_a_log_is_the_reason(log, said):
    assert image.first_error(log) == said


@pytest.mark.parametrize(
    ("open_files", "processes", "options"),
    [
        (20000, 96343, ["nofile=1024:20000", "nproc=16384:16384"]),
        (1048576, 4096, ["nofile=1024:524288", "nproc=4096:4096"]),
        (512, 100, ["nofile=512:512", "nproc=100:100"]),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, ["nofile=1024:524288", "nproc=16384:16384"]),
    ],
)
def test_a_host_is_never_given_more_than_this_machine_has(open_files, processes, options):
    assert machine.limit_options(open_files, processes)[1::2] == options


@pytest.mark.parametrize(
    ("mounts", "files"),
    [
        (["/ /sys/fs/cgroup rw - cgroup2 cgroup2 rw"], ["/sys/fs/cgroup/c/init.scope/cgroup.procs"]),
        (
            [
                "/ /sys/fs/cgroup rw - tmpfs tmpfs rw",
                "/ /sys/fs/cgroup/cpu rw shared:1 - cgroup cgroup rw,cpu,cpuacct",
                "/machine /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd",
                "/ /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer",
                "/ /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
            ],
            [
                "/sys/fs/cgroup/systemd/c/cgroup.procs",
                "/sys/fs/cgroup/cpu/c/cgroup.procs",
                "/sys/fs/cgroup/unified/c/init.scope/cgroup.procs",
            ],
        ),
        (["/ / rw - ext4 /dev/vda rw"], []),
    ],
    ids=["unified", "both", "none"],
)
def test_a_process_joins_the_control_groups_that_are_mounted(mounts, files):
    text = "9:name=systemd:/machine/c\n8:perf_event:/\n1:cpu,cpuacct:/c\n0::/c/init.scope\n"
    mountinfo = "".join(f"{number} 20 0:{number} {mount}\n" for number, mount in enumerate(mounts))
    assert inside.groups(text, mountinfo) == files


def test_a_process_of_this_machine_is_no_way_into_a_container():
    with pytest.raises(LabError, match="this machine's own"):
        inside.entry_like(os.getpid(), os.getpid())


def test_a_way_into_a_process_that_has_ended_leads_nowhere():
    with subprocess.Popen(["unshare", "--mount", "sleep", "300"]) as process:
        outside = os.open(f"/proc/{process.pid}", os.O_RDONLY)
        entry = inside.Entry(outside, ("mnt",), {}, (), (), "0022")
        assert entry.open
        process.kill()
    assert not entry.open
    late = subprocess.run(entry.command(["true"]), capture_output=True, text=True, check=False)
    os.close(outside)
    assert (late.returncode, "cannot open" in late.stderr) == (1, True)


def test_unified_control_groups_are_version_2(tmp_path):
    assert machine.cgroup_version(tmp_path) == 1
    (tmp_path / "cgroup.controllers").touch()
    assert machine.cgroup_version(tmp_path) == 2


@pytest.mark.parametrize(
    ("configuration", "variables"),
    [
        ("", {}),
        ("global.extra-index-url='file:///srv/simple'\n:env:.cert='/x.pem'\n", {}),
        ("global.index-url='https://index.example/simple'\n", {"PIP_INDEX_URL": "https://index.example/simple"}),
        (
            ":env:.index-url='https://second.example/simple'\nglobal.index-url='https://first.example/simple'\n",
            {"PIP_INDEX_URL": "https://second.example/simple"},
        ),
        (
            "global.extra-index-url='file:///srv/simple\\nhttps://one.example/simple http://two.example/simple'\n",
            {"PIP_EXTRA_INDEX_URL": "https://one.example/simple http://two.example/simple"},
        ),
    ],
)
def test_only_an_index_that_a_host_can_reach_is_passed_on(configuration, variables):
    assert machine.indexes(configuration) == variables


@pytest.mark.parametrize("text", ["abc", "0", "65536", "-1", "80 80", "²"])
def test_an_invalid_port_is_refused(text):
    with pytest.raises(LabError, match="SALTERN_PORT"):
        network.asked_port(text)


def test_a_port_is_taken_as_asked_or_left_open():
    assert network.asked_port("9000") == 9000
    assert network.asked_port("") is None


def test_a_port_in_use_is_refused_by_number_and_else_passed_over():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(LabError, match=f"port {port} of 127.0.0.1 is in use"):
            network.free_port(port)
        with pytest.raises(LabError, match="all in use"):
            network.free_port(None, first=port, last=port)


def test_two_labs_are_never_given_the_same_port(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "PORT_LOCK", tmp_path / "lock")
    monkeypatch.setattr(network, "published_ports", dict)
    servers = []

    def publish(_):
        with network.port_to_publish(None) as port:
            time.sleep(0.01)
            servers.append(socket.create_server(("127.0.0.1", port)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(publish, range(8)))
    assert len({server.getsockname()[1] for server in servers}) == 8
    for server in servers:
        server.close()


def test_a_copy_of_the_tree_has_what_git_would_have(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "pillar").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    (source / ".gitignore").write_text("dist\n")
    (source / "pillar/hosts.yaml").write_text("dev: {}\n")
    (source / "gone").write_text("x")
    (source / "script").write_text("x")
    (source / "script").chmod(0o755)
    subprocess.run(["git", "-C", str(source), "add", "."], check=True)
    (source / "gone").unlink()
    (source / "new").write_text("x")
    (source / "dist").write_text("x")
    tree.copy_tree(source, target)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()) == [
        ".gitignore",
        "new",
        "pillar/hosts.yaml",
        "script",
    ]
    assert (target / "script").stat().st_mode & 0o111


def test_what_is_not_a_git_tree_is_not_copied(tmp_path):
    with pytest.raises(LabError, match="not a git repository"):
        tree.copy_tree(tmp_path, tmp_path / "target")


def test_colours_are_not_part_of_a_line():
    assert plain("\x1b[0;36mSucceeded: 3\x1b[0;0m") == "Succeeded: 3"


@pytest.mark.parametrize(
    "name, reason",
    [("ssh://root@nowhere.invalid", "nowhere.invalid"), ("nonsense://web1", "Unknown connection type 'nonsense'")],
)
def test_a_host_that_cannot_be_asked_is_refused_once(name, reason, tmp_path):
    (config := tmp_path / "ssh_config").touch()
    with pytest.raises(LabError, match=rf"^HOST: {name} cannot be asked: .*{reason}.*; expected a host that ssh"):
        elsewhere.refuse_unreached(name, config)
    elsewhere.refuse_unreached("local://", config)
    with pytest.raises(LabError, match=r"^HOST: 'web1' is no address of a host; expected one as ssh://root@web1$"):
        elsewhere.refuse_unreached("web1", config)


def test_what_is_no_text_in_a_hosts_answer_is_shown_by_its_bytes():
    assert decoded(b"faq[web.1]\r\nfaq\xff[web.1]\n") == "faq[web.1]\nfaq\\xff[web.1]\n"

"""The apps: each process is as its release declares it, and no other process runs."""

import json
import re
from urllib.parse import quote, urlsplit

import pytest

from saltern import services
from saltern.apps import alone
from saltern.attachments import parts
from saltern.contracts import openapi
from saltern.web import routes
from verify import declared

OTHERS_READ = """
import json, os, sys
found = []
for directory, _, names in os.walk(sys.argv[1], onerror=lambda error: None):
    found += [os.path.join(directory, name) for name in names if os.access(os.path.join(directory, name), os.R_OK)]
print(json.dumps(found))
"""

# A control group's limits in the kernel: memory in bytes, tasks, processors, and the share of processors.
LIMITS = """
import json, os, pathlib, sys
root, found = pathlib.Path("/sys/fs/cgroup"), {"physical": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")}

def read(controller, *names):
    paths = [path / name for path in (root / sys.argv[1], root / controller / sys.argv[1]) for name in names]
    texts = [path.read_text().split() for path in paths if path.exists()]
    # A group without a limit may have none of a controller's files.
    words = texts[0] if texts else ["max"]
    return [None if word == "max" or int(word) in (-1, 0x7FFFFFFFFFFFF000) else int(word) for word in words]

found["memory"] = read("memory", "memory.max", "memory.limit_in_bytes")[0]
found["tasks"] = read("pids", "pids.max")[0]
found["cpu"] = read("cpu", "cpu.max", "cpu.cfs_quota_us")[0]
found["weight"] = read("cpu", "cpu.weight", "cpu.shares")[0]
print(json.dumps(found))
"""
SCALES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# The period in microseconds over which the kernel measures an app's processor time; and each app's weight.
PERIOD, WEIGHTS = 100_000, (100, 1024)


@pytest.fixture(scope="module")
def running(apps, processes):
    """The processes of each app, by supervisor's name."""
    if not apps:
        pytest.skip("no app runs on the host")
    return {app: processes(app) for app in apps}


@pytest.fixture(scope="module")
def releases(host, apps):
    """The current release of each app: its number and its record."""
    found = {}
    for app in apps:
        link = host.check_output("readlink /srv/apps/%s/current", app)
        record = json.loads(host.file(f"/srv/apps/{app}/{link}/release.json").content_string)
        found[app] = (int(link.removeprefix("releases/")), record)
    return found


@pytest.fixture(scope="module")
def held(host, apps):
    """How a failure tells of each app that it is held at a release; empty where it is not."""
    found = dict.fromkeys(apps, "")
    for app in apps:
        file = host.file(f"/srv/apps/{app}/hold.json")
        if file.exists:
            its = json.loads(file.content_string)
            found[app] = f" (held at v{its['release']} by {its['who']} at {its['time']}, until release.unhold {app})"
    return found


def by_process(running, app, releases):
    """An app's processes by the name that its formation gives them."""
    return {name.removeprefix(f"{app}.v{releases[app][0]}."): one for name, one in running[app].items()}


def line_of(releases, app, process):
    """The line of the Procfile that a process runs."""
    return releases[app][1]["processes"][process.partition(".")[0]]


def test_the_declared_build_serves(apps, releases, held):
    for app, one in apps.items():
        assert releases[app][1]["build"] == one["build"]["sha256"], f"{app}{held[app]}"


def test_each_package_that_an_app_asks_for_is_installed(host, apps, releases):
    for app in apps:
        build = host.file(f"/srv/apps/{app}/builds/{releases[app][1]['build'][:12]}/build.json")
        for name in json.loads(build.content_string).get("packages", []):
            assert host.package(name).is_installed, f"{app} asks for {name}"


def test_the_formation_runs(host, apps, running, releases):
    for app, one in apps.items():
        found = {*by_process(running, app, releases)}
        # Of what is alone in its environment, the launchers of the other hosts stand by, and say for whom.
        for kind in alone(one):
            name = f"{app}.v{releases[app][0]}.{kind}.1"
            if host.file(f"/run/saltern/standby/{name}").exists:
                assert "RUNNING" in host.run("supervisorctl status %s", name).stdout, name
                assert f"{kind}.1" not in found, f"{name} runs, and stands by"
                found.add(f"{kind}.1")
        assert sorted(found) == sorted(declared.processes(one))


def test_each_process_runs_as_its_apps_own_user(apps, running):
    for app in apps:
        for name, one in running[app].items():
            assert one["launcher"]["user"] == "root", name
            for its in (one, *one["descendants"]):
                assert its["user"] == app, f"{name}: {its['title']}"
                assert len(its["groups"]) <= 1, name


def test_each_process_has_a_control_group_of_its_own_below_its_apps_slice(apps, running, releases):
    for app in apps:
        for process, one in by_process(running, app, releases).items():
            kind, _, index = process.partition(".")
            escaped, kind = app.replace("-", r"\x2d"), kind.replace("-", r"\x2d")
            scope = f"/app.slice/app-{escaped}.slice/app-{escaped}-{kind}-{index}.v{releases[app][0]}.scope"
            for its in (one["launcher"], one, *one["descendants"]):
                assert its["group"] == scope, f"{app}[{process}]: {its['title']}"


def enforced(python, group, wanted):
    """Tell whether the kernel enforces limits for a control group."""
    found = python(LIMITS, group)
    memory, cpu = wanted.get("memory"), wanted.get("cpu")
    if memory:
        share = memory.endswith("%")
        memory = found["physical"] * int(memory[:-1]) // 100 if share else int(memory[:-1]) * SCALES[memory[-1]]
    # The kernel counts in pages.
    is_memory = memory == found["memory"] or bool(memory and found["memory"] and 0.99 < found["memory"] / memory <= 1)
    is_cpu = found["cpu"] == (cpu and int(cpu[:-1]) * PERIOD // 100)
    return {"memory": is_memory, "tasks": found["tasks"] == wanted.get("tasks"), "cpu": is_cpu}, found["weight"]


def test_each_app_is_limited_as_declared(apps, python):
    for app, one in apps.items():
        limited, weight = enforced(python, "app.slice/app-{}.slice".format(app.replace("-", r"\x2d")), one["limits"])
        assert limited == dict.fromkeys(limited, True), app
        assert weight in WEIGHTS, f"{app} has its fair share of the processors"


def test_each_process_is_limited_as_declared(apps, python, running, releases):
    for app, one in apps.items():
        for process, its in by_process(running, app, releases).items():
            wanted = one["limits"]["processes"].get(process.partition(".")[0], {})
            limited, _ = enforced(python, its["group"].removeprefix("/"), wanted)
            assert limited == dict.fromkeys(limited, True), f"{app}[{process}]"


def test_each_process_has_exactly_its_config(apps, running, releases, held):
    for app, one in apps.items():
        for process, its in by_process(running, app, releases).items():
            by_line, what = declared.by_line(line_of(releases, app, process)), f"{app}[{process}]{held[app]}"
            assert its["environ"].keys() - by_line == declared.variables(one, process) - by_line, what
            # Only names are compared, since a failure prints both sides.
            config = {variable: value for variable, value in one["config"].items() if variable not in by_line}
            others = [variable for variable, value in config.items() if its["environ"][variable] != value]
            assert others == [], what


def test_each_attachment_is_a_url_of_what_is_declared(apps, running):
    for app, one in apps.items():
        for variable, target in one["attach"].items():
            for its in running[app].values():
                if "url" in target:
                    # Only names are compared, since a failure prints both sides.
                    given = parts.variables(variable, target, target["url"])
                    others = [name for name, value in given.items() if its["environ"][name] != value]
                    assert others == [], variable
                    continue
                url = urlsplit(parts.read(variable, target, its["environ"]))
                assert (url.hostname, url.port) == (target.get("address"), target.get("port")), variable
                service = services.named(target)
                assert (url.scheme, url.path) == (service.scheme, service.path(target))
                if service in services.resources() and service.has_password:
                    # A login's name depends on its password, so that an old and a new password can be valid together.
                    assert re.fullmatch(rf"{app}_[0-9a-f]{{6}}", url.username), variable


def test_each_attached_version_answers_at_its_url(host, apps, running, releases):
    asked = 0
    for app, one in apps.items():
        for variable, target in one["attach"].items():
            if "service" not in target or "url" in target or not running[app]:
                continue
            build = f"/srv/apps/{target['service']}/builds/{releases[target['service']][1]['build'][:12]}"
            file = host.file(f"{build}/openapi/{target['version']}.yaml")
            assert file.exists, f"{target['service']} has no {target['version']}, which {app} attaches as {variable}"
            url = urlsplit(parts.read(variable, target, next(iter(running[app].values()))["environ"]))
            for name, operation in openapi.operations(openapi.parse(file.content_string)).items():
                method, path = name.split(" ", 1)
                is_plain = method == "GET" and not any(each.get("required") for each in operation["parameters"])
                if is_plain and path.startswith(f"{url.path}/"):
                    ask = "curl -s -o /dev/null -w '%%{http_code}' %s"
                    status = host.check_output(ask, f"{url.scheme}://{url.netloc}{path}")
                    assert status in operation["responses"], f"{app}: {variable}: {path}"
                    asked += 1
    if not asked:
        pytest.skip("no app attaches a version of which something can be read without a parameter")


def test_no_title_shows_a_secret(apps, running, python):
    from verify.plugin import PROCESSES

    secrets = set()
    for app, one in apps.items():
        for its in running[app].values():
            urls = [parts.read(*attachment, its["environ"]) for attachment in one["attach"].items()]
            secrets |= {urlsplit(url).password for url in urls} - {None}
            secrets |= {value for name, value in its["environ"].items() if "KEY" in name or "PASSWORD" in name}
    for its in python(PROCESSES):
        assert not any(secret in its["title"] for secret in secrets), f"the title of PID {its['pid']}"


def test_each_process_runs_its_release_in_its_build(apps, running, releases):
    for app in apps:
        build = f"/srv/apps/{app}/builds/{releases[app][1]['build'][:12]}"
        for name, its in running[app].items():
            process = name.removeprefix(f"{app}.v{releases[app][0]}.")
            assert its["cwd"] == build or declared.changes_directory(line_of(releases, app, process)), name
            assert its["environ"]["PATH"].startswith(f"{build}/.venv/bin:"), name


def test_each_process_that_listens_is_healthy_on_its_own_port(host, apps, running, releases, settings):
    fronts = settings["nginx"]["fronts"]
    for app, one in apps.items():
        ports = {}
        for process, its in by_process(running, app, releases).items():
            kind = process.partition(".")[0]
            if kind in routes.listening(one):
                health = routes.health(one, kind)
                url = f"http://127.0.0.1:{its['environ']['PORT']}{health['path']}"
                domain = (one["domains"] or ["localhost"])[0]
                status = host.check_output("curl -s -o /dev/null -w '%%{http_code}' -H %s %s", f"Host: {domain}", url)
                assert int(status) == health["status"], f"{app}[{process}]"
                ports.setdefault(kind, set()).add(its["environ"]["PORT"])
        # nginx sends requests to them, and to no other process.
        for kind in ports if app in fronts else ():
            name = app if kind == routes.WEB else f"{app}.{kind}"
            servers = host.file(f"/etc/nginx/upstreams/{name}.conf").content_string
            assert set(re.findall(r"^server 127\.0\.0\.1:(\d+) ", servers, re.MULTILINE)) == ports[kind], name


def test_the_processes_log_to_the_journal_under_their_names(host, apps, releases):
    for app, one in apps.items():
        for process in declared.processes(one):
            # The launcher writes this line as root. The app's user may write under the same name.
            # Of a process that another host runs, it says so.
            mark, name = f"^v{releases[app][0]} {process} (starts|standby: )", f"{app}[{process}]"
            assert host.check_output("journalctl -q -o cat -n 1 -g %s _UID=0 -t %s", mark, name)


def test_there_are_no_log_files(host, apps):
    if not apps:
        pytest.skip("no app runs on the host")
    # supervisor's own log, from before it was configured, may be left.
    assert host.check_output("find /var/log/supervisor -type f -newer /run/supervisor.sock") == ""
    for app in apps:
        # release.log does not count, since the app's processes do not write it. An app may write what it likes below
        # its home and its TMPDIR.
        own = "-not -path '*/.venv/*'"
        find = f"cd /srv/apps/%s && find . -path ./home -prune -o -path ./tmp -prune -o -name '*.log' {own} -print"
        assert host.check_output(find, app) in ("", "./release.log")


def test_nobody_else_reads_an_apps_files(apps, python):
    for app in apps:
        for user in {"nobody", "www-data", *apps} - {app}:
            assert python(OTHERS_READ, f"/srv/apps/{app}", user=user) == [], f"{user} reads files of {app}"


def test_an_app_cannot_change_what_it_runs(host, apps):
    for app in apps:
        own = " -o ".join(f"-path /srv/apps/{app}/{name} -prune" for name in ("home", "tmp"))
        find = f"cd / && runuser -u %s -- find /srv/apps/%s {own} -o -writable -not -type l -print"
        assert host.check_output(find, app, app) == ""


def test_an_app_may_write_its_home_and_its_tmpdir_and_nobody_else_may_look(host, apps, running):
    for app in apps:
        for name in ("home", "tmp"):
            directory = host.file(f"/srv/apps/{app}/{name}")
            assert (directory.user, directory.group, directory.mode) == (app, app, 0o700)
        for name, its in running[app].items():
            assert its["environ"]["HOME"] == f"/srv/apps/{app}/home", name
            if "TMPDIR" not in apps[app]["config"]:
                assert its["environ"]["TMPDIR"] == f"/srv/apps/{app}/tmp", name
        write = 'cd "$HOME" && touch .own && rm .own && mktemp -u && rm "$(mktemp)"'
        assert host.check_output(f"{app}-run sh -c %s", write).startswith("/")


def test_an_operator_asks_a_database_of_an_app_by_the_apps_own_login(host, apps):
    ask = "SELECT session_user || '@' || current_database()"
    for app, one in apps.items():
        for variable, target in one["attach"].items():
            if "postgres" in target and "url" not in target:
                said = host.check_output(f"{app}-psql %s -XAtc %s", variable, ask)
                assert re.fullmatch(rf"{app}_[0-9a-f]{{6}}@{target['postgres']}", said), variable


def test_an_app_sees_no_process_of_others(apps, running, python, host):
    see = "stat -c %U /proc/[0-9]* 2>/dev/null | sort -u"
    for app in apps:
        assert host.check_output(f"{app}-run sh -c %s", see) == app
        for name, its in running[app].items():
            inside = "nsenter --target %s --mount -- runuser -u %s -- sh -c %s"
            assert host.check_output(inside, str(its["pid"]), app, see) == app, name
        # systemd does not tell it either.
        manager = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
        said = host.run(f"runuser -u %s -- busctl call {manager} GetUnitProcesses s system.slice", app)
        assert said.rc and "denied" in said.stderr, said


def test_the_config_is_in_one_file_for_each_variable(host, apps, releases):
    for app, one in apps.items():
        directory = f"/srv/apps/{app}/releases/{releases[app][0]}/env"
        found = host.check_output("find %s -mindepth 1 -printf '%%f %%y %%u %%g %%m\\n'", directory).splitlines()
        names = declared.config(one)
        assert set(found) == {f"{name} f root {app} 640" for name in names}


def test_no_other_app_is_there(host, apps, roles):
    if "app" in roles:
        users = [line.split(":") for line in host.check_output("getent passwd").splitlines()]
        assert {user[0] for user in users if user[5] == f"/srv/apps/{user[0]}"} == set(apps)
        releases = host.run("ls -d /srv/apps/*/releases").stdout.split()
        assert {path.split("/")[3] for path in releases} == set(apps)
        for command in ("run", "psql"):
            there = host.check_output(
                f"grep -lsF '/usr/local/lib/saltern/process --{command}' /usr/local/bin/* || true"
            )
            assert set(there.split()) == {f"/usr/local/bin/{app}-{command}" for app in apps}


# A request of the host itself: the status and the headers of the answer.
ASKED = """
import json, sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Host": sys.argv[2], "Accept-Encoding": sys.argv[3]})
try:
    answer = urllib.request.urlopen(request, timeout=10)
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps([answer.status, {name.lower(): value for name, value in answer.headers.items()}]))
"""
HASHED = re.compile(r"[.-](?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{8,}(\.[A-Za-z0-9]+)+$")


def test_nginx_serves_the_current_builds_files_and_can_read_nothing_else_of_it(host, apps):
    served = [
        (app, one, path, place)
        for app, one in sorted(apps.items())
        for path, place in sorted(one["site"]["serve"].items())
        if "build" in place and one["formation"].get("web")
    ]
    if not served:
        pytest.skip("no app has nginx serve a directory of its build")
    for app, one, path, place in served:
        assert host.run("runuser -u www-data -- test -r /srv/apps/%s/current/build/build.json", app).rc != 0
        directory = f"/srv/served/{app}/at/0/{place['build']}"
        find = "find %s/ -type f ! -name '*.gz' -printf '%%P\\n'"
        names = sorted(
            host.check_output(find, directory).splitlines(), key=lambda name: (not HASHED.search(name), name)
        )
        assert names, f"{app}: {directory} has no file"
        url = f"http://127.0.0.1:{one['port']}{path}"
        domain = (one["domains"] or ["127.0.0.1"])[0]
        for name, kept in ((names[0], HASHED.search(names[0])), (names[-1], HASHED.search(names[-1]))):
            is_packed = host.file(f"{directory}/{name}.gz").exists
            ask = ("python3 -IS -c %s %s %s gzip", ASKED, url + quote(name), domain)
            status, headers = json.loads(host.check_output(*ask))
            assert (status, headers["x-content-type-options"]) == (200, "nosniff"), name
            assert ("immutable" in headers["cache-control"]) == bool(kept), name
            assert not is_packed or headers["content-encoding"] == "gzip", name
        assert json.loads(host.check_output("python3 -IS -c %s %s %s gzip", ASKED, url, domain))[0] == 404


def test_the_apps_own_pages_of_errors_are_where_nginx_finds_them(host, apps):
    pages = [(app, page) for app, one in sorted(apps.items()) for page in one["site"]["errors"].values()]
    if not pages:
        pytest.skip("no app has pages of errors of its own")
    for app, page in pages:
        if apps[app]["formation"].get("web"):
            assert host.run("runuser -u www-data -- test -r %s", f"/srv/served/{app}/at/0/{page}").rc == 0, page

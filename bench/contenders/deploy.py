"""The host of host.yml, by pyinfra's own operations, run on the host itself."""

from pathlib import Path

import yaml
from pyinfra import host
from pyinfra.facts.files import File
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, postgres, server, systemd

HERE = Path(__file__).parent
HOST = yaml.safe_load((HERE / "host.yml").read_text()) | yaml.safe_load((HERE / "facts.yml").read_text())


def directories(name, wanted):
    """Declare directories."""
    for one in wanted:
        files.directory(
            name=f"{name}: {one['path']}", path=one["path"], user=one["owner"], group=one["group"], mode=one["mode"]
        )


def placed(name, wanted, operation):
    """Declare files. Return what was done."""
    return [
        operation(
            name=f"{name}: {one['path']}",
            src=str(HERE / f"files{one['path']}"),
            dest=one["path"],
            user=one["owner"],
            group=one["group"],
            mode=one["mode"],
        )
        for one in wanted
    ]


def links(name, wanted):
    """Declare symbolic links."""
    for one in wanted:
        files.link(name=f"{name}: {one['path']}", path=one["path"], target=one["target"], force=True)


directories("before the packages", HOST["early_directories"])
placed("before the packages", HOST["early_files"], files.template)
links("before the packages", HOST["early_links"])
apt.packages(name="packages", packages=HOST["packages"], update=True, cache_time=86400, no_recommends=True)
for user in HOST["users"]:
    server.user(
        name=f"user {user['name']}",
        user=user["name"],
        home=user["home"],
        shell="/usr/sbin/nologin",
        system=True,
        create_home=False,
        ensure_home=False,
    )

version, cluster = HOST["cluster"]["version"], HOST["cluster"]["name"]
if not host.get_fact(File, path=f"/var/lib/postgresql/{version}/{cluster}/PG_VERSION"):
    server.shell(
        name="a PostgreSQL cluster",
        commands=[
            f"pg_createcluster --locale C.UTF-8 --encoding UTF8 {version} {cluster} -- --data-checksums "
            "--auth-local=peer --auth-host=scram-sha-256"
        ],
    )

directories("directory", HOST["directories"])
placed("file", HOST["copies"], files.put)
templates = placed("template", HOST["templates"], files.template)
services = {"postgresql": f"postgresql@{version}-{cluster}", "redis": "redis-server@tickets"}
services |= {"nginx": "nginx", "supervisor": "supervisor"}
changed = {
    unit: [done for one, done in zip(HOST["templates"], templates, strict=True) if word in one["path"]]
    for word, unit in services.items()
}

for app, build in HOST["builds"].items():
    path = f"/srv/apps/{app}/builds/{build}"
    if not host.get_fact(File, path=f"{path}/build.json"):
        files.put(name=f"build of {app}", src=str(HERE / f"builds/{app}.tar"), dest=f"/tmp/{app}.tar")
        server.shell(name=f"build of {app}", commands=[f"tar -C /srv/apps/{app}/builds -xpf /tmp/{app}.tar"])
    files.link(name=f"build of {app}", path=f"/srv/apps/{app}/releases/1/build", target=f"../../builds/{build}")
links("link", HOST["links"])

systemd.service(name="PostgreSQL at boot", service="postgresql", enabled=True, running=None)
for unit in services.values():
    enabled = None if unit.startswith("postgresql@") else True
    systemd.service(
        name=f"{unit} was changed",
        service=unit,
        running=True,
        enabled=enabled,
        restarted=True,
        daemon_reload=True,
        _if=lambda unit=unit: any(done.did_change() for done in changed[unit]),
    )
    systemd.service(name=unit, service=unit, running=True, enabled=enabled)
systemd.service(name="the firewall", service="saltern-firewall", running=True, enabled=True)
systemd.service(name="the clock", service="systemd-timesyncd", running=None, enabled=True)

MARKS = "SELECT datname || ' ' || coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database"
OPEN = "SELECT datname FROM pg_database WHERE has_database_privilege('public', oid, 'CONNECT')"
psql = 'cd /; su postgres -c "psql -Atc \\"{}\\"" 2>/dev/null || true'
marks = host.get_fact(Command, command=psql.format(MARKS)) or ""
opened = (host.get_fact(Command, command=psql.format(OPEN)) or "").splitlines()
for name in HOST["databases"]:
    is_new = f"{name} Managed by Saltern for the app {name}." not in marks
    postgres.role(name=f"role {name}", role=name, login=True, _su_user="postgres")
    postgres.database(
        name=f"database {name}", database=name, owner=name, template="template0", encoding="UTF8", _su_user="postgres"
    )
    if is_new:
        statements = [
            f"ALTER ROLE \"{name}\" PASSWORD '{HOST['verifiers'][name]}'",
            f"COMMENT ON DATABASE \"{name}\" IS 'Managed by Saltern for the app {name}.'",
        ]
        postgres.sql(name=f"password and comment of {name}", sql="; ".join(statements), _su_user="postgres")
    if is_new or name in opened:
        postgres.sql(name=f"{name} is closed", sql=f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC', _su_user="postgres")
    if is_new:
        server.shell(
            name=f"migrations of {name}",
            commands=[f"/usr/local/bin/{name}-run sh -c 'python manage.py migrate --noinput'"],
        )

running = host.get_fact(Command, command="supervisorctl status 2>/dev/null || true") or ""
for program in HOST["programs"]:
    if not any(line.split()[:2] == [program, "RUNNING"] for line in running.splitlines()):
        server.shell(
            name=f"program {program}", commands=["supervisorctl update", f"supervisorctl start {program} || true"]
        )

"""Parity: every kind of divergence is found, and is kept apart from settings that may vary."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.copies import copy

from .minion import ALONE, ROOT

SALT_RUN = Path(sys.executable).with_name("salt-run")

CANARY = "canary-918273645"
IN_PRODUCTION = "{% if pillar.hosts[opts.id].environment == 'production' %}"
TEMPLATE = "formulas/supervisor/files/supervisor.service.jinja"
SOURCE = TEMPLATE.replace("formulas/", "salt://")
MESSAGE = "-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----\n"


class Tree:
    """A copy of the tree's states and pillar, to be edited and compared."""

    def __init__(self, directory):
        self.directory = directory
        copy(directory, "salt", "formulas", "pillar", own=("builds", "dev.sls.bak"))
        (directory / "var/cache/salt/master/proc").mkdir(parents=True)
        config = {
            "root_dir": str(directory),
            "log_level": "quiet",
            "runner_dirs": [str(directory / "salt/_runners")],
            "file_roots": {"base": [str(directory / "salt"), str(directory / "formulas")]},
            "pillar_roots": {"base": [str(directory / "pillar")]},
        }
        (directory / "master").write_text(yaml.safe_dump(config))

    def edit(self, path, old, new):
        """Replace a text in a file, which must contain it."""
        file = self.directory / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    def show(self, *arguments):
        """Compare, and return the exit code and the output."""
        command = [SALT_RUN, "--config-dir", self.directory, "parity.show", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done.returncode, done.stdout

    def compared(self):
        """Compare; return the exit code, and the differing and the varying lines by row and column."""
        code, output = self.show("--out", "json")
        tables = json.loads(output)["parity"]
        assert isinstance(tables, list), tables
        found = ({}, {})
        for table in tables:
            for row in table["rows"]:
                for column, lines in row["cells"].items():
                    for line in lines:
                        found[not line["undeclared"]].setdefault((row["name"], column), []).append(line["text"])
        return code, *found


@pytest.fixture
def tree(tmp_path):
    """A tree in which each environment has one host."""
    tree = Tree(tmp_path)
    (tmp_path / "pillar/hosts.yaml").write_text(yaml.safe_dump(ALONE))
    return tree


def test_the_tree_s_environments_and_debians_are_the_same(tmp_path):
    tree = Tree(tmp_path)
    page = tree.directory / "parity.html"
    code, output = tree.show(f"html={page}")
    assert code == 0
    assert "The same everywhere, but for what is declared to vary." in output
    assert "DIFFERS" not in output + page.read_text().partition("<table>")[2].partition("</table>")[0]
    # A role that no host of the inventory has cannot be compared.
    roles = {role for row in yaml.safe_load((ROOT / "pillar/hosts.yaml").read_text()).values() for role in row["roles"]}
    for name in (*sorted(roles), "base", "app faq", "app tickets"):
        assert f'<th scope="row">{name}</th>' in page.read_text()
    # The page loads no other file.
    assert not re.search(r"(src|href|url)\s*[=(]", page.read_text())


def test_only_what_the_one_map_says_differs_between_the_debians(tree):
    code, differs, varies = tree.compared()
    assert (code, differs) == (0, {})
    assert varies["base", "Debian 13"] == ["base-locale name: /etc/locale.conf"]
    assert "package postgresql-15" in varies["database", "Debian 12"]
    assert "package postgresql-17" in varies["database", "Debian 13"]
    assert {row for row, column in varies if column.startswith("Debian")} == {"base", "database", "proxy", "app"}


def test_certificates_are_each_hosts_own_and_no_divergence(tree):
    said = {"certificates": {"authorities": ["x"], "certificate": "x", "key": MESSAGE}}
    (tree.directory / "pillar/certificates/production").mkdir(parents=True)
    path = tree.directory / "pillar/certificates/production/web1.sls"
    path.write_text("#!yaml|gpg\n" + yaml.safe_dump(said))
    code, differs, varies = tree.compared()
    assert (code, differs) == (0, {})
    assert not [line for lines in varies.values() for line in lines if "PGP" in line]


def test_every_kind_of_divergence_is_seen(tree):
    edit = tree.edit
    for path in ("formulas/supervisor/config.sls", "salt/roles/app.sls"):
        edit(path, "#!yaml\n", "")
    # A state that only production has, and one that production lacks.
    edit(
        "formulas/redis/install.sls",
        "# The package",
        f"{IN_PRODUCTION}\nredis-extra:\n  test.nop: []\n{{% endif %}}\n# The",
    )
    edit("formulas/base/config.sls", "base-locale:", "{% if opts.id != 'web1' %}\nbase-locale:")
    edit("formulas/base/config.sls", "base-directory:", "{% endif %}\nbase-directory:")
    # A version, a source, an argument, the order, and the text of a template.
    pinned = f"{IN_PRODUCTION}1.22.1-9{{% else %}}1.22.0-1{{% endif %}}"
    edit("formulas/nginx/install.sls", "[nginx,", f"[nginx: '{pinned}',")
    other = f"{IN_PRODUCTION}other{{% else %}}supervisord{{% endif %}}.conf.jinja"
    edit("formulas/supervisor/config.sls", "supervisord.conf.jinja", other)
    shutil.copy(*(tree.directory / f"formulas/supervisor/files/{name}.conf.jinja" for name in ("supervisord", "other")))
    mode = f"{IN_PRODUCTION}'0640'{{% else %}}'0644'{{% endif %}}"
    edit("formulas/postgres/config.sls", "    - mode: '0644'", f"    - mode: {mode}")
    first, second = "  - nginx\n", "  - supervisor\n"
    order = f"{{% if opts.id == 'staging1' %}}\n{second}{first}{{% else %}}\n{first}{second}{{% endif %}}\n"
    edit("salt/roles/app.sls", first + second, order)
    edit("formulas/postgres/files/pg_hba.conf.jinja", "{", f"{IN_PRODUCTION}# {CANARY}{{% endif %}}\n{{")
    # Jinja in the common file changes a setting that must not vary.
    edit("pillar/common.sls", "port: 8200", "port: {{ 8400 if opts.id == 'web1' else 8200 }}")
    code, differs, _ = tree.compared()
    assert code == 1
    assert "has redis-extra (test.nop)" in differs["cache", "production"]
    assert "lacks redis-extra" in differs["cache", "dev"]
    assert differs["base", "production"] == ["lacks base-locale"]
    assert "package nginx 1.22.1-9" in differs["proxy", "production"]
    assert "package nginx 1.22.0-1" in differs["proxy", "dev"]
    assert "supervisor-config source: salt://supervisor/files/other.conf.jinja" in differs["app", "production"]
    assert {"postgres-config mode is another", "content of postgres-access is another"} <= {
        *differs["database", "production"]
    }
    assert [line for line in differs["app", "staging"] if line.startswith("comes here: ")] == [
        "comes here: supervisor-package"
    ]
    assert differs["settings in common", "production"] == ["app.faq.port is another on web1"]
    assert CANARY not in json.dumps([*differs.values()])


def test_a_role_that_an_environment_lacks_differs_and_a_variable_varies(tree):
    tree.edit(
        "pillar/hosts.yaml",
        "roles:\n  - database\n  - cache\n  - app\n  - proxy\nweb1",
        "roles:\n  - database\n  - cache\n  - app\nweb1",
    )
    tree.edit(
        "pillar/environments/staging.sls",
        "      ALLOWED_HOSTS: tickets",
        f"      SENTRY_DSN: {CANARY}\n      ALLOWED_HOSTS: tickets",
    )
    code, differs, varies = tree.compared()
    assert code == 1
    assert differs == {("proxy", "staging"): ["no host has it"]}
    for column in ("dev", "production"):
        assert "lacks the variable SENTRY_DSN" in varies["app tickets", column]
    page = tree.directory / "parity.html"
    assert CANARY not in tree.show(f"html={page}")[1]
    assert "SENTRY_DSN" in page.read_text()
    assert CANARY not in page.read_text()


def test_a_difference_between_the_debians_beside_the_map_is_seen(tree):
    tree.edit(
        "formulas/nginx/install.sls",
        "[nginx,",
        "[{{ 'nginx' if grains.oscodename == 'bookworm' else 'nginx-light' }},",
    )
    code, differs, _ = tree.compared()
    assert code == 1
    assert differs["proxy", "Debian 13"] == ["no package nginx", "package nginx-light"]
    assert {column for _, column in differs} == {"Debian 12", "Debian 13"}


def test_what_a_setting_that_varies_brings_about_varies(tree):
    path = tree.directory / "pillar/environments/production.sls"
    said = yaml.safe_load(path.read_text())
    said["app"]["faq"]["attach"] = {"CACHE_URL": {"redis": "faq"}}
    path.write_text(yaml.safe_dump(said))
    code, differs, varies = tree.compared()
    assert (code, differs) == (0, {})
    assert "has redis-service-faq (unit.running)" in varies["cache", "production"]
    assert "lacks redis-service-faq" in varies["cache", "dev"]
    assert "lacks the variable CACHE_URL" in varies["app faq", "dev"]


def test_the_packages_that_builds_ask_for_are_compared(tree):
    (tree.directory / "pillar/builds").mkdir(exist_ok=True)
    for environment, packages in (("dev", ["less", "tree"]), ("production", ["less"])):
        build = {"source": "/srv/faq.tar.gz", "sha256": "1" * 64, "packages": packages}
        path = tree.directory / f"pillar/builds/{environment}.sls"
        path.write_text(yaml.safe_dump({"app": {"faq": {"build": build}}}))
    code, differs, varies = tree.compared()
    assert (code, differs) == (0, {})
    assert "its build asks for no tree" in varies["app faq", "production"]
    assert "its build asks for no less" not in varies["app faq", "production"]
    assert "no build is declared" in varies["app faq", "staging"]
    assert "its build asks for no tree" not in varies["app faq", "staging"]
    assert "has app-packages (pkg.installed)" in varies["app", "dev"] + varies["app", "production"]


def test_secrets_that_cannot_be_read_here_are_compared_by_name(tree):
    secrets = {
        "app": {
            "faq": {"config": {"SECRET_KEY": MESSAGE}, "attach": {"MAIL_URL": {"url": MESSAGE}}},
            "tickets": {"config": {"SECRET_KEY": MESSAGE}},
        },
        "redis": {"instances": {"tickets": {"password": MESSAGE}}},
    }
    (tree.directory / "pillar/secrets/production.sls").write_text("#!yaml|gpg\n" + yaml.safe_dump(secrets))
    code, differs, varies = tree.compared()
    assert (code, differs) == (0, {})
    assert "lacks the variable MAIL_URL" in varies["app faq", "dev"]
    assert "lacks the variable SECRET_KEY" not in varies["app faq", "production"]


@pytest.mark.parametrize(
    "path, old, new, message",
    [
        ("pillar/common.sls", "port: 8200", "prot: 8200", "app.faq.prot: unknown setting; did you mean 'port'?"),
        ("pillar/hosts.yaml", "environment: dev", "environment: dve", "hosts.dev.environment: expected one of dev,"),
        (
            "pillar/environments/staging.sls",
            "app:",
            "nginx: {gzip: False}\napp:",
            "nginx.gzip: does not vary; expected in pillar/common.sls",
        ),
        ("pillar/common.sls", "app:", "app: [", "pillar/common.sls: line "),
        ("formulas/nginx/install.sls", "nginx-package:", "{{ nothing.at.all }}:", "nothing"),
    ],
)
def test_what_does_not_compile_is_told(tree, path, old, new, message):
    tree.edit(path, old, new)
    code, output = tree.show()
    assert code == 1
    assert message in output


@pytest.mark.parametrize(
    "path, old, new, told",
    [
        (TEMPLATE, "[Unit]", "{{ nothing.at.all }}", f"{SOURCE}: Jinja variable 'nothing' is undefined; line 2"),
        (TEMPLATE, "[Unit]", "{{ 1 // 0 }}", f"{SOURCE}: Jinja error: integer division or modulo by zero"),
        (
            "formulas/supervisor/config.sls",
            SOURCE,
            "salt://supervisor/files/nosuch",
            "salt://supervisor/files/nosuch: missing; expected a template in the directory files of its formula",
        ),
    ],
)
def test_a_template_that_is_missing_or_does_not_render_is_told_in_one_line(tree, path, old, new, told):
    tree.edit(path, old, new)
    code, output = tree.show("--out", "json")
    assert (code, json.loads(output)["parity"]) == (1, told)


def test_vagrant_s_hosts_are_the_inventory_s(tree):
    rows = yaml.safe_load((tree.directory / "pillar/hosts.yaml").read_text())
    machines = [
        {
            **{"id": name, "environment": row["environment"], "hostname": name, "address": row["address"]},
            **{"told": [name], "tree": ".", "own_tree": True},
        }
        for name, row in rows.items()
    ]
    said = tree.directory / "vagrant.json"
    said.write_text(json.dumps(machines))
    code, output = tree.show(f"vagrant={said}")
    assert code == 0
    assert all(f"{name}: {row['address']}, {', '.join(row['roles'])}" in output for name, row in rows.items())

    first, second = machines[:2]
    first |= {"address": "10.0.0.1", "told": [second["id"]]}
    said.write_text(json.dumps([*machines[:-1], machines[-1] | {"id": "stranger"}]))
    code, output = tree.show("--out", "json", f"vagrant={said}")
    assert code == 1
    (table,) = [table for table in json.loads(output)["parity"] if table["title"] == "Hosts"]
    found = {row["name"]: [line["text"] for line in row["cells"]["Vagrant"]] for row in table["rows"]}
    roles = ", ".join(sorted(rows[second["id"]]["roles"]))
    row = rows[first["id"]]
    assert found[f"{first['id']}: {row['address']}, {', '.join(row['roles'])}"] == [
        f"address 10.0.0.1, and the inventory has {row['address']}",
        f"is bootstrapped as {second['id']}, with {roles}",
    ]
    assert found["stranger"] == ["is not in the inventory"]

    said.write_text("{")
    code, output = tree.show(f"vagrant={said}")
    assert code == 1 and f"vagrant={said}: " in output

"""A pillar with mistakes stops a run before anything is touched; each mistake is one line that says what to do."""

import pytest
import yaml

from .minion import BUILDS, Host
from .refused import assert_refused

MISTAKES = {
    "app": {"tickets": {"prot": 8100, "formation": {"web": "two"}, "config": {"SECRET_KEY": 918273645}}},
    "ngnix": {"gzip": False},
}
# No builds are declared either.
BUILT = "missing; expected a mapping of source and sha256, as bin/build --declare writes it"
MESSAGES = [
    f"app.faq.build: {BUILT}",
    f"app.tickets.build: {BUILT}",
    "app.tickets.config.SECRET_KEY: found integer; expected text without NUL; put it in quotes",
    "app.tickets.formation.web: found string; expected integer from 0 to 49 (Processes of this type)",
    "app.tickets.prot: unknown setting; did you mean 'port'?",
    "ngnix: unknown setting; did you mean 'nginx'?",
]
COMMANDS = [
    "state.apply test=True",
    "--out json state.apply test=True",
    "--retcode-passthrough state.apply test=True",
    "state.apply nginx test=True",
    "--out json state.show_highstate",
    "state.show_sls nginx",
    "state.show_top",
    "settings.load nginx",
]


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    """A host whose pillar has mistakes of each kind."""
    host = Host(tmp_path_factory.mktemp("mistaken"), "dev")
    host.merge(MISTAKES)
    return host


@pytest.mark.parametrize("command", COMMANDS)
def test_every_mistake_is_told_whatever_is_run(mistaken, command):
    code, output = mistaken.call(*command.split())
    assert_refused(code, output, MESSAGES)
    assert "918273645" not in output


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n"
INVENTORY = (
    "expected mapping that is not empty (The inventory, pillar/hosts.yaml. A row for each host, named by its id)"
)
ROW = {"environment": "dev", "roles": ["database", "cache", "app", "proxy"], "address": "10.0.0.1"}
SITE = {"access": {"allow": ["300.1.1.1"]}, "limits": {"rate": "1/s", "exempt_addresses": ["192.0.2.5/24"]}}
PILLARS = {
    "a host that is not in the inventory": (
        {"hosts.yaml": {"other": ROW}},
        ["hosts.dev: missing; expected a row for this host's id in pillar/hosts.yaml, which has other"],
    ),
    "an environment that there is not": (
        {"hosts.yaml": {"dev": ROW | {"environment": "test"}}},
        ["hosts.dev.environment: expected one of dev, production, staging"],
    ),
    "a host without roles": (
        {"hosts.yaml": {"dev": {"environment": "dev", "address": "10.0.0.1"}}},
        ["hosts.dev.roles: missing; expected list without repeats (What the host is for)"],
    ),
    "an inventory that is a list": (
        {"hosts.yaml": ["dev"]},
        ["pillar/hosts.yaml: found list; expected mapping"],
    ),
    "an empty inventory": (
        {"hosts.yaml": ""},
        [f"hosts: found nothing; {INVENTORY}"],
    ),
    "attachments that cannot be": (
        {
            "secrets/dev.sls": {
                "app": {
                    "faq": {"attach": {"X": {"redis": "tickets"}}},
                    "tickets": {"attach": {"FAQ_API": {"version": "v9"}}},
                }
            }
        },
        [
            "app.tickets.attach.FAQ_API.version: faq does not provide it; expected one of v1, v2 (app.faq.provides)",
            "app.tickets.attach.REDIS_URL.redis: belongs to faq, which attaches it too; expected one of its own",
        ],
    ),
    "an environment that differs in what does not vary": (
        {"environments/dev.sls": {"app": {"faq": {"port": 8300}}, "nginx": {"gzip": False}}},
        [
            "app.faq.port: does not vary; expected in pillar/common.sls, not in pillar/environments/dev.sls",
            "nginx.gzip: does not vary; expected in pillar/common.sls, not in pillar/environments/dev.sls",
        ],
    ),
    "networks that are none, beside an attachment that cannot be": (
        {
            "environments/dev.sls": {
                "firewall": {
                    "ssh": ["10.1.2.3/8", "10.0.0.0/8"],
                    "allow": {"metrics": {"port": 9100, "networks": ["10.0.0.0/40"]}},
                },
                "app": {"faq": {"attach": {"X": {"redis": "tickets"}}, "site": SITE}},
            }
        },
        [
            "app.faq.site.access.allow[0]: is no network; expected one such as 10.0.0.0/8 or 2001:db8::/32",
            "app.faq.site.limits.exempt_addresses[0]: has an address inside the network; expected its first one, such "
            "as 10.0.0.0/8, or a prefix of one host",
            "app.tickets.attach.REDIS_URL.redis: belongs to faq, which attaches it too; expected one of its own",
            "firewall.allow.metrics.networks[0]: is no network; expected one such as 10.0.0.0/8 or 2001:db8::/32",
            "firewall.ssh[0]: has an address inside the network; expected its first one, such as 10.0.0.0/8, or a "
            "prefix of one host",
        ],
    ),
    "HTTPS that cannot be": (
        {
            "environments/dev.sls": {
                "nginx": {"tls": {"source": "acme"}},
                "app": {"faq": {"site": {"certificate": CERTIFICATE}}},
            }
        },
        [
            "app.faq.site.key: missing; expected it beside certificate",
            "nginx.tls.acme.agree_terms: expected True, once you have read the authority's terms of service",
        ],
    ),
    "an app that was removed from common.sls alone, and names that are none": (
        {
            "builds/dev.sls": BUILDS | {"app": BUILDS["app"] | {"shop": BUILDS["app"]["faq"]}},
            "environments/dev.sls": {
                "ephemeral": True,
                "app": {"shop": {"domains": ["shop.localhost"]}, "ticket": {"domains": []}},
            },
            "secrets/dev.sls": {"app": {"shop": {"config": {"KEY": "918273645"}}}},
        },
        [
            "app.shop: pillar/builds/dev.sls declares a build of an app that pillar/common.sls does not declare; "
            "expected the app there too, or else remove the build with make build-forget APP=shop ENV=dev",
            "app.shop: pillar/environments/dev.sls has settings of an app that pillar/common.sls does not declare; "
            "expected the app there too, or else remove app.shop from this file",
            "app.shop: pillar/secrets/dev.sls has secrets of an app that pillar/common.sls does not declare; "
            "expected the app there too, or else remove app.shop from this file",
            "app.ticket: pillar/environments/dev.sls has settings of an app that pillar/common.sls does not declare; "
            "did you mean app.tickets? Otherwise remove app.ticket from this file",
        ],
    ),
    "settings of a resource whose app was removed": (
        {"secrets/dev.sls": {"redis": {"instances": {"shop": {"password": "hunter2-xyzzy-0123"}}}}},
        [
            "redis.instances.shop: no app attaches it; expected the name of an attached redis; "
            "remove it from pillar/secrets/dev.sls"
        ],
    ),
    "an inventory that a pillar file changes": (
        {"secrets/dev.sls": {"hosts": {"dev": ROW}}},
        ["hosts: set in a pillar file; expected in pillar/hosts.yaml alone"],
    ),
    "a name that YAML reads as something else": (
        {"secrets/dev.sls": "app:\n  faq:\n    config:\n      on: 'x'\n"},
        ["app.faq.config.True: YAML reads this name as boolean; expected text; put it in quotes"],
    ),
}


@pytest.mark.parametrize("files, messages", PILLARS.values(), ids=PILLARS)
def test_a_mistake_stops_the_run(tmp_path, files, messages):
    host = Host(tmp_path, "dev")
    host.declare("builds/dev.sls", BUILDS)
    for name, content in files.items():
        host.declare(name, content)
    assert_refused(*host.call("state.apply", "test=True"), messages)


BROKEN = {
    "secrets/dev.sls": "pillar/secrets/dev.sls: line 2, column 1: ",
    "hosts.yaml": "pillar/hosts.yaml: line 2, column 1: ",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_yaml_stops_the_run_without_showing_its_content(tmp_path, name):
    host = Host(tmp_path, "dev")
    host.declare("builds/dev.sls", BUILDS)
    host.declare(name, "app: [canary\n")
    code, output = host.call("state.apply", "test=True")
    message = f"{BROKEN[name]}did not find expected ',' or ']'; expected YAML"
    assert_refused(code, output, [message])
    assert "canary" not in output


UNLOADABLE = {
    "common.sls": ("include:\n- 1\n- {common: null}\n", "include: not here; expected settings alone"),
    "environments/dev.sls": ("- canary\n", "found list; expected mapping"),
    "secrets/dev.sls": ("#!py\ncanary = 1 / 0\n", "line 1: #!py: no such renderer here; expected "),
}


def test_a_file_that_salt_cannot_load_is_told_once_and_without_a_traceback(tmp_path):
    host = Host(tmp_path, "dev")
    host.declare("builds/dev.sls", BUILDS)
    for name, (content, _) in UNLOADABLE.items():
        host.declare(name, content)
    code, output = host.call("state.apply", "test=True")
    assert_refused(code, output, [])
    assert "canary" not in output
    said = [line for line in output.splitlines() if "pillar/" in line or line.startswith("- ")]
    assert len(said) == len(UNLOADABLE)
    for (name, (_, message)), line in zip(UNLOADABLE.items(), said, strict=True):
        assert f"pillar/{name}: {message}" in line


@pytest.mark.parametrize("name", ["common.sls", "environments/dev.sls"])
def test_jinja_that_does_not_render_stops_the_run_without_showing_it(tmp_path, name):
    host = Host(tmp_path, "dev")
    host.declare("builds/dev.sls", BUILDS)
    host.declare(name, "# app:\napp: {{ canary.settings }}\n")
    code, output = host.call("state.apply", "test=True")
    message = (
        f"pillar/{name}: line 2: Jinja that does not render; expected YAML of it. "
        f"`salt-call slsutil.renderer {host.pillar / name}` says why. "
        "To keep a value that looks like Jinja as it is, make the first line #!yaml"
    )
    assert_refused(code, output, [message])
    assert "canary" not in output
    assert "canary" in host.call("slsutil.renderer", str(host.pillar / name))[1]


def test_jinja_that_renders_is_taken_for_what_it_gives(tmp_path):
    host = Host(tmp_path, "dev")
    host.declare("builds/dev.sls", BUILDS)
    host.declare("common.sls", "{% set port = 8000 %}\n" + (host.pillar / "common.sls").read_text())
    assert host.call("state.show_top")[0] == 0
    host.declare("common.sls", "{{ [1] }}\n")
    code, output = host.call("state.apply", "test=True")
    message = "pillar/common.sls: found list; expected mapping"
    assert_refused(code, output, [message])


def test_a_pillar_that_nobody_checked_stops_the_run(tmp_path):
    host = Host(tmp_path, "dev")
    host.declare("builds/dev.sls", BUILDS)
    config = yaml.safe_load((tmp_path / "minion").read_text())
    del config["ext_pillar"]
    (tmp_path / "minion").write_text(yaml.safe_dump(config))
    code, output = host.call("state.apply", "test=True")
    assert code != 0
    assert "the pillar was not checked; expected ext_pillar in /etc/salt/minion: run bootstrap.sh" in output
    assert "Result:" not in output


def test_the_trees_own_pillar_lacks_nothing_but_builds(tmp_path):
    host = Host(tmp_path, "dev")
    assert_refused(*host.call("state.show_top"), MESSAGES[:2])
    host.declare("builds/dev.sls", BUILDS)
    assert host.call("state.show_top")[0] == 0

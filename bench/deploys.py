"""A release and a change of config under load, compared with the usual way of Ansible: ``make bench``.

Two hosts of Debian 13 serve the example app faq: one that Saltern keeps, and one on which ``contenders/usual`` pulls
from git, has pip install, migrates and restarts the process. Each takes its turn, while requests come from outside.
"""

import concurrent.futures
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from bench import in_turn
from bench.converge import CONTENDERS, SUITE, THERE, hand_over, install
from bench.releases import booted, timed
from bench.report import Result
from lab import Host, Lab, machine, pillar
from lab.podman import LabError
from lab.steps import Steps
from lab.tree import ROOT
from lab.worktree import commit
from tests.hosts.client import Client
from tests.hosts.load import Load

ROUNDS = 5
RATE = 50
APP = "faq"
DOMAIN = f"{APP}.localhost"
PAGE = "/bench"
DEADLINE = 30
POLL = 0.05
# A view that tells its release and config. It asks the database, as pages do.
VIEW = """

def bench(request):
    import os

    from django.http import JsonResponse
    from questions.models import Question

    return JsonResponse({{"is": "{release}-" + os.environ["GREETING"], "questions": Question.objects.count()}})


urlpatterns.append(path("bench", bench))
"""
USUAL = (
    f"cd {THERE}/host && ANSIBLE_PIPELINING=1 ANSIBLE_PYTHON_INTERPRETER={THERE}/ansible/bin/python "
    f"PIP_CERT=/etc/ssl/certs/ca-certificates.crt {THERE}/ansible/bin/ansible-playbook -i localhost, "
)
# The app alone, with the environment that it has on Saltern's host.
APP_ALONE = ("faq-run", "gunicorn", "faq_site.wsgi", "--bind", "127.0.0.1:8399", "--workers", "2", "--threads", "4")


class Saltern:
    """The host that Saltern keeps.

    :param lab: its lab.
    :param code: the directory of the app's code.
    """

    def __init__(self, lab: Lab, code: Path):
        self.lab, self.code = lab, code
        self.host = lab.boot("dev", SUITE)
        self.host.bootstrap()
        lab.build(ROOT / "examples/tickets", self.host.python)
        self.configure("c0")
        self.release()
        self.deploy()

    def release(self) -> None:
        """Build the code as it is now, and declare the build."""
        self.lab.build(self.code, self.host.python)

    def configure(self, greeting: str) -> None:
        """Declare another value of the app's variable."""
        pillar.declare(self.lab.tree / "pillar", "dev", {"app": {APP: {"config": {"GREETING": greeting}}}})

    def deploy(self) -> None:
        """Converge to what is declared."""
        self.host.run("salt-call", "--retcode-passthrough", "-l", "error", "state.apply")


class Usual:
    """The host that Ansible keeps.

    :param lab: its lab.
    :param code: the app's git work tree.
    :param scratch: a directory for files that the playbooks read.
    """

    def __init__(self, lab: Lab, code: Path, scratch: Path):
        self.code, self.scratch = code, scratch
        self.host = lab.boot("dev", SUITE)
        install(self.host, "ansible")
        shutil.copytree(CONTENDERS / "usual", scratch)
        self.variables = {
            "password": "usual-0123456789",
            "repository": f"{THERE}/{APP}.git",
            "config": {
                "SECRET_KEY": "usual-0123456789-0123456789-0123456789-0123456789",
                "DATABASE_URL": "postgres://faq:usual-0123456789@127.0.0.1/faq",
                "ALLOWED_HOSTS": f"{DOMAIN},127.0.0.1",
            },
        }
        self.configure("c0")
        self.release()
        self.play("host.yml")

    def release(self) -> None:
        """Push the code to the repository from which the host pulls."""
        bundle = self.scratch / "code.bundle"
        subprocess.run(["git", "bundle", "create", "-q", bundle, "HEAD", "main"], cwd=self.code, check=True)
        hand_over(self.host, self.scratch)
        there = f"{THERE}/{APP}.git"
        fetch = f"git --git-dir={there} fetch -q --force {THERE}/host/code.bundle main:main"
        self.host.sh(
            "command -v git >/dev/null || apt-get -q -y install --no-install-recommends git; "
            f"[ -d {there} ] || git init -q --bare -b main {there}; {fetch}; git config --system safe.directory '*'"
        )

    def configure(self, greeting: str) -> None:
        """Write another value of the app's variable."""
        self.variables["config"]["GREETING"] = greeting
        (self.scratch / "vars.yml").write_text(yaml.safe_dump(self.variables))
        hand_over(self.host, self.scratch)

    def play(self, name: str) -> None:
        """Run a playbook."""
        self.host.run("sh", "-c", f"{USUAL}{name}", env=machine.index_environment())

    def deploy(self) -> None:
        """Deploy the pushed code and the written config."""
        self.play("deploy.yml")


def write(code: Path, release: str) -> None:
    """Write the app's code into a directory, with a page that tells this release's name, and commit it."""
    if not code.exists():
        shutil.copytree(ROOT / "examples" / APP, code)
        subprocess.run(["git", "init", "-q", "-b", "main"], cwd=code, check=True)
    text = (ROOT / "examples" / APP / "faq_site/urls.py").read_text()
    (code / "faq_site/urls.py").write_text(text + VIEW.format(release=release))
    commit(code)


def page(host: Host) -> str:
    """Return a host's page, which tells its release and its config."""
    return Client(host.address, DOMAIN).get(PAGE).text


def deployed(way: Saltern | Usual, expected: str) -> list[float]:
    """Deploy under load.

    :return: seconds until the page came from the new release, seconds until the command ended, the number of requests,
        the number of failed ones, and the worse 99th percentile in ms.
    :raises LabError: when the host does not serve the new release.
    """
    load = Load(way.host, DOMAIN, PAGE, requests=0, rate=RATE)
    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            started = time.monotonic()
            deploying = pool.submit(way.deploy)
            while expected not in (said := page(way.host)):
                if deploying.done() and (deploying.exception() or time.monotonic() > started + DEADLINE):
                    deploying.result()
                    raise LabError(f"{way.host.name}: {PAGE} is not {expected} but {said}")
                time.sleep(POLL)
            serves = time.monotonic() - started
            deploying.result()
            done = time.monotonic() - started
    finally:
        answers = load.finish()
    requests = sum(one.requests for one in answers)
    good = sum(one.statuses.get(200, 0) for one in answers)
    return [serves, done, requests, requests - good, max(one.p99 for one in answers) * 1000]


def alone(host: Host) -> list[float]:
    """Return the seconds of the app's own boot, and of a migrate command with no new migration."""
    return [
        booted(host, DOMAIN, *APP_ALONE),
        timed(host, f"{APP}-run", "sh", "-c", "python manage.py migrate --noinput"),
    ]


def main() -> int:
    """Measure on fresh hosts, and keep the result. Return an exit code."""
    steps = Steps()
    found: dict[tuple[str, str], list[list[float]]] = {}
    own = []
    with (
        Lab.temporary("bench-deploys") as lab,
        Lab.temporary("bench-usual") as other,
        tempfile.TemporaryDirectory() as scratch,
    ):
        code = Path(scratch) / APP
        write(code, "r0")
        with steps.step("a host that Saltern keeps"):
            ways = {"Saltern": Saltern(lab, code)}
        with steps.step("a host that Ansible keeps, the usual way"):
            ways["the usual way"] = Usual(other, code, Path(scratch) / "usual")
        for n in range(1, ROUNDS + 1):
            with steps.step(f"round {n} of {ROUNDS}") as step:
                own.append(alone(ways["Saltern"].host))
                write(code, f"r{n}")
                for name, way in in_turn(ways.items(), n - 1):
                    for what, expected in (("a release", f"r{n}-c{n - 1}"), ("a config change", f"r{n}-c{n}")):
                        way.release() if what == "a release" else way.configure(f"c{n}")
                        found.setdefault((what, name), []).append(deployed(way, expected))
                step.outcome = f"{[round(rows[-1][0], 1) for rows in found.values()]} s"
    result(found, own).keep()
    return 0


def result(found: dict[tuple[str, str], list[list[float]]], own: list[list[float]]) -> Result:
    """Return what the figures come to."""
    boot, migration = (statistics.median(column) for column in zip(*own, strict=True))
    rows = []
    for what, beyond in (("a release", boot + migration), ("a config change", boot)):
        for (kind, name), taken in found.items():
            if kind == what:
                serves, done, _, _, p99 = (statistics.median(column) for column in zip(*taken, strict=True))
                requests, failed = (sum(one[index] for one in taken) for index in (2, 3))
                cells = [f"{serves:.1f}", f"{serves - beyond:.1f}", f"{done:.1f}"]
                cells += [f"{requests:.0f}", f"{failed:.0f}", f"{p99:.0f}"]
                rows.append([f"{what}, {name}", *cells])
    return Result(
        part="deploys",
        title="A release under load, beside the usual way",
        columns=["", "serves after, s", "beyond the app's own", "done after, s", "requests", "failed", "p99, ms"],
        rows=rows,
        notes=[
            f"Medians of {ROUNDS} rounds, requests and failures of all of them; {2 * RATE} requests a second from "
            "outside, half of them with a connection each. A release serves when it first answers from outside, and is "
            "done when the command has ended: Saltern's has then ended the old processes too. The usual way is "
            "`git pull`, `pip install`, `migrate` and `supervisorctl restart` by Ansible on the host itself. The app's "
            f"own is what it takes alone: {boot:.1f} s to boot, and with a release {migration:.1f} s to see that no "
            "migration is new. Goals: a release serves at most 3 s beyond that, a config change 2 s, and no request "
            "fails."
        ],
        bars={f"{what}, {name}": statistics.median(one[0] for one in taken) for (what, name), taken in found.items()},
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"bench: {error}")

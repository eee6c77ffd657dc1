"""The Makefile's variables: each target takes its own and refuses all others before it does anything."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEE = "see make help"
ENVIRONMENT = f"ENV: missing; expected the environment whose secrets are meant, such as ENV=production, {SEE}"


def make(*arguments, **environ):
    """Return the exit code of ``make -n``, the commands that it would run, and its errors."""
    environ = {name: value for name, value in os.environ.items() if name not in ("ENV", "SUITE", "MAKEFLAGS")} | environ
    command = ["make", "-n", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


REFUSED = {
    "apply APP=faq": f"make apply: takes no APP; it takes ARGS ENV HOST, {SEE}",
    "drift HOST=app1": f"make drift: takes no HOST; it takes ENV, {SEE}",
    "status HOST=app1": f"make status: takes no HOST; it takes ENV, {SEE}",
    "lint ENV=production": f"make lint: takes no ENV; it takes no variables, {SEE}",
    "up HOSTS=app1": f"make up: takes no HOSTS; it takes ENV SUITE, {SEE}",
    "up SALTERN_PROT=8080": f"make up: takes no SALTERN_PROT; it takes ENV SUITE, {SEE}",
    "down HOST=": "HOST: empty; expected a value, or nothing of it",
    "logs APP=a'b": "APP: has a quotation mark; expected none",
    "up ENV=test": "ENV: 'test' is no environment; expected one of dev production staging",
    "build ENV=test": "ENV: 'test' is no environment; expected one of dev production staging",
    "contracts ENV=test": "ENV: 'test' is no environment; expected one of dev production staging",
    "certificates ENV=test": "ENV: 'test' is no environment; expected one of dev production staging",
    "up SUITE=buster": "SUITE: 'buster' is no Debian that Saltern knows; expected one of bookworm trixie",
    "converge SUITE=buster": "SUITE: 'buster' is no Debian that Saltern knows; expected one of bookworm trixie",
    "build APP=faq SUITE=buster": "SUITE: 'buster' is no Debian that Saltern knows; expected one of bookworm trixie",
    "certificates": ENVIRONMENT,
    "secret NAME=app.faq.config.KEY": ENVIRONMENT,
    "secret-remove NAME=app.faq": ENVIRONMENT,
    "secret ENV=production": (
        f"NAME: missing; expected the setting, such as NAME=app.tickets.config.SECRET_KEY, {SEE}"
    ),
    "build-forget": f"APP: missing; expected the app, such as APP=shop, {SEE}",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_a_target_does_not_take_is_refused(arguments):
    code, run, said = make(*arguments.split(" "))
    assert (code, run) == (2, "")
    assert re.fullmatch(rf"Makefile:[0-9]+: \*\*\* {re.escape(REFUSED[arguments])}\.  Stop\.\n", said)


TAKEN = {
    "apply HOST=app1 ENV=production": "-m lab --environment 'production' apply --host 'app1'",
    "apply ARGS=test=True": "-m lab --environment 'dev' apply  test=True",
    "up verify SUITE=trixie": "-m lab --environment 'dev' up --suite 'trixie'",
    "certificates ENV=dev": "bin/issue-certificates 'dev'",
    "secrets-rekey": "bin/secret rekey \n",
    "secrets-rekey ENV=staging": "bin/secret rekey --environment 'staging'",
}


@pytest.mark.parametrize("arguments", TAKEN)
def test_what_a_target_takes_reaches_its_command(arguments):
    code, run, _ = make(*arguments.split(" "))
    assert code == 0
    assert TAKEN[arguments] in run


def test_the_environment_may_hold_what_others_take():
    assert make("lint", HOST="here", ENV="/root/.shrc", APP="x")[0] == 0
    assert make("up", ENV="production")[1].count("--environment 'production' up") == 1


def test_each_variable_that_a_target_uses_is_one_that_it_takes():
    text = (ROOT / "Makefile").read_text()
    (names,) = re.findall(r"^TARGETS = ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    targets = set(re.findall(r"[a-z-]+", names))
    assert targets == set(re.findall(r"^([a-z-]+):(?!=)", text, re.MULTILINE))
    taken = dict(re.findall(r"^takes_([a-z-]+) = (.*)$", text, re.MULTILINE))
    assert taken.keys() <= targets
    known = {"ENV", "SUITE", "HOST", "APP", "PROCESS", "FOLLOW", "ARGS", "NAME", "SOURCE", "VAGRANT", "SSH_CONFIG"}
    known |= {"KEEP", "PART", "SERVE", "UPGRADE", "HOST_PYTHON", "ALLOW_SDIST"}
    for target, recipe in re.findall(r"^([a-z-]+):.*\n((?:\t.*\n|.*\\\n)*)", text, re.MULTILINE):
        recipe += "$(ENV)" * ("$(LAB)" in recipe)
        used = known & set(re.findall(r"\$\((?:if \$\(|or \$\(|filter [a-z0-9]+,\$\()?([A-Z_]+)\)", recipe))
        assert used <= set(
            taken.get(target, "").replace("$(of_the_lab)", "ENV").replace("$(takes_build)", taken["build"]).split()
        ), target

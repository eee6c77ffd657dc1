"""One-off commands: what APP-run and APP-psql call."""

import json
import os
import pwd
import sys
import time

from . import ENTRY, databases
from .release import build_of, environment, serving
from .scope import escaped
from .user import default_signals, hide_others

TERMINAL = "/usr/local/lib/saltern/terminal"


def run(app, *command):
    """Run a one-off command like a process of the current release."""
    if not command:
        sys.exit(f"usage: {app}-run COMMAND [ARGUMENT ...]")
    run_of(app, _become(app, "run", command), *command)


def run_of(app, number, *command):
    """Run a one-off command like a process of a release."""
    directory, release = serving(app, number, "run")
    variables = environment(directory, release, app, None)
    if "TERM" in os.environ:
        variables[b"TERM"] = os.environb[b"TERM"]
    os.chdir(build_of(release, app))
    default_signals()
    try:
        os.execvpe(command[0], command, variables)
    except OSError as error:
        print(f"{app}-run: {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(126 if isinstance(error, PermissionError) else 127)


def psql(app, *words):
    """Run psql at a database of the current release."""
    psql_of(app, _become(app, "psql", words), *words)


def psql_of(app, number, *words):
    """Run psql at a database of a release."""
    default_signals()
    databases.psql(app, number, *words)


def _become(app, what, words):
    """Return the number of the current release as the app's user. Root becomes that user, in a scope of its own."""
    number = os.path.basename(os.path.realpath(f"/srv/apps/{app}/current"))
    if os.geteuid() == 0:
        # Below the app's slice, so that its limits apply. The release stays while something runs in a scope that names
        # it. systemd-run would expand a $ in its arguments.
        text = json.dumps([what, app, number, *words]).replace("$", "\\u0024")
        unit = f"--unit=app-{escaped(app)}-run-{os.getpid()}.{time.time_ns()}.v{number}.scope"
        # Without a description, systemd shows the command line, in the journal and to each user who asks.
        scope = ["systemd-run", "--quiet", "--collect", "--scope", unit, f"--slice=app-{escaped(app)}.slice"]
        scope += [f"--description={app}-{what}", "--"]
        os.execvp(scope[0], [*scope, ENTRY, "--run-there", text])
    if os.geteuid() != pwd.getpwnam(app).pw_uid:
        sys.exit(f"{app}-{what}: not root: run it with sudo")
    return number


def run_there(text):
    """Run a one-off command, in its scope."""
    what, app, number, *words = json.loads(text)
    # Out of reach of root's terminal: what the app starts must not be able to type into root's shell.
    hide_others()
    os.execv(TERMINAL, [TERMINAL, app, ENTRY, f"--{what}-of", app, number, *words])

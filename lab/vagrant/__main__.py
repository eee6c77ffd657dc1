"""Vagrant: how it reads the Vagrantfile, and a whole ``vagrant up`` with a box of our own.

``make parity`` and ``make vagrant-check`` run it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from lab import machine
from lab.pillar import declare
from lab.podman import LabError
from lab.tree import DEFAULT, PILLAR, ROOT, copy_tree, inventory
from lab.vagrant.check import Check, asked, daemons, destroy, refuse_in_use, walk
from saltern import environments


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    :param arguments: the command line without the program, ``sys.argv`` where it is not given.
    """
    parser = argparse.ArgumentParser(prog="python -m lab.vagrant", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function in (("hosts", hosts), ("check", check)):
        each = commands.add_parser(name, help=function.__doc__.splitlines()[0])
        each.set_defaults(command=function)
        if function is hosts:
            each.add_argument("file", type=Path, help="the file to write")
        else:
            each.add_argument("--keep", action="store_true", help="leave the machines there where something fails")
            each.add_argument("--suite", default=machine.SUITES[0], choices=machine.SUITES, help="the machines' Debian")
            each.add_argument("--environment", default=DEFAULT, choices=environments.names(PILLAR), help="whose hosts")
    options = parser.parse_args(arguments)
    try:
        return options.command(options) or 0
    except LabError as error:
        print(f"vagrant-check: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def hosts(options: argparse.Namespace) -> None:
    """Write as JSON how Vagrant reads the Vagrantfile, for all environments with hosts."""
    rows = inventory(ROOT).values()
    found = []
    for environment in environments.names(PILLAR):
        if any(row["environment"] == environment for row in rows):
            found += asked(ROOT, environment)
    options.file.write_text(json.dumps(found))


def check(options: argparse.Namespace) -> None:
    """Boot the Vagrantfile's hosts with a box of our own, converge them, verify them over ssh, and destroy them."""
    if os.geteuid():
        raise LabError("not root: it makes a Debian and starts libvirt; run make with sudo, or as root")
    refuse_in_use(options.environment)
    this = Check(options.suite, options.environment)
    step = this.steps.step
    this.log.unlink(missing_ok=True)
    with daemons():
        if (this.tree / ".vagrant").exists():
            with step("what is left of another check"):
                this.vagrant("destroy", "--force")
        shutil.rmtree(this.tree, ignore_errors=True)
        this.tree.mkdir()
        copy_tree(ROOT, this.tree)
        subprocess.run(["git", "init", "-q", str(this.tree)], check=True)
        with step(f"box {options.suite}") as one:
            one.outcome = this.box()
        # An emulated processor is some ten times slower, and so is the start of an app.
        slow = {"health": {"timeout": 60, "grace": 600}, "contract": {"timeout": 600}}
        declare(this.tree / "pillar", this.environment, {"app": dict.fromkeys(this.domains, slow)})
        try:
            walk(this)
        except LabError:
            if not options.keep:
                destroy(this)
            raise
        destroy(this)


if __name__ == "__main__":
    sys.exit(main())

"""Asks hosts whether they are what was declared: ``python -m verify --hosts=ssh://web1``, which ``make verify`` runs.

It changes nothing on them. A formula's checks lie in the formula's directory, as ``formulas/NAME/verify/test_*.py``.
"""

import argparse
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def parts(tree: Path = ROOT) -> dict[str, Path]:
    """Return the directory of each formula's checks, by the formula's name.

    :param tree: the tree with the formulas.
    """
    return {path.parent.name: path for path in sorted(tree.glob("formulas/*/verify"))}


def command(arguments: list[str]) -> list[str]:
    """Return pytest's arguments for a command line of verify.

    :param arguments: the command line without the program.
    """
    there = parts()
    parser = argparse.ArgumentParser(prog="python -m verify", description=__doc__)
    parser.add_argument(
        "part", nargs="*", metavar="FORMULA", help=f"run the checks of these alone; one of: {', '.join(there)}"
    )
    parser.add_argument("--hosts", required=True, help="testinfra's names of the hosts, with commas between them")
    parser.add_argument("--tree", default=str(ROOT), help="the tree that says what the hosts should be; else this one")
    parser.add_argument("--ssh-config", metavar="FILE", help="how ssh reaches the hosts")
    parser.add_argument("--junit-xml", metavar="FILE", help="write the outcome there too, as JUnit's XML")
    parser.add_argument("-k", dest="named", metavar="EXPRESSION", help="run the checks alone whose names match")
    parser.add_argument("-q", "--quiet", action="store_true", help="one character for each check, and a line")
    options = parser.parse_args(arguments)
    for part in options.part:
        if part not in there:
            parser.error(f"{part}: no formula of that name has checks; expected one of {', '.join(there)}")
    # Leaves nothing in the tree, which may be read-only.
    told = ["-p", "verify.plugin", "-p", "no:cacheprovider", "-o", "junit_family=xunit1", f"--rootdir={ROOT}"]
    told += ["-p", "testinfra.plugin"]
    told += [str(there[part]) for part in options.part or there]
    told += [f"--hosts={options.hosts}", f"--tree={options.tree}"]
    told += [f"--ssh-config={options.ssh_config}"] if options.ssh_config else []
    told += [f"--junit-xml={options.junit_xml}"] if options.junit_xml else []
    told += ["-k", options.named] if options.named else []
    return told + ["-q"] * options.quiet


if __name__ == "__main__":
    # The other plugins that are installed take seconds to import, and the checks need none of them.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.exit(pytest.main(command(sys.argv[1:])))

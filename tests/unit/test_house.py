"""The house: which of its parts may use which."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What make up, make verify, the Vagrantfile and a master run.
PRODUCT = ("lab", "verify", "formulas", "salt", "bin")


def imported(path):
    """Return the names of all modules that a file imports, and of what it imports from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module or ''}.{one.name}" for one in node.names}
    return found


def python(directory):
    """Return the files below a directory that are Python's."""
    return [
        path
        for path in sorted((ROOT / directory).rglob("*"))
        if path.is_file() and (path.suffix == ".py" or path.read_bytes()[:60].startswith(b"#!/usr/bin/env python"))
    ]


@pytest.mark.parametrize("directory", PRODUCT)
def test_what_makes_hosts_or_asks_them_imports_no_test(directory):
    importing = {path for path in python(directory) for name in imported(path) if name.partition(".")[0] == "tests"}
    assert importing == set()


def test_no_test_imports_another_one():
    importing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in python("tests")
        for name in imported(path)
        if any(part.startswith("test_") for part in name.split("."))
    }
    assert importing == set()


def test_each_module_of_hosts_says_by_its_directory_whose_hosts_it_asks():
    assert sorted(path.name for path in (ROOT / "tests/hosts").glob("test_*")) == []


# Text that would be a second list of environments or Debians, or that names one environment.
LISTS = re.compile(
    r"staging\W{1,9}production|production\W{1,9}staging"
    r"|bookworm\W.{0,15}trixie|trixie\W.{0,15}bookworm"
    r"|[!=]= ?['\"]dev['\"]"
)


def test_environments_and_debians_are_listed_in_one_place():
    tools = [ROOT / name for name in ("Makefile", "Vagrantfile", "bootstrap.sh", "lab/setup", "lab/vagrant/hosts.rb")]
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in [*tools, *(path for directory in PRODUCT for path in python(directory))]
        for line in path.read_text().splitlines()
        if LISTS.search(line)
    ]
    assert found == []


# The other files that call fsync, and why each does not use the package's function.
WRITERS = {
    "salt/_utils/saltern/system/files.py": "the one way",
    "salt/_utils/saltern/builds/description.py": "stays the same file, so that no time of its directory changes",
    "salt/_utils/saltern/secrets/values.py": "several files, all or none",
    "formulas/drift/files/drift.py": "Debian's own Python runs it, which has no package",
    "formulas/nginx/files/peers.py": "Debian's own Python runs it, which has no package",
}


def test_files_are_replaced_in_one_way():
    found = {
        str(path.relative_to(ROOT))
        for directory in PRODUCT
        for path in python(directory)
        if "os.fsync(" in path.read_text()
    }
    assert found <= WRITERS.keys()

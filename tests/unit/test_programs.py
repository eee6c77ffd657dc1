"""What Saltern's programs on a host import: Debian's own Python runs them, which has nothing beside its library."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "salt/_utils/saltern"
# The state files that bring parts of the package to a host, and what their programs import of it.
BROUGHT = {
    "leases": (["alone"], "saltern.leases"),
    "jobs": (["alone", "jobs"], "saltern.jobs.runner"),
}


def brought(states):
    """Return the paths in the package that a state file of the formula app brings."""
    text = (ROOT / f"formulas/app/{states}.sls").read_text()
    names = re.findall(r"'(\w+)'", "".join(re.findall(r"\{% for name in \((.*?)\) %\}", text)))
    for path in re.findall(r"salt://_utils/saltern/(\S+(?: name \}\}\S*)?)", text):
        yield from (path.replace("{{ name }}", name) for name in names) if "{{" in path else [path]


@pytest.mark.parametrize("states, module", BROUGHT.values(), ids=BROUGHT)
def test_it_is_all_that_they_import(tmp_path, states, module):
    for path in {path for name in states for path in brought(name)}:
        there = tmp_path / "saltern" / path
        there.parent.mkdir(parents=True, exist_ok=True)
        if (PACKAGE / path).is_dir():
            shutil.copytree(PACKAGE / path, there)
        else:
            shutil.copy(PACKAGE / path, there)
    program = f"import sys; sys.path.append({str(tmp_path)!r}); import {module}"
    done = subprocess.run(["/usr/bin/python3", "-IS", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

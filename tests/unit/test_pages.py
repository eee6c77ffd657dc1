"""The commands that the README and docs/ tell their reader to type: each has a test on hosts that types it."""

from pathlib import Path

from tests.hosts.readme import COMMANDS

OWN = Path(__file__).parents[1] / "hosts/own"


def test_every_command_of_the_pages_is_run_by_a_test_of_the_pages():
    text = "".join(path.read_text() for path in [*OWN.glob("test_readme*.py"), OWN / "test_fleet.py"])
    assert COMMANDS
    assert [command for command in COMMANDS if f'"{command}"' not in text] == []

"""How the commands of an operator's machine end: one line for each mistake, and an exit code."""

import signal

import pytest

from saltern import commands
from saltern.refusal import Refusal

ENDS = {
    "well": (None, 0, []),
    "a refusal": (Refusal("a: wrong\nb: wrong"), 1, ["a: wrong", "b: wrong"]),
    "what a terminal would obey": (Refusal("a\x1b[2J\x9b\u202e: wrong"), 1, ["a\\x1b[2J\\x9b\\u202e: wrong"]),
    "a file": (FileNotFoundError(2, "No such file", "/x"), 1, ["/x: No such file; mend that"]),
    "no file's name": (OSError(28, "No space left"), 1, ["dist: No space left; mend that"]),
    "no reason": (OSError("broken"), 1, ["dist: broken; mend that"]),
    "Ctrl-C": (KeyboardInterrupt(), 130, ["interrupted"]),
    "Ctrl-D": (EOFError(), 130, ["interrupted"]),
}


@pytest.fixture
def run():
    """A function that runs a command that raises an error or none. The test's own signal handler stays."""
    before = signal.getsignal(signal.SIGTERM)

    def call(error, interrupted="interrupted"):
        def work():
            if error:
                raise error

        return commands.run("tool", work, "mend that", interrupted, "dist")

    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("error, code, lines", ENDS.values(), ids=ENDS)
def test_a_command_ends_with_a_line_for_each_mistake(run, capsys, error, code, lines):
    assert run(error) == code
    assert capsys.readouterr().err == "".join(f"tool: {line}\n" for line in lines)


def test_an_interruption_without_a_message_prints_nothing(run, capsys):
    assert run(KeyboardInterrupt(), interrupted="") == 130
    assert capsys.readouterr().err == ""


def test_an_option_is_not_abbreviated(capsys):
    parser = commands.parser("tool", "Do it.", "examples:\n  tool --force")
    parser.add_argument("--force", action="store_true")
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--for"])
    assert ended.value.code == 2
    assert "examples:\n  tool --force" in parser.format_help()

"""What a ``state.apply`` on a lab host did."""

import dataclasses
import json
from collections.abc import Callable

from lab import Host

# How many converges and dry runs this process has made; the table at the end of a run shows them.
made = 0


@dataclasses.dataclass(frozen=True)
class Applied:
    """The result of a converge, or of a dry run.

    :param code: salt-call's exit code.
    :param states: what each state returned, by its ID. Empty where no state ran.
    :param mistakes: why no state ran.
    :param output: all that was printed.
    """

    code: int
    states: dict[str, dict]
    mistakes: list[str]
    output: str

    @property
    def changed(self) -> set[str]:
        """The IDs of the states that changed something, or say in a dry run that they would."""
        return {name for name, state in self.states.items() if state["changes"] or state["result"] is None}

    @property
    def failed(self) -> dict[str, str]:
        """The comment of each failed state, by its ID."""
        return {name: state["comment"] for name, state in self.states.items() if state["result"] is False}

    def succeeded(self) -> "Applied":
        """Return itself, once it is sure that nothing failed."""
        assert self.mistakes == [], self.mistakes
        assert self.failed == {}, self.failed
        assert self.code == 0, self.output
        return self

    def changed_nothing(self) -> "Applied":
        """Return itself, once it is sure that nothing failed or changed."""
        self.succeeded()
        assert {name: (self.states[name]["comment"], self.states[name]["changes"]) for name in self.changed} == {}
        return self


def apply(host: Host, *arguments: str, line: Callable[[str], None] | None = None) -> Applied:
    """Converge a host.

    :param host: the host.
    :param arguments: further arguments of ``state.apply``, such as ``test=True``.
    :param line: takes each line of the output as it comes, or ``None``.
    """
    global made
    made += 1
    command = ["salt-call", "--out", "json", "--retcode-passthrough", "state.apply", *arguments]
    if line:
        said: list[str] = []

        def take(text: str) -> None:
            said.append(text)
            line(text)

        code = host.stream(*command, line=take)
        output = "\n".join(said)
    else:
        done = host.run(*command, check=False)
        code, output = done.returncode, done.stdout + done.stderr
    assert "exception occurred" not in output, output
    assert "CRITICAL" not in output, output
    # Messages may come before the answer, which is the one JSON object, and after it.
    answer = json.JSONDecoder().raw_decode(output[output.index("{\n") :])[0]["local"]
    if isinstance(answer, list):
        return Applied(code, {}, answer[1:], output)
    states = {state["__id__"]: state for state in answer.values()}
    assert len(states) == len(answer), "two states have one ID"
    return Applied(code, states, [], output)


def as_told(host: Host) -> set[str]:
    """Converge a host as a dry run says; return the states that changed.

    What it leaves undone shows in the next converge, for a test that compares all of what that one changes.
    """
    dry = apply(host, "test=True").succeeded().changed
    changed = apply(host).succeeded().changed
    assert dry == changed
    return changed


def converged(host: Host) -> set[str]:
    """Converge a host as a dry run says, and once more with nothing to do; return the states that changed."""
    changed = as_told(host)
    apply(host).changed_nothing()
    return changed

"""Results of ``make bench``: each part on the terminal as it ends, and all in docs/benchmarks.md.

Each part saves its result in .lab/bench. A part that runs alone replaces only its own section of the document.
"""

import dataclasses
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import textwrap

import pygal
from rich.console import Console
from rich.table import Table

from lab.tree import ROOT

KEPT = ROOT / ".lab/bench"
DOCUMENT = ROOT / "docs/benchmarks.md"
ORDER = ("converge", "first", "releases", "long", "deploys", "serving", "apps", "growth", "minions")
HEAD = """\
# Benchmarks

`make bench` writes this file. All figures of a table are of one run, taken in turn, so that a busy machine is as busy
for one as for the other: the ratios mean something elsewhere, the seconds do not.
"""


@dataclasses.dataclass
class Result:
    """The result of a part.

    :param part: its name, one of ``ORDER``.
    :param title: the table's title.
    :param columns: the columns' names; the first column names the rows.
    :param rows: the rows, each a list of texts.
    :param notes: sentences about what was measured, and what it shows.
    :param bars: the values of a bar chart, by label; empty for no chart.
    :param unit: the unit of the bars.
    """

    part: str
    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = dataclasses.field(default_factory=list)
    bars: dict[str, float] = dataclasses.field(default_factory=dict)
    unit: str = "seconds"
    taken: str = ""

    def keep(self) -> None:
        """Print the table, and save it for the document."""
        table = Table(*self.columns, title=self.title, title_justify="left")
        for row in self.rows:
            table.add_row(*row)
        console = Console(width=max(100, Console().width), highlight=False)
        console.print(table)
        for note in self.notes:
            console.print(note, soft_wrap=True)
        KEPT.mkdir(parents=True, exist_ok=True)
        self.taken = f"{datetime.date.today()} at {commit()}, on {machine()}"
        (KEPT / f"{self.part}.json").write_text(json.dumps(dataclasses.asdict(self), indent=1))


def commit() -> str:
    """Say which code was measured. Files that this module writes do not count as changes."""
    done = _git("describe", "--always")
    changed = _git("diff", "--quiet", "HEAD", "--", ".", ":!docs/benchmarks*").returncode
    return f"commit {done.stdout.strip()}{', with changes' if changed else ''}" if done.returncode == 0 else "no commit"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def machine() -> str:
    """Describe this machine in a few words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, Linux {platform.release().split('-')[0]}"


def chart(result: Result) -> str:
    """Draw a result's bars. Return the picture's name, beside the document."""
    style = pygal.style.Style(background="transparent", plot_background="transparent", colors=("#1b7f3b",))
    drawn = pygal.HorizontalBar(
        show_legend=False,
        print_values=True,
        style=style,
        height=60 + 40 * len(result.bars),
        width=800,
        value_formatter=lambda value: f"{value:.1f}",
        title=f"{result.title}, {result.unit}",
        no_prefix=True,
        js=[],
    )
    # The first row is drawn last, because the chart begins at the bottom.
    labels = list(reversed(result.bars))
    drawn.x_labels = labels
    drawn.add("", [round(result.bars[label], 2) for label in labels])
    name = f"benchmarks-{result.part}.svg"
    (DOCUMENT.parent / name).write_bytes(drawn.render())
    return name


def section(result: Result) -> str:
    """Return a result's section of the document."""
    table = (result.columns, ["---"] * len(result.columns), *result.rows)
    parts = [f"<!-- {result.part} -->\n## {result.title}\n"]
    parts.append("\n".join(f"| {' | '.join(row)} |" for row in table) + "\n")
    if result.bars:
        parts.append(f"![{result.title}]({chart(result)})\n")
    notes = [textwrap.fill(note, 118) for note in [*result.notes, f"Taken on {result.taken}."]]
    return "\n".join([*parts, "\n\n".join(notes) + "\n"])


def main(parts: list[str]) -> int:
    """Write sections of docs/benchmarks.md, and leave the others as they are. Return an exit code.

    :param parts: the parts that have just run.
    """
    _, *there = re.split(r"^<!-- (\w+) -->$", DOCUMENT.read_text() if DOCUMENT.exists() else "", flags=re.MULTILINE)
    sections = {part: f"<!-- {part} -->{text.rstrip()}\n" for part, text in zip(there[::2], there[1::2], strict=True)}
    for part in parts:
        sections[part] = section(Result(**json.loads((KEPT / f"{part}.json").read_text())))
    DOCUMENT.write_text("\n".join([HEAD, *(sections[part] for part in ORDER if part in sections)]))
    print(f"{DOCUMENT.relative_to(ROOT)}: {', '.join(parts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Parity: each role is the same in every environment, on every Debian, but for what is declared to vary.

Each host's states are compiled twice, without the host. Once as they are. And once with another environment's settings
in the place of those that vary (``varies: true``): what differs then is no setting's doing, but of a state file, a
template or a pillar file that looks at which host or which environment it is for. See ``saltern.parity``.
"""

import io
import os
import shutil
import tempfile

import jinja2
from salt.exceptions import SaltException

from saltern.parity.compare import compared
from saltern.parity.tree import Tree

try:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
except ImportError:
    Table = None

__load__ = ["show"]

PAGE = "parity.html.jinja"


def __virtual__():
    return (True, "") if Table else (False, "parity needs the library rich: run it with make parity")


def show(html=None, vagrant=None):
    """Compare the roles of all environments of the inventory, those of each Debian, and Vagrant's hosts.

    :param html: a file to write the tables to, as a page that needs no other file.
    :param vagrant: a file that ``lab/vagrant`` writes: what Vagrant makes of the Vagrantfile; without one that is not
        compared.
    :return: ``retcode``, 1 where something differs that is not declared to vary, and ``parity``: the tables as text, or
        as data where a form such as ``--out json`` is asked for.

    CLI Example:

    .. code-block:: bash

        salt-run parity.show
        salt-run parity.show html=parity.html
        salt-run parity.show --out json
    """
    try:
        with tempfile.TemporaryDirectory() as directory:
            tables = compared(Tree(__opts__, directory), vagrant)
    except SaltException as error:
        # After an empty line it shows what it read, in which there may be secrets.
        return _answer(1, str(error).partition("\n\n")[0])
    failed = any(line["undeclared"] for table in tables for line in lines(table))
    if html:
        with open(html, "w", encoding="utf-8") as stream:
            stream.write(page(tables, failed))
    return _answer(int(failed), tables if "output" in __opts__ else written(tables, failed))


def _answer(retcode, parity):
    """Return what salt-run takes for an answer with an exit code."""
    return {"data": {"retcode": retcode, "parity": parity}, "outputter": __opts__.get("output", "nested")}


def lines(table):
    """Yield each line of a table's cells."""
    for row in table["rows"]:
        for cell in row["cells"].values():
            yield from cell


def verdict(failed):
    """Say in a sentence what the tables come to."""
    if failed:
        return "Not the same: what is marked DIFFERS is not declared to vary."
    return "The same everywhere, but for what is declared to vary."


def written(tables, failed):
    """Write tables for a terminal."""
    # Salt indents it by four.
    console = Console(file=io.StringIO(), width=shutil.get_terminal_size((120, 24)).columns - 4)
    for table in tables:
        shown = Table(title=table["title"], title_justify="left", show_lines=True)
        for column in ("", *table["columns"]):
            shown.add_column(column, overflow="fold")
        for row in table["rows"]:
            cells = row["cells"].values()
            shown.add_row(row["name"], *(Text("\n".join(map(_line, cell)) or "same") for cell in cells))
        console.print(shown)
    console.print(verdict(failed))
    return console.file.getvalue()


def _line(line):
    return f"{'DIFFERS' if line['undeclared'] else 'varies'}: {line['text']}"


def page(tables, failed):
    """Write tables as a page of HTML that needs no other file."""
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(os.path.dirname(__file__)), autoescape=True)
    return templates.get_template(PAGE).render(tables=tables, failed=failed, verdict=verdict(failed))

"""Rows as a table, whole: in the order of their columns, as wide as what is in them, and no cell is cut.

Salt's own outputter ``table`` sorts the columns by their names and shows the first 49 characters of a cell.
"""

import salt.loader

from saltern.system import terminal

__virtualname__ = "rows"


def __virtual__():
    return __virtualname__


def output(data, **_):
    """Return a table for each host; what is no list of mappings, Salt's outputter ``nested`` shows.

    :param data: the rows by host.

    CLI Example:

    .. code-block:: bash

        salt-call release.list tickets --out rows
    """
    outputters = salt.loader.outputters(__opts__)
    data = terminal.shown(data)
    if not isinstance(data, dict) or not all(is_table(rows) for rows in data.values()):
        return outputters["nested"](data)
    return "\n".join(line for host, rows in data.items() for line in (f"{host}:", *lines(rows)))


def is_table(rows):
    """Tell whether something can be shown as a table."""
    return isinstance(rows, list) and all(isinstance(row, dict) for row in rows)


def lines(rows):
    """Lay out rows as lines.

    :param rows: a mapping for each row; the columns are those of the first.
    """
    if not rows:
        return ["    none"]
    names = list(rows[0])
    cells = [names] + [[str(row.get(name, "")).replace("\n", " ") for name in names] for row in rows]
    # A column that is empty in all rows is left out.
    kept = [index for index in range(len(names)) if any(row[index] for row in cells[1:])]
    widths = {index: max(len(row[index]) for row in cells) for index in kept}
    return ["    " + "  ".join(row[index].ljust(widths[index]) for index in kept).rstrip() for row in cells]

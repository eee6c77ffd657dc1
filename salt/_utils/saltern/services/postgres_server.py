"""The PostgreSQL of this host: how its operator asks it."""

import csv
import glob
import io
import json
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Collection, Sequence
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.system.systemd import SETTLED, Among

OPTIONS = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse", "-d", "postgres", "-f", "-")


def is_installed() -> bool:
    """Tell whether PostgreSQL can be asked here."""
    return bool(shutil.which("psql"))


def run(statements: Sequence[str]) -> str:
    """Run SQL as PostgreSQL's operator, through standard input, so that no process title shows it.

    :param statements: SQL, each statement with its semicolon.
    :return: the answer's text.
    :raises CommandExecutionError: with PostgreSQL's message.
    """
    return _psql(*OPTIONS, statements="\n".join(statements)).strip()


def console(directory: str, port: int, command: str) -> list[dict[str, str]]:
    """Ask PgBouncer, by its own database.

    :param directory: of its Unix socket. It lets in who has its own user.
    :param port: its port.
    :param command: such as ``SHOW CLIENTS``.
    :return: a mapping for each row.
    :raises CommandExecutionError: with PgBouncer's message.
    """
    where = ("-h", directory, "-p", str(port), "-U", "pgbouncer", "-d", "pgbouncer")
    return list(csv.DictReader(io.StringIO(_psql("-X", "-q", "--csv", *where, "-c", command))))


def _psql(*options: str, statements: str = "") -> str:
    # Debian's psql is a script that looks for a version, which takes longer than the program itself.
    newest = max(glob.glob("/usr/lib/postgresql/*/bin/psql"), key=lambda path: int(path.split("/")[4]), default="psql")
    try:
        user = pwd.getpwnam("postgres")
        done = subprocess.run(
            [newest, *options],
            input=statements,
            capture_output=True,
            text=True,
            check=False,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
            cwd="/",
            # Other processes of PostgreSQL's user may control psql, so it must not have root's terminal.
            start_new_session=True,
            env={"PATH": os.defpath, "HOME": user.pw_dir, "LC_ALL": "C.UTF-8"},
        )
    except (OSError, KeyError) as error:
        raise CommandExecutionError(f"psql: {error}") from None
    if done.returncode:
        raise CommandExecutionError(f"psql: {done.stderr.strip() or 'failed'}")
    return done.stdout


def answered(question: str) -> Any:
    """Return PostgreSQL's answer to a question that it answers in JSON.

    :param question: SQL.
    :raises CommandExecutionError: with PostgreSQL's message.
    """
    return json.loads(run([question]))


def asked(question: str) -> str:
    """Return PostgreSQL's answer to a question, as it is now.

    :param question: SQL.
    :raises CommandExecutionError: with PostgreSQL's message.
    """
    return run([question])


def answer(question: str, among: Among | None, others: Collection[str]) -> str:
    """Return PostgreSQL's answer to a question.

    A login takes longer than a question. So one login asks what all states of a run ask, as long as none of them has
    changed anything.

    :param question: SQL that is answered by one line.
    :param among: what the states of the run ask about; ``None`` where the question is to be asked as it is now.
    :param others: the questions of the other states.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    if not among:
        return asked(question)
    known = among.others.setdefault("postgres", {"until": 0, "answers": {}})
    if time.monotonic() > known["until"] or question not in known["answers"]:
        questions = [question, *set(others) - {question}]
        known["until"] = time.monotonic() + SETTLED
        known["answers"] = dict(zip(questions, run(questions).split("\n"), strict=True))
    return str(known["answers"][question])

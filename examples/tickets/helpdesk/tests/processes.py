"""Helpers for the tests of processes: a real PostgreSQL, a real Redis, the real faq, and processes of both apps."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis
from django.db import connection

TICKETS = Path(__file__).resolve().parents[2]
FAQ = TICKETS.parent / "faq"
# Seconds that a test waits at most; a healthy helpdesk needs a small part of them.
PATIENCE = 90

running: list["Process"] = []
queue = redis.Redis.from_url(os.environ["REDIS_URL"])


def unused_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


FAQ_PORT = unused_port()
FAQ_API = f"http://127.0.0.1:{FAQ_PORT}/v1"


def database_url(name: str) -> str:
    """The URL of another database of the same PostgreSQL."""
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


def tickets_database_url() -> str:
    return database_url(connection.settings_dict["NAME"])


def faq_database_url() -> str:
    return database_url(f"{connection.settings_dict['NAME']}_faq")


def forget_jobs() -> None:
    queue.delete("celery", "unacked", "unacked_index", "unacked_mutex")


def until(claim: str, answer: Callable[[], Any]) -> None:
    """Wait for an answer that is true."""
    deadline = time.monotonic() + PATIENCE
    while not answer():
        if time.monotonic() > deadline:
            logs = "".join(f"\n--- {process.name}\n{process.log.read_text()[-3000:]}" for process in running)
            raise AssertionError(f"not within {PATIENCE} s: {claim}{logs}")
        time.sleep(0.05)


def command(app: Path, process_type: str, config: dict[str, str]) -> dict[str, Any]:
    """Return Popen's arguments to start a process as a host does: the Procfile's line, and only the config."""
    lines = dict(line.split(": ", 1) for line in (app / "Procfile").read_text().splitlines())
    own = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return {"args": ["/bin/sh", "-c", lines[process_type]], "cwd": app, "env": own | config}


def faq_config() -> dict[str, str]:
    return {"SECRET_KEY": "faq", "DATABASE_URL": faq_database_url(), "ALLOWED_HOSTS": "127.0.0.1"}


def make_faq() -> None:
    """Make the FAQ's database, until the module's tests are over."""
    if queue.dbsize():
        raise SystemExit("REDIS_URL: expected an empty Redis, for the tests delete what they find; give them their own")
    unittest.addModuleCleanup(queue.close)
    unittest.addModuleCleanup(queue.flushdb)
    server = unittest.enterModuleContext(psycopg.connect(database_url("postgres"), autocommit=True))
    name = urlsplit(faq_database_url()).path[1:]
    server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    server.execute(f'CREATE DATABASE "{name}"')
    unittest.addModuleCleanup(server.execute, f'DROP DATABASE "{name}" WITH (FORCE)')
    subprocess.run(**command(FAQ, "release", faq_config()), check=True, stdout=subprocess.DEVNULL)


class Process:
    """A running process of an app, in a process group of its own."""

    def __init__(self, app: Path, process_type: str, config: dict[str, str]) -> None:
        self.name = f"{app.name}[{process_type}]"
        with tempfile.NamedTemporaryFile(delete=False) as log:
            self.log = Path(log.name)
            self.popen = subprocess.Popen(
                **command(app, process_type, config),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running.append(self)

    def says(self, words: str) -> None:
        """Wait until it has logged these words."""
        until(f"{self.name} says: {words}", lambda: words in self.log.read_text())

    def stop(self) -> int:
        """Stop it as a host does, and return its exit status."""
        self.popen.terminate()
        return self.popen.wait(PATIENCE)

    def kill(self) -> None:
        """Kill it and its children, as the kernel does when memory runs out."""
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def discard(self) -> None:
        try:
            self.kill()
        except ProcessLookupError:
            self.popen.wait()
        running.remove(self)
        self.log.unlink()


@contextmanager
def held_up(database: str, table: str) -> Iterator[Callable[[int], list[int]]]:
    """Make every write to a table wait; yield a function that waits for some writes and returns their backends' ids."""
    locked = "datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(database, autocommit=True) as watcher, psycopg.connect(database) as holder:

        def waiting() -> list[int]:
            return [pid for (pid,) in watcher.execute(f"SELECT pid FROM pg_stat_activity WHERE {locked}")]

        def until_waiting(number: int) -> list[int]:
            until(f"{number} writes to {table} wait", lambda: len(waiting()) == number)
            return waiting()

        holder.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
        yield until_waiting


def faq_held_up() -> AbstractContextManager[Callable[[int], list[int]]]:
    """Make every new question wait in the FAQ's database."""
    return held_up(faq_database_url(), "questions_question")

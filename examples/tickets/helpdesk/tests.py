"""The helpdesk as it runs: its Procfile's own processes, over a real PostgreSQL, a real Redis and the real faq."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis
import requests
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client, SimpleTestCase, TestCase, TransactionTestCase, override_settings

from .models import Ticket
from .tasks import publish

TICKETS = Path(__file__).resolve().parent.parent
FAQ = TICKETS.parent / "faq"
# Seconds a test waits for what must come; a helpdesk that works needs a small part of them.
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
    """How a host starts a process: the Procfile's line in a shell, the config its whole environment."""
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


def setUpModule() -> None:
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
    """Have every write to a table wait; yields what waits for so many of them and returns their backends' ids."""
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
    """Have every create wait in the FAQ's database."""
    return held_up(faq_database_url(), "questions_question")


class PagesTest(TestCase):
    def test_a_ticket_is_opened_and_listed(self) -> None:
        opened = self.client.post("/tickets/new", {"question": " Where is the <salt>? "})
        ticket = Ticket.objects.get()
        self.assertRedirects(opened, f"/tickets/{ticket.pk}")
        self.assertEqual(ticket.question, "Where is the <salt>?")
        self.assertContains(self.client.get("/"), f'<a href="/tickets/{ticket.pk}">Where is the &lt;salt&gt;?</a>')

    def test_a_ticket_is_shown_with_its_answer_and_its_place_in_the_faq(self) -> None:
        noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
        ticket = Ticket.objects.create(question="q")
        Ticket.objects.update(opened_at=noon)
        page = f"/tickets/{ticket.pk}"
        self.assertContains(self.client.get(page), "opened 2 January 2026, 12:00 UTC")
        self.assertContains(self.client.get(page), "<textarea", count=1)
        Ticket.objects.update(answer="one\n\n<two>", answered_at=noon)
        self.assertContains(self.client.get(page), "<p>one</p>\n\n<p>&lt;two&gt;</p>")
        self.assertContains(self.client.get(page), "Not in the FAQ yet.")
        self.assertNotContains(self.client.get(page), "<textarea")
        Ticket.objects.update(published_at=noon, faq_id=7)
        self.assertContains(self.client.get(page), "In the FAQ as question 7, since 2 January 2026, 12:00 UTC.")

    def test_the_list_is_newest_first_and_paged(self) -> None:
        ids = [Ticket.objects.create(question=f"q{n}").pk for n in range(45)][::-1]
        for query, shown in (("", ids[:20]), ("?page=2", ids[20:40]), ("?page=3", ids[40:])):
            page = self.client.get(f"/{query}").content.decode()
            self.assertEqual([int(pk) for pk in re.findall(r'href="/tickets/(\d+)"', page)], shown)
        self.assertEqual(self.client.get("/?page=4").status_code, 404)
        with self.assertNumQueries(2):
            self.client.get("/")

    def test_what_cannot_be_saved_is_shown_again_with_the_reason(self) -> None:
        ticket = Ticket.objects.create(question="q")
        missing = "This field is required."
        cases = [
            ("/tickets/new", "question", " ", 200, missing),
            ("/tickets/new", "question", "q" * 501, 200, "Ensure this value has at most 500 characters (it has 501)."),
            ("/tickets/new", "question", "a\0b", 200, "Null characters are not allowed."),
            (f"/tickets/{ticket.pk}/answer", "answer", "", 400, missing),
            (f"/tickets/{ticket.pk}/answer", "answer", "a" * 5001, 400, "at most 5000 characters (it has 5001)."),
        ]
        for path, field, text, status, reason in cases:
            with self.subTest(path=path, text=text[:5]):
                self.assertContains(self.client.post(path, {field: text}), reason, status_code=status)
        self.assertEqual(list(Ticket.objects.values_list("question", "answered_at")), [("q", None)])

    def test_a_ticket_that_is_not_there_is_a_404(self) -> None:
        for pk in (0, 1, 2**63, 10**30):
            self.assertEqual(self.client.get(f"/tickets/{pk}").status_code, 404)
            self.assertEqual(self.client.post(f"/tickets/{pk}/answer", {"answer": "a"}).status_code, 404)

    def test_a_form_from_elsewhere_is_refused(self) -> None:
        client = Client(enforce_csrf_checks=True)
        self.assertEqual(client.post("/tickets/new", {"question": "q"}).status_code, 403)
        self.assertFalse(Ticket.objects.exists())


class AnswerTest(TransactionTestCase):
    def setUp(self) -> None:
        forget_jobs()
        self.addCleanup(forget_jobs)
        self.ticket = Ticket.objects.create(question="q")

    def answer(self, text: str = "a"):
        return Client().post(f"/tickets/{self.ticket.pk}/answer", {"answer": text}, follow=True)

    def test_racing_answers_save_one_and_enqueue_one_job(self) -> None:
        def answer(n: int) -> tuple[str, bool]:
            try:
                return f"answer {n}", "Your answer is saved." in self.answer(f"answer {n}").content.decode()
            finally:
                connection.close()

        with ThreadPoolExecutor(8) as pool:
            with held_up(tickets_database_url(), "helpdesk_ticket") as until_waiting:
                answers = [pool.submit(answer, n) for n in range(8)]
                until_waiting(8)
            saved = [text for text, won in (answered.result() for answered in answers) if won]
        self.ticket.refresh_from_db()
        self.assertEqual(saved, [self.ticket.answer])
        self.assertEqual(queue.llen("celery"), 1)

    def test_a_second_answer_is_refused_and_says_so(self) -> None:
        self.answer("first")
        self.assertContains(self.answer("second"), "This ticket was answered already; your answer was not saved.")
        self.ticket.refresh_from_db()
        self.assertEqual(self.ticket.answer, "first")

    def test_the_job_is_enqueued_after_the_commit_and_never_without_it(self) -> None:
        with self.assertRaises(KeyError), transaction.atomic():
            self.answer()
            raise KeyError
        self.assertEqual(queue.llen("celery"), 0)
        with transaction.atomic():
            self.answer()
            self.assertEqual(queue.llen("celery"), 0)
        self.assertEqual(queue.llen("celery"), 1)


class ProcessTest(TransactionTestCase):
    """What takes the processes of both apps."""

    def setUp(self) -> None:
        forget_jobs()
        self.addCleanup(forget_jobs)

    def start(self, process_type: str, app: Path = TICKETS, **config: str) -> Process:
        if app == TICKETS:
            of_tickets = {"SECRET_KEY": "tickets", "ALLOWED_HOSTS": "tickets.example", "FAQ_API": FAQ_API}
            stores = {"DATABASE_URL": tickets_database_url(), "REDIS_URL": os.environ["REDIS_URL"]}
            config = of_tickets | stores | config
        process = Process(app, process_type, config)
        self.addCleanup(process.discard)
        return process

    def start_web(self, app: Path, port: int, **config: str) -> Process:
        def healthy() -> bool:
            try:
                return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5).ok
            except requests.ConnectionError:
                return False

        web = self.start("web", app, PORT=str(port), **config)
        until(f"{web.name} is healthy", healthy)
        return web

    def start_faq(self) -> Process:
        return self.start_web(FAQ, FAQ_PORT, **faq_config())

    def start_worker(self, **config: str) -> Process:
        worker = self.start("worker", **config)
        worker.says("ready.")
        return worker

    def answered(self) -> Ticket:
        """A ticket that was just answered, its job enqueued."""
        ticket = Ticket.objects.create(question="Where is the salt? 🧂")
        Client().post(f"/tickets/{ticket.pk}/answer", {"answer": "a"})
        return ticket

    def until_published(self, *tickets: Ticket) -> None:
        """Wait until the tickets are noted as published, and hold what the FAQ has against them: each once."""
        pks = [ticket.pk for ticket in tickets]
        until(f"published: {pks}", lambda: not Ticket.objects.filter(pk__in=pks, published_at=None).exists())
        for ticket in Ticket.objects.filter(pk__in=pks):
            self.assertEqual(self.in_faq(ticket), [(ticket.faq_id, ticket.question)])

    def publish_by_hand(self, number: int) -> None:
        said = StringIO()
        call_command("publish", stdout=said)
        self.assertEqual(said.getvalue(), f"enqueued: {number}\n")

    def in_faq(self, ticket: Ticket) -> list[tuple[int, str]]:
        questions = requests.get(f"{FAQ_API}/questions", {"limit": 100}, timeout=10).json()["questions"]
        return [(shown["id"], shown["question"]) for shown in questions if shown["source"] == ticket.source]


class HelpdeskTest(ProcessTest):
    def test_a_ticket_opened_and_answered_in_a_browser_is_in_the_faq(self) -> None:
        self.start_faq()
        port = unused_port()
        processes = [self.start_web(TICKETS, port), self.start_worker(), self.start_worker()]
        site = f"http://127.0.0.1:{port}"
        browser = requests.Session()
        browser.headers.update({"Host": "tickets.example", "Origin": "http://tickets.example"})

        def submit(page: requests.Response, path: str, **fields: str) -> requests.Response:
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
            return browser.post(site + path, {"csrfmiddlewaretoken": token, **fields}, timeout=10)

        shown = submit(browser.get(f"{site}/tickets/new", timeout=10), "/tickets/new", question="Where is the salt? 🧂")
        self.assertIn("Your ticket is open.", shown.text)
        path = urlsplit(shown.url).path
        answered = submit(shown, f"{path}/answer", answer="On the table.")
        self.assertIn("Your answer is saved.", answered.text)
        until("the page tells of the FAQ", lambda: "In the FAQ as" in browser.get(site + path, timeout=10).text)
        self.until_published(Ticket.objects.get())
        self.assertEqual([process.stop() for process in processes], [0, 0, 0])

    def test_an_answer_is_saved_while_redis_is_gone_or_silent_and_published_by_hand(self) -> None:
        self.start_faq()
        self.addCleanup(queue.client_unpause)
        for redis_url, silent in ((f"redis://127.0.0.1:{unused_port()}", False), (os.environ["REDIS_URL"], True)):
            with self.subTest(silent=silent):
                port = unused_port()
                self.start_web(TICKETS, port, REDIS_URL=redis_url, ALLOWED_HOSTS="127.0.0.1")
                ticket = Ticket.objects.create(question="q")
                page = f"http://127.0.0.1:{port}/tickets/{ticket.pk}"
                browser = requests.Session()
                token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', browser.get(page, timeout=10).text)[1]
                if silent:
                    queue.client_pause(timeout=PATIENCE * 1000, all=False)
                fields = {"csrfmiddlewaretoken": token, "answer": "a"}
                self.assertIn("Your answer is saved.", browser.post(f"{page}/answer", fields, timeout=PATIENCE).text)
                queue.client_unpause()
                forget_jobs()
        self.publish_by_hand(2)
        self.start_worker()
        self.until_published(*Ticket.objects.all())


class WorkerTest(ProcessTest):
    def test_a_repeated_job_creates_one_question_and_keeps_the_first_note(self) -> None:
        self.start_faq()
        self.start_worker()
        ticket = self.answered()
        self.until_published(ticket)
        noted = Ticket.objects.get()
        Ticket.objects.update(published_at=None)
        for _ in range(5):
            publish.delay(ticket.pk)
        self.until_published(ticket)
        self.assertEqual(Ticket.objects.get().faq_id, noted.faq_id)

    def test_a_job_is_retried_until_the_faq_is_up(self) -> None:
        worker = self.start_worker()
        ticket = self.answered()
        worker.says("Retry in")
        self.start_faq()
        self.until_published(ticket)

    def test_a_job_that_waits_for_the_faq_outlives_its_worker(self) -> None:
        worker = self.start_worker()
        ticket = self.answered()
        worker.says("Retry in")
        self.assertEqual(worker.stop(), 0)
        self.start_faq()
        self.start_worker()
        self.until_published(ticket)

    def test_a_job_whose_worker_is_killed_is_done_by_another(self) -> None:
        self.start_faq()
        worker = self.start_worker()
        with faq_held_up() as until_waiting:
            ticket = self.answered()
            until_waiting(1)
            worker.kill()
        # The killed worker's request was carried out all the same: only the note on the ticket is missing.
        until("the FAQ has the question", lambda: self.in_faq(ticket))
        self.assertIsNone(Ticket.objects.get().published_at)
        # Longer than a worker takes to start: it looks once at its start, and must look again.
        self.start_worker(VISIBILITY_TIMEOUT="10")
        self.until_published(ticket)

    def test_a_job_whose_child_process_is_killed_is_done_again(self) -> None:
        self.start_faq()
        worker = self.start_worker()
        pid = worker.popen.pid
        with faq_held_up() as until_waiting:
            ticket = self.answered()
            until_waiting(1)
            (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            os.kill(int(child), signal.SIGKILL)
        self.until_published(ticket)

    def test_a_worker_told_to_stop_finishes_its_job_first(self) -> None:
        self.start_faq()
        worker = self.start_worker()
        with faq_held_up() as until_waiting:
            ticket = self.answered()
            until_waiting(1)
            worker.popen.terminate()
            worker.says("Warm shutdown")
        self.assertEqual(worker.popen.wait(PATIENCE), 0)
        self.assertIsNotNone(Ticket.objects.get().published_at)
        self.until_published(ticket)

    def test_a_busy_worker_leaves_the_other_jobs_to_the_others(self) -> None:
        self.start_faq()
        self.start_worker()
        with faq_held_up() as until_waiting:
            tickets = [self.answered()]
            until_waiting(1)
            tickets += [self.answered(), self.answered()]
            self.start_worker()
            until_waiting(2)
            self.assertEqual(queue.llen("celery"), 1)
        self.until_published(*tickets)

    def test_a_job_that_loses_its_database_is_done_again(self) -> None:
        self.start_faq()
        ticket = self.answered()
        with held_up(tickets_database_url(), "helpdesk_ticket") as until_waiting:
            worker = self.start_worker()
            (pid,) = until_waiting(1)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
            worker.says("Retry in")
        self.until_published(ticket)

    def test_a_question_the_faq_refuses_is_not_sent_again_until_told(self) -> None:
        self.start_faq()
        misled = self.start_worker(FAQ_API=FAQ_API.replace("/v1", "/v0"))
        ticket = self.answered()
        misled.says(f"FaqRefused: {ticket.source}: the FAQ answered 404")
        self.assertEqual(misled.stop(), 0)
        self.assertEqual((queue.llen("celery"), queue.hlen("unacked")), (0, 0))
        self.publish_by_hand(1)
        self.start_worker()
        self.until_published(ticket)


class HealthTest(TestCase):
    @override_settings(ALLOWED_HOSTS=["tickets.example"], SECURE_SSL_REDIRECT=True)
    def test_the_host_may_ask_for_127_0_0_1_over_http(self) -> None:
        client = Client(headers={"host": "127.0.0.1:8100"})
        response = client.get("/healthz")
        self.assertEqual((response.status_code, response.json()), (200, {"status": "ok"}))
        self.assertEqual(client.post("/healthz").status_code, 405)
        self.assertEqual(client.get("/", secure=True).status_code, 400)


def run(*arguments: str, **config: str) -> subprocess.CompletedProcess:
    """Python in the project, as a process of its own with this config."""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tickets_site.settings"} | config
    return subprocess.run([sys.executable, *arguments], cwd=TICKETS, env=environment, capture_output=True, text=True)


class ConfigTest(SimpleTestCase):
    def test_a_database_that_does_not_answer_is_a_503_without_secrets(self) -> None:
        ask = (
            "import django; django.setup(); from django.test import Client;"
            "answer = Client().get('/healthz'); print(answer.status_code, answer.content.decode())"
        )
        answer = run("-c", ask, DATABASE_URL="postgres://tickets:hunter2@127.0.0.1:1/tickets")
        self.assertIn('503 {"status": "unavailable", "reason": "The database does not answer."}', answer.stdout)
        self.assertNotIn("hunter2", answer.stdout + answer.stderr)

    def test_bad_config_is_one_line_that_names_the_variable_and_not_its_value(self) -> None:
        special = "with what is special in it percent-encoded"
        required = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "FAQ_API")
        cases = [
            (dict.fromkeys(required, ""), f"not set in the environment: {', '.join(required)}"),
            ({"REDIS_URL": "redis://:hunter2/@cache"}, f"REDIS_URL: expected a URL, redis://..., {special}"),
            ({"FAQ_API": "hunter2:8200/v1"}, f"FAQ_API: expected a URL, http://..., {special}"),
            ({"VISIBILITY_TIMEOUT": "hunter2"}, "VISIBILITY_TIMEOUT: expected a whole number of seconds"),
        ]
        entries = [
            ("manage.py", "check"),
            ("-m", "gunicorn", "tickets_site.wsgi", "--bind", "127.0.0.1:0"),
            ("-m", "celery", "-A", "tickets_site", "worker"),
        ]
        for config, message in cases:
            for entry in entries:
                with self.subTest(config=config, entry=entry):
                    ended = run(*entry, **config)
                    self.assertEqual((ended.returncode, ended.stdout, ended.stderr), (1, "", f"tickets: {message}\n"))

    def test_a_deploy_with_tls_has_nothing_to_warn_of(self) -> None:
        checks = run(
            "manage.py", "check", "--deploy", "--fail-level", "WARNING",
            SECRET_KEY="bGtWJ4w9uS0yXo3q-Kc7ZnRf2hTmEa8vPd5iLxBy1sQgUeNj6C",
            ALLOWED_HOSTS="tickets.example", SECURE_SSL_REDIRECT="1", SECURE_HSTS_SECONDS="3600",
        )  # fmt: skip
        self.assertEqual(checks.returncode, 0, checks.stderr)


class MigrationsTest(TestCase):
    def test_the_migrations_make_what_the_models_say(self) -> None:
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)

"""The helpdesk as it runs: the Procfile's processes with a real PostgreSQL, a real Redis and the real faq."""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import requests
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client, TransactionTestCase

from helpdesk.models import Ticket
from helpdesk.tasks import publish
from helpdesk.tests.processes import (
    FAQ,
    FAQ_API,
    FAQ_PORT,
    PATIENCE,
    TICKETS,
    Process,
    faq_config,
    faq_held_up,
    forget_jobs,
    held_up,
    make_faq,
    queue,
    tickets_database_url,
    until,
    unused_port,
)


def setUpModule() -> None:
    make_faq()


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
    """Tests with processes of both apps."""

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
        """A ticket that was just answered; its job is enqueued."""
        ticket = Ticket.objects.create(question="Where is the salt? 🧂")
        Client().post(f"/tickets/{ticket.pk}/answer", {"answer": "a"})
        return ticket

    def until_published(self, *tickets: Ticket) -> None:
        """Wait until the tickets are marked as published, and check that the FAQ has each of them once."""
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

"""The pages, the health endpoint and the config, without another process."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from django.core.management import call_command
from django.test import Client, SimpleTestCase, TestCase, override_settings

from helpdesk.models import Ticket

TICKETS = Path(__file__).resolve().parents[2]


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


class HealthTest(TestCase):
    @override_settings(ALLOWED_HOSTS=["tickets.example"], SECURE_SSL_REDIRECT=True)
    def test_the_host_may_ask_for_127_0_0_1_over_http(self) -> None:
        client = Client(headers={"host": "127.0.0.1:8100"})
        response = client.get("/healthz")
        self.assertEqual((response.status_code, response.json()), (200, {"status": "ok"}))
        self.assertEqual(client.post("/healthz").status_code, 405)
        self.assertEqual(client.get("/", secure=True).status_code, 400)


def run(*arguments: str, **config: str) -> subprocess.CompletedProcess:
    """Run Python in the project, as a process of its own with this config."""
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

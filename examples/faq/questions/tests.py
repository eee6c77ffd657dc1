"""The API with a real PostgreSQL. Every answer is checked against its OpenAPI document."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

from django.db import connection
from django.test import Client, RequestFactory, SimpleTestCase, TestCase, TransactionTestCase, override_settings
from openapi_core import OpenAPI
from openapi_core.contrib.django import DjangoOpenAPIRequest, DjangoOpenAPIResponse

from .models import MAX_QUESTION, MAX_SOURCE, Question

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = {version: OpenAPI.from_file_path(f"{ROOT}/openapi/v{version}.yaml") for version in (1, 2)}
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def run(*arguments: str, **config: str) -> subprocess.CompletedProcess:
    """Run Python in the project, as a process of its own with this config."""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "faq_site.settings"} | config
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


class ContractClient(Client):
    """A client that fails on an answer that its version's document does not describe."""

    def request(self, **environ):
        response = super().request(**environ)
        request = response.wsgi_request
        if response.status_code != HTTPStatus.METHOD_NOT_ALLOWED:
            version = int(request.path[2])
            CONTRACTS[version].validate_response(DjangoOpenAPIRequest(request), DjangoOpenAPIResponse(response))
        return response


class ApiTest(TestCase):
    client_class = ContractClient

    def create(self, version: int = 1, **fields):
        return self.client.post(f"/v{version}/create", json.dumps(fields), content_type=JSON)


class CreateTest(ApiTest):
    def test_a_form_and_a_json_object_create_the_same(self) -> None:
        form = self.client.post("/v1/create", "question=Why%3F&source=tickets%3A1", content_type=FORM)
        body = self.create(question="Why?", source="tickets:2")
        for response, source in ((form, "tickets:1"), (body, "tickets:2")):
            created = Question.objects.get(source=source)
            self.assertEqual(response.status_code, 201)
            self.assertEqual(response["Location"], f"/v1/questions/{created.pk}")
            self.assertEqual(response.json(), self.client.get(response["Location"]).json())
            self.assertEqual(
                {key: response.json()[key] for key in ("id", "question", "source")},
                {"id": created.pk, "question": "Why?", "source": source},
            )

    def test_the_same_question_from_the_same_source_is_created_once(self) -> None:
        first = self.create(question="Why?", source="tickets:1")
        again = self.create(question=" Why? ", source="tickets:1")
        self.assertEqual((first.status_code, again.status_code), (201, 200))
        self.assertEqual(first.json(), again.json())
        self.assertEqual(self.create(question="Why?", source="tickets:2").status_code, 201)
        self.assertEqual(self.create(question="How?", source="tickets:1").status_code, 201)

    def test_every_field_at_fault_is_named(self) -> None:
        required = "This field is required."
        cases = [
            ({}, {"question": required, "source": required}),
            ({"question": " ", "source": None}, {"question": required, "source": required}),
            ({"question": 5, "source": []}, dict.fromkeys(("question", "source"), "This must be a string.")),
            ({"question": "\ud800", "source": "s"}, {"question": "This is not valid Unicode text."}),
            ({"question": "a\0b", "source": "s"}, {"question": "Null characters are not allowed."}),
            (
                {"question": "q" * (MAX_QUESTION + 1), "source": "s"},
                {"question": "Ensure this value has at most 500 characters (it has 501)."},
            ),
        ]
        for fields, errors in cases:
            with self.subTest(errors=errors):
                response = self.create(**fields)
                self.assertEqual((response.status_code, response.json()), (400, {"errors": errors}))

    def test_a_body_that_is_neither_form_nor_json_object_is_refused(self) -> None:
        cases = [
            ("{", JSON, 400, "This is not JSON."),
            (b"\xff", JSON, 400, "This is not JSON."),
            ("[" * 100_000, JSON, 400, "This is not JSON."),
            ("[]", JSON, 400, "This must be a JSON object."),
            ("question: q", "text/yaml", 415, f"Send {FORM} or {JSON}."),
        ]
        for body, content_type, status, message in cases:
            with self.subTest(body=body[:20]):
                response = self.client.post("/v1/create", body, content_type=content_type)
                self.assertEqual((response.status_code, response.json()), (status, {"errors": {"body": message}}))

    def test_the_longest_texts_fit(self) -> None:
        fields = {"question": "🧂" * MAX_QUESTION, "source": "🧂" * MAX_SOURCE}
        self.assertEqual([self.create(**fields).status_code for _ in range(2)], [201, 200])


class RelatedTest(ApiTest):
    def setUp(self) -> None:
        self.ids = [Question.objects.create(question=f"q{n}", source="test").pk for n in range(3)]

    def test_related_comes_from_a_repeated_form_field_or_a_json_list(self) -> None:
        first, _, third = self.ids
        form = self.client.post("/v2/create", f"question=f&source=s&related={third}&related={first}", FORM)
        body = self.create(2, question="j", source="s", related=[third, first, first])
        without = self.create(2, question="n", source="s")
        for response, related in ((form, [first, third]), (body, [first, third]), (without, [])):
            self.assertEqual((response.status_code, response.json()["related"]), (201, related))
            self.assertEqual(self.client.get(response["Location"]).json(), response.json())

    def test_related_must_be_questions_that_exist(self) -> None:
        form = self.client.post("/v2/create", f"question=q&source=s&related=0&related={'9' * 5000}", FORM)
        self.assertEqual(form.json(), {"errors": {"related": "This must be a list of question ids."}})
        unknown = max(self.ids) + 1
        cases = [
            ([self.ids[0], unknown], f"There is no question {unknown}."),
            (self.ids[:1] * 51, "There can be at most 50 related questions."),
            *[
                (wrong, "This must be a list of question ids.")
                for wrong in (None, 1, "1", ["1"], [True], [1.5], [2**63])
            ],
        ]
        for related, message in cases:
            with self.subTest(related=related):
                response = self.create(2, question="q", source="s", related=related)
                self.assertEqual((response.status_code, response.json()), (400, {"errors": {"related": message}}))
        self.assertFalse(Question.objects.filter(source="s").exists())

    def test_a_repeated_create_leaves_related_as_it_was(self) -> None:
        self.create(2, question="q", source="s", related=self.ids)
        self.assertEqual(self.create(2, question="q", source="s").json()["related"], self.ids)

    def test_version_1_never_shows_related(self) -> None:
        created = self.create(2, question="q", source="s", related=self.ids).json()
        self.assertNotIn("related", self.client.get(f"/v1/questions/{created['id']}").json())
        self.assertNotIn("related", self.client.get("/v1/questions").json()["questions"][0])
        self.assertNotIn("related", self.create(1, question="q", source="s", related=[0]).json())


class ReadTest(ApiTest):
    def test_the_list_is_newest_first_and_paged(self) -> None:
        ids = [Question.objects.create(question=f"q{n}", source="test").pk for n in range(25)][::-1]
        for version in (1, 2):
            for query, shown in (("", ids[:20]), ("?limit=3", ids[:3]), ("?limit=3&offset=23", ids[23:])):
                with self.subTest(version=version, query=query):
                    page = self.client.get(f"/v{version}/questions{query}").json()
                    self.assertEqual([question["id"] for question in page["questions"]], shown)
                    self.assertEqual(page["total"], 25)

    def test_a_list_takes_the_same_queries_however_long_it_is(self) -> None:
        for n in range(5):
            Question.objects.create(question=f"q{n}", source="test").related.set(Question.objects.all())
        with self.assertNumQueries(3):
            self.client.get("/v2/questions")

    def test_limit_and_offset_are_bounded(self) -> None:
        for query in ("limit=0", "limit=101", "limit=ten", "offset=-1", f"offset={2**63}"):
            with self.subTest(query=query):
                response = self.client.get(f"/v1/questions?{query}")
                self.assertEqual((response.status_code, [*response.json()["errors"]]), (400, [query.split("=")[0]]))

    def test_what_is_not_there_is_a_404_in_json(self) -> None:
        for pk in (0, 1, 2**63):
            response = self.client.get(f"/v1/questions/{pk}")
            self.assertEqual((response.status_code, [*response.json()["errors"]]), (404, ["id"]))
        response = Client().get("/v3/create")
        self.assertEqual((response.status_code, [*response.json()["errors"]]), (404, ["path"]))

    def test_another_method_is_a_405_in_json(self) -> None:
        for method, path, allow in (
            ("get", "/v1/create", "POST, OPTIONS"),
            ("put", "/v2/questions", "GET, HEAD, OPTIONS"),
        ):
            response = getattr(self.client, method)(path)
            self.assertEqual((response.status_code, response["Allow"]), (405, allow))
            self.assertEqual([*response.json()["errors"]], ["method"])

    def test_the_openapi_documents_describe_what_both_versions_take(self) -> None:
        for version, body in (
            (1, {"question": "q", "source": "s"}),
            (2, {"question": "q", "source": "s", "related": [7]}),
        ):
            request = RequestFactory().post(f"/v{version}/create", json.dumps(body), content_type=JSON)
            CONTRACTS[version].validate_request(DjangoOpenAPIRequest(request))


class RaceTest(TransactionTestCase):
    def test_racing_clients_create_one_question(self) -> None:
        def create(_) -> int:
            try:
                return Client().post("/v1/create", {"question": "q", "source": "s"}, content_type=JSON).status_code
            finally:
                connection.close()

        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(create, range(16)))
        self.assertEqual(statuses, [200] * 15 + [201])
        self.assertEqual(Question.objects.count(), 1)


class HealthTest(TestCase):
    @override_settings(ALLOWED_HOSTS=["faq.example"], SECURE_SSL_REDIRECT=True)
    def test_the_host_may_ask_for_127_0_0_1_over_http(self) -> None:
        client = Client(headers={"host": "127.0.0.1:8200"})
        response = client.get("/healthz")
        self.assertEqual((response.status_code, response.json()), (200, {"status": "ok"}))
        self.assertEqual(client.post("/healthz").status_code, 405)
        self.assertEqual(client.get("/v1/questions", secure=True).status_code, 400)

    def test_a_database_that_does_not_answer_is_a_503_without_secrets(self) -> None:
        ask = (
            "import django; django.setup(); from django.test import Client;"
            "answer = Client().get('/healthz'); print(answer.status_code, answer.content.decode())"
        )
        answer = run("-c", ask, DATABASE_URL="postgres://faq:hunter2@127.0.0.1:1/faq")
        self.assertIn('503 {"status": "unavailable", "reason": "The database does not answer."}', answer.stdout)
        self.assertNotIn("hunter2", answer.stdout + answer.stderr)


class SettingsTest(SimpleTestCase):
    def test_bad_config_is_one_line_that_names_the_variable_and_not_its_value(self) -> None:
        url = "expected a URL, postgres://..., with what is special in it percent-encoded"
        cases = [
            ({"SECRET_KEY": "", "DATABASE_URL": ""}, "not set in the environment: SECRET_KEY, DATABASE_URL"),
            ({"DATABASE_URL": "mysql://faq:hunter2@db/faq"}, f"DATABASE_URL: {url}"),
            ({"DATABASE_URL": "postgres://faq:hunter2/@db/faq"}, f"DATABASE_URL: {url}"),
            ({"SECURE_HSTS_SECONDS": "hunter2"}, "SECURE_HSTS_SECONDS: expected a whole number of seconds"),
        ]
        for config, message in cases:
            for entry in (("manage.py", "check"), ("-m", "gunicorn", "faq_site.wsgi", "--bind", "127.0.0.1:0")):
                with self.subTest(config=config, entry=entry):
                    ended = run(*entry, **config)
                    self.assertEqual((ended.returncode, ended.stdout, ended.stderr), (1, "", f"faq: {message}\n"))

    def test_a_deploy_with_tls_has_nothing_to_warn_of(self) -> None:
        checks = run(
            "manage.py", "check", "--deploy", "--fail-level", "WARNING",
            SECRET_KEY="bGtWJ4w9uS0yXo3q-Kc7ZnRf2hTmEa8vPd5iLxBy1sQgUeNj6C",
            ALLOWED_HOSTS="faq.example", SECURE_SSL_REDIRECT="1", SECURE_HSTS_SECONDS="3600",
        )  # fmt: skip
        self.assertEqual(checks.returncode, 0, checks.stderr)

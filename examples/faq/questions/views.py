"""The JSON API: create a question, list them, read one."""

import json
from collections.abc import Mapping

from django.db import transaction
from django.db.models import QuerySet
from django.forms import Form
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views import View

from .errors import Refused, error_response
from .forms import PageForm, QuestionForm, RelatedQuestionForm
from .models import Question

DEFAULT_LIMIT = 20


def submitted(request: HttpRequest) -> Mapping[str, object]:
    """The fields of the request's body, form-encoded or a JSON object."""
    if request.content_type == "application/x-www-form-urlencoded":
        return request.POST
    if request.content_type != "application/json":
        raise Refused(415, body="Send application/x-www-form-urlencoded or application/json.")
    try:
        fields = json.loads(request.body)
    except (ValueError, RecursionError):
        raise Refused(400, body="This is not JSON.") from None
    if not isinstance(fields, dict):
        raise Refused(400, body="This must be a JSON object.")
    return fields


def checked(form: Form) -> dict:
    """Return the form's values, or refuse and name every wrong field."""
    if not form.is_valid():
        raise Refused(400, **{field: messages[0] for field, messages in form.errors.items()})
    return form.cleaned_data


class Resource(View):
    """One resource of the API in one version. Version 1 never shows `related`."""

    version = 1

    def dispatch(self, request: HttpRequest, *args, **kwargs) -> HttpResponse:
        try:
            return super().dispatch(request, *args, **kwargs)
        except Refused as refused:
            return error_response(refused.status, **refused.errors)

    def http_method_not_allowed(self, request: HttpRequest, *args, **kwargs) -> HttpResponse:
        allow = super().http_method_not_allowed(request, *args, **kwargs)["Allow"]
        response = error_response(405, method=f"{request.method} is not allowed here, only {allow}.")
        response["Allow"] = allow
        return response

    def questions(self) -> QuerySet[Question]:
        return Question.objects.prefetch_related("related") if self.version > 1 else Question.objects.all()

    def represent(self, question: Question) -> dict:
        """The question as this version shows it."""
        shown = {
            "id": question.pk,
            "question": question.question,
            "source": question.source,
            "created_at": question.created_at,
        }
        if self.version > 1:
            shown["related"] = sorted(related.pk for related in question.related.all())
        return shown


class Create(Resource):
    """Create a question, or answer with the existing one."""

    def post(self, request: HttpRequest) -> JsonResponse:
        form = RelatedQuestionForm if self.version > 1 else QuestionForm
        fields = checked(form(submitted(request)))
        related = fields.pop("related", [])
        with transaction.atomic():
            question, created = Question.objects.get_or_create(**fields)
            if created:
                question.related.set(related)
        return JsonResponse(
            self.represent(question),
            status=201 if created else 200,
            headers={"Location": reverse(f"v{self.version}:question", args=[question.pk])},
        )


class QuestionList(Resource):
    """Answer with a page of the questions, newest first."""

    def get(self, request: HttpRequest) -> JsonResponse:
        page = checked(PageForm(request.GET))
        limit = page["limit"] or DEFAULT_LIMIT
        offset = page["offset"] or 0
        questions = self.questions()
        return JsonResponse(
            {
                "questions": [self.represent(question) for question in questions[offset : offset + limit]],
                "total": questions.count(),
                "limit": limit,
                "offset": offset,
            }
        )


class QuestionDetail(Resource):
    """One question by its id."""

    def get(self, request: HttpRequest, pk: int) -> JsonResponse:
        question = self.questions().filter(pk=pk).first()
        if question is None:
            raise Refused(404, id=f"There is no question {pk}.")
        return JsonResponse(self.represent(question))

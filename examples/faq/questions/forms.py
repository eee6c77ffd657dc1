"""The fields that a client may send. The same form checks a form-encoded body and a JSON object."""

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict

from .models import MAX_QUESTION, MAX_SOURCE, Question

MAX_RELATED = 50
MAX_ID = 2**63 - 1
MAX_OFFSET = 2**31 - 1


def validate_encodable(value: str) -> None:
    """Refuse half of a surrogate pair: JSON can spell one, no database can store it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError("This is not valid Unicode text.") from None


class TextField(forms.CharField):
    """Text that must be sent as text: a JSON number is not converted to a string."""

    default_validators = [validate_encodable]

    def to_python(self, value: object) -> str:
        if value is not None and not isinstance(value, str):
            raise ValidationError("This must be a string.")
        return super().to_python(value)


class IdListInput(forms.SelectMultiple):
    """Ids as numbers: a form repeats the field for each id, JSON has a list."""

    def value_from_datadict(self, data, files, name):
        if isinstance(data, QueryDict):
            return [int(value) if value.isdecimal() and len(value) < 20 else value for value in data.getlist(name)]
        return data.get(name, [])


class RelatedField(forms.Field):
    """Questions by their ids, each of which must exist."""

    widget = IdListInput

    def to_python(self, value: object) -> list[Question]:
        if not isinstance(value, list) or not all(type(pk) is int and 0 < pk <= MAX_ID for pk in value):
            raise ValidationError("This must be a list of question ids.")
        if len(value) > MAX_RELATED:
            raise ValidationError(f"There can be at most {MAX_RELATED} related questions.")
        found = Question.objects.in_bulk(value)
        if unknown := sorted(set(value) - set(found)):
            raise ValidationError(f"There is no question {', '.join(map(str, unknown))}.")
        return list(found.values())


class QuestionForm(forms.Form):
    """A question as version 1 takes it."""

    question = TextField(max_length=MAX_QUESTION)
    source = TextField(max_length=MAX_SOURCE)


class RelatedQuestionForm(QuestionForm):
    """A question as version 2 takes it."""

    related = RelatedField(required=False)


class PageForm(forms.Form):
    """Which part of a list is asked for."""

    limit = forms.IntegerField(min_value=1, max_value=100, required=False)
    offset = forms.IntegerField(min_value=0, max_value=MAX_OFFSET, required=False)

"""What the FAQ holds."""

from django.db import models

MAX_QUESTION = 500
MAX_SOURCE = 150


class Question(models.Model):
    """A question worth keeping, and where it came from.

    The unique constraint is what makes a repeated create harmless, however many clients race. Its index holds
    both texts, so their lengths together must stay within PostgreSQL's 2704 bytes at four bytes a character.
    """

    question = models.CharField(max_length=MAX_QUESTION)
    source = models.CharField(max_length=MAX_SOURCE)
    related = models.ManyToManyField("self", symmetrical=False, related_name="+", blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["question", "source"], name="question_once_per_source")]

    def __str__(self) -> str:
        return self.question

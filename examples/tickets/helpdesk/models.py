"""What the helpdesk keeps."""

from django.db import models
from django.urls import reverse


class TicketQuerySet(models.QuerySet):
    def unpublished(self) -> "TicketQuerySet":
        """Tickets that are answered but not yet in the FAQ."""
        return self.filter(answered_at__isnull=False, published_at__isnull=True)


class Ticket(models.Model):
    """Somebody's question, our answer, and whether the FAQ has the question. It is answered once."""

    question = models.CharField(max_length=500)
    answer = models.TextField(max_length=5000, blank=True)
    opened_at = models.DateTimeField(auto_now_add=True)
    answered_at = models.DateTimeField(null=True, editable=False)
    published_at = models.DateTimeField(null=True, editable=False)
    faq_id = models.BigIntegerField("id in the FAQ", null=True, editable=False)

    objects = TicketQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.question

    def get_absolute_url(self) -> str:
        return reverse("ticket", args=[self.pk])

    @property
    def source(self) -> str:
        """The name of this ticket in the FAQ, the same at every attempt to publish it."""
        return f"tickets:{self.pk}"

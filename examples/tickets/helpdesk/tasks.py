"""What the worker processes do."""

import logging

import requests
from celery import shared_task
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from .models import Ticket

logger = logging.getLogger(__name__)

CONNECT_AND_READ_TIMEOUT = (3.05, 10)
LONGEST_PAUSE = 30


class FaqRefused(Exception):
    """The FAQ refuses this question, and another attempt would not help."""


@shared_task(
    autoretry_for=(requests.RequestException, OperationalError, InterfaceError),
    max_retries=None,
    retry_backoff=True,
    retry_backoff_max=LONGEST_PAUSE,
)
def publish(ticket_id: int) -> None:
    """Create an answered ticket's question in the FAQ, and note on the ticket that it is there.

    Tries until the FAQ and our database answer. May run any number of times, also at once: the FAQ creates one
    question per source, and the ticket keeps the first note.
    """
    ticket = Ticket.objects.get(pk=ticket_id)
    if ticket.published_at:
        return
    response = requests.post(
        f"{settings.FAQ_API}/create",
        data={"question": ticket.question, "source": ticket.source},
        timeout=CONNECT_AND_READ_TIMEOUT,
        allow_redirects=False,
    )
    if response.status_code == requests.codes.too_many_requests or response.status_code >= 500:
        response.raise_for_status()
    if response.status_code not in (requests.codes.created, requests.codes.ok):
        raise FaqRefused(f"{ticket.source}: the FAQ answered {response.status_code}: {response.text[:500]}")
    Ticket.objects.filter(pk=ticket_id).unpublished().update(faq_id=response.json()["id"], published_at=timezone.now())
    logger.info("%s is in the FAQ", ticket.source)

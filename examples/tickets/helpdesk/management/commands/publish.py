"""`manage.py publish`: publish answered tickets that are not in the FAQ, for example after Redis was lost."""

from django.core.management import BaseCommand

from helpdesk import tasks
from helpdesk.models import Ticket


class Command(BaseCommand):
    help = "Enqueue every answered ticket that is not in the FAQ. Running it twice does no harm."

    def handle(self, *args, **options) -> None:
        ids = Ticket.objects.unpublished().values_list("pk", flat=True)
        for pk in ids:
            tasks.publish.delay(pk)
        self.stdout.write(f"enqueued: {len(ids)}")

"""The pages: list, open, show and answer tickets."""

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views import View
from django.views.generic import CreateView, DetailView, ListView

from .forms import AnswerForm, TicketForm
from .models import Ticket
from .tasks import publish


class TicketList(ListView):
    """All tickets, newest first."""

    model = Ticket
    paginate_by = 20


class OpenTicket(CreateView):
    """Open a ticket."""

    model = Ticket
    form_class = TicketForm

    def form_valid(self, form: TicketForm) -> HttpResponse:
        response = super().form_valid(form)
        messages.success(self.request, "Your ticket is open. Come back to this page for the answer.")
        return response


class ShowTicket(DetailView):
    """One ticket, and the form to answer it while it is open."""

    model = Ticket
    extra_context = {"form": AnswerForm()}


class AnswerTicket(View):
    """Answer a ticket, once, and have a worker publish it in the FAQ."""

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        with transaction.atomic():
            ticket = get_object_or_404(Ticket.objects.select_for_update(), pk=pk)
            if ticket.answered_at:
                messages.error(request, "This ticket was answered already; your answer was not saved.")
                return redirect(ticket)
            form = AnswerForm(request.POST, instance=ticket)
            if not form.is_valid():
                return render(request, "helpdesk/ticket_detail.html", {"ticket": ticket, "form": form}, status=400)
            form.instance.answered_at = timezone.now()
            form.save()
            # The answer is saved even if Redis cannot be reached. The log tells, and `manage.py publish` publishes it
            # later.
            transaction.on_commit(lambda: publish.delay(pk), robust=True)
        messages.success(request, "Your answer is saved. The question is on its way into the FAQ.")
        return redirect(ticket)

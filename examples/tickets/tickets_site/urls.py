"""The pages of the helpdesk."""

from django.urls import path

from helpdesk import views

urlpatterns = [
    path("", views.TicketList.as_view(), name="tickets"),
    path("tickets/new", views.OpenTicket.as_view(), name="open"),
    path("tickets/<int:pk>", views.ShowTicket.as_view(), name="ticket"),
    path("tickets/<int:pk>/answer", views.AnswerTicket.as_view(), name="answer"),
]

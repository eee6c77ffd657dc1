"""What people write into the helpdesk."""

from django import forms

from .models import Ticket


class TicketForm(forms.ModelForm):
    """A new ticket."""

    class Meta:
        model = Ticket
        fields = ["question"]
        labels = {"question": "Your question"}
        help_texts = {"question": "At most 500 characters. Leave out names and passwords: it may appear in the FAQ."}
        widgets = {"question": forms.Textarea(attrs={"rows": 4})}


class AnswerForm(forms.ModelForm):
    """The answer to a ticket."""

    answer = forms.CharField(max_length=5000, label="Your answer", widget=forms.Textarea(attrs={"rows": 6}))

    class Meta:
        model = Ticket
        fields = ["answer"]

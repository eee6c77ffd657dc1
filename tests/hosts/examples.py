"""The example apps as their users see them, and the settings of hosts that run them."""

import re
import time

from lab import Host
from tests.hosts.client import Client

EXAMPLES = ("faq", "tickets")
# Their roles, in an order in which a host can get one after the other.
ROLES = ("proxy", "cache", "database", "app")
# Passwords that two hosts must share. A host with all roles derives them from its own key.
PASSWORDS = {
    "postgres": {"databases": {app: {"password": f"{app}-0123456789-0123456789"} for app in EXAMPLES}},
    "redis": {"instances": {"tickets": {"password": "tickets-0123456789-0123456789"}}},
}
# States that a change of other apps changes too. supervisor's unit names the services that the apps attach.
UNITS = {"supervisor-unit", "supervisor-unit-read"}
# The databases share PostgreSQL's connections equally.
SHARES = {f"postgres-attachment-{app}" for app in EXAMPLES}


def serves(host: Host) -> bool:
    """Tell whether both apps answer through nginx."""
    return all(Client(host.address, f"{app}.localhost").get("/healthz").status_code == 200 for app in EXAMPLES)


def wait_until_served(host: Host) -> None:
    """Wait until both apps answer."""
    deadline = time.monotonic() + 60
    while not serves(host):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def answered_ticket(tickets: Client, question: str) -> str:
    """Open a ticket and answer it; return its number."""
    path = tickets.submit("/tickets/new", "/tickets/new", question=question)
    number = re.fullmatch("/tickets/([0-9]+)", path)[1]
    tickets.submit(path, f"{path}/answer", answer="Because.")
    return number


def published(faq: Client, source: str) -> dict:
    """Wait until the FAQ has a question from a source, and return it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [one for one in faq.get("/v1/questions?limit=100").json()["questions"] if one["source"] == source]
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"the FAQ has no question from {source} after 60 s")

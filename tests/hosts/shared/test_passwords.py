"""Passwords are replaced while jobs come in, and no job is lost."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hosts.applied import apply
from tests.hosts.client import Client

pytestmark = pytest.mark.alike

ROTATED = {
    "postgres": {"databases": {"tickets": {"password": "rotated-0123456789-abcdef"}}},
    "redis": {"instances": {"tickets": {"password": "rotated-redis-0123456789"}}},
}


def test_no_job_is_lost_during_a_switch_to_other_passwords_and_back(host, pillar):
    tickets, faq = Client(host.address, "tickets.localhost"), Client(host.address, "faq.localhost")
    before = int(host.sh("readlink /srv/apps/tickets/current").stdout.strip().removeprefix("releases/"))
    numbers, stop = [], threading.Event()

    def answer():
        while not stop.is_set():
            path = tickets.submit("/tickets/new", "/tickets/new", question=f"Job {len(numbers)}?")
            tickets.submit(path, f"{path}/answer", answer="Done.")
            numbers.append(path.rpartition("/")[2])

    with ThreadPoolExecutor() as pool:
        answering = pool.submit(answer)
        try:
            time.sleep(2)
            pillar.merge(app={"tickets": {"config": {"WEB_THREADS": "5"}}}, **ROTATED)
            states = {f"redis-{state}-tickets" for state in ("users", "admitted")} | {"postgres-attachment-tickets"}
            assert apply(host).succeeded().changed == states | {
                "app-release-tickets",
                "postgres-retired",
                "redis-retired",
            }
            time.sleep(2)
            # The earlier release's passwords no longer work, so the rollback gives it today's.
            host.salt("release.rollback", "tickets")
            apply(host).changed_nothing()
            time.sleep(1)
            host.salt("release.unhold", "tickets")
            apply(host).succeeded()
        finally:
            stop.set()
        answering.result()
    after = int(host.sh("readlink /srv/apps/tickets/current").stdout.strip().removeprefix("releases/"))
    assert after == before + 2
    assert len(numbers) > 5
    wanted = {f"tickets:{number}" for number in numbers}
    deadline = time.monotonic() + 120
    while wanted:
        assert time.monotonic() < deadline, f"{len(wanted)} of {len(numbers)} jobs are not done"
        for offset in range(0, len(numbers) + 100, 100):
            page = faq.get(f"/v1/questions?limit=100&offset={offset}").json()["questions"]
            wanted -= {question["source"] for question in page}
        time.sleep(0.2)
    pillar.merge(
        app={"tickets": {"config": {"WEB_THREADS": None}}}, postgres={"databases": None}, redis={"instances": None}
    )
    apply(host).succeeded()

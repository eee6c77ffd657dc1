"""An app whose worker gets jobs from RabbitMQ: ``python courier.py NAME SECONDS [NAME SECONDS …]`` queues them."""

import os
import ssl
import sys
import time

from celery import Celery

app = Celery("courier", broker=os.environ["CELERY_BROKER_URL"])
# As formulas/rabbitmq/README.md says.
app.conf.broker_use_ssl = {
    "ca_certs": "/etc/ssl/saltern/ca.pem",
    "cert_reqs": ssl.CERT_REQUIRED,
    "server_hostname": None,
}
app.conf.update(task_default_queue_type="quorum", task_default_exchange_type="topic")
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1)
app.conf.broker_transport_options = {"confirm_publish": True}


@app.task
def deliver(name, seconds):
    """Do a job that takes a while."""
    print(f"{name} begins", file=sys.__stderr__, flush=True)
    time.sleep(seconds)
    print(f"{name} is done", file=sys.__stderr__, flush=True)


if __name__ == "__main__":
    jobs = iter(sys.argv[1:])
    for name, seconds in zip(jobs, jobs, strict=True):
        deliver.delay(name, float(seconds))

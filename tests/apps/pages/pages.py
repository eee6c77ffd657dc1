"""An app that caches pages: ``python pages.py CLIENT COMMAND [WORD ...]`` asks with Django's client or pymemcache."""

import json
import os
import signal
import sys

import pymemcache
from cache import CACHE, context
from django.conf import settings
from django.core.cache import cache as django

settings.configure(
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
            "LOCATION": f"{CACHE.hostname}:{CACHE.port}",
            "OPTIONS": {"tls_context": context, "timeout": 10, "connect_timeout": 10},
        }
    }
)


def fill(client, megabytes):
    """Store megabytes of pages; return how many are there, how many bytes they take, and the limit."""
    for index in range(2 * megabytes):
        client.set(f"page-{index}", os.urandom(500_000))
    said = {key.decode(): value for key, value in client.stats().items()}
    there = sum(client.get(f"page-{index}") is not None for index in range(2 * megabytes))
    return [there, said["bytes"], said["limit_maxbytes"], said["evictions"]]


def asked(client, command, *words):
    """Ask the cache with one of the two clients."""
    if client == "django":
        return getattr(django, command)(*words)
    plain = pymemcache.Client((CACHE.hostname, CACHE.port), tls_context=context, timeout=30, encoding="utf-8")
    if command == "fill":
        return fill(plain, int(words[0]))
    if command == "limit":
        return plain.cache_memlimit(int(words[0]))
    found = getattr(plain, command)(*words)
    return found.decode() if isinstance(found, bytes) else found


if __name__ == "__main__":
    if sys.argv[1:]:
        try:
            print(json.dumps(asked(*sys.argv[1:])))
        except Exception as error:
            print(json.dumps(f"{type(error).__name__}: {error}"))
    else:
        django.set("worker", os.getpid(), None)
        # As a worker, it waits until it is ended.
        signal.sigwait([signal.SIGTERM])

"""An app that answers with what it has received: its environment, requests, WebSocket messages.

Its config can make it fail in every way in which a release can fail.
"""

import asyncio
import atexit
import base64
import json
import os
import signal
import sys
import time
import urllib.parse

FAIL = os.environ.get("FAIL", "")

if FAIL == "boot" and sys.argv[1:] != ["release"]:
    # Contains control sequences that would clear a terminal, as text and as bytes that are no text.
    atexit.register(os.write, 2, b"\x1b[2J\x9b31m\n")
    raise ImportError("mirror was told to fail at its boot")


async def app(scope, receive, send):
    """An ASGI application; https://asgi.readthedocs.io/en/stable/specs/www.html."""
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["type"] == "http":
        await answer(scope, receive, send)


async def echo(receive, send):
    """Send back what a WebSocket brings."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def download(count, send):
    """Send so many megabytes, one every tenth of a second."""
    headers = [(b"content-type", b"application/octet-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(count):
        await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
        await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b""})


async def answer(scope, receive, send):
    """Answer a request in JSON."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    status, shown = 200, {"pid": os.getpid(), "port": os.environ.get("PORT")}
    match scope["path"]:
        case "/healthz":
            status = {"health": 503, "redirect": 302}.get(FAIL, 200)
        case "/live/healthz":
            status = 503 if FAIL == "live" else 200
        case "/v1/pid":
            pass
        case "/environ":
            shown["environ"] = {name.decode(): base64.b64encode(value).decode() for name, value in os.environb.items()}
        case "/request" | "/live/request":
            shown |= {"path": scope["raw_path"].decode()}
            shown |= {"method": scope["method"], "query": scope["query_string"].decode(), "size": size}
            shown["headers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
        case "/say":
            print(urllib.parse.unquote(scope["query_string"].decode()), flush=True)
        case "/slow":
            await asyncio.sleep(float(scope["query_string"].decode()))
        case "/cookie":
            cookie = f"session={'x' * int(scope['query_string'])}".encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"set-cookie", cookie)]})
            return await send({"type": "http.response.body", "body": b""})
        case "/events":
            return await events(send)
        case "/download":
            return await download(int(scope["query_string"]), send)
        case "/large":
            shown["text"] = "saltern " * 1000
        case _:
            status = 404
    body = json.dumps(shown).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"location", b"https://mirror.example.com/login?next=/healthz")] if status == 302 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def events(send):
    """Send three events, a second apart, and say nothing of buffers."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for number in range(3):
        await send({"type": "http.response.body", "body": f"data: {number}\n\n".encode(), "more_body": True})
        await asyncio.sleep(1)
    await send({"type": "http.response.body", "body": b""})


def worker():
    """Log a line each second, or end."""
    if FAIL == "worker":
        time.sleep(0.5)
        sys.exit("mirror's worker was told to fail")
    while True:
        print("mirror's worker works", flush=True)
        time.sleep(1)


def beat():
    """Write down when this process runs, by a clock that the hosts of one machine share; end a second after SIGTERM."""
    ending = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(time.monotonic() + 1))
    with open(os.path.expanduser("~/beat"), "a", encoding="ascii") as stream:
        while not ending or time.monotonic() < ending[0]:
            print(f"{time.clock_gettime(time.CLOCK_BOOTTIME):.3f} {os.getpid()}", file=stream, flush=True)
            time.sleep(0.05)


def release():
    """Stands for a migration."""
    if FAIL == "release":
        sys.exit("mirror was told to fail in its release")
    print("mirror is released")


if __name__ == "__main__":
    {"worker": worker, "beat": beat, "release": release}[sys.argv[1]]()

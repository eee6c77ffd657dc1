"""A stand-in for a member of etcd: what its JSON gateway answers, with a clock that a test moves."""

import contextlib
import http.server
import json
import threading


class Store:
    """What the members know.

    :ivar time: seconds. :ivar keys: pairs of value and lease, by key. :ivar leases: TTL and expiry by number.
    :ivar asked: the methods that were asked, in order. :ivar lost: how many of the next answers are lost on the way.
    :ivar lag: called with the method once etcd has done what it was asked.
    """

    def __init__(self):
        self.time, self.keys, self.leases, self.asked, self.lost = 0.0, {}, {}, [], 0
        self.lag = lambda method: None
        self.cluster = "1"

    def pass_(self, seconds):
        self.time += seconds
        for number in [number for number, (_, end) in self.leases.items() if end <= self.time]:
            self._end(number)

    def _end(self, number):
        del self.leases[number]
        self.keys = {key: one for key, one in self.keys.items() if one[1] != number}

    def answer(self, method, question):
        return getattr(self, method.replace("/", "_"))(question)

    def kv_range(self, question):
        key = question["key"]
        if key not in self.keys:
            return {"header": {"cluster_id": self.cluster}}
        value, lease = self.keys[key]
        return {
            "header": {"cluster_id": self.cluster},
            "kvs": [{"key": key, "value": value, "lease": lease}],
            "count": "1",
        }

    def lease_grant(self, question):
        number = str(7587 + len(self.asked))
        self.leases[number] = (question["TTL"], self.time + question["TTL"])
        return {"header": {"cluster_id": self.cluster}, "ID": number, "TTL": str(question["TTL"])}

    def lease_keepalive(self, question):
        number = question["ID"]
        if number not in self.leases:
            return {"result": {"header": {"cluster_id": self.cluster}, "ID": number}}
        ttl, _ = self.leases[number]
        self.leases[number] = (ttl, self.time + ttl)
        return {"result": {"header": {"cluster_id": self.cluster}, "ID": number, "TTL": str(ttl)}}

    def lease_revoke(self, question):
        if question["ID"] not in self.leases:
            return {"error": "etcdserver: requested lease not found", "code": 5}
        self._end(question["ID"])
        return {"header": {"cluster_id": self.cluster}}

    def kv_txn(self, question):
        (compared,), key = question["compare"], question["compare"][0]["key"]
        if compared["target"] == "CREATE":
            holds = key not in self.keys
        else:
            holds = key in self.keys and self.keys[key][0] == compared["value"]
        if not holds:
            asked = question["failure"][0]["request_range"]
            return {"header": {"cluster_id": self.cluster}, "responses": [{"response_range": self.kv_range(asked)}]}
        put = question["success"][0]["request_put"]
        self.keys[key] = (put["value"], put.get("lease", "0"))
        return {"header": {"cluster_id": self.cluster}, "succeeded": True, "responses": [{"response_put": {}}]}


@contextlib.contextmanager
def member(store, address="127.0.0.1"):
    """Serve a store, and yield the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            method = self.path.removeprefix("/v3/")
            store.asked.append(method)
            answer = store.answer(method, question)
            store.lag(method)
            if store.lost:
                store.lost -= 1
                self.close_connection = True
                return
            body = json.dumps(answer).encode()
            self.send_response(404 if "error" in answer else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            return

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

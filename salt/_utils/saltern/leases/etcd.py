"""Leases of an environment: etcd, by the JSON gateway that each of its members has.

See https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/. Numbers of 64 bits come as text, keys and values as base64.
"""

import base64
import contextlib
import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from saltern.leases.base import Entry, Lease, Leases, Unreachable, judged, now

PORT = 2379
AUTHORITIES = "/etc/ssl/saltern/ca.pem"
# The key and the certificate by which root of this host is known to etcd.
CERTIFICATE = "/etc/ssl/saltern/etcd-client.pem"

# Seconds for one answer of one member. A member that has lost the others says so after some seconds.
TIMEOUT = 2.0

Answer = Mapping[str, Any]


class EtcdLease(Lease):
    """A lease of etcd's, to which a key is bound."""

    def __init__(self, etcd: "Etcd", number: str, ttl: int, deadline: float) -> None:
        self.etcd, self.number, self.ttl, self.deadline = etcd, number, ttl, deadline

    def renew(self) -> bool:
        """Renew it; see ``Lease.renew``."""
        # From before the question: etcd counts from later on.
        began = now()
        answer = self.etcd.ask("lease/keepalive", {"ID": self.number}).get("result", {})
        if int(answer.get("TTL", 0)) <= 0:
            return False
        self.deadline = began + self.ttl
        return True

    def give_back(self) -> None:
        """End it, and with it the key; see ``Lease.give_back``."""
        self.etcd.revoke(self.number)


class Etcd(Leases):
    """The leases and kept values of an app in an environment.

    :param app: the app's name.
    :param host: the id of this host.
    :param members: the addresses of the hosts with the role etcd, by id.
    :param apps: the ids of the environment's hosts with the role app.
    :param cluster: etcd's number of these members. Empty where any will do.
    :param port: at which each listens.
    :param scheme: ``http`` for an etcd without TLS.
    """

    def __init__(
        self,
        app: str,
        host: str,
        members: Mapping[str, str],
        apps: Sequence[str] = (),
        cluster: str = "",
        port: int = PORT,
        scheme: str = "https",
    ) -> None:
        self.app, self.host = app, host
        self.members, self.port, self.scheme = dict(members), port, scheme
        self.apps, self.cluster = list(apps), cluster
        # Who waits for a lease asks often: a new connection each time would keep both ends busy with TLS.
        self.open: http.client.HTTPConnection | None = None

    def take(self, name: str, ttl: int, value: str) -> Lease | None:
        """Take a lease; see ``Leases.take``."""
        key = self._key(name)
        # Who waits asks often: a question alone costs etcd no write to its disk.
        if self._found(self.ask("kv/range", {"key": key})):
            return None
        began = now()
        number = str(self.ask("lease/grant", {"TTL": ttl})["ID"])
        put = {"key": key, "value": _encoded(Entry(value, self.host).written()), "lease": number}
        try:
            answer = self._exchange(key, {"target": "CREATE", "result": "EQUAL", "create_revision": 0}, put)
        except Unreachable:
            # The key may be there by now, bound to a lease that nobody would give back.
            with contextlib.suppress(Unreachable):
                self.revoke(number)
            raise
        # A question that was asked twice may have been answered the first time.
        if answer.get("succeeded") or any(str(one.get("lease")) == number for one in self._after(answer)):
            return EtcdLease(self, number, ttl, began + ttl)
        with contextlib.suppress(Unreachable):
            self.revoke(number)
        return None

    def read(self, name: str) -> Entry | None:
        """Return what is noted under a name; see ``Leases.read``."""
        found = self._found(self.ask("kv/range", {"key": self._key(name)}))
        return Entry.parsed(_decoded(found[0].get("value", ""))) if found else None

    def advance(self, name: str, before: str | None, after: str) -> bool:
        """Replace a kept value; see ``Leases.advance``."""
        key = self._key(name)
        comparison: Answer = {"target": "CREATE", "result": "EQUAL", "create_revision": 0}
        if before is not None:
            comparison = {"target": "VALUE", "result": "EQUAL", "value": _encoded(Entry(before).written())}
        put = {"key": key, "value": _encoded(Entry(after).written())}
        # Asked once: the second answer would not tell who has replaced the value.
        return bool(self._exchange(key, comparison, put, again=False).get("succeeded"))

    def missing(self, name: str, is_clear: bool) -> list[str]:
        """Say that this host asks here, and list the app hosts that have not; see ``Leases.missing``."""
        agreed = f"agreed/{name}"
        if self.read(agreed):
            return []
        if not is_clear:
            return [self.host]
        self.advance(f"{agreed}/{self.host}", None, "")
        if missing := [host for host in self.apps if not self.read(f"{agreed}/{host}")]:
            return missing
        # Hosts that come from now on find it so.
        self.advance(agreed, None, "")
        return []

    def revoke(self, number: str) -> None:
        """End a lease. One that etcd does not know has ended.

        :param number: etcd's.
        :raises Unreachable: where no member answers.
        """
        self.ask("lease/revoke", {"ID": number})

    def _exchange(self, key: str, comparison: Answer, put: Answer, again: bool = True) -> Answer:
        """Put a value if a key is as expected, and otherwise read it."""
        asked = {
            "compare": [{"key": key, **comparison}],
            "success": [{"request_put": put}],
            "failure": [{"request_range": {"key": key}}],
        }
        return self.ask("kv/txn", asked, again)

    def _after(self, answer: Answer) -> Sequence[Answer]:
        """Return what an exchange that failed has read."""
        responses = answer.get("responses") or []
        return [found for one in responses for found in self._found(one.get("response_range", {}))]

    def _found(self, answer: Answer) -> Sequence[Answer]:
        found: Sequence[Answer] = answer.get("kvs") or []
        return found

    def _key(self, name: str) -> str:
        return _encoded(f"/saltern/{self.app}/{judged(name)}")

    def ask(self, method: str, question: Answer, again: bool = True) -> Answer:
        """Ask the members one after the other until one answers.

        :param method: such as ``kv/range``.
        :param question: what etcd takes there.
        :param again: whether a second member may be asked what the first one may have done.
        :return: what etcd answers, nothing where it knows no such lease.
        :raises Unreachable: where none answers.
        """
        # Taken while it is in use: a lease may be given back while an earlier question of another thread still waits.
        kept, self.open = self.open, None
        if kept:
            # The member may have been restarted since then. Then all are asked.
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                if again and "error" not in (answer := self._answer(kept, method, question)):
                    self.open = kept
                    return answer
            kept.close()
        reasons, known = dict[str, str](), self.members
        for member, address in list(known.items()):
            connection = self._connection(address)
            is_asked = False
            try:
                connection.connect()
                is_asked = True
                answer = self._answer(connection, method, question)
                if "error" not in answer or _is_missing(answer):
                    self.open = connection
                    return {} if "error" in answer else answer
                reasons[member] = str(answer.get("message") or answer["error"])[:200]
            except (OSError, http.client.HTTPException, ValueError) as error:
                reasons[member] = _reason(error)
            connection.close()
            # One that answers is asked first from now on.
            known[member] = known.pop(member)
            if is_asked and not again:
                break
        said = "; ".join(f"{member} ({known[member]}): {reason}" for member, reason in reasons.items())
        raise Unreachable(
            f"etcd does not answer: {said}; expected port {self.port} open from {self.host}, "
            "and etcd up on more than half of its hosts: see systemctl status etcd there"
        )

    def _answer(self, connection: http.client.HTTPConnection, method: str, question: Answer) -> Answer:
        answer = _answer(connection, method, question)
        found = (answer.get("header") or answer.get("result", {}).get("header") or {}).get("cluster_id", self.cluster)
        if self.cluster and str(found) != self.cluster:
            # While the environment gets other members, those of before still run.
            raise OSError(0, "is not one of these members alone: converge it")
        return answer

    def _connection(self, address: str) -> http.client.HTTPConnection:
        if self.scheme == "http":
            return http.client.HTTPConnection(address, self.port, timeout=TIMEOUT)
        # Read each time: a converge renews the certificate.
        return http.client.HTTPSConnection(address, self.port, timeout=TIMEOUT, context=_context())


def _context() -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=AUTHORITIES)
        context.load_cert_chain(CERTIFICATE)
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(
            f"{CERTIFICATE} or {AUTHORITIES}: cannot be read ({type(error).__name__}); expected this host's "
            "certificate: converge"
        ) from None
    return context


def _answer(connection: http.client.HTTPConnection, method: str, question: Answer) -> Answer:
    connection.request("POST", f"/v3/{method}", json.dumps(question), {"Content-Type": "application/json"})
    response = connection.getresponse()
    # The answer to `lease/keepalive` is a stream of lines: the first is what was asked for.
    answer = json.loads(response.readline() or b"{}")
    response.read()
    if not isinstance(answer, dict):
        raise ValueError("no JSON mapping")
    return answer if response.status == http.client.OK else {"error": f"status {response.status}"} | answer


def _is_missing(answer: Answer) -> bool:
    """Tell whether etcd answers that it knows no such lease."""
    return "requested lease not found" in str(answer.get("error", ""))


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:.0f} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused ({error.verify_message})"
    return getattr(error, "strerror", None) or type(error).__name__


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode("utf-8", "replace")

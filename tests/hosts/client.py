"""A client outside the hosts: what a person's browser or another company's program would do."""

import http.client
import re
import socket
import ssl
from collections.abc import Sequence

import requests
from requests.adapters import HTTPAdapter

from lab import Host

TIMEOUT = 30


def streams(address: str, domain: str, tls: bool = False, accept: str = "*/*") -> bool:
    """Ask for three events by HTTP/1.1; tell whether the first arrives before the last is sent.

    :param address: the host's.
    :param domain: the app's domain, whose ``/events`` is asked for.
    :param tls: ask by HTTPS; any certificate is accepted.
    :param accept: the header Accept: ``*/*`` as ``fetch`` and curl send, or ``text/event-stream`` as EventSource sends.
    """
    with socket.create_connection((address, 443 if tls else 80), timeout=TIMEOUT) as connection:
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(connection, server_hostname=domain)
        request = f"GET /events HTTP/1.1\r\nHost: {domain}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        said = b""
        while b"data: 0" not in said:
            part = connection.recv(4096)
            if not part:
                return False
            said += part
        return b"data: 2" not in said


def asked(
    host: Host, target: str, headers: Sequence[tuple[str, str]] = (), port: int = 80, domain: str | None = None
) -> tuple[int, bytes]:
    """Ask for a target exactly as it is written; return the status and the body.

    :param host: the host whose nginx is asked.
    :param target: the request's target, such as ``/`` or ``http://shop.example.com/``.
    :param headers: the request's only headers, each a name and a value.
    :param port: the port.
    :param domain: the domain to ask for by TLS, whatever its certificate; without it the request is plain HTTP.
    """
    connection = http.client.HTTPConnection(host.address, port, timeout=10)
    connection.connect()
    if domain:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection.sock = context.wrap_socket(connection.sock, server_hostname=domain)
    connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


class OfDomain(HTTPAdapter):
    """Connects to a host by its address, names one domain by TLS, and accepts that domain's certificate alone."""

    def __init__(self, domain: str):
        self.domain = domain
        super().__init__()

    def init_poolmanager(self, *arguments, **options) -> None:
        super().init_poolmanager(*arguments, server_hostname=self.domain, assert_hostname=self.domain, **options)


class Client:
    """An HTTP client that reaches a host's proxy by its address and asks for one domain.

    Each request has a connection of its own. nginx closes kept connections when it reloads, and so does a reboot: a
    browser would then repeat a GET, but not a POST.

    :param address: the host's.
    :param domain: what goes into the header Host.
    :param authority: a file with the certificate of the authority to trust; without one the client uses HTTP.
    """

    def __init__(self, address: str, domain: str, authority: str | None = None):
        scheme = "https" if authority else "http"
        self.base, self.origin = f"{scheme}://{address}", f"{scheme}://{domain}"
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update({"Host": domain, "Connection": "close"})
        if authority:
            self.session.verify = authority
            self.session.mount("https://", OfDomain(domain))

    def get(self, path: str, **options) -> requests.Response:
        """Send a GET request."""
        return self.session.get(self.base + path, timeout=TIMEOUT, **options)

    def post(self, path: str, **options) -> requests.Response:
        """Send a POST request; a redirect is not followed."""
        return self.session.post(self.base + path, timeout=TIMEOUT, allow_redirects=False, **options)

    def submit(self, page: str, action: str, **fields: str) -> str:
        """Fill in and send the form of a page of a Django app; return the path that the answer redirects to.

        :param page: the path of the page with the form.
        :param action: the path that the form is sent to.
        :param fields: the form's fields.
        """
        form = self.get(page)
        form.raise_for_status()
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form.text)[1]
        # Over HTTPS, Django checks the header Referer.
        headers = {"Referer": self.origin + page}
        answer = self.post(action, data=fields | {"csrfmiddlewaretoken": token}, headers=headers)
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

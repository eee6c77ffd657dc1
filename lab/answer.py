"""Asking an app through a proxy, as a browser on this machine would."""

import http.client
import socket
import ssl
import time

from lab.host import Host

# Seconds in which an app that was just deployed must answer through the proxy.
ANSWER_TIMEOUT = 30
# The status by which nginx redirects to HTTPS.
PERMANENT_REDIRECT = 308


def ask(host: Host, port: int, domain: str, paths: list[str]) -> tuple[str, str, bool]:
    """Ask an app through the proxy as a browser on this machine would. A redirect to HTTPS is followed.

    :param host: the proxy.
    :param port: the port of 127.0.0.1 that leads to it.
    :param domain: the app's domain.
    :param paths: the paths to ask for, until one is served.
    :return: the URL, the answer in words, and whether the app serves.
    """
    deadline = time.monotonic() + ANSWER_TIMEOUT
    plain = f"http://{domain}:{port}"
    while True:
        for path in paths:
            status, answer = ask_once(
                http.client.HTTPConnection("127.0.0.1", port, timeout=10), f"{domain}:{port}", path
            )
            base = f"https://{domain}" if status == PERMANENT_REDIRECT else plain
            if status == PERMANENT_REDIRECT:
                status, answer = ask_once(Https(host.address, domain), domain, path)
            if 0 < status < 400:
                return f"{base}{path}", answer, True
        if 0 < status < 500 or time.monotonic() > deadline:
            return f"{base}{path}", answer, False
        time.sleep(0.5)


class Https(http.client.HTTPSConnection):
    """A connection to an address, for a domain. Any certificate is accepted; make verify checks certificates."""

    def __init__(self, address: str, domain: str, port: int = 443, timeout: int = 10):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        super().__init__(address, port, timeout=timeout, context=context)
        self.domain, self.tls = domain, context

    def connect(self) -> None:
        """Connect, and name the domain."""
        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self.tls.wrap_socket(plain, server_hostname=self.domain)


def ask_once(connection: http.client.HTTPConnection, host: str, path: str) -> tuple[int, str]:
    """Ask once. Return the status, which is 0 without an answer, and the answer in words."""
    try:
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        return response.status, f"{response.status} {response.reason}"
    except (OSError, http.client.HTTPException) as error:
        return 0, f"no answer: {error or type(error).__name__}"
    finally:
        connection.close()

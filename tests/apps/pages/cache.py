"""The login to memcached, as formulas/memcached/README.md shows it."""

import os
import ssl
from urllib.parse import unquote, urlsplit

CACHE = urlsplit(os.environ["CACHE_URL"])
LOGIN = f"{CACHE.username} {unquote(CACHE.password)}".encode()


class LoggedIn(ssl.SSLSocket):
    """Logs in after it has connected: memcached takes the first ``set`` for the login."""

    def connect(self, address):
        super().connect(address)
        self.sendall(b"set login 0 0 %d\r\n%s\r\n" % (len(LOGIN), LOGIN))
        if self.recv(64) != b"STORED\r\n":
            raise ConnectionError("memcached refuses the login of CACHE_URL")


context = ssl.create_default_context(cafile="/etc/ssl/saltern/ca.pem")
context.sslsocket_class = LoggedIn

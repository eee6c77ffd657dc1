"""A proxy over two app hosts and a database: its files, its journal, and requests through it."""

import contextlib
import re
import time

from tests.hosts.client import Client
from tests.hosts.rows import declare_hosts
from tests.hosts.stream import Seen, Stream

ROLES = {"proxy1": ["proxy"], "app1": ["app"], "app2": ["app"], "db1": ["database", "cache"]}
PEERS = "/etc/nginx/peers/faq.conf"


class Fleet:
    """The hosts, their lab, and questions to them."""

    def __init__(self, lab, hosts):
        self.lab, self.hosts, self.last = lab, hosts, 0
        self.proxy1, self.app1, self.app2, self.db1 = map(hosts.get, ROLES)
        self.mirror = Client(self.proxy1.address, "mirror.localhost")

    def inventory(self, drained=()):
        """Write the inventory; the hosts of ``drained`` are set to drain."""
        declare_hosts(self.lab, ROLES, drained=drained)

    def peers(self):
        """Return each app host's state in the proxy's files: ``in``, ``drained``, ``out`` or ``drained out``."""
        lines = re.findall(r"; # (\S+)( is drained)?( is out)?$", self.proxy1.sh(f"cat {PEERS}").stdout, re.MULTILINE)
        return {name: " ".join(f"{a} {b}".replace(" is", "").split()) or "in" for name, a, b in lines}

    def await_peers(self, seconds=60, **expected):
        """Wait until the proxy has its app hosts in these states."""
        deadline = time.monotonic() + seconds
        while (found := self.peers()) != expected:
            assert time.monotonic() < deadline, (found, expected, self.journal())
            time.sleep(0.2)

    def journal(self):
        """Return what saltern-peers has said."""
        return self.proxy1.sh("journalctl -q -o cat -u saltern-peers | tail -n 20").stdout

    def served(self, host):
        """Return how many requests the nginx of an app host has answered."""
        return int(host.sh("grep -c /v1/ /var/log/nginx/access.log || true").stdout)

    @contextlib.contextmanager
    def stream(self, what):
        """Send requests while the block runs, check them afterwards, and print how many failed."""
        stream = Stream(self.proxy1.address, "faq.localhost", self.last + 1)
        seen = Seen(what)
        try:
            yield seen
            time.sleep(2)
        finally:
            seen.sent = stream.finish()
            self.last = seen.sent[-1].number
        print(seen.told(self.proxy1.suite))
        self.assert_none_was_sent_twice(seen.sent)

    def assert_none_was_sent_twice(self, sent):
        posts = [one for one in sent if one.method == "POST"]
        # 200 to a POST: the question was there already, so it was sent twice.
        assert [one for one in posts if one.status == 200] == []
        sources = ", ".join(f"'stream:{one.number}'" for one in posts)
        query = f"SELECT source, count(*) FROM questions_question WHERE source IN ({sources}) GROUP BY 1"
        command = ("psql", "-XAtq", "-d", "faq", "-c", query)
        lines = self.db1.run("sh", "-c", 'cd / && exec runuser -u postgres -- "$@"', "sh", *command).stdout.split()
        rows = dict(line.split("|") for line in lines)
        assert set(rows.values()) == {"1"}
        assert {f"stream:{one.number}" for one in posts if one.status == 201} <= rows.keys()

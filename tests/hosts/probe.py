"""Connections between hosts: every port of every host, tried from every other host and from this machine."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

OUTSIDE = "outside"
# sshd listens at the first. At each of the others every host has a listener that nobody declared.
PORTS = (22, 80, 443, 5432, 6379, 8100, 8101, 8199, 8200, 9100, 9999)
LISTEN = """
import asyncio, sys
async def listen():
    for port in sys.argv[1:]:
        await asyncio.start_server(lambda _, writer: writer.close(), ["0.0.0.0", "::"], int(port))
    await asyncio.Event().wait()
asyncio.run(listen())
"""
UNIT = f"""
[Service]
ExecStart=/usr/bin/python3 /root/listen.py {" ".join(map(str, PORTS[1:]))}
[Install]
WantedBy=multi-user.target
"""
# Prints the outcome of a connection to each address and port. Nothing is sent.
PROBE = """
import asyncio, json, sys
async def outcome(address, port):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 3)
    except TimeoutError:
        return "dropped"
    except OSError as error:
        return type(error).__name__
    writer.close()
    return "open"
async def outcomes(targets):
    return await asyncio.gather(*(outcome(*target) for target in targets))
print(json.dumps(asyncio.run(outcomes(json.loads(sys.argv[1])))))
"""


def link_local(host):
    """Return the IPv6 address by which the hosts of its network reach a host."""
    (interface,) = json.loads(host.sh("ip -6 -json address show dev eth0 scope link").stdout)
    return f"{interface['addr_info'][0]['local']}%eth0"


def connected(hosts, ipv6=False):
    """Try every port of every host, from every other host and from this machine; return the outcomes.

    :param hosts: the hosts, by id.
    :param ipv6: try IPv6, and not from this machine, which has no IPv6 address in the lab's networks.
    """
    targets = [(name, port) for name in hosts for port in PORTS]
    addresses = {name: link_local(host) if ipv6 else host.address for name, host in hosts.items()}

    def tried(source):
        mine = [(name, port) for name, port in targets if name != source]
        asked = [(addresses[name], port) for name, port in mine]
        command = ("python3", "-c", PROBE, json.dumps(asked))
        if source == OUTSIDE:
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        else:
            done = hosts[source].run(*command)
        answers = json.loads(done.stdout)
        return source, dict(zip(mine, answers, strict=True))

    with ThreadPoolExecutor() as pool:
        found = dict(pool.map(tried, [*hosts] if ipv6 else [*hosts, OUTSIDE]))
    return {
        target: {source: answers[target] for source, answers in found.items() if target in answers}
        for target in targets
    }


def told(found):
    """Return the outcomes as a table: who can connect to each host and port."""
    lines = [f"{'to':<12} {'open to':<44} dropped"]
    for (name, port), by in found.items():
        some = {word: " ".join(sorted(one for one in by if by[one] == word)) for word in set(by.values())}
        others = {word: who for word, who in some.items() if word not in ("open", "dropped")}
        lines.append(f"{name}:{port:<6} {some.get('open', '-'):<44} {some.get('dropped', '-')} {others or ''}")
    return "\n".join(lines)

"""Data of the app mirror (tests/apps/mirror): asked for as the app and as an operator, and left behind."""

DOMAIN = "mirror.localhost"
OTHER = "www.mirror.localhost"
MIRROR = {
    "port": 8300,
    "domains": [DOMAIN, OTHER],
    "formation": {"web": 2, "worker": 1},
    "health": {"grace": 20, "settle": 1},
    "attach": {"DATABASE_URL": {"postgres": "mirror_data"}, "REDIS_URL": {"redis": "mirror-jobs"}},
    "config": {"SECRET": "canary-removal-0123456789"},
}
# mirror has a second database and a cache, and faq borrows a part of what mirror has.
SHARED = {
    "app": {
        "mirror": {
            "attach": {
                "PG": {"postgres": "mirror_archive", "as": "parts"},
                "CACHE": {"redis": "mirror-cache", "as": "parts"},
            }
        },
        "faq": {
            "attach": {
                "MIRROR_URL": {"postgres": "mirror_data", "access": "read"},
                "JOBS": {"redis": "mirror-jobs", "access": "read", "as": "parts"},
                "ARCHIVE_URL": {"postgres": "mirror_archive", "access": "whole"},
            }
        },
    },
    "postgres": {
        "databases": {"mirror_data": {"share": {"faq": "read"}}, "mirror_archive": {"share": {"faq": "whole"}}}
    },
    "redis": {
        "instances": {
            "mirror-cache": {"offset": 98, "maxmemory_policy": "allkeys-lru"},
            "mirror-jobs": {"share": {"faq": "read"}},
        }
    },
}
# Six clients ask Redis for large values again and again and read no answer, while one more client is served. Prints the
# most memory that Redis used, and how the six ended.
HOG = """
import json, os, socket, ssl, time, urllib.parse
url = urllib.parse.urlsplit(os.environ["REDIS_URL"])
context = ssl.create_default_context(cafile="/etc/ssl/saltern/ca.pem")
def encoded(*words):
    return b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(word), word) for word in words)
def connected():
    plain = socket.create_connection((url.hostname, url.port), 10)
    connection = context.wrap_socket(plain, server_hostname=url.hostname)
    words = (url.username, urllib.parse.unquote(url.password))
    connection.sendall(encoded(b"AUTH", *(word.encode() for word in words)))
    assert connection.recv(100).startswith(b"+OK")
    return connection
good = connected()
keys = [b"hog-%d" % number for number in range(8)]
for key in keys:
    good.sendall(encoded(b"SET", key, bytes(1_000_000)))
    assert good.recv(100).startswith(b"+OK")
def hog():
    connection = connected()
    connection.settimeout(0.5)
    for _ in range(40):
        try:
            connection.sendall(encoded(b"MGET", *keys) * 3)
        except TimeoutError:
            continue
        except OSError:
            os._exit(7)
        time.sleep(0.05)
hogs = []
for _ in range(6):
    hogs.append(os.fork())
    if not hogs[-1]:
        hog()
        os._exit(0)
most, end = 0, time.monotonic() + 4
while time.monotonic() < end:
    good.sendall(encoded(b"INFO", b"memory"))
    most = max(most, int(good.recv(65536).decode().partition("used_memory:")[2].split()[0]))
    time.sleep(0.01)
ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in hogs]
good.sendall(encoded(b"DEL", *keys))
assert good.recv(100).startswith(b":8")
print(json.dumps({"most": most, "ended": ended}))
"""
# Run as the app: the files that its user leaves.
LEAVE = """
echo photo >"$HOME/photo"
for each in /var/tmp /tmp "$TMPDIR"; do echo it >$each/of-mirror; done
mkdir -m 777 "$HOME/shared" "$TMPDIR/shared" "$TMPDIR/mounted" && ln -s /etc "$TMPDIR/link"
"""
# Run as root: files of others in the app's directories, two mounts there, and a crontab of the app's user.
OTHERS = """
cd /srv/apps/mirror
for each in home tmp; do echo theirs >$each/shared/of-another && chown www-data: $each/shared/of-another; done
mkdir -p /root/own /root/media /var/spool/cron/crontabs && echo mine >/root/own/file && echo mine >/root/media/file
chown mirror: /root/own/file
mkdir current/build/media && mount --bind /root/own tmp/mounted && mount --bind /root/media current/build/media
touch /var/lib/systemd/linger/mirror
echo '* * * * * id' >/var/spool/cron/crontabs/mirror && chown mirror: /var/spool/cron/crontabs/mirror
"""


def sql(host, statement):
    """Run SQL as the app would."""
    return host.run("mirror-run", "sh", "-c", 'psql -XAtq "$DATABASE_URL" -c "$0"', statement).stdout.strip()


def redis(host, command):
    """Send a command to Redis as the app would."""
    options = "--raw --tls --cacert /etc/ssl/saltern/ca.pem -p 8399"
    user = "user=${REDIS_URL#*//} && user=${user%%:*}"
    script = (
        f'{user} && REDISCLI_AUTH=$(echo "$REDIS_URL" | sed "s,.*:\\(.*\\)@.*,\\1,") redis-cli --user $user {options} '
    )
    script += command
    return host.run("mirror-run", "sh", "-c", script).stdout.strip()


def asked(host, statement):
    """Run SQL as PostgreSQL's operator."""
    command = ("psql", "-XAtq", "-d", "mirror_data", "-c", statement)
    return host.run("sh", "-c", 'cd / && exec runuser -u postgres -- "$@"', "sh", *command).stdout.strip()


def value(host, variable):
    """Return a config variable of the release that serves."""
    return host.sh(f"cat /srv/apps/mirror/current/env/{variable}").stdout


def kept(host):
    """Return the data of apps and attachments that are gone, by kind and name; see ``app.orphans``."""
    return host.salt("app.orphans")["kept"]


def environ(host, app, variable):
    """Return the environment of the first process of an app that has a variable."""
    for pid in host.run("pgrep", "-u", app).stdout.split():
        text = host.run("cat", f"/proc/{pid}/environ", check=False).stdout
        found = dict(item.split("=", 1) for item in text.split("\0") if "=" in item)
        if variable in found:
            return found
    raise AssertionError(f"no process of {app} has {variable}")


def in_environ(host, variables, *command):
    """Run a command with these variables and no others."""
    return host.run("env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command, check=False)


def commanded(host, variables, prefix, *command):
    """Send a command to Redis with the parts of an attachment; return Redis's answer."""
    parts = {name.removeprefix(prefix): value for name, value in variables.items() if name.startswith(prefix)}
    cli = ("redis-cli", "--tls", "--cacert", parts["SSL_CA_CERTS"], "-h", parts["HOST"], "-p", parts["PORT"])
    given = variables | {"REDISCLI_AUTH": parts["PASSWORD"]}
    return in_environ(host, given, *cli, "--user", parts["USER"], *command).stdout


def pids(host, *apps):
    """Return the PIDs of the running processes whose names begin so, such as with ``mirror.``."""
    lines = host.run("supervisorctl", "status", check=False).stdout.splitlines()
    return {line.split()[0]: line.split()[3] for line in lines if line.startswith(apps) and " pid " in line}

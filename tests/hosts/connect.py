"""Scripts that connect to PostgreSQL and to Redis, and print what came of it."""

# Runs as the app, with the library that the app uses. Arguments change parts of its URL; the rest stays as it is.
CONNECT = """
import json, os, sys
from urllib.parse import unquote, urlsplit
changes = json.loads(sys.argv[2])
try:
    if sys.argv[1] == "postgres":
        import psycopg
        with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=5, **changes) as connection:
            print(connection.execute("SELECT current_user || '@' || current_database()").fetchone()[0])
    else:
        import redis
        where = urlsplit(os.environ["REDIS_URL"])
        url = os.environ["REDIS_URL"] if not changes.pop("plain", False) else f"redis://{where.netloc}/0"
        pool = redis.ConnectionPool.from_url(url)
        pool.connection_kwargs |= changes
        print(redis.Redis(connection_pool=pool, retry=None).ping())
except Exception as error:
    print(type(error).__name__, error)
"""
# Connects over TLS as the user tickets and prints PostgreSQL's answer: R asks for the password, E is a refusal.
STARTUP = """
import json, socket, ssl, struct, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with socket.create_connection((sys.argv[1], 5432), 10) as plain:
    plain.sendall(struct.pack("!ii", 8, 80877103))
    assert plain.recv(1) == b"S"
    with context.wrap_socket(plain) as connection:
        said = b"user" + bytes(1) + b"tickets" + bytes(1) + b"database" + bytes(1) + b"tickets" + bytes(2)
        connection.sendall(struct.pack("!ii", len(said) + 8, 196608) + said)
        print(connection.recv(1000).decode(errors="replace").replace(chr(0), " "))
"""

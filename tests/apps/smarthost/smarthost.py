"""A smart host: it takes mail over TLS alone, by one login, and prints what it takes."""

import asyncio
import os
import ssl

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword


class Handler:
    """Prints each mail that is taken."""

    async def handle_DATA(self, server, session, envelope):
        """Take a mail."""
        subject = next(line for line in envelope.content.splitlines() if line.startswith(b"Subject: "))
        _, protocol, _ = session.ssl["cipher"]
        print(f"took {subject.decode()} from {envelope.mail_from} over {protocol}", flush=True)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    """Let in who has the one login."""
    given = isinstance(data, LoginPassword) and f"{data.login.decode()}:{data.password.decode()}"
    return AuthResult(success=given == os.environ["SMTP_LOGIN"])


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
path = os.path.join(os.environ["TMPDIR"], "certificate.pem")
with open(path, "w", encoding="ascii") as stream:
    stream.write(os.environ["SMTP_CERTIFICATE"])
context.load_cert_chain(path)
controller = Controller(
    Handler(),
    hostname="127.0.0.1",
    port=2525,
    tls_context=context,
    require_starttls=True,
    authenticator=authenticate,
    auth_required=True,
)
controller.start()
print("takes mail", flush=True)
asyncio.new_event_loop().run_forever()

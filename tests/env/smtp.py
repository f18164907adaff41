"""A mail server for tests (aiosmtpd): takes what comes, and refuses what its address asks to have refused.

    smtp.py FOLDER CERTIFICATE KEY STARTTLS-PORT TLS-PORT USER PASSWORD

Two listeners: one with STARTTLS, which must be used, and AUTH, which must be used too; one with TLS from
the first byte and no AUTH. Each message is written to FOLDER/ADDRESS/N.eml, N from 0. By the local part of
the recipient's address: `refuse…` is refused for good (550), `tard…` for now the first time (451), `jamais…`
for now every time.
"""

import os
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

folder, certificate, key, starttls_port, tls_port, user, password = sys.argv[1:]
seen = set()


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refuse"):
            return f"550 5.1.1 <{address}>: no such mailbox"
        if address.startswith("jamais") or (address.startswith("tard") and address not in seen):
            seen.add(address)
            return f"451 4.3.0 <{address}>: try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        for address in envelope.rcpt_tos:
            box = os.path.join(folder, address.replace("/", "_"))
            os.makedirs(box, exist_ok=True)
            name = os.path.join(box, f"{len(os.listdir(box))}.eml")
            with open(name + ".part", "wb") as file:
                file.write(envelope.content)
            os.rename(name + ".part", name)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (user.encode(), password.encode())
    # Not handled: the server has yet to say so to the client.
    return AuthResult(success=right, handled=False)


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)
common = {"hostname": "127.0.0.1", "server_hostname": "localhost"}
Controller(
    Handler(),
    port=int(starttls_port),
    tls_context=context,
    require_starttls=True,
    auth_required=True,
    authenticator=authenticate,
    **common,
).start()
Controller(Handler(), port=int(tls_port), ssl_context=context, **common).start()
threading.Event().wait()

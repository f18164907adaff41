"""A timestamp authority made of pyHanko's parts, which signs whatever it is told to, for tests of refusal.

    python timestamp.py CERTIFICATE.pem KEY.pem REQUEST.tsq ANSWER.tsr [--at 2020-01-01T00:00:00+00:00]

The key is RSA. Unlike `openssl ts` it signs with a certificate that may not, and at any time.
"""

import argparse
import datetime

from asn1crypto import tsp
from pyhanko.keys import load_cert_from_pemder, load_private_key_from_pemder
from pyhanko.sign.timestamps import DummyTimeStamper

parser = argparse.ArgumentParser()
parser.add_argument("certificate")
parser.add_argument("key")
parser.add_argument("request")
parser.add_argument("answer")
parser.add_argument("--at", type=datetime.datetime.fromisoformat)
arguments = parser.parse_args()

authority = DummyTimeStamper(
    load_cert_from_pemder(arguments.certificate),
    load_private_key_from_pemder(arguments.key, passphrase=None),
    fixed_dt=arguments.at,
)
with open(arguments.request, "rb") as file:
    request = tsp.TimeStampReq.load(file.read())
with open(arguments.answer, "wb") as file:
    file.write(authority.request_tsa_response(request).dump())

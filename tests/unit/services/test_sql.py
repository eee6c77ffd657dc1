"""The verifier that PostgreSQL stores for a password."""

import base64
import hashlib
import hmac

import pytest

from saltern.services import sql

# RFC 7677, section 3.
RFC = {
    "password": "pencil",
    "salt": base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="),
    "message": b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    "proof": base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
    "signature": base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
}


def test_a_verifier_accepts_the_exchange_of_rfc_7677():
    verifier = sql.scram(RFC["password"], RFC["salt"], 4096)
    name, parameters, keys = verifier.split("$")
    assert (name, parameters) == ("SCRAM-SHA-256", "4096:W22ZaJ0SNY7soEsUEjb6gQ==")
    stored, server = map(base64.b64decode, keys.split(":"))
    client_signature = hmac.digest(stored, RFC["message"], "sha256")
    client_key = bytes(a ^ b for a, b in zip(RFC["proof"], client_signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored
    assert hmac.digest(server, RFC["message"], "sha256") == RFC["signature"]


PASSWORD = 'it\'s-"a"-\\-$$-password'
SALT = b"0123456789abcdef"


@pytest.mark.parametrize(
    "verifier",
    [
        None,
        "",
        "md5a3556571e93b0d20722ba62be61e8c2d",
        "SCRAM-SHA-256$4096:!!!$a:b",
        "SCRAM-SHA-256$many:MDEyMw==$a:b",
        "SCRAM-SHA-256$0:MDEyMw==$a:b",
        "SCRAM-SHA-256$4096$a:b",
        "SCRAM-SHA-256$4096:MDEyMw==$é:b",
        "a$b",
    ],
)
def test_a_text_that_is_no_verifier_matches_no_password(verifier):
    assert sql.matches(PASSWORD, verifier) is False


def test_a_verifier_matches_its_password_alone():
    verifier = sql.scram(PASSWORD, SALT, 8192)
    assert sql.matches(PASSWORD, verifier)
    assert not sql.matches(PASSWORD + "x", verifier)
    assert not sql.matches(PASSWORD, sql.scram("other", SALT))

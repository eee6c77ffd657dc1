"""certbot's error in one line."""

from saltern.tls import certbot


def test_the_reason_is_one_line():
    proof = (
        "Saving debug log to /var/log/letsencrypt/letsencrypt.log\n"
        "Requesting a certificate for a.example.com and b.example.com\n\n"
        "Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported "
        "these problems:\n"
        "  Domain: a.example.com\n  Type:   dns\n  Detail: DNS problem: NXDOMAIN\n\n"
        "  Domain: b.example.com\n  Type:   unauthorized\n  Detail: returned 502\n\n"
        "Hint: The Certificate Authority failed to download the temporary challenge files.\n\n"
        "Some challenges have failed.\n"
        "Ask for help or search for solutions at https://community.letsencrypt.org.\n"
    )
    assert certbot.failure(proof) == "a.example.com: DNS problem: NXDOMAIN; b.example.com: returned 502"
    ends = "Ask for help or search for solutions at https://community.letsencrypt.org. See the logfile\n"
    begins = "Saving debug log to /x\nAn unexpected error occurred:\n"
    for said, expected in UNREACHED.items():
        assert certbot.failure(f"{begins}{said}\n{ends}") == expected
        assert certbot.UNREACHED.search(said)
    limited = "acme.messages.Error: urn:ietf:params:acme:error:rateLimited :: There were too many requests :: too many"
    assert certbot.failure(f"{begins}{limited}\n{ends}") == limited
    assert not certbot.UNREACHED.search(limited)
    assert certbot.failure("") == "no reason given"


UNREACHED = {
    "ValueError: Requesting acme.example.com/directory: Connection refused": (
        "acme.example.com/directory is not reached: Connection refused"
    ),
    "requests.exceptions.SSLError: HTTPSConnectionPool(host='acme.example.com', port=443): Max retries exceeded with "
    "url: /dir (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify "
    "failed: self-signed certificate (_ssl.c:992)')))": (
        "acme.example.com:443 is not reached: certificate verify failed: self-signed certificate"
    ),
    "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='acme.example.com', port=443): Max retries exceeded "
    "with url: /dir (Caused by NameResolutionError('Failed to resolve [Errno -2] Name or service not known'))": (
        "acme.example.com:443 is not reached: [Errno -2] Name or service not known"
    ),
}

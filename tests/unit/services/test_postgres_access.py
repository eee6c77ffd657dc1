"""Who is let in to which database, by pg_hba.conf."""

from saltern.services import postgres_access

ACCESS = """# Managed.
local   all  postgres  peer
host    all  all  all  trust
host    "faq"  "faq"  127.0.0.1/32  scram-sha-256
host    "faq"  "faq"  ::1/128       scram-sha-256
hostssl "stock"  +"my-shop"  10.0.0.4/32  scram-sha-256
hostssl "stock"  "my-shop"  ::1/128  scram-sha-256
host    "stock"  "my-shop"  0.0.0.0/0  trust
"""


def test_who_may_still_come_in_is_read_from_the_access_list(tmp_path):
    path, faq, stock = tmp_path / "pg_hba.conf", {"faq": {"owner": "faq"}}, {"stock": {"owner": "my-shop"}}
    assert postgres_access.admitted(str(path), faq) == [("faq", "faq")]
    path.write_text(ACCESS)
    assert postgres_access.admitted(str(path), faq) == [("faq", "faq"), ("stock", "my-shop")]
    assert postgres_access.admitted(str(path), faq | stock) == [("faq", "faq"), ("stock", "my-shop")]
    # Another app is to get it, and its release may still be refused.
    assert postgres_access.admitted(str(path), {"stock": {"owner": "its own"}}) == [
        ("faq", "faq"),
        ("stock", "its own"),
        ("stock", "my-shop"),
    ]

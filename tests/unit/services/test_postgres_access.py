"""Who is let in to which database, by pg_hba.conf."""

from saltern.services import postgres_access
from tests.unit.services.access_list import ACCESS


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

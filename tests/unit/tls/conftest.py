"""An authority, and the certificate that it has issued for an app."""

import pytest

from saltern.tls import certificate
from tests.unit.tls.moments import DOMAINS, NOW


@pytest.fixture(scope="session")
def authority():
    """An authority, key and certificate."""
    return certificate.new_authority("dev", NOW)


@pytest.fixture(scope="session")
def for_shop(authority):
    """Key and certificate of an app."""
    return certificate.issue_for(authority, "shop", DOMAINS, NOW)

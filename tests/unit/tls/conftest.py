"""An authority, for the tests of what it issues."""

import pytest

from saltern.tls import certificate
from tests.unit.tls.moments import NOW


@pytest.fixture(scope="session")
def authority():
    """An authority, key and certificate."""
    return certificate.new_authority("dev", NOW)

"""A host that several modules look at."""

import pytest

from .everything import EVERYTHING
from .minion import BUILDS, Host


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A host with every setting."""
    host = Host(tmp_path_factory.mktemp("everything"), "dev")
    host.declare("builds/dev.sls", BUILDS)
    host.merge(EVERYTHING | {"app": EVERYTHING["app"] | {"faq": {}}})
    return host

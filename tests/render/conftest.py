"""A host that several modules look at."""

import pytest

from bootstrap import swift

from .everything import EVERYTHING
from .minion import BUILDS, Host


@pytest.fixture(scope="session", autouse=True)
def as_its_commands_do():
    """Have Salt compile templates in this process as it does in the commands of a host."""
    swift.install()


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A host with every setting."""
    host = Host(tmp_path_factory.mktemp("everything"), "dev")
    host.declare("builds/dev.sls", BUILDS)
    host.merge(EVERYTHING | {"app": EVERYTHING["app"] | {"faq": {}}})
    return host

"""A function that derives settings from the apps and resources of a pillar."""

import pytest

from saltern.attachments.derived import derive
from saltern.settings.check import check
from saltern.settings.defaults import with_defaults
from tests.unit.attachments.declared import ONE


@pytest.fixture(scope="session")
def derived(schemas):
    """Return a function that derives one host's settings from declared apps and resources."""

    def of(apps, hosts=ONE, minion_id="one", **more):
        declared = {"app": apps} | more
        assert check(schemas, declared) == []
        complete = {name: with_defaults(schema, declared.get(name, {})) for name, schema in schemas.items()}
        return derive(complete, hosts, minion_id)

    return of

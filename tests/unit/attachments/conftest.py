"""What is derived from apps and what a pillar says of resources."""

import pytest

from saltern.attachments.derived import derive
from saltern.settings.check import check
from saltern.settings.defaults import with_defaults
from tests.unit.attachments.declared import ONE


@pytest.fixture(scope="session")
def derived(schemas):
    """Return a function that derives from apps and what is said of resources, for one host of an inventory."""

    def of(apps, hosts=ONE, minion_id="one", **more):
        declared = {"app": apps} | more
        assert check(schemas, declared) == []
        complete = {name: with_defaults(schema, declared.get(name, {})) for name, schema in schemas.items()}
        return derive(complete, hosts, minion_id)

    return of

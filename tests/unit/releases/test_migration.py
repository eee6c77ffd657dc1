"""Migrations between two releases."""

import pytest

from saltern.releases import migration

MIGRATES = {"web": "serve", "release": "migrate"}


WHEELS = {"shop-1-py3-none-any.whl": "a"}
OTHERS = {"shop-2-py3-none-any.whl": "b"}


def record(build, migrations=None, processes=None, reversible=False, wheels=WHEELS, **installed):
    made = {"build": build, "migrations": migrations, "processes": processes or MIGRATES, "reversible": reversible}
    return made | {"wheels": wheels} | ({"installed_migrations": installed} if installed else {})


OF_EARLIER = "an earlier bin/build made one of their builds, which does not say what its wheels migrate"
NO_KIND = "there are none of a kind that Saltern knows, and their code differs"
CROSSINGS = {
    # Builds that list the migrations of everything that they install.
    "all the same": ({1: record("a", code="m", django="d"), 2: record("b", code="m", django="d")}, None),
    "a migration that a wheel brings": (
        {1: record("a", code="m", wagtail="7"), 2: record("b", code="m", wagtail="8", wheels=OTHERS)},
        (2, " of wagtail", None),
    ),
    "a wheel that is new": (
        {1: record("a", code="m"), 2: record("b", code="m", wagtail="8")},
        (2, " of wagtail", None),
    ),
    "its own and a wheel's": (
        {1: record("a", code="m", wagtail="7"), 2: record("b", code="n", wagtail="8")},
        (2, " of its code, wagtail", None),
    ),
    "a wheel that is gone, and brought some": ({1: record("a", code="m", wagtail="7"), 2: record("b", code="m")}, None),
    "other wheels without any": ({1: record("a", code="m"), 2: record("b", code="m", wheels=OTHERS)}, None),
    "none that are known, and the same code": ({1: record("a", unknown="c"), 2: record("b", unknown="c")}, None),
    "none that are known, and other code": (
        {1: record("a", unknown="c"), 2: record("b", unknown="d")},
        (2, None, NO_KIND),
    ),
    "some where none were known": ({1: record("a", unknown="c"), 2: record("b", code="m")}, (2, " of its code", None)),
    "one on the way that is known, behind one that is not": (
        {1: record("a", code="m"), 2: record("b", code="n"), 3: record("c", unknown="d")},
        (2, " of its code", None),
    ),
    # Older builds, which list only the migrations of their own code.
    "the same build": ({1: record("a"), 2: record("a")}, None),
    "the same migrations and wheels": ({1: record("a", "m"), 2: record("b", "m")}, None),
    "the same migrations and other wheels": (
        {1: record("a", "m"), 2: record("b", "m", wheels=OTHERS)},
        (2, None, OF_EARLIER),
    ),
    "the same migrations and wheels of which nothing is known": (
        {1: record("a", "m", wheels=None), 2: record("b", "m", wheels=None)},
        (2, None, OF_EARLIER),
    ),
    "other migrations": ({1: record("a", "m"), 2: record("b", "n")}, (2, "", None)),
    "migrations of which nothing is known": ({1: record("a"), 2: record("b")}, (2, None, OF_EARLIER)),
    "migrations that only the later build has": ({1: record("a"), 2: record("b", "n")}, (2, "", None)),
    "migrations that only the earlier build has": ({1: record("a", "m"), 2: record("b")}, None),
    "no process type that could run them": ({1: record("a", "m"), 2: record("b", "n", {"web": "serve"})}, None),
    "a build that says that it is reversible": ({1: record("a", "m"), 2: record("b", "n", reversible=True)}, None),
    "a migration on the way": ({1: record("a", "m"), 2: record("b", "n"), 3: record("c", "m")}, (2, "", None)),
    "a release on the way that is gone": ({1: record("a", "m"), 3: record("c", "m")}, None),
    # One build of each kind.
    "a build from before and a later one of the same": ({1: record("a", "m"), 2: record("b", "m", code="x")}, None),
    "a later one with a wheel's, of the same wheels": ({1: record("a"), 2: record("b", django="d")}, None),
    "a later one of other wheels": (
        {1: record("a", "m"), 2: record("b", "m", code="x", django="d", wheels=OTHERS)},
        (2, None, OF_EARLIER),
    ),
    "a later one with other migrations": ({1: record("a", "m"), 2: record("b", "n", code="x")}, (2, "", None)),
    "a later one of which nothing is known": ({1: record("a"), 2: record("b", unknown="c")}, (2, None, OF_EARLIER)),
    "a build from before that came later": ({1: record("a", "m", code="x"), 2: record("b", "m")}, None),
}


@pytest.mark.parametrize("records, crossed", CROSSINGS.values(), ids=CROSSINGS)
def test_a_migration_between_two_releases_is_found_at(records, crossed):
    found = migration.between(records, max(records), 1)
    if crossed is None:
        assert found is None
        return
    number, of, why = crossed
    said = f"v{number} has run migrations{of} that v1 does not have"
    told = f"it cannot be told whether v{number} has run migrations that v1 does not have: {why}"
    assert found == (told if why else said)

"""Which files are migrations, and what a build says of them."""

import pytest

from saltern.builds.make import migrations
from tests.unit.builds.make.apps import record, wheel

# Whether a file is a migration: path, content, and whether it is the app's own.
DJANGO_ONE = b"from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    pass\n"
ALEMBIC_ONE = b'"""x"""\nrevision: str = "1"\ndown_revision = None\n\n\ndef upgrade() -> None:\n    pass\n'
MIGRATIONS = {
    "Django's": ("wagtail/migrations/0001_initial.py", DJANGO_ONE, True, True),
    "Django's base class": ("django/db/migrations/migration.py", b"class Migration:\n", True, False),
    "Django's loader": ("django/db/migrations/loader.py", b"class MigrationLoader:\n", True, False),
    "a package's start": ("wagtail/migrations/__init__.py", b"", True, False),
    "a test's": ("wagtail/test/app/migrations/0001_initial.py", DJANGO_ONE, True, False),
    "Alembic's": ("airflow/migrations/versions/0001_a.py", ALEMBIC_ONE, True, True),
    "Alembic's, by another name": ("db/revisions/1_a.py", ALEMBIC_ONE, True, False),
    "a word that Alembic has too": ("shop/version.py", b'revision = "1"\n', False, False),
    "Alembic itself": ("alembic/script/revision.py", b"class Revision:\n    revision = None\n", True, False),
    "Flask-Migrate itself": ("flask_migrate/__init__.py", b"def migrate(directory=None):\n", False, False),
    "yoyo's": ("shop/migrations/0001.py", b"from yoyo import step\n\nsteps = [step('x')]\n", True, True),
    "aerich's": ("shop/migrations/models/0_a.py", b"async def upgrade(db):\n", True, True),
    "peewee's": ("shop/migrations/001.py", b"def migrate(migrator, database):\n", True, True),
    "SQL": ("procrastinate/sql/migrations/00.sql", b"ALTER TABLE x", True, True),
    "SQL of anything": ("shop/schema.sql", b"CREATE TABLE x", False, False),
    "what is no code": ("shop/migrations/README", DJANGO_ONE, False, False),
}


@pytest.mark.parametrize(("name", "content", "own", "in_wheel"), MIGRATIONS.values(), ids=MIGRATIONS)
def test_migrations_are_found_in_the_apps_code_and_in_wheels(name, content, own, in_wheel):
    assert (migrations.is_migration(name, content, own=True), migrations.is_migration(name, content)) == (own, in_wheel)


def test_a_build_says_which_migrations_it_installs(shop, made, commit, tmp_path):
    wheels = tmp_path / "wheels"
    env = {"PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def installed(requirements, **files):
        commit(shop, {"requirements.txt": requirements} | files)
        return record(made(shop, env=env))["installed_migrations"]

    plain = wheel(wheels, "plain", "1", {"plain.py": ""})
    seven = wheel(wheels, "wagtail", "7", {"wagtail/migrations/0001.py": DJANGO_ONE})
    same = wheel(wheels, "wagtail", "7.1", {"wagtail/migrations/0001.py": DJANGO_ONE, "wagtail/new.py": "x"})
    eight = wheel(wheels, "wagtail", "8", {f"wagtail/migrations/000{n}.py": DJANGO_ONE for n in (1, 2)})
    unknown = installed(plain)
    assert unknown.keys() == {"unknown"}
    # Files such as Procfile and README say nothing of what the code does to a database.
    assert installed(plain, **{"Procfile": "web: x\nworker: y\nrelease: z\n", "README.md": "x"}) == unknown
    assert installed(plain, **{"shop/tables.py": "x = 1\n"}) != unknown
    before = installed(plain + seven)
    assert before.keys() == {"wagtail"}
    assert installed(plain + same) == before
    after = installed(plain + eight)
    assert after.keys() == {"wagtail"} and after != before
    own = installed(plain + eight, **{"x/migrations/1.py": "class Migration:\n"})
    assert own == after | {"code": own["code"]}

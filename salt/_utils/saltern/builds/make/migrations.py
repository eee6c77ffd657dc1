"""The migrations that a build installs, by which a host sees what a rollback would cross."""

import hashlib
import json
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Mapping

from packaging.utils import canonicalize_name, parse_wheel_filename

from saltern.builds.make.code import content_of
from saltern.refusal import Refusal

# Directories whose files are migrations, whoever runs them: Django, Flask-Migrate, yoyo, aerich, plain SQL.
MIGRATIONS = re.compile(r"(?:^|/)(?:migrations?|alembic|yoyo)/(?:.*/)?[^/]+\.(?:py|sql)$")
# In wheels, which bring the libraries that run migrations too, directories that may have some, and those of tests.
MAY_MIGRATE = re.compile(r"(?:^|/)(?:[^/]*migrat[^/]*|alembic[^/]*|versions|yoyo)/(?:.*/)?[^/]+\.(?:py|sql)$")
TESTS = re.compile(r"(?:^|/)tests?/")
# What a migration has in itself: Django's, and Alembic's, which has both.
DJANGO = re.compile(rb"^class Migration\([\w.]*Migration\)", re.MULTILINE)
ALEMBIC = re.compile(rb"^revision\b[^=\n]*=.*^def upgrade\(", re.MULTILINE | re.DOTALL)
# yoyo's, aerich's and peewee's, which only count in such a directory.
OTHER = re.compile(rb"^steps?\b\s*[=(]|^async def upgrade\(|^def migrate\(migrator", re.MULTILINE)
# No part of what a process type does to a database.
APART = re.compile(r"(?:^|/)(?:Procfile|README[^/]*|LICENSE[^/]*|CHANGELOG[^/]*|\.[^/]*|[^/]*\.md|[^/]*\.rst)$")


def migrations_of(code: tarfile.TarFile) -> str | None:
    """Return a digest of an app's own migrations, or ``None`` where there are none.

    Builds from before ``installed_migrations`` have no more; a host compares it with theirs.

    :param code: the app's code, an open tarball.
    """
    found = {}
    for member in code.getmembers():
        directories = member.name.split("/")[:-1]
        if member.isfile() and member.name.endswith((".py", ".sql")) and {"migrations", "alembic"} & set(directories):
            found[member.name] = hashlib.sha256(content_of(code, member)).hexdigest()
    return _digest_of(found) if found else None


def _digest_of(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def installed_migrations(code: tarfile.TarFile, wheelhouse: str, wheels: Mapping[str, str]) -> dict[str, str]:
    """Return digests of the migrations of all that a build installs, by which a host sees what a rollback would cross.

    :param code: the app's code, an open tarball.
    :param wheelhouse: a directory with the wheels.
    :param wheels: their digests by file.
    :return: by whose they are: ``code``, or the distribution's name. Where none are known, ``unknown`` is a digest of
        all that may have some.
    """
    own: dict[str, str] = {}
    all_own: dict[str, str] = {}
    for member in code.getmembers():
        if not member.isfile():
            continue
        content = content_of(code, member)
        all_own[member.name] = hashlib.sha256(content).hexdigest()
        if is_migration(member.name, content, own=True):
            own[member.name] = all_own[member.name]
    found = {"code": _digest_of(own)} if own else {}
    for file in wheels:
        if installed := wheel_migrations(f"{wheelhouse}/{file}"):
            found[canonicalize_name(parse_wheel_filename(file)[0])] = _digest_of(installed)
    if not found:
        kept = {name: digest for name, digest in all_own.items() if not APART.search(name)}
        found["unknown"] = _digest_of([kept, wheels])
    return found


def is_migration(name: str, content: bytes, own: bool = False) -> bool:
    """Tell whether a file is a migration.

    :param name: its path in the code or in a wheel.
    :param content: its bytes.
    :param own: whether it is the app's own, of which a directory's name says enough.
    """
    if own and MIGRATIONS.search(name):
        return True
    is_place = bool(MAY_MIGRATE.search(name)) and not TESTS.search(name)
    if name.endswith(".sql"):
        return is_place
    is_one = DJANGO.search(content) or ALEMBIC.search(content) or (is_place and OTHER.search(content))
    return name.endswith(".py") and (own or is_place) and bool(is_one)


def wheel_migrations(path: str) -> dict[str, str]:
    """Return the digests of the migrations in a wheel, by path.

    :raises Refusal: for what is no wheel.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = (name for name in archive.namelist() if MAY_MIGRATE.search(name))
            files = {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        file = os.path.basename(path)
        raise Refusal(f"{file}: no wheel ({type(error).__name__}); remove it from the index") from error
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if is_migration(name, content)}

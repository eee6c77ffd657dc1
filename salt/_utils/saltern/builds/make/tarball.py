"""A build's tarball: the same content gives the same bytes."""

import gzip
import hashlib
import io
import json
import os
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Mapping
from typing import IO, Any, cast

from saltern.builds.form import Build
from saltern.system import files

# Levels of gzip.
COMPRESSED, STORED = 6, 0


def write_build(path: str, code: tarfile.TarFile, wheelhouse: str, record: Build, date: int) -> None:
    """Write a build, beside its place and renamed into it.

    :param path: where it will be.
    :param code: the app's code, an open tarball.
    :param wheelhouse: a directory with the wheels that the record names.
    :param record: what goes into ``build.json``.
    :param date: the modification time of every member, in seconds since 1970.
    """

    def open_wheel(member: tarfile.TarInfo) -> IO[bytes]:
        return open(f"{wheelhouse}/{posixpath.basename(member.name)}", "rb")

    text = (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
    directory = tarfile.TarInfo("wheelhouse")
    directory.type = tarfile.DIRTYPE
    made = tarfile.TarInfo("build.json")
    made.size = len(text)
    members: list[tuple[tarfile.TarInfo, Callable[[tarfile.TarInfo], IO[bytes] | None]]]
    members = [(member, code.extractfile) for member in code.getmembers()]
    members += [(directory, lambda _: None), (made, lambda _: io.BytesIO(text))]
    for file in record["wheels"]:
        wheel = tarfile.TarInfo(f"wheelhouse/{file}")
        wheel.size = os.path.getsize(f"{wheelhouse}/{file}")
        members.append((wheel, open_wheel))

    # Two may make the same one at once.
    staged = f"{os.path.dirname(path)}/.{os.path.basename(path)}.{os.getpid()}"
    with (
        files.replacing(path, None, staged=staged) as stream,
        _Zipped(stream) as zipped,
        tarfile.open(
            fileobj=cast(Any, zipped), mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
        ) as tar,
    ):
        # Wheels come last. They are compressed already: trying that again would take most of the time.
        for member, reader in sorted(members, key=lambda one: (_is_wheel(one[0]), os.fsencode(one[0].name))):
            if _is_wheel(member):
                zipped.store()
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = date
            member.pax_headers = {}
            member.mode = 0o777 if member.issym() else 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            if member.isfile() and (content := reader(member)):
                with content:
                    tar.addfile(member, content)
            else:
                tar.addfile(member)


def _is_wheel(member: tarfile.TarInfo) -> bool:
    return member.name.startswith("wheelhouse/")


class _Zipped:
    """Writes a gzip file of two members: what is compressed, and behind it what is stored as it is.

    :param stream: where to.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.level, self.zipped = COMPRESSED, self._opened(COMPRESSED)

    def _opened(self, level: int) -> gzip.GzipFile:
        return gzip.GzipFile(filename="", mode="wb", fileobj=self.stream, compresslevel=level, mtime=0)

    def __enter__(self) -> "_Zipped":
        return self

    def __exit__(self, *_: object) -> None:
        self.zipped.close()

    def write(self, data: bytes) -> int:
        return self.zipped.write(data)

    def tell(self) -> int:
        """Return how much was written, which tarfile asks once: before it writes."""
        return self.zipped.tell()

    def store(self) -> None:
        """Store what follows."""
        if self.level != STORED:
            self.zipped.close()
            self.level, self.zipped = STORED, self._opened(STORED)


def whole_build(path: str, wanted: Mapping[str, Any]) -> Build | None:
    """Return what a tarball says of itself, ``None`` where it is no whole build of what is wanted.

    :param path: it need not be there.
    :param wanted: what its ``build.json`` must say, among other things.
    """
    record: Any = None
    wheels: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                if member.name == "build.json":
                    record = json.loads(_content(tar, member).read())
                elif member.name.startswith("wheelhouse/"):
                    digest = hashlib.file_digest(cast(io.BufferedReader, _content(tar, member)), "sha256")
                    wheels[posixpath.basename(member.name)] = digest.hexdigest()
            # gzip checks its sum at the end.
            while cast(IO[bytes], tar.fileobj).read(1 << 20):
                pass
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, RecursionError):
        return None
    # One that was made by an earlier bin/build says nothing of its contracts, packages, or of what its wheels migrate.
    if not isinstance(record, dict) or not {"contracts", "installed_migrations", "packages"} <= record.keys():
        return None
    return record if wanted.items() <= record.items() and record.get("wheels") == wheels else None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    if stream := tar.extractfile(member):
        return stream
    raise ValueError(f"{member.name} is no file")

"""A tarball is checked before any of it is on the disk."""

import contextlib
import gzip
import io
import json
import os
import re
import tarfile
import tempfile

import hypothesis
import pytest
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError

from saltern.builds import tarball as tarball_
from tests.unit.builds.members import LIMITS, folder, manifest, member, symlink


@pytest.fixture
def inspected():
    """Return a function that checks a tarball of shop in a process of its own, as a run does."""
    return lambda path, **limits: tarball_.inspected("shop", str(path), LIMITS | limits)


def test_a_tarball_says_what_it_has(inspected, tarball):
    documents = [member(f"openapi/{name}.yaml", content=name.encode()) for name in ("v1", "v3", "shared")]
    record = json.dumps(manifest()).encode()
    parts = [member("Procfile"), member("build.json", content=record), folder("openapi"), *documents]
    assert inspected(tarball(*parts, member("wheelhouse/x.whl", content=b"x" * 5000))) == {
        "bytes": len(record) + 2 + 2 + 6 + 5000,
        "files": 7,
        "manifest": record.decode(),
        "documents": {"v1": "v1", "v3": "v3"},
        "directories": ["openapi"],
        "pages": [],
        "has": ["Procfile"],
    }


def header(name, size, kind=tarfile.REGTYPE):
    """Return a member's header alone, with any size in it."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse(name, size):
    """Return the header of a sparse file of GNU tar's old kind, of that size."""
    block = bytearray(header(name, 0, tarfile.GNUTYPE_SPARSE))
    block[483:495] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


MANY = b"".join(header(f"f{n}", 0) for n in range(200))
RAW = {
    "a large member": (header("big", 11_000_000), "unpacks to more than 100 files or 10 MB"),
    "a member of a terabyte": (header("big", 1 << 40), "unpacks to more than 100 files or 10 MB"),
    "two that are too large together": (
        header("a", 6_000_000) + bytes(6_000_128) + header("b", 6_000_000),
        "unpacks to more than 100 files or 10 MB; expected less, or a higher app.shop.unpacked",
    ),
    "many members": (MANY, "unpacks to more than 100 files or 10 MB"),
    "a size below 0": (header("a", -512), "damaged"),
    "a sparse file of a terabyte": (sparse("a", 1 << 40), "unpacks to more than"),
    "a sparse file": (sparse("a", 1000), "a is a sparse file"),
    "a long name of a gigabyte": (header("././@LongLink", 1 << 30, tarfile.GNUTYPE_LONGNAME), "says more of a member"),
    "attributes of a gigabyte": (header("a", 1 << 30, tarfile.XHDTYPE), "says more of a member"),
    "attributes of attributes": (
        b"".join(header("a", 11, tarfile.XHDTYPE) + b"11 path=ab\n".ljust(512, b"\0") for _ in range(20_000)),
        "nested too deep|damaged",
    ),
    "no end": (header("a", 0) + bytes(40_000_000), "goes on after its last member|damaged"),
}


@pytest.mark.parametrize("content, reason", RAW.values(), ids=RAW)
def test_a_tarball_that_is_made_to_fill_a_host_is_refused_by_name(inspected, tmp_path, content, reason):
    path = tmp_path / "shop.tar.gz"
    path.write_bytes(gzip.compress(content + bytes(1024), 1))
    with pytest.raises(CommandExecutionError, match=reason) as raised:
        inspected(path)
    assert str(raised.value).startswith(f"app.shop.build: {path}: ")
    assert os.listdir(tmp_path) == ["shop.tar.gz"]


NAMES = {
    "3,000 directories": ("/".join(["a"] * 3000), "is more than 100 directories deep|more than 1000 bytes"),
    "101 directories": ("/".join(["a"] * 101), "is more than 100 directories deep"),
    "a name that no file system takes": ("a" * 256, "has a name of more than 255 bytes"),
    "a long path": ("/".join(["a" * 200] * 6), "has a path of more than 1000 bytes"),
}


@pytest.mark.parametrize("time", ["nan", "inf", "-inf", "1e300", "-1", str(1 << 32)])
def test_a_time_that_no_host_can_keep_is_refused_by_name(inspected, tarball, time):
    info, content = member("a", content=b"x")
    info.pax_headers = {"mtime": time}
    with pytest.raises(CommandExecutionError, match=r"a has a time before 1970 or after 2106; .*build it again"):
        inspected(tarball((info, content)))


def test_a_directory_is_no_procfile(inspected, tarball):
    assert inspected(tarball(folder("a.html"), member("b/c.html"), member("d.htm")))["pages"] == ["b/c.html"]
    assert inspected(tarball(folder("Procfile"), member("requirements.txt")))["has"] == ["requirements.txt"]


@pytest.mark.parametrize("name, reason", NAMES.values(), ids=NAMES)
def test_a_path_that_no_host_can_keep_is_refused_by_name(inspected, tarball, name, reason):
    with pytest.raises(CommandExecutionError, match=reason) as raised:
        inspected(tarball(member(name)))
    assert "aaa" in str(raised.value).replace("/", "") and len(str(raised.value)) < 400


PAIRS = {
    "a file twice": ([member("a"), member("./a")], "a is there twice"),
    "a file and a directory": ([member("a"), folder("a")], "a is there twice"),
    "a link and a file": ([symlink("a", "b"), member("a")], "a is there twice"),
    "a file in a file": ([member("a"), member("a/b")], "a/b lies behind a file"),
    "a file in a file that comes later": ([member("a/b"), member("a")], "a/b lies behind a file"),
    "a file behind a link": ([member("link/evil"), symlink("link", "a")], "link/evil lies behind a symbolic link"),
    "a file above": ([member("../evil")], "../evil leaves the build"),
    "a hard link": ([member("a"), member("b", tarfile.LNKTYPE, "a")], "b is neither a file, a directory nor"),
    "a name that commands a terminal": ([member("../\x1b[2J\n")], "'../.x1b.2J.n"),
    "a file for the build": ([member(".")], ". stands in the place of the build"),
    "a file without a name": ([member("")], "a member without a name stands in the place of the build"),
    "a file through a link and back": (
        [folder("a"), symlink("a/up", ".."), member("a/up/../../evil")],
        "a/up/../../evil goes through a name and back",
    ),
    "a link through a link and back": (
        [folder("a"), symlink("a/up", ".."), symlink("a/up/../../evil", "x")],
        "a/up/../../evil goes through a name and back",
    ),
}


@pytest.mark.parametrize("members, reason", PAIRS.values(), ids=PAIRS)
def test_members_that_cannot_be_unpacked_beside_each_other_are_refused(inspected, tarball, members, reason):
    with pytest.raises(CommandExecutionError, match=reason) as raised:
        inspected(tarball(member("first"), *members))
    assert str(raised.value).isprintable()


TEXTS = {
    "a large build.json": (member("build.json", content=b" " * 2_000_000), "build.json has more than 1 MB"),
    "a build.json in another encoding": (member("build.json", content=b"\xff\xfe"), "build.json is not in UTF-8"),
    "a large document": (member("openapi/v1.yaml", content=b" " * 9_000_000), "openapi/v1.yaml has more than 8 MB"),
    "a document in another encoding": (member("openapi/v1.yaml", content=b"\xff"), "openapi/v1.yaml is not in UTF-8"),
}


@pytest.mark.parametrize("part, reason", TEXTS.values(), ids=TEXTS)
def test_what_a_build_says_of_itself_has_its_bounds(inspected, tarball, part, reason):
    with pytest.raises(CommandExecutionError, match=reason):
        inspected(tarball(part))


@hypothesis.given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4))
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
def test_whatever_bytes_of_a_tarball_are_wrong_it_is_read_or_refused(changes):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        parts = [member("Procfile", content=b"web: x\n"), folder("a"), symlink("a/b", "c"), member("é" * 60)]
        for info, content in [*parts, member("build.json", content=json.dumps(manifest()).encode())]:
            tar.addfile(info, content)
    harmed = bytearray(plain.getvalue())
    for place, value in changes:
        harmed[place % len(harmed)] = value
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as file:
        file.write(gzip.compress(bytes(harmed), 1))
        file.flush()
        with contextlib.suppress(ValueError):
            assert tarball_.inspect(file.name, LIMITS)["files"] >= 0


def block(name="code.py", content=b"", kind=tarfile.REGTYPE, link="", **fields):
    """Return a member as it is in a tarball.

    :param fields: bytes of its header by their offset, such as ``at_124`` for its size.
    """
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(content), kind, link
    header = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    for place, said in fields.items():
        start = int(place.removeprefix("at_"))
        header[start : start + len(said)] = said
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + b"\0" * (-len(content) % 512)


def said_of(name, value, kind=tarfile.XHDTYPE):
    """Return an extended header of a tarball, for its next member or for all."""
    rest = f" {name}={value}\n"
    length = len(rest) + len(str(len(rest) + len(str(len(rest)))))
    return block("pax", f"{length}{rest}".encode(), kind)


CODE, END = block(content=b"abcde"), b"\0" * 1024
KEEP = "expected what a host can keep; build it again"
UNREADABLE = "damaged: says something of a member that cannot be read; build it again"
NO_MEMBER = "is neither a file, a directory nor a symbolic link; expected members that stay inside the build"
TARBALLS = {
    **{
        f"{name} {value[:5]} {kind}": (
            said_of(name, value, kind) + CODE,
            f"code.py has no number for its {name}; {KEEP}",
        )
        for name in ("size", "mtime", "uid", "gid")
        for value in ("word", "", "0x10", "1,2")
        for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE)
    },
    **{
        f"{name} {value[:5]}": (said_of(name, value) + CODE, UNREADABLE)
        for name in ("GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.realsize")
        for value in ("word", "NaN", "9" * 5000)
    },
    "a size below 0": (said_of("size", "-1") + CODE, "damaged: code.py has a size below 0; build it again"),
    "a huge uid": (said_of("uid", "9" * 5000) + CODE, f"code.py has no number for its uid; {KEEP}"),
    "a time that is none": (said_of("mtime", "NaN") + CODE, f"code.py has a time before 1970 or after 2106; {KEEP}"),
    "a sparse file": (
        said_of("GNU.sparse.map", "0,1") + said_of("GNU.sparse.size", "5") + CODE,
        f"code.py is a sparse file; {KEEP}",
    ),
    "a sparse file of old": (block("s", kind=tarfile.GNUTYPE_SPARSE), f"s is a sparse file; {KEEP}"),
    "a device": (block("null", kind=tarfile.CHRTYPE), f"null {NO_MEMBER}"),
    "a disk": (block("disk", kind=tarfile.BLKTYPE), f"disk {NO_MEMBER}"),
    "a pipe": (block("pipe", kind=tarfile.FIFOTYPE), f"pipe {NO_MEMBER}"),
    "a hard link": (block("link", kind=tarfile.LNKTYPE, link="../../etc/passwd"), f"link {NO_MEMBER}"),
    "the same twice": (CODE + CODE, "code.py is there twice; expected each member once; build it again"),
    "a thousand things said of one": (
        said_of("comment", "a") * 2000 + CODE,
        "damaged: says things of a member again and again; build it again",
    ),
    "no member": (CODE + b"word" * 128, "damaged: what follows its last readable member is none; build it again"),
    "a size that ends too early": (
        block(content=b"abcde", at_124=b"0" * 11),
        "damaged: what follows its last readable member is none; build it again",
    ),
    "words behind the end": (CODE + END + b"word", "goes on after its last member; build it again"),
    "another tarball behind it": (CODE + END + CODE, "goes on after its last member; build it again"),
}


@pytest.mark.parametrize("content, message", TARBALLS.values(), ids=TARBALLS)
def test_what_is_wrong_with_a_tarball_is_told_in_plain_words(tmp_path, content, message):
    tarball = tmp_path / "shop.tar.gz"
    tarball.write_bytes(gzip.compress(content + END, 1))
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        tarball_.inspect(tarball, {"megabytes": 10, "files": 100})


NO_GZIP = "damaged: is no gzip file, or goes on behind its end; build it again"
WHOLE = gzip.compress(CODE + END, mtime=0)
COMPRESSED = {
    "garbage behind it": (WHOLE + b"word", NO_GZIP),
    "no gzip": (CODE + END, NO_GZIP),
    "cut off": (
        WHOLE[:-12],
        "damaged: Compressed file ended before the end-of-stream marker was reached; build it again",
    ),
    "another checksum": (WHOLE[:-8] + b"word" + WHOLE[-4:], "damaged: its checksum does not fit; build it again"),
    "scrambled": (
        WHOLE[:20] + b"\xff" * 30 + WHOLE[50:],
        "damaged: its compressed data cannot be read; build it again",
    ),
    "nothing": (b"", "damaged: empty file; build it again"),
    "many small files": (
        gzip.compress(b"".join(block(f"f{number}") for number in range(101)) + END),
        "unpacks to more than 100 files or 10 MB; expected less, or a higher app.{app}.unpacked",
    ),
}


@pytest.mark.parametrize("content, message", COMPRESSED.values(), ids=COMPRESSED)
def test_what_is_wrong_with_a_gzip_file_is_told_in_plain_words(tmp_path, content, message):
    tarball = tmp_path / "shop.tar.gz"
    tarball.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        tarball_.inspect(tarball, {"megabytes": 10, "files": 100})

"""Which wheels uv may unpack."""

import random
import shutil
import zipfile

import pytest
from salt.exceptions import CommandExecutionError

from saltern.builds import links
from saltern.builds import wheels as wheels_
from tests.unit.builds.members import LIMITS


@pytest.fixture
def judge(tmp_path):
    """Return a function that judges the wheels of a build of shop that is staged."""

    def call(**limits):
        earlier = links.newest(str(tmp_path / "apps/shop/builds"))
        wheels_.judge("shop", str(tmp_path / "staged"), earlier, LIMITS | limits)

    return call


@pytest.fixture
def wheels(judge, tmp_path):
    """Return a function that measures the wheels of a build of shop, each given by its contents."""
    wheelhouse = tmp_path / "staged/wheelhouse"
    wheelhouse.mkdir(parents=True)

    def measure(*contents, harm=lambda data: data, **limits):
        for number, files in enumerate(contents):
            path = wheelhouse / f"w{number}-1-py3-none-any.whl"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
            path.write_bytes(harm(path.read_bytes()))
        judge(**limits)

    return measure


def test_honest_wheels_are_taken(wheels):
    wheels({"a.py": "x" * 5000, "empty": "", "b/": ""}, {"c": random.Random(0).randbytes(100_000)})


def test_wheels_that_unpack_to_too_much_are_refused_by_name(wheels):
    with pytest.raises(
        CommandExecutionError, match=r"app\.shop\.build: wheelhouse/w1-1-py3-none-any\.whl: unpacks, with"
    ):
        wheels({"a": bytes(6_000_000)}, {"b": bytes(6_000_000)})
    with pytest.raises(CommandExecutionError, match=r"more than 3 files or 10 MB; .*app\.shop\.unpacked"):
        wheels({"a": "", "b": ""}, {"c": "", "d": ""}, files=3)


def lie(data):
    """Give a zip file's only member a size of 10 bytes in both headers, as a hidden zip bomb would."""
    for mark, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = data.index(mark) + place
        data = data[:at] + (10).to_bytes(4, "little") + data[at + 4 :]
    return data


LIES = {
    "a smaller size": (lie, "a is not as large as it says"),
    "cut": (lambda data: data[: len(data) // 2], "no wheel"),
    "no zip": (lambda data: b"hello", "no wheel"),
    "another content": (lambda data: data[:40] + b"\xff" * 20 + data[60:], "not as large as it says"),
    "no header": (lambda data: b"XXXX" + data[4:], "not as large as it says"),
}


@pytest.mark.parametrize("harm, reason", LIES.values(), ids=LIES)
def test_a_wheel_that_is_not_what_it_says_is_refused_by_name(wheels, harm, reason):
    with pytest.raises(
        CommandExecutionError, match=rf"app\.shop\.build: wheelhouse/w0-1-py3-none-any\.whl: .*{reason}"
    ):
        wheels({"a": bytes(3_000_000)}, harm=harm)


def test_a_wheel_that_an_earlier_build_has_is_not_read_again(wheels, judge, tmp_path, monkeypatch):
    wheels({"a": "x"})
    kept = tmp_path / "apps/shop/builds/before/wheelhouse"
    shutil.copytree(tmp_path / "staged/wheelhouse", kept)
    monkeypatch.setattr(wheels_, "_inflated", lambda stream, member: -1)
    judge()
    (kept / "w0-1-py3-none-any.whl").write_bytes(b"another")
    with pytest.raises(CommandExecutionError, match="not as large as it says"):
        judge()

"""Whether there is room for a build."""

import types

import pytest
from salt.exceptions import CommandExecutionError

from saltern.builds import room as room_


def test_what_has_no_room_is_refused_before_it_is_written(tmp_path, monkeypatch):
    def room(free, files, all_files=1000):
        statvfs = types.SimpleNamespace(f_bavail=free, f_frsize=1_000_000, f_favail=files, f_files=all_files)
        monkeypatch.setattr(room_.os, "statvfs", lambda directory: statvfs)
        room_.check("shop", str(tmp_path / "shop/builds"), {"bytes": 500_000_000, "files": 100})

    room(900, 500)
    room(900, 0, all_files=0)
    with pytest.raises(CommandExecutionError, match=rf"app\.shop\.build: needs 501 MB, and {tmp_path} has 444 MB free"):
        room(700, 500)
    with pytest.raises(CommandExecutionError, match=rf"has 100 files, and {tmp_path} has room for 99; .*keep_releases"):
        room(900, 99)

"""How large files are."""

import pytest

from saltern.system.sizes import megabytes, size_of


def test_the_size_of_a_directory_is_that_of_its_files_and_not_of_what_links_lead_to(tmp_path):
    (tmp_path / "elsewhere").write_bytes(bytes(1_000_000))
    (tmp_path / "data/inner").mkdir(parents=True)
    empty = size_of(str(tmp_path / "data"))
    (tmp_path / "data/inner/file").write_bytes(bytes(1000))
    assert size_of(str(tmp_path / "data")) - empty == 1000
    (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere")
    assert size_of(str(tmp_path / "data")) - empty < 3000
    assert size_of(str(tmp_path / "gone")) == 0


@pytest.mark.parametrize("count, expected", [(0, "0.0 MB"), (7_512_345, "7.5 MB"), (1.2e10, "12000.0 MB")])
def test_a_size_is_written_in_megabytes(count, expected):
    assert megabytes(count) == expected

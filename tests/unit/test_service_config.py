"""Whether a service is older than its configuration."""

import os

import pytest

NOW = 1_000_000


@pytest.mark.parametrize(
    "changed, started, expected",
    [
        (900, 1000, False),
        (1000, 900, True),
        (900, 900, False),
        # From the future: a clock was set back. It would be so again after every restart.
        (NOW + 100, 900, False),
    ],
)
def test_a_service_is_restarted_for_a_file_that_is_newer(service_config, tmp_path, changed, started, expected):
    file = tmp_path / "service.conf"
    file.touch()
    os.utime(file, (changed, changed))
    assert service_config.newer([str(file), str(tmp_path / "absent")], started, NOW) is expected

"""The example apps' own tests, on a bare host of their own."""

import pytest

from lab import Lab, machine


@pytest.mark.alike
def test_the_example_apps_pass_their_own_tests(suite):
    with Lab.temporary(f"examples-{suite}") as lab:
        host = lab.boot("dev", suite)
        done = host.run("/srv/saltern/examples/run-tests", env=machine.index_environment(), check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

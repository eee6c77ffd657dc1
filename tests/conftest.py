"""Salt, in the process of the tests: some of them load its modules, or ours that import it."""

import pytest

from verify.salt_in_process import settle

# So that its assertions tell what they found.
pytest.register_assert_rewrite("tests.hosts.applied")
settle()

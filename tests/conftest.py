"""Some tests load Salt's modules, or our modules that import Salt: it is prepared here."""

import pytest

from verify.salt_in_process import settle

# pytest rewrites this module's assertions, so that a failed one shows its values.
pytest.register_assert_rewrite("tests.hosts.applied")
settle()

"""Salt, in the process of the tests: some of them load its modules, or ours that import it."""

import sys

import pytest
import salt._logging

import salt

# So that its assertions tell what they found.
pytest.register_assert_rewrite("tests.converge.applied")

# Salt puts an importer of an older kind before Python's own, without the find_spec that pytest asks each of them for.
# It serves processes that load ZeroMQ and PyNaCl together; none does here.
sys.meta_path[:] = [importer for importer in sys.meta_path if not isinstance(importer, salt.NaclImporter)]

# Until its logging is set up, Salt keeps what is logged and prints it when Python ends.
salt._logging.shutdown_temp_handler()

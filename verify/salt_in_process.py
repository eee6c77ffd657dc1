"""Salt inside pytest's process: testinfra uses it to ask a master's minions, and tests load modules that import it."""

import sys

import salt._logging

import salt


def settle() -> None:
    """Undo side effects of Salt's import in a process that uses Salt only as a library."""
    # Salt puts an old importer before Python's own. It has no find_spec, which pytest calls on each importer. It is for
    # processes that load ZeroMQ and PyNaCl together, which does not happen here.
    sys.meta_path[:] = [importer for importer in sys.meta_path if not isinstance(importer, salt.NaclImporter)]
    # Salt collects log lines until its logging is set up, and would print them when Python ends.
    salt._logging.shutdown_temp_handler()

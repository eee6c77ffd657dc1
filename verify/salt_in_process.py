"""Salt, in the process of pytest: testinfra asks a master's minions by it, and tests load modules that import it."""

import sys

import salt._logging

import salt


def settle() -> None:
    """Take away what Salt's import leaves in a process that only uses it as a library."""
    # Salt puts an importer of an older kind before Python's own, without the find_spec that pytest asks each of them
    # for. It serves processes that load ZeroMQ and PyNaCl together; none does here.
    sys.meta_path[:] = [importer for importer in sys.meta_path if not isinstance(importer, salt.NaclImporter)]
    # Salt keeps log lines until its logging is set up, and prints them when Python ends.
    salt._logging.shutdown_temp_handler()

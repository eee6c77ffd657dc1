"""What Salt's own Python does before anything else; see bootstrap.sh."""

import contextlib
import logging
import warnings

logging.lastResort = logging.NullHandler()

with warnings.catch_warnings(), contextlib.suppress(ImportError):
    warnings.simplefilter("ignore")
    import crypt  # noqa: F401

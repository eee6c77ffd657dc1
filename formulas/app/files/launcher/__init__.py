"""The launcher of the apps' processes. It is byte-compiled when it is installed: it runs at each start of a process.

For the same reason it imports little: ``signal``, ``socket``, ``json`` and ``contextlib`` take longer to import than
all else that a start does, so that it uses the C modules below them. A module of its own is never imported late: by
then a converge may have brought another version of it.
"""

import os

# What supervisor and others call.
ENTRY = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/process"

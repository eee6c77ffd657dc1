"""The launcher of the apps' processes. It runs at each start of a process, so it is byte-compiled when it is installed.

For the same reason it uses C modules: to import ``signal``, ``socket``, ``json`` and ``contextlib`` takes longer than
the rest of a start. The launcher imports its own modules early, because a converge may bring another version of them.
"""

import os

# What supervisor and other programs call.
ENTRY = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/process"

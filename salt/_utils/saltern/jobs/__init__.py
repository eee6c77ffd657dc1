"""Jobs: process types that run by the clock, on one host of the environment, and end.

A timer of systemd starts a runner, ``formulas/app/files/job.py``, with Debian's own Python. What the runner imports
(``schedule``, ``record``, ``runner``, ``names``) uses the standard library alone.
"""

"""What Saltern decides and parses. Salt's own modules, the commands in ``bin``, the lab and the tests import it.

Nothing here reads a dunder of Salt's: what a function needs of Salt it is given. Salt puts ``salt/_utils`` on Python's
path (``utils_dirs``); to the minions of a master it brings a copy with every run.
"""

"""Parity: a tree compiled without its hosts (``tree``, ``compiled``), and compared (``compare``)."""

"""Secrets: what of their files a host checks (``files``), and how an operator writes them (``command``)."""

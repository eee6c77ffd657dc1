"""Builds: what they are (``form``), how a host unpacks them (``declared``), and how they are made (``make``)."""

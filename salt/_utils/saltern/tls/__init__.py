"""Certificates: of hosts, and of the domains of apps."""

"""Contracts: the versions of its API that an app provides to others."""

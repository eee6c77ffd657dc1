"""Releases: a build and a config, numbered and immutable, the one that serves, and its processes."""

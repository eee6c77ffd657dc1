"""Releases: each is a build and a config, numbered and immutable. One of them serves, by its processes."""

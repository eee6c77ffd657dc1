"""The way of a request: nginx, and who answers behind it."""

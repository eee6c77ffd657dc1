"""``make verify``: asks hosts whether they are what was declared."""

"""An access list of PostgreSQL: two apps, what an operator wrote by hand, and what an earlier version wrote."""

ACCESS = """# Managed.
local   all  postgres  peer
host    all  all  all  trust
host    "faq"  "faq"  127.0.0.1/32  scram-sha-256
host    "faq"  "faq"  ::1/128       scram-sha-256
hostssl "stock"  +"my-shop"  10.0.0.4/32  scram-sha-256
hostssl "stock"  "my-shop"  ::1/128  scram-sha-256
host    "stock"  "my-shop"  0.0.0.0/0  trust
"""

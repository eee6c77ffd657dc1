# yaml-language-server: $schema=../../docs/environment.schema.json
# What differs in dev. The builds are in builds/dev.sls, which `make build` writes.

# Its hosts are thrown away: they see the tree itself, and none of its values is a secret.
ephemeral: True

# Such hosts are changed by hand all day.
drift:
  interval: 0

# What `make up` has published is its HTTP, and nobody's browser knows the authority of a laptop's host. HTTPS is served
# all the same.
nginx:
  tls:
    redirect: False

app:
  faq:
    domains: [faq.localhost]
    config:
      ALLOWED_HOSTS: faq.localhost,127.0.0.1

  tickets:
    domains: [tickets.localhost]
    config:
      ALLOWED_HOSTS: tickets.localhost

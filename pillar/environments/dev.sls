# yaml-language-server: $schema=../../docs/environment.schema.json
# What differs in dev. The builds are in builds/dev.sls, which `make release` writes.

# Hosts that are thrown away are changed by hand all day.
drift:
  interval: 0

app:
  faq:
    domains: [faq.localhost]
    config:
      ALLOWED_HOSTS: faq.localhost,127.0.0.1

  tickets:
    domains: [tickets.localhost]
    config:
      ALLOWED_HOSTS: tickets.localhost

# yaml-language-server: $schema=../../docs/environment.schema.json
# What differs in production. The builds are in builds/production.sls, which `make build ENV=production` writes.
app:
  faq:
    domains: [faq.example.com]
    config:
      ALLOWED_HOSTS: faq.example.com,127.0.0.1

  tickets:
    domains: [tickets.example.com]
    config:
      ALLOWED_HOSTS: tickets.example.com

# yaml-language-server: $schema=../../docs/environment.schema.json
# What differs in staging. The builds are in builds/staging.sls, which `make build ENV=staging` writes.
app:
  faq:
    domains: [faq.staging.example.com]
    config:
      ALLOWED_HOSTS: faq.staging.example.com,127.0.0.1

  tickets:
    domains: [tickets.staging.example.com]
    config:
      ALLOWED_HOSTS: tickets.staging.example.com

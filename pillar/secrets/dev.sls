#!yaml
# yaml-language-server: $schema=../../docs/environment.schema.json
# The first line keeps Jinja away: a password may hold {{, {% or {#.
# Nothing here is a secret: dev hosts are thrown away. The passwords of their databases are made on the host.
app:
  faq:
    config:
      SECRET_KEY: dev-only-not-a-secret-faq-0123456789-0123456789-0123456789
  tickets:
    config:
      SECRET_KEY: dev-only-not-a-secret-tickets-0123456789-0123456789-0123456789

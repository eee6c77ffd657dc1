# yaml-language-server: $schema=../docs/pillar.schema.json
# What every environment shares. docs/reference has all that can be said.
app:
  faq:
    port: 8200
    provides:
      v1: {path: /v1}
      v2: {path: /v2}
    formation: {web: 1}
    attach:
      DATABASE_URL: {postgres: faq}

  tickets:
    port: 8100
    formation: {web: 2, worker: 2}
    grace: {worker: 60}
    attach:
      DATABASE_URL: {postgres: tickets}
      REDIS_URL: {redis: tickets}
      FAQ_API: {service: faq, version: v1}

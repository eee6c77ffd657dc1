{% set environment = salt['inventory.environment'](salt['inventory.read'](), opts.id) %}
base:
  '*':
    - common
{% if environment %}
    - environments.{{ environment }}
  # None need be there: the release tool writes the builds, an operator the secrets and the certificates.
  {{ opts.id | tojson }}:
    - ignore_missing: True
    - builds.{{ environment }}
    - secrets.{{ environment }}
    - certificates.{{ environment }}.{{ opts.id | replace('.', '_') }}
{% endif %}

{% set environment = salt['inventory.environment'](salt['inventory.read'](), opts.id) %}
base:
  '*':
    - inventory
    - common
{% if environment %}
    - environments.{{ environment }}
  # Neither need be there: the release tool writes the builds, an operator the secrets.
  {{ opts.id | tojson }}:
    - ignore_missing: True
    - builds.{{ environment }}
    - secrets.{{ environment }}
{% endif %}

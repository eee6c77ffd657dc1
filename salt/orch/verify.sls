# Asks whether all hosts of an environment are what is declared:
#   salt-run state.orchestrate orch.verify pillar='{environment: production}'
{% from 'orch/batches.jinja' import begun %}
{% set plan = salt['fleet.verify'](pillar) %}

{{ begun('orch-verify', plan) }}

{% if not plan.mistakes %}
orch-verify-verified:
  fleet.verified:
    - name: {{ pillar.environment }}
    - hosts: {{ plan.hosts | tojson }}
    - own: {{ plan.own | tojson }}
{% endif %}

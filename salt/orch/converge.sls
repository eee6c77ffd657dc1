# Converges all hosts of an environment, those that others attach first:
#   salt-run state.orchestrate orch.converge pillar='{environment: production}'
{% from 'orch/batches.jinja' import begun %}
{% set plan = salt['fleet.converge'](pillar) %}

{{ begun('orch-converge', plan) }}

{% if not plan.mistakes %}
{% for together in plan.order %}
orch-converge-told-{{ together | join('_') }}:
  fleet.told:
    - name: {{ (together | join(', ') ~ ' converges, of ' ~ plan.hosts | length ~ ' hosts') | tojson }}

orch-converge-{{ together | join('_') }}:
  salt.state:
    - tgt: {{ together | tojson }}
    - tgt_type: list
    - expect_minions: True
    - highstate: True
    - require:
      - fleet: orch-converge-ready
    - failhard: True
{% endfor %}
{% endif %}

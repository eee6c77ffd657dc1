# Goes back to an earlier release:
#   salt-run state.orchestrate orch.rollback pillar='{app: tickets, environment: production}'
{% from 'orch/batches.jinja' import batches, begun %}
{% set plan = salt['fleet.release'](pillar) %}

{{ begun('orch-rollback', plan) }}

{% if not plan.mistakes %}
{% call(batch, name) batches('orch-rollback', plan, 'salt', verified=[plan.app]) %}
orch-rollback-done-{{ name }}:
  salt.function:
    - name: release.rollback
    - tgt: {{ batch | tojson }}
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ plan.app | tojson }}]
    - kwarg: {force: {{ plan.force }}, declared: True}
{% endcall %}
{% endif %}

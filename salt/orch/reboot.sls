# Reboots the hosts that have a reason to be rebooted, one after the other:
#   salt-run state.orchestrate orch.reboot pillar='{environment: production}'
{% from 'orch/batches.jinja' import batches, begun, rebooted %}
{% set plan = salt['fleet.reboot'](pillar) %}

{{ begun('orch-reboot', plan) }}

{% if not plan.mistakes %}
{% if not plan.reasons %}
orch-reboot-nothing:
  fleet.told:
    - name: No host of {{ pillar.environment }} has a reason to be rebooted
{% endif %}
{% for host in plan.before %}
{{ rebooted(plan, [host]) }}
{% endfor %}
{% call(batch, name) batches('orch-reboot', plan, 'fleet', verified=[]) %}
{{ rebooted(plan, batch, failhard=False) }}
{% endcall %}
{% for host in plan.after %}
{{ rebooted(plan, [host]) }}
{% endfor %}
{% endif %}

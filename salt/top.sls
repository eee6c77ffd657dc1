# Roles come from the pillar alone: a new minion has no module of ours yet. settings.load refuses an unchecked pillar.
{% set row = (pillar.hosts | default({}))[opts.id] | default({'roles': []}) %}
base:
  '*':
    - base
    - drift
    - firewall
{% for role in row.roles %}
    - roles.{{ role }}
{% endfor %}

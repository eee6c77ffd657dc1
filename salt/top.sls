# By the pillar alone: a minion that is new has no module of ours yet. Of a pillar that nobody checked settings.load says so.
{% set row = (pillar.hosts | default({}))[opts.id] | default({'roles': []}) %}
base:
  '*':
    - base
    - drift
    - firewall
{% for role in row.roles %}
    - roles.{{ role }}
{% endfor %}

base:
  '*':
    - base
    - drift
    - firewall
{% for role in salt['inventory.roles']() %}
    - roles.{{ role }}
{% endfor %}

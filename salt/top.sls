base:
  '*':
    - base
    - drift
{% for role in salt['inventory.roles']() %}
    - roles.{{ role }}
{% endfor %}

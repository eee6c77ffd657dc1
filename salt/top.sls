base:
  '*':
    - base
{% for role in salt['inventory.roles']() %}
    - roles.{{ role }}
{% endfor %}

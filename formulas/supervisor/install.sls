supervisor-package:
  pkg.installed:
    - pkgs: [supervisor]
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}

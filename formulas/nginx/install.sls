nginx-package:
  pkg.installed:
    # nginx logs to files. Debian's package configures their rotation, and does not bring logrotate.
    - pkgs: [nginx, logrotate]
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}

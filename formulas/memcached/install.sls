memcached-package:
  pkg.installed:
    - pkgs: [memcached]
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}
    - require:
      - file: memcached-stock-instance-off

# The package starts an instance that belongs to no app, and that asks nobody who it is.
memcached-stock-instance-off:
  file.symlink:
    - name: /etc/systemd/system/memcached.service
    - target: /dev/null
    - order: 1

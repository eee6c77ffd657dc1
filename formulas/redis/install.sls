redis-package:
  pkg.installed:
    - pkgs: [redis-server, procps]
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}
    - require:
      - file: redis-stock-instance-off

# The package starts an instance that belongs to no app.
redis-stock-instance-off:
  file.symlink:
    - name: /etc/systemd/system/redis-server.service
    - target: /dev/null
    - order: 1

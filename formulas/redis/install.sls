{% from 'base/new.jinja' import together with context %}

redis-package:
  pkg.installed:
    - pkgs: [redis-server, procps]
    {{ together() }}
    - require:
      - file: redis-stock-instance-off

# The package starts an instance that belongs to no app.
redis-stock-instance-off:
  file.symlink:
    - name: /etc/systemd/system/redis-server.service
    - target: /dev/null
    - order: 1

{% from 'base/new.jinja' import together with context %}

memcached-package:
  pkg.installed:
    - pkgs: [memcached]
    {{ together() }}
    - require:
      - file: memcached-stock-instance-off

# The package starts an instance that belongs to no app, and that asks nobody who it is.
memcached-stock-instance-off:
  file.symlink:
    - name: /etc/systemd/system/memcached.service
    - target: /dev/null
    - order: 1

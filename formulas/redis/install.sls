redis-package:
  pkg.installed:
    - name: redis-server
    - require:
      - file: redis-stock-instance-off

# The package starts an instance of its own that belongs to no app.
redis-stock-instance-off:
  file.symlink:
    - name: /etc/systemd/system/redis-server.service
    - target: /dev/null

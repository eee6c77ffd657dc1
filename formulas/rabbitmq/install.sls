# Both are there before the package, which starts the two units. The broker waits for its certificate, and so for its
# configuration: without one it would be open to all, with a user whose password everybody knows.
rabbitmq-unit:
  file.managed:
    - name: /etc/systemd/system/rabbitmq-server.service.d/saltern.conf
    - source: salt://rabbitmq/files/rabbitmq-server.service
    - makedirs: True
    - mode: '0644'
    - order: 1

rabbitmq-ports-unit:
  file.managed:
    - name: /etc/systemd/system/epmd.socket.d/saltern.conf
    - source: salt://rabbitmq/files/epmd.socket
    - makedirs: True
    - mode: '0644'
    - order: 1

rabbitmq-package:
  pkg.installed:
    - pkgs: [rabbitmq-server]
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}
    - require:
      - file: rabbitmq-unit
      - file: rabbitmq-ports-unit

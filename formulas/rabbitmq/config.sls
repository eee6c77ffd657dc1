#!yaml
include:
  - certificates

# Debian gives this directory to RabbitMQ, which only reads there.
rabbitmq-directory:
  root_directory.alone:
    - name: the configuration of RabbitMQ
    - directories: [/etc/rabbitmq]
    - group: rabbitmq
    - mode: '0750'
    - files: ['/etc/rabbitmq/*']
    - require:
      - pkg: rabbitmq-package

rabbitmq-config:
  file.managed:
    - name: /etc/rabbitmq/rabbitmq.conf
    - source: salt://rabbitmq/files/rabbitmq.conf.jinja
    - template: jinja
    - user: root
    - group: rabbitmq
    - mode: '0640'
    - require:
      - root_directory: rabbitmq-directory

rabbitmq-environment:
  file.managed:
    - name: /etc/rabbitmq/rabbitmq-env.conf
    - source: salt://rabbitmq/files/rabbitmq-env.conf
    - user: root
    - group: rabbitmq
    - mode: '0640'
    - require:
      - root_directory: rabbitmq-directory

rabbitmq-definitions:
  file.managed:
    - name: /etc/rabbitmq/definitions.json
    - source: salt://rabbitmq/files/definitions.json
    - user: root
    - group: rabbitmq
    - mode: '0640'
    - require:
      - root_directory: rabbitmq-directory

rabbitmq-certificate:
  certificate.present:
    - name: /etc/ssl/saltern/rabbitmq.pem
    - user: rabbitmq
    - require:
      - certificate: certificates-authorities
      - pkg: rabbitmq-package

rabbitmq-unit-read:
  service_config.unit_read:
    - name: the units of RabbitMQ
    - units: [rabbitmq-server, epmd.socket]
    - watch:
      - file: rabbitmq-unit
      - file: rabbitmq-ports-unit

# It may have run before it was told to listen on the loopback alone.
rabbitmq-ports-loaded:
  service_config.loaded:
    - name: epmd.socket
    - files: [/etc/systemd/system/epmd.socket.d/saltern.conf]
    - watch:
      - file: rabbitmq-ports-unit
    - require:
      - service_config: rabbitmq-unit-read
      - pkg: rabbitmq-package

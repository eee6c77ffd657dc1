{% set rabbitmq = salt['settings.load']('rabbitmq') %}

rabbitmq-service:
  unit.running:
    - name: rabbitmq-server
    - package: rabbitmq-server
    # The package does not start it without its certificate.
    - started_if: /etc/ssl/saltern/rabbitmq.pem
    - require:
      - service_config: rabbitmq-ports-loaded
      - certificate: rabbitmq-certificate
      - file: rabbitmq-config
      - file: rabbitmq-environment
      - file: rabbitmq-definitions

rabbitmq-loaded:
  service_config.loaded:
    - name: rabbitmq-server
    - files:
      - /etc/rabbitmq/rabbitmq.conf
      - /etc/rabbitmq/rabbitmq-env.conf
      - /etc/rabbitmq/definitions.json
    - watch:
      - file: rabbitmq-config
      - file: rabbitmq-environment
      - file: rabbitmq-definitions
    - require:
      - unit: rabbitmq-service

rabbitmq-guest:
  resource.done:
    - name: guest
    - kind: rabbitmq
    - step: guest
    - require:
      - service_config: rabbitmq-loaded

{% for name in rabbitmq.vhosts | sort %}
rabbitmq-vhost-{{ name }}:
  resource.done:
    - name: {{ name }}
    - kind: rabbitmq
    - step: vhost
    - require:
      - service_config: rabbitmq-loaded
{% endfor %}

rabbitmq-certificate-served:
  resource.done:
    - name: /etc/ssl/saltern/rabbitmq.pem
    - kind: rabbitmq
    - step: certificate
    - require:
      - service_config: rabbitmq-loaded

# Closed after the apps: a process ends before what it attaches.
rabbitmq-retired:
  resource.done:
    - name: rabbitmq
    - kind: rabbitmq
    - step: retired
    - order: last
    - require:
      - service_config: rabbitmq-loaded

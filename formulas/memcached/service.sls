{% set memcached = salt['settings.load']('memcached') %}

# An instance may take the port of the one that it replaces.
memcached-replaced:
  resource.done:
    - name: instances that give way
    - kind: memcached
    - step: replaced
    - require:
      - pkg: memcached-package

{% for name, instance in memcached.instances | dictsort if instance.owner %}
memcached-service-{{ name }}:
  unit.running:
    - name: memcached@{{ name }}
    - require:
      - resource: memcached-replaced
      - resource: memcached-logins-{{ name }}
      - service_config: memcached-unit-read
      - certificate: memcached-certificate
      - file: memcached-config-{{ name }}

memcached-loaded-{{ name }}:
  service_config.loaded:
    - name: memcached@{{ name }}
    - files:
      - /etc/systemd/system/memcached@.service
      - /etc/systemd/system/memcached@{{ name }}.service.d/saltern.conf
    - watch:
      - file: memcached-unit
      - file: memcached-config-{{ name }}
    - require:
      - unit: memcached-service-{{ name }}

# Another password, or another certificate, does not restart an instance.
memcached-served-{{ name }}:
  resource.done:
    - name: {{ name }}
    - kind: memcached
    - step: served
    - require:
      - service_config: memcached-loaded-{{ name }}
{% endfor %}

# Stopped after the apps: a process ends before what it attaches.
memcached-retired:
  resource.done:
    - name: instances that nobody has
    - kind: memcached
    - step: retired
    - order: last
    - require:
      - pkg: memcached-package

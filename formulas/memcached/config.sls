{% set memcached = salt['settings.load']('memcached') %}

include:
  - certificates

memcached-certificate:
  certificate.present:
    - name: /etc/ssl/saltern/memcached.pem
    - user: memcache
    - require:
      - certificate: certificates-authorities
      - pkg: memcached-package

memcached-unit:
  file.managed:
    - name: /etc/systemd/system/memcached@.service
    - source: salt://memcached/files/memcached@.service
    - mode: '0644'

{% for name, instance in memcached.instances | dictsort if instance.owner %}
memcached-config-{{ name }}:
  file.managed:
    - name: /etc/systemd/system/memcached@{{ name }}.service.d/saltern.conf
    - source: salt://memcached/files/instance.conf.jinja
    - template: jinja
    - makedirs: True
    - mode: '0644'
    - context:
        instance: {{ name }}
    - require:
      - pkg: memcached-package

memcached-logins-{{ name }}:
  resource.done:
    - name: {{ name }}
    - kind: memcached
    - step: logins
    - require:
      - pkg: memcached-package
{% endfor %}

memcached-unit-read:
  service_config.unit_read:
    - name: the units of memcached
    - units: {{ memcached.instances | sort | map('regex_replace', '^', 'memcached@') | list | tojson }}
    - watch:
      - file: memcached-unit
{% for name, instance in memcached.instances | dictsort if instance.owner %}
      - file: memcached-config-{{ name }}
{% endfor %}

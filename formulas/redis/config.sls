{% set redis = salt['settings.load']('redis') %}

include:
  - certificates

redis-certificate:
  certificate.present:
    - name: /etc/ssl/saltern/redis.pem
    - user: redis
    - require:
      - certificate: certificates-authorities
      - pkg: redis-package

{% for name, instance in redis.instances | dictsort %}
redis-data-{{ name }}:
  redis_instance.attached:
    - name: {{ name }}
    - app: {{ instance.owner }}
    - directory: /etc/redis

redis-config-{{ name }}:
  file.managed:
    - name: /etc/redis/redis-{{ name }}.conf
    - source: salt://redis/files/redis.conf.jinja
    - template: jinja
    - user: redis
    - group: redis
    - mode: '0640'
    - show_changes: False
    - context:
        instance: {{ name }}
    - require:
      - pkg: redis-package
      - redis_instance: redis-data-{{ name }}
      - certificate: redis-certificate
{% endfor %}

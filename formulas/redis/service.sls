{% set redis = salt['settings.load']('redis') %}

redis-retired:
  redis_instance.retired:
    - name: /etc/redis
    - instances: {{ redis.instances | sort | tojson }}

{% for name in redis.instances | sort %}
redis-service-{{ name }}:
  service.running:
    - name: redis-server@{{ name }}
    - enable: True
    - require:
      - redis_instance: redis-retired
    - watch:
      - file: redis-config-{{ name }}

redis-loaded-{{ name }}:
  service_config.loaded:
    - name: redis-server@{{ name }}
    - files: [/etc/redis/redis-{{ name }}.conf]
    - require:
      - service: redis-service-{{ name }}
{% endfor %}

{% set redis = salt['settings.load']('redis') %}

{% for name in redis.instances | sort %}
redis-service-{{ name }}:
  service.running:
    - name: redis-server@{{ name }}
    - enable: True
    - watch:
      - file: redis-config-{{ name }}
{% endfor %}

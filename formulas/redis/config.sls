{% set redis = salt['settings.load']('redis') %}

{% for name in redis.instances | sort %}
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
{% endfor %}

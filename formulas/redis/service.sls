{% set redis = salt['settings.load']('redis') %}

# An instance may take the port of the one that it replaces.
redis-replaced:
  redis_instance.replaced:
    - name: /etc/redis
    - instances: {{ redis.instances | sort | tojson }}
    - ports: {{ redis.instances.values() | map(attribute='port') | sort | tojson }}
    - require:
      - root_directory: redis-directory

{% for name in redis.instances | sort %}
redis-service-{{ name }}:
  unit.running:
    - name: redis-server@{{ name }}
    - package: redis-server
    - started_if: /etc/redis/redis-{{ name }}.conf
    - require:
      - redis_instance: redis-replaced
      - service_config: redis-unit-read
      - file: redis-config-{{ name }}

redis-loaded-{{ name }}:
  service_config.loaded:
    - name: redis-server@{{ name }}
    - files: [/etc/redis/redis-{{ name }}.conf]
    - watch:
      - file: redis-config-{{ name }}
    - require:
      - unit: redis-service-{{ name }}

# A changed password does not restart an instance.
redis-admitted-{{ name }}:
  redis_instance.admitted:
    - name: {{ name }}
    - port: {{ redis.instances[name].port }}
    - watch:
      - redis_instance: redis-users-{{ name }}
    - require:
      - service_config: redis-loaded-{{ name }}

redis-certificate-served-{{ name }}:
  redis_instance.certificate_served:
    - name: {{ name }}
    - port: {{ redis.instances[name].port }}
    - path: /etc/ssl/saltern/redis.pem
    - watch:
      - certificate: redis-certificate
    - require:
      - service_config: redis-loaded-{{ name }}
{% endfor %}

# Stopped after the apps: a process ends before what it attaches.
redis-retired:
  redis_instance.retired:
    - name: /etc/redis
    - instances: {{ redis.instances | sort | tojson }}
    - order: last
    - require:
      - root_directory: redis-directory

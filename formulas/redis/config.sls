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

# Debian gives this directory to Redis, which only reads there.
redis-directory:
  root_directory.alone:
    - name: the configuration of Redis
    - directories: [/etc/redis]
    - group: redis
    - mode: '0750'
    - files: ['/etc/redis/redis-*.conf']
    - require:
      - pkg: redis-package

{% if grains['virtual'] != 'container' %}
# Redis forks to write its files. The kernel must not refuse the fork because the memory would not do for two processes.
# In a container the value is the machine's own.
redis-overcommit:
  file.managed:
    - name: /etc/sysctl.d/60-saltern-redis.conf
    - contents: vm.overcommit_memory = 1
    - mode: '0644'
    - require:
      - pkg: redis-package

redis-overcommit-loaded:
  cmd.run:
    - name: sysctl --quiet --load /etc/sysctl.d/60-saltern-redis.conf
    - unless: grep -qx 1 /proc/sys/vm/overcommit_memory
    - require:
      - file: redis-overcommit
{% endif %}

redis-unit:
  file.managed:
    - name: /etc/systemd/system/redis-server@.service.d/saltern.conf
    - source: salt://redis/files/redis-server.service
    - makedirs: True
    - mode: '0644'

redis-unit-read:
  service_config.unit_read:
    - name: the units of Redis
    - units: {{ redis.instances | sort | map('regex_replace', '^', 'redis-server@') | list | tojson }}
    - watch:
      - file: redis-unit

{% for name, instance in redis.instances | dictsort %}
redis-data-{{ name }}:
  redis_instance.attached:
    - name: {{ name }}
    - app: {{ instance.owner }}
    - directory: /etc/redis
    - require:
      - root_directory: redis-directory

redis-users-{{ name }}:
  redis_instance.users:
    - name: {{ name }}
    - app: {{ instance.owner }}
    - directory: /etc/redis
    - require:
      - pkg: redis-package
      - redis_instance: redis-data-{{ name }}

redis-config-{{ name }}:
  file.managed:
    - name: /etc/redis/redis-{{ name }}.conf
    - source: salt://redis/files/redis.conf.jinja
    - template: jinja
    - user: root
    - group: redis
    - mode: '0640'
    - show_changes: False
    - context:
        instance: {{ name }}
    - require:
      - root_directory: redis-directory
      - redis_instance: redis-users-{{ name }}
      - certificate: redis-certificate
{% endfor %}

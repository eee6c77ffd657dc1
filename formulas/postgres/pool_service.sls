{% set ways = salt['postgres_attachment.ways']() %}

{% for way in ways %}
postgres-pool-service-{{ way }}:
  unit.running:
    - name: postgresql-pool@{{ way }}
    - require:
      - pkg: postgres-pool-package
      - certificate: postgres-certificate
      - postgres_cluster: postgres-access-loaded
      - service_config: postgres-pool-unit-read
      - file: postgres-pool-listen
      - file: postgres-pool-config-{{ way }}
      - resource: postgres-pool-users

# PgBouncer reads where it listens at its start alone.
postgres-pool-loaded-{{ way }}:
  service_config.loaded:
    - name: postgresql-pool@{{ way }}
    - files:
      - /etc/systemd/system/postgresql-pool@.service
      - /etc/saltern/pgbouncer/listen.ini
    - watch:
      - file: postgres-pool-unit
      - file: postgres-pool-listen
    - require:
      - unit: postgres-pool-service-{{ way }}

# All else it reads at a reload, and no client is disconnected.
postgres-pooled-{{ way }}:
  resource.done:
    - name: {{ way }}
    - kind: postgres
    - step: pooled
    - require:
      - service_config: postgres-pool-loaded-{{ way }}
{% endfor %}

# After the apps, and after what is closed.
postgres-unpooled:
  resource.done:
    - name: /etc/saltern/pgbouncer
    - kind: postgres
    - step: unpooled
    - order: last
    - require:
      - postgres_cluster: postgres-loaded

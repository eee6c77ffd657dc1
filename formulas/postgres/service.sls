{% set version = salt['settings.debian']().postgres %}
{% set postgres = salt['settings.load']('postgres') %}

# This unit starts every cluster at boot.
postgres-service-enabled:
  unit.enabled:
    - name: postgresql
    - package: postgresql-{{ version }}
    - require:
      - pkg: postgres-package

postgres-service:
  unit.running:
    - name: postgresql@{{ version }}-main
    - package: postgresql-{{ version }}
    - started_if: /var/lib/postgresql/{{ version }}/main/PG_VERSION
    # The unit postgresql starts it.
    - enable: False
    - require:
      - postgres_cluster: postgres-cluster
      - service_config: postgres-unit-read
      - file: postgres-config
      - file: postgres-access

# It reloads, and restarts only for what PostgreSQL reads at its start.
postgres-loaded:
  postgres_cluster.loaded:
    - name: postgresql@{{ version }}-main
    - path: /etc/postgresql/{{ version }}/main/conf.d/saltern.conf
    - watch:
      - file: postgres-config
    - require:
      - unit: postgres-service

# PostgreSQL reads both at a reload.
postgres-access-loaded:
  postgres_cluster.access_loaded:
    - name: main
    - version: {{ version }}
    - certificate: /etc/ssl/saltern/postgres.pem
    - watch:
      - file: postgres-access
      - certificate: postgres-certificate
    - require:
      - postgres_cluster: postgres-loaded

{% for name, database in postgres.databases | dictsort %}
postgres-attachment-{{ name }}:
  postgres_attachment.present:
    - name: {{ name }}
    - owner: {{ database.owner }}
    - connections: {{ database.connections }}
    - require:
      - postgres_cluster: postgres-loaded
{% endfor %}

{% for name, database in postgres.databases | dictsort if database.borrowers | default({}) %}
postgres-lent-{{ name }}:
  resource.done:
    - name: {{ name }}
    - kind: postgres
    - step: lent
    - require:
      - postgres_attachment: postgres-attachment-{{ name }}
{% endfor %}

# Closed after the apps: a process ends before what it attaches.
postgres-retired:
  postgres_attachment.retired:
    - name: /etc/postgresql/{{ version }}/main/pg_hba.conf
    - databases: {{ postgres.databases | dictsort | map('first') | list | tojson }}
    - owners: {{ postgres.databases | dictsort | map('last') | map(attribute='owner') | list | tojson }}
    - order: last
    - require:
      - postgres_cluster: postgres-loaded

postgres-returned:
  resource.done:
    - name: /etc/postgresql/{{ version }}/main/pg_hba.conf
    - kind: postgres
    - step: returned
    - order: last
    - require:
      - postgres_cluster: postgres-loaded

{% import_yaml 'debian.yaml' as debian %}
{% set version = debian[grains['oscodename']].postgres %}
{% set postgres = salt['settings.load']('postgres') %}

# Starts every cluster at boot.
postgres-service-enabled:
  service.enabled:
    - name: postgresql
    - require:
      - pkg: postgres-package

postgres-service:
  service.running:
    - name: postgresql@{{ version }}-main
    - require:
      - postgres_cluster: postgres-cluster
    - watch:
      - file: postgres-config

postgres-loaded:
  service_config.loaded:
    - name: postgresql@{{ version }}-main
    - files: [/etc/postgresql/{{ version }}/main/conf.d/saltern.conf]
    - require:
      - service: postgres-service

postgres-access-reload:
  cmd.run:
    - name: pg_ctlcluster {{ version }} main reload
    # Not onchanges: a run that is interrupted after it wrote the file would leave the server with the old one for good.
    - unless: >-
        echo "SELECT pg_conf_load_time() > '$(stat -c %y /etc/postgresql/{{ version }}/main/pg_hba.conf)'" |
        runuser -u postgres -- psql -XAtqd postgres | grep -qx t
    - require:
      - file: postgres-access
      - service: postgres-service

{% for name, database in postgres.databases | dictsort %}
postgres-attachment-{{ name }}:
  postgres_attachment.present:
    - name: {{ name }}
    - owner: {{ database.owner }}
    - require:
      - service: postgres-service
{% endfor %}

# After the apps: a process ends before what it attaches.
postgres-retired:
  postgres_attachment.retired:
    - name: /etc/postgresql/{{ version }}/main/pg_hba.conf
    - databases: {{ postgres.databases | sort | tojson }}
    - owners: {{ postgres.databases.values() | map(attribute='owner') | sort | tojson }}
    - order: last
    - require:
      - service: postgres-service

{% set version = salt['settings.debian']().postgres %}

include:
  - certificates

postgres-certificate:
  certificate.present:
    - name: /etc/ssl/saltern/postgres.pem
    - user: postgres
    - require:
      - certificate: certificates-authorities
      - pkg: postgres-package

# Debian gives these directories to PostgreSQL, which only reads there.
postgres-directories:
  root_directory.alone:
    - name: the configuration of PostgreSQL
    - directories:
      - /etc/postgresql
      - /etc/postgresql/{{ version }}
      - /etc/postgresql/{{ version }}/main
      - /etc/postgresql/{{ version }}/main/conf.d
    - group: postgres
    - mode: '0755'
    - files:
      - /etc/postgresql/{{ version }}/main/pg_hba.conf*
      - /etc/postgresql/{{ version }}/main/conf.d/saltern.conf
    - require:
      - postgres_cluster: postgres-cluster

# PostgreSQL tries another configuration in a scratch directory. One with which it does not start is never live.
postgres-config-judged:
  resource.done:
    - name: /etc/postgresql/{{ version }}/main/conf.d/saltern.conf
    - kind: postgres
    - step: configured
    - require:
      - root_directory: postgres-directories
      - certificate: postgres-certificate

postgres-config:
  file.managed:
    - name: /etc/postgresql/{{ version }}/main/conf.d/saltern.conf
    - source: salt://postgres/files/postgresql.conf.jinja
    - template: jinja
    - user: root
    - group: postgres
    - mode: '0644'
    - require:
      - resource: postgres-config-judged

postgres-access:
  file.managed:
    - name: /etc/postgresql/{{ version }}/main/pg_hba.conf
    - source: salt://postgres/files/pg_hba.conf.jinja
    - template: jinja
    - user: root
    - group: postgres
    - mode: '0640'
    - require:
      - root_directory: postgres-directories

postgres-unit:
  file.managed:
    - name: /etc/systemd/system/postgresql@.service.d/saltern.conf
    - source: salt://postgres/files/postgresql.service
    - makedirs: True
    - mode: '0644'

postgres-unit-read:
  service_config.unit_read:
    - name: the unit of PostgreSQL
    - units: [postgresql@{{ version }}-main]
    - watch:
      - file: postgres-unit

{% set ways = salt['postgres_attachment.ways']() %}
{% set postgres = salt['settings.load']('postgres') %}

{% if ways %}
# The package starts an instance that belongs to no app.
postgres-pool-stock-off:
  file.symlink:
    - name: /etc/systemd/system/pgbouncer.service
    - target: /dev/null
    - order: 1

postgres-pool-package:
  pkg.installed:
    - pkgs: [pgbouncer]
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}
    - require:
      - file: postgres-pool-stock-off

postgres-pool-unit:
  file.managed:
    - name: /etc/systemd/system/postgresql-pool@.service
    - source: salt://postgres/files/postgresql-pool@.service
    - mode: '0644'

# Not by makedirs, which would give it the group and the mode of the one below.
postgres-pool-above:
  file.directory:
    - name: /etc/saltern
    - user: root
    - group: root
    - mode: '0755'

postgres-pool-directory:
  file.directory:
    - name: /etc/saltern/pgbouncer
    - user: root
    - group: postgres
    - mode: '0750'
    - require:
      - pkg: postgres-package
      - file: postgres-pool-above

postgres-pool-listen:
  file.managed:
    - name: /etc/saltern/pgbouncer/listen.ini
    - source: salt://postgres/files/pool-listen.ini.jinja
    - template: jinja
    - user: root
    - group: postgres
    - mode: '0640'
    - require:
      - file: postgres-pool-directory
{% for way in ways | sort %}
      - resource: postgres-pool-judged-{{ way }}
{% endfor %}

postgres-pool-users:
  resource.done:
    - name: /etc/saltern/pgbouncer/users.txt
    - kind: postgres
    - step: pool_users
    - require:
      - file: postgres-pool-directory
{% for name, database in postgres.databases | dictsort %}
      - postgres_attachment: postgres-attachment-{{ name }}
{% endfor %}
{% for name, database in postgres.databases | dictsort if database.borrowers | default({}) %}
      - resource: postgres-lent-{{ name }}
{% endfor %}

postgres-pool-unit-read:
  service_config.unit_read:
    - name: the unit of the pools
    - units: {{ ways | sort | map('regex_replace', '^', 'postgresql-pool@') | list | tojson }}
    - watch:
      - file: postgres-pool-unit
{% endif %}

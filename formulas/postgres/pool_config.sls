{% set ways = salt['postgres_attachment.ways']() %}

{% for way, port in ways | dictsort %}
# PgBouncer tries another parameter of the pillar in a scratch directory. One that it refuses is never live.
postgres-pool-judged-{{ way }}:
  resource.done:
    - name: /etc/saltern/pgbouncer/{{ way }}.ini
    - kind: postgres
    - step: pool_configured
    - require:
      - pkg: postgres-pool-package
      - certificate: postgres-certificate

postgres-pool-config-{{ way }}:
  file.managed:
    - name: /etc/saltern/pgbouncer/{{ way }}.ini
    - source: salt://postgres/files/pool.ini.jinja
    - template: jinja
    - user: root
    - group: postgres
    - mode: '0640'
    - context:
        way: {{ way }}
        port: {{ port }}
    - require:
      - file: postgres-pool-directory
      - resource: postgres-pool-judged-{{ way }}
{% endfor %}

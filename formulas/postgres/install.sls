{% set version = salt['settings.debian']().postgres %}

# The package's own cluster would have whatever locale and encoding the installing shell has.
postgres-no-stock-cluster:
  file.managed:
    - name: /etc/postgresql-common/createcluster.d/saltern.conf
    - contents: create_main_cluster = false
    - makedirs: True
    - mode: '0644'
    - order: 1

postgres-package:
  pkg.installed:
    - pkgs: [postgresql-{{ version }}]
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}
    - require:
      - file: postgres-no-stock-cluster

postgres-cluster:
  postgres_cluster.present:
    - name: main
    - version: {{ version }}
    - require:
      - pkg: postgres-package

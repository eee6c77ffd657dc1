{% set version = salt['settings.debian']().postgres %}
{% set extensions = salt['postgres_attachment.packages'](version) %}

include:
  - base.install

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

{% if extensions %}
# A run with an extension that this Debian does not have ends here, before anything is touched.
postgres-extensions-judged:
  resource.done:
    - name: extensions
    - kind: postgres
    - step: judged
    - order: first
    - failhard: True
    - require:
      - apt_lock: base-apt-free

# A package that no database needs any more stays.
postgres-extensions:
  pkg.installed:
    - pkgs: {{ extensions | tojson }}
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}
    - require:
      - resource: postgres-extensions-judged
      # Not the package of the server: what is to be one transaction cannot wait for itself.
      - file: postgres-no-stock-cluster
    # The server may have to load what they bring.
    - require_in:
      - resource: postgres-config-judged
{% endif %}

postgres-cluster:
  postgres_cluster.present:
    - name: main
    - version: {{ version }}
    - require:
      - pkg: postgres-package

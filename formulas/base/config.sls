{% import_yaml 'debian.yaml' as debian %}
{% set base = salt['settings.load']('base') %}

base-locale:
  file.managed:
    - name: {{ debian[grains['oscodename']].locale }}
    - contents: LANG=C.UTF-8
    - mode: '0644'

base-directory:
  file.directory:
    - name: /usr/local/lib/saltern
    - mode: '0755'

{% for name in base.ca_certificates | sort %}
base-ca-certificate-{{ name }}:
  file.managed:
    - name: /usr/local/share/ca-certificates/saltern/{{ name }}.crt
    - contents_pillar: base:ca_certificates:{{ name }}
    - makedirs: True
    - mode: '0644'
    - require:
      - pkg: base-packages
    - require_in:
      - file: base-ca-directory
    - onchanges_in:
      - cmd: base-ca-certificates
{% endfor %}

# An authority that is no longer declared is no longer trusted.
base-ca-directory:
  file.directory:
    - name: /usr/local/share/ca-certificates/saltern
    - clean: True
    - require:
      - pkg: base-packages

base-ca-certificates:
  cmd.run:
    - name: update-ca-certificates
    - onchanges:
      - file: base-ca-directory

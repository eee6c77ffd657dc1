{% set base = salt['settings.load']('base') %}

base-locale:
  file.managed:
    - name: {{ salt['settings.debian']().locale }}
    - contents: LANG=C.UTF-8
    - mode: '0644'

base-directory:
  file.directory:
    - name: /usr/local/lib/saltern
    - mode: '0755'

base-journal-config:
  file.managed:
    - name: /etc/systemd/journald.conf.d/saltern.conf
    - source: salt://base/files/journald.conf
    - makedirs: True
    - mode: '0644'

base-ca-directory:
  file.directory:
    - name: /usr/local/share/ca-certificates/saltern
    - require:
      - pkg: base-packages

{% for name in base.ca_certificates | sort %}
base-ca-certificate-{{ name }}:
  file.managed:
    - name: /usr/local/share/ca-certificates/saltern/{{ name }}.crt
    - contents_pillar: base:ca_certificates:{{ name }}
    - mode: '0644'
    - require:
      - file: base-ca-directory
    - require_in:
      - file: base-ca-retired
{% endfor %}

# Removes authorities that are no longer declared. A dry run without the directory would announce it twice, hence
# `onlyif`. It requires no state of the directory, because Salt would keep everything in it.
base-ca-retired:
  file.directory:
    - name: /usr/local/share/ca-certificates/saltern
    - clean: True
    - onlyif:
      - fun: file.directory_exists
        path: /usr/local/share/ca-certificates/saltern
    - require:
      - pkg: base-packages

base-ca-certificates:
  certificate.bundled:
    - name: /etc/ssl/certs/ca-certificates.crt
    - directory: /usr/local/share/ca-certificates/saltern
    - watch:
      - file: base-ca-retired
{% for name in base.ca_certificates | sort %}
      - file: base-ca-certificate-{{ name }}
{% endfor %}

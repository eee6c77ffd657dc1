{% set base = salt['settings.load']('base') %}

base-locale:
  file.managed:
    - name: /etc/default/locale
    - contents: LANG=C.UTF-8
    - mode: '0644'

base-directory:
  file.directory:
    - name: /usr/local/lib/saltern
    - mode: '0755'

{% for name, certificate in base.ca_certificates | dictsort %}
base-ca-certificate-{{ name }}:
  file.managed:
    - name: /usr/local/share/ca-certificates/saltern-{{ name }}.crt
    - contents_pillar: base:ca_certificates:{{ name }}
    - mode: '0644'
    - require:
      - pkg: base-packages
    - onchanges_in:
      - cmd: base-ca-certificates
{% endfor %}

{% if base.ca_certificates %}
base-ca-certificates:
  cmd.run:
    - name: update-ca-certificates
{% endif %}

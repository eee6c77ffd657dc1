#!yaml
include:
  - certificates

etcd-config:
  file.managed:
    - name: /etc/default/etcd
    - source: salt://etcd/files/etcd.env.jinja
    - template: jinja
    - mode: '0644'
    - require:
      - pkg: etcd-package

# etcd reads it for each new connection.
etcd-certificate:
  certificate.present:
    - name: /etc/ssl/saltern/etcd.pem
    - user: etcd
    - require:
      - certificate: certificates-authorities
      - pkg: etcd-package

etcd-unit-read:
  service_config.unit_read:
    - name: the unit of etcd
    - units: [etcd]
    - watch:
      - file: etcd-unit

#!yaml
etcd-service:
  unit.running:
    - name: etcd
    - package: etcd-server
    # The package does not start it without its certificate.
    - started_if: /etc/ssl/saltern/etcd.pem
    - require:
      - service_config: etcd-unit-read
      - certificate: etcd-certificate
      - file: etcd-config

# A restart takes a second. Who holds a lease goes on meanwhile.
etcd-loaded:
  service_config.loaded:
    - name: etcd
    - files:
      - /etc/default/etcd
      - /etc/ssl/saltern/ca.pem
    - watch:
      - file: etcd-config
      - certificate: certificates-authorities
    - require:
      - unit: etcd-service

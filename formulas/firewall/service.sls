firewall-script:
  file.managed:
    - name: /usr/local/lib/saltern/firewall
    - source: salt://firewall/files/firewall.sh.jinja
    - template: jinja
    - mode: '0755'
    - makedirs: True

firewall-unit:
  file.managed:
    - name: /etc/systemd/system/saltern-firewall.service
    - source: salt://firewall/files/firewall.service
    - mode: '0644'

# Before the service, as for supervisor: Salt's own reload goes by what it may have read before the file was written.
firewall-unit-read:
  service_config.unit_read:
    - name: the unit of saltern-firewall
    - units: [saltern-firewall]
    - watch:
      - file: firewall-unit

# After the rules: it loads those that are confirmed.
firewall-service:
  service.running:
    - name: saltern-firewall
    - enable: True
    - order: last
    - require:
      - file: firewall-script
      - service_config: firewall-unit-read
      - firewall: firewall-confirmed

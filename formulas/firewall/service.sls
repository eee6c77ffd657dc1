#!yaml
firewall-script:
  file.managed:
    - name: /usr/local/lib/saltern/firewall
    - source: salt://firewall/files/firewall.sh
    - mode: '0755'
    - makedirs: True

# Everything here comes after the rules: where they are refused, another port of ssh is refused too.
firewall-unit:
  file.managed:
    - name: /etc/systemd/system/saltern-firewall.service
    - source: salt://firewall/files/firewall.service.jinja
    - template: jinja
    - mode: '0644'
    - order: last
    - require:
      - file: firewall-script
      - firewall: firewall-confirmed

# Read before the service starts: Salt's own reload goes by a status that it may have read before the file was written.
firewall-unit-read:
  service_config.unit_read:
    - name: the unit of saltern-firewall
    - units: [saltern-firewall]
    - order: last
    - watch:
      - file: firewall-unit

firewall-service:
  unit.running:
    - name: saltern-firewall
    - order: last
    - require:
      - service_config: firewall-unit-read

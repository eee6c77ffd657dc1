#!yaml
# Read before the service starts: Salt's own reload goes by a status that it may have read before the file was written.
nginx-unit:
  file.managed:
    - name: /etc/systemd/system/nginx.service.d/saltern.conf
    - source: salt://nginx/files/nginx.service
    - makedirs: True
    - mode: '0644'

nginx-unit-read:
  service_config.unit_read:
    - name: the unit of nginx
    - units: [nginx]
    - watch:
      - file: nginx-unit

nginx-service:
  unit.running:
    - name: nginx
    - package: nginx
    - require:
      - pkg: nginx-package
      - service_config: nginx-unit-read

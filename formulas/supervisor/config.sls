#!yaml
supervisor-config:
  file.managed:
    - name: /etc/supervisor/supervisord.conf
    - source: salt://supervisor/files/supervisord.conf.jinja
    - template: jinja
    - mode: '0644'
    - require:
      - pkg: supervisor-package

supervisor-current-alone:
  file.managed:
    - name: /usr/local/lib/saltern/current-alone
    - source: salt://supervisor/files/current-alone.sh
    - makedirs: True
    - mode: '0755'

supervisor-ended:
  file.managed:
    - name: /usr/local/lib/saltern/supervisor-ended
    - source: salt://supervisor/files/supervisor-ended.sh
    - makedirs: True
    - mode: '0755'

supervisor-unit:
  file.managed:
    - name: /etc/systemd/system/supervisor.service.d/saltern.conf
    - source: salt://supervisor/files/supervisor.service.jinja
    - template: jinja
    - makedirs: True
    - mode: '0644'
    - require:
      - pkg: supervisor-package
      - file: supervisor-current-alone
      - file: supervisor-ended

# Read before the service starts: Salt's own reload goes by a status that it may have read before the file was written.
supervisor-unit-read:
  service_config.unit_read:
    - name: the unit of supervisor
    - units: [supervisor]
    - watch:
      - file: supervisor-unit

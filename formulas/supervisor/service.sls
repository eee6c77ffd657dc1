supervisor-service:
  unit.running:
    - name: supervisor
    - package: supervisor
    - require:
      - service_config: supervisor-unit-read
      - file: supervisor-config

# A changed supervisord.conf restarts supervisor and so every process: supervisor reads those settings at its start only.
supervisor-loaded:
  service_config.loaded:
    - name: supervisor
    - files: [/etc/supervisor/supervisord.conf]
    - package: supervisor
    - watch:
      - file: supervisor-config
    - require:
      - unit: supervisor-service

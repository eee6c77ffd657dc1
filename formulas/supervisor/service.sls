# A changed supervisord.conf restarts supervisor and so every process: supervisor reads those settings at its start only.
supervisor-service:
  service.running:
    - name: supervisor
    - enable: True
    - require:
      - cmd: supervisor-unit-reload
    - watch:
      - file: supervisor-config

supervisor-loaded:
  service_config.loaded:
    - name: supervisor
    - files: [/etc/supervisor/supervisord.conf]
    - require:
      - service: supervisor-service

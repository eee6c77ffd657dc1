#!yaml
# One release's file that supervisor cannot read would keep all apps from starting.
supervisor-programs:
  supervisor.readable:
    - name: /etc/supervisor/conf.d
    - require:
      - file: supervisor-config

supervisor-service:
  unit.running:
    - name: supervisor
    - package: supervisor
    - require:
      - service_config: supervisor-unit-read
      - file: supervisor-config
      - supervisor: supervisor-programs

# A changed supervisord.conf restarts supervisor, and so every process: supervisor reads it at its start only.
supervisor-loaded:
  service_config.loaded:
    - name: supervisor
    - files: [/etc/supervisor/supervisord.conf]
    - package: supervisor
    - watch:
      - file: supervisor-config
    - require:
      - unit: supervisor-service

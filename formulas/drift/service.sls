{% set drift = salt['settings.load']('drift') %}

drift-unit:
  file.managed:
    - name: /etc/systemd/system/saltern-drift.service
    - source: salt://drift/files/drift.service
    - mode: '0644'
    - require:
      - file: drift-script

drift-schedule:
  file.managed:
    - name: /etc/systemd/system/saltern-drift.timer
    - source: salt://drift/files/drift.timer.jinja
    - template: jinja
    - mode: '0644'

# Read before the timer starts: Salt's own reload goes by a status that it may have read before the files were written.
drift-unit-read:
  service_config.unit_read:
    - name: the units of saltern-drift
    - units: [saltern-drift.service, saltern-drift.timer]
    - watch:
      - file: drift-unit
      - file: drift-schedule

drift-timer:
  drift_timer.switched:
    - name: saltern-drift.timer
    - enabled: {{ drift.interval > 0 }}
    - status: /var/lib/saltern/drift.json
    - require:
      - service_config: drift-unit-read

{% if drift.interval > 0 %}
drift-loaded:
  service_config.loaded:
    - name: saltern-drift.timer
    - files: [/etc/systemd/system/saltern-drift.timer]
    - watch:
      - file: drift-schedule
    - require:
      - drift_timer: drift-timer
{% endif %}

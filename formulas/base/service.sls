# Asked early: systemd takes as long to answer as the states before the first unit.
base-units-asked:
  service_config.asked:
    - name: the units
    - order: first

# systemd-timesyncd skips containers by itself (ConditionVirtualization): there it is enabled but does not run.
base-time-sync-enabled:
  unit.enabled:
    - name: systemd-timesyncd
    - package: systemd-timesyncd
    - require:
      - pkg: base-packages

{% if grains['virtual'] != 'container' %}
base-time-sync:
  unit.running:
    - name: systemd-timesyncd
    - package: systemd-timesyncd
    - require:
      - pkg: base-packages
{% endif %}

# Processes go on writing to the journal meanwhile, because systemd keeps the streams.
base-journal-loaded:
  service_config.loaded:
    - name: systemd-journald
    - files: [/etc/systemd/journald.conf.d/saltern.conf]
    - watch:
      - file: base-journal-config

base-journal-unit:
  file.managed:
    - name: /etc/systemd/system/systemd-journald.service.d/saltern-restart.conf
    - source: salt://base/files/journald.service
    - makedirs: True
    - mode: '0644'

base-journal-unit-read:
  service_config.unit_read:
    - name: the unit of the journal
    - units: [systemd-journald]
    - watch:
      - file: base-journal-unit

# logrotate rotates the files of apt, dpkg and services. Salt brings no configuration for its own logs.
base-logs-of-salt:
  file.managed:
    - name: /etc/logrotate.d/saltern
    - source: salt://base/files/logrotate
    - mode: '0644'
    - makedirs: True

base-logs-rotated:
  unit.running:
    - name: logrotate.timer
    - package: logrotate
    - require:
      - pkg: base-packages

# Tells an operator what to know of the host, at the end of every run.
base-notes:
  notes.told:
    - name: what an operator must know
    - order: last

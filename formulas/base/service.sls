# It takes systemd as long as the states before the first of a unit take.
base-units-asked:
  service_config.asked:
    - name: the units
    - order: first

# systemd-timesyncd skips containers by itself (ConditionVirtualization), so that there it is enabled but does not run.
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

# A process whose output goes to the journal goes on writing meanwhile: systemd keeps the streams.
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

# Of what apt, dpkg and services write to files. Salt comes without a word on its own.
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

# What an operator must know of the host, at the end of every run.
base-notes:
  notes.told:
    - name: what an operator must know
    - order: last

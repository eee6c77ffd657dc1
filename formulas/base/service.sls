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

# What an operator must know of the host, at the end of every run.
base-notes:
  notes.told:
    - name: what an operator must know
    - order: last

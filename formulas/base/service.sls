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

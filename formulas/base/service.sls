# systemd-timesyncd skips containers by itself (ConditionVirtualization), so that there it is enabled but does not run.
base-time-sync-enabled:
  service.enabled:
    - name: systemd-timesyncd
    - require:
      - pkg: base-packages

{% if grains['virtual'] != 'container' %}
base-time-sync:
  service.running:
    - name: systemd-timesyncd
    - require:
      - pkg: base-packages
{% endif %}

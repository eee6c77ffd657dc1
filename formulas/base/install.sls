{% from 'base/new.jinja' import is_new with context %}
{% set base = salt['settings.load']('base') %}

base-packages:
  pkg.installed:
    - pkgs: {{ (['ca-certificates', 'dbus', 'logrotate', 'systemd-timesyncd'] + base.packages) | unique | sort | tojson }}
    - aggregate: {{ is_new }}
    # Before what is made beside the rest of a new host: the apps' builds.
    - order: 1

{% from 'base/new.jinja' import is_new with context %}
{% set base = salt['settings.load']('base') %}

base-packages:
  pkg.installed:
    - pkgs: {{ (['ca-certificates', 'systemd-timesyncd', 'dbus'] + base.packages) | unique | sort | tojson }}
    - aggregate: {{ is_new }}
    - order: 1

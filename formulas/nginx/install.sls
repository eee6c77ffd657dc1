{% from 'base/new.jinja' import is_new with context %}

nginx-package:
  pkg.installed:
    - pkgs: [nginx]
    - aggregate: {{ is_new }}

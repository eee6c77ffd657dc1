{% from 'base/new.jinja' import is_new with context %}

supervisor-package:
  pkg.installed:
    - pkgs: [supervisor]
    - aggregate: {{ is_new }}

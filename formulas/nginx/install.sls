{% from 'base/new.jinja' import together with context %}

nginx-package:
  pkg.installed:
    - pkgs: [nginx]
    {{ together() }}

{% from 'base/new.jinja' import together with context %}

supervisor-package:
  pkg.installed:
    - pkgs: [supervisor]
    {{ together() }}

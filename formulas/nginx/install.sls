{% from 'base/new.jinja' import together with context %}

nginx-package:
  pkg.installed:
    # Its logs are files: Debian's nginx says how they are rotated, and does not bring what does so.
    - pkgs: [nginx, logrotate]
    {{ together() }}

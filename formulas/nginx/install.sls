{% from 'base/new.jinja' import together with context %}

nginx-package:
  pkg.installed:
    # nginx logs to files. Debian's package configures their rotation, and does not bring logrotate.
    - pkgs: [nginx, logrotate]
    {{ together() }}

{% from 'base/new.jinja' import is_new with context %}

firewall-package:
  pkg.installed:
    - pkgs: [nftables]
    - aggregate: {{ is_new }}

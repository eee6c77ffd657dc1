{% from 'base/new.jinja' import together with context %}

firewall-package:
  pkg.installed:
    - pkgs: [nftables]
    {{ together() }}

#!yaml
include:
  - firewall.install
  - firewall.config
  - firewall.service

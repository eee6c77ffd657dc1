#!yaml
# Loaded last and confirmed at once: all else is done by then. A run that is ended in between confirms nothing, and a
# timer puts the former rules back.
firewall-rules:
  firewall.loaded:
    - name: /etc/saltern/firewall.nft
    - source: salt://firewall/files/firewall.nft.jinja
    - template: jinja
    - order: last
    - require:
      - pkg: firewall-package

firewall-confirmed:
  firewall.confirmed:
    - name: /etc/saltern/firewall.nft
    - order: last
    - require:
      - firewall: firewall-rules

# Last, and confirmed at once: whatever else the run does has been done by then, and a run that is ended in between is
# known by it. Until they are confirmed, a timer puts the rules back that there were.
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

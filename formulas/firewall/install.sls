firewall-package:
  pkg.installed:
    - name: nftables

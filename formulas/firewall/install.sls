firewall-package:
  pkg.installed:
    - pkgs: [nftables]
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}

include:
  - base.install

# The package would start a server that takes mail from everybody. Ours has a unit of its own.
mail-stock-off:
  file.symlink:
    - name: /etc/systemd/system/postfix.service
    - target: /dev/null
    - order: 1

mail-package:
  pkg.installed:
    - pkgs: [postfix, libsasl2-modules, ca-certificates]
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}
    - require:
      - file: mail-stock-off

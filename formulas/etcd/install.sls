# There before the package, which starts the unit. etcd waits for its certificate, and so for its configuration: without
# one it would begin a store of its own, open to every user of the host.
etcd-unit:
  file.managed:
    - name: /etc/systemd/system/etcd.service.d/saltern.conf
    - source: salt://etcd/files/etcd.service
    - makedirs: True
    - mode: '0644'
    - order: 1

etcd-package:
  pkg.installed:
    - pkgs: [etcd-server, etcd-client]
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}
    - require:
      - file: etcd-unit

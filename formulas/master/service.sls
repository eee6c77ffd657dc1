# bootstrap.sh --master writes its unit and its configuration, as it does for a host's own Salt.
master-service:
  service.running:
    - name: salt-master
    - enable: True

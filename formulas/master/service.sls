#!yaml
# bootstrap.sh --master writes the master's unit and configuration, as it does for a host's own Salt.
master-service:
  service.running:
    - name: salt-master
    - enable: True

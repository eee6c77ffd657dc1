#!yaml
# Every host with nginx has the unit. The inventory decides whether it runs, in one state.
nginx-peers-script:
  file.managed:
    - name: /usr/local/lib/saltern/peers
    - source: salt://nginx/files/peers.py
    - mode: '0755'
    - makedirs: True

nginx-peers-unit:
  file.managed:
    - name: /etc/systemd/system/saltern-peers.service
    - source: salt://nginx/files/peers.service
    - mode: '0644'
    - require:
      - file: nginx-peers-script

# Read before the service starts: Salt's own reload goes by a status that it may have read before the file was written.
nginx-peers-unit-read:
  service_config.unit_read:
    - name: the unit of saltern-peers
    - units: [saltern-peers]
    - watch:
      - file: nginx-peers-unit

nginx-peers:
  peers.watched:
    - name: saltern-peers
    - require:
      - nginx_tree: nginx-config
      - unit: nginx-service
      - service_config: nginx-peers-unit-read

nginx-peers-loaded:
  service_config.loaded:
    - name: saltern-peers
    - files: [/usr/local/lib/saltern/peers, /etc/systemd/system/saltern-peers.service]
    - watch:
      - file: nginx-peers-script
      - file: nginx-peers-unit
    - require:
      - peers: nginx-peers

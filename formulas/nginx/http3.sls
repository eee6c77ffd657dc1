#!yaml
# Every host with nginx has this state. The settings decide whether the service is there.
nginx-http3:
  nginx_http3.current:
    - name: saltern-http3
    - source: salt://nginx/files/http3.service
    - require:
      - nginx_tree: nginx-config
      - unit: nginx-service

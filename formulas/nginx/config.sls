{% set nginx = salt['settings.load']('nginx') %}

# The whole tree is one state: nginx -t judges a tree, not a file.
nginx-config:
  nginx_tree.current:
    - name: /etc/nginx
    - main: salt://nginx/files/nginx.conf.jinja
    - site: salt://nginx/files/site.conf.jinja
    - apps: {{ (nginx.sites | list + nginx.fronts | list) | unique | sort | tojson }}
    - require:
      - pkg: nginx-package

{% set nginx = salt['settings.load']('nginx') %}

include:
  - nginx.certificates

# There before nginx asks for passwords, and for as long.
nginx-users:
  site_users.current:
    - name: /etc/nginx/users
    - require:
      - pkg: nginx-package

# The whole tree is one state: nginx -t judges a tree, not a file.
nginx-config:
  nginx_tree.current:
    - name: /etc/nginx
    - template: salt://nginx/files/tree.jinja
    - apps: {{ (nginx.sites | list + nginx.guests | list + nginx.fronts | list) | unique | sort | tojson }}
    - require:
      - pkg: nginx-package
      - site_users: nginx-users
{% if nginx.sites %}
    - watch:
{% for app in nginx.sites | sort %}
      - certificate: nginx-certificate-{{ app }}
{% endfor %}
{% endif %}

# Removed after nginx no longer asks for them.
nginx-certificates-retired:
  certificate.retired:
    - name: /etc/ssl/saltern/sites
    - require:
      - nginx_tree: nginx-config

nginx-users-retired:
  site_users.retired:
    - name: /etc/nginx/users
    - require:
      - nginx_tree: nginx-config

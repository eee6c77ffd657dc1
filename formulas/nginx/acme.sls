{% set nginx = salt['settings.load']('nginx') %}

include:
  - nginx.service

{% if nginx.tls.source == 'acme' %}
nginx-acme-package:
  pkg.installed:
    - pkgs: [certbot]
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}

# certbot writes this directory, nginx reads it.
nginx-acme-webroot:
  file.directory:
    - name: /var/lib/saltern/acme
    - mode: '0755'
    - makedirs: True

nginx-acme-hook:
  file.managed:
    - name: /usr/local/lib/saltern/certificate-renewed
    - source: salt://nginx/files/certificate-renewed.sh
    - mode: '0755'
    - makedirs: True

nginx-acme-timer:
  unit.running:
    - name: certbot.timer
    - package: certbot
    - require:
      - pkg: nginx-acme-package

{% for app in salt['site_certificate.by_acme']() %}
nginx-acme-{{ app }}:
  acme.issued:
    - name: {{ app }}
    - require:
      - pkg: nginx-acme-package
      - file: nginx-acme-webroot
      - file: nginx-acme-hook
      - nginx_tree: nginx-config
      - unit: nginx-service
{% endfor %}
{% endif %}

nginx-acme-retired:
  acme.retired:
    - name: /etc/letsencrypt
    - apps: {{ salt['site_certificate.by_acme']() | tojson }}
    - require:
      - nginx_tree: nginx-config

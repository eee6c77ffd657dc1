{% set nginx = salt['settings.load']('nginx') %}

include:
  - certificates

nginx-certificates-directory:
  file.directory:
    - name: /etc/ssl/saltern/sites
    - user: root
    - group: root
    - mode: '0700'
    - require:
      - file: certificates-directory

{% for app in nginx.sites | sort %}
nginx-certificate-{{ app }}:
  certificate.site:
    - name: {{ salt['site_certificate.path'](app) }}
    - app: {{ app }}
    - require:
      - file: nginx-certificates-directory
{% endfor %}

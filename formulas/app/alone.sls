{% set etcd = salt['settings.load']('etcd') %}

include:
  - certificates
  - app.launcher

{% if etcd.members %}
# By this, etcd knows that the host may ask. It is root's: no app can.
app-etcd-certificate:
  certificate.present:
    - name: /etc/ssl/saltern/etcd-client.pem
    - user: root
    - require:
      - certificate: certificates-authorities
    - require_in:
      - file: app-leases-settings
{% else %}
app-etcd-certificate-retired:
  file.absent:
    - name: /etc/ssl/saltern/etcd-client.pem
{% endif %}

# Read by the launchers of processes that are alone in their environment; see the package saltern.leases.
app-leases-settings:
  file.managed:
    - name: /etc/saltern/leases.json
    - source: salt://app/files/leases.json.jinja
    - template: jinja
    - makedirs: True
    - mode: '0644'
    - require:
      - file: app-leases
      - file: app-leases-files
